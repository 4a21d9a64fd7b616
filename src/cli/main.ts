#!/usr/bin/env node
// The command line. Wrong usage exits 2 with one clear line, a broken pipe is quiet, Ctrl-C exits 130.

import { Command, InvalidArgumentError, Option } from 'commander';
import { echoServer } from './echo.ts';

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65535) throw new InvalidArgumentError('a port is a whole number from 0 to 65535.');
  return value;
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const program = new Command('onewait')
  .description('One blocking call in the whole program, and every coroutine suspended on it.')
  .exitOverride((error) => process.exit(error.exitCode === 1 ? 2 : error.exitCode))
  .showHelpAfterError(false);

program
  .command('echo')
  .description('Serves TCP echo (RFC 862) until SIGINT or SIGTERM.')
  .addOption(new Option('--port <n>', 'port to listen on; 0 lets the kernel choose').default(7).argParser(port))
  .option('--host <host>', 'address or name to listen on', '127.0.0.1')
  .addOption(new Option('--style <style>', 'generators or async functions').choices(['yield', 'await']).default('yield'))
  .addOption(new Option('--poller <poller>', 'the blocking call').choices(['epoll', 'poll', 'select']).default('epoll'))
  .option('--trace <file>', 'record what happens to descriptors and tasks')
  .action(async (options) => {
    try {
      process.exitCode = await echoServer(options);
    } catch (error) {
      console.error(`onewait: ${(error as Error).message}`);
      process.exitCode = 1;
    }
  });

await program.parseAsync();
