#!/usr/bin/env node
// The command line. Wrong usage exits 2 with one clear line, a broken pipe is quiet, Ctrl-C exits 130.

import { once } from 'node:events';
import { Command, InvalidArgumentError, Option } from 'commander';
import { readTrace } from '../trace/reader.ts';
import { TraceFormatter } from '../trace/show.ts';
import { echoServer } from './echo.ts';

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65535)
    throw new InvalidArgumentError('a port is a whole number from 0 to 65535.');
  return value;
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const program = new Command('onewait')
  .description('One blocking call in the whole program, and every coroutine suspended on it.')
  .exitOverride((error) => process.exit(error.exitCode === 1 ? 2 : error.exitCode))
  .showHelpAfterError(false)
  // Commander puts its suggestion on a line of its own.
  .configureOutput({ outputError: (text, write) => write(`${text.trimEnd().replaceAll('\n', ' ')}\n`) });

program
  .command('echo')
  .description('Serves TCP echo (RFC 862) until SIGINT or SIGTERM.')
  .addOption(new Option('--port <n>', 'port to listen on; 0 lets the kernel choose').default(7).argParser(port))
  .option('--host <host>', 'address or name to listen on', '127.0.0.1')
  .addOption(
    new Option('--style <style>', 'generators or async functions').choices(['yield', 'await']).default('yield'),
  )
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

const trace = program.command('trace').description('Reads traces, which `--trace FILE` records.');

trace
  .command('show <file>')
  .description('Prints a trace as lines that read like those of strace, with the task that each concerns.')
  .action(async (file: string) => {
    try {
      const formatter = new TraceFormatter();
      for (const record of readTrace(file).records) await print(formatter.push(record));
      await print(formatter.end());
    } catch (error) {
      console.error(`onewait: ${(error as Error).message}`);
      process.exitCode = 1;
    }
  });

async function print(lines: string[]): Promise<void> {
  if (lines.length > 0 && !process.stdout.write(`${lines.join('\n')}\n`)) await once(process.stdout, 'drain');
}

await program.parseAsync();
