#!/usr/bin/env node
// The command line. Wrong usage exits 2 with one clear line, a broken pipe is quiet, Ctrl-C exits 130.

import { isIP } from 'node:net';
import { Command, InvalidArgumentError, Option } from 'commander';
import { findProgram, listPrograms, runProgram, sourceOf } from './article.ts';
import { echoServer } from './echo.ts';
import { complain, say } from './say.ts';
import { traceCommand } from './trace.ts';

function port(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0 || value > 65535)
    throw new InvalidArgumentError('a port is a whole number from 0 to 65535.');
  return value;
}

function count(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < low || value > high)
      throw new InvalidArgumentError(`it must be a whole number from ${low} to ${high}.`);
    return value;
  };
}

function address(text: string): [string, number] {
  const [, host = '', number = ''] = /^\[?([^[\]]*)\]?:(\d+)$/.exec(text) ?? [];
  if (isIP(host) === 0) throw new InvalidArgumentError('it must be an IP address and a port, as in 127.0.0.1:7070.');
  return [host, port(number)];
}

const HELP_WIDTH = 100;

const program = new Command('onewait')
  .description('One blocking call in the whole program, and every coroutine suspended on it.')
  .exitOverride((error) => process.exit(error.exitCode === 1 ? 2 : error.exitCode))
  .showHelpAfterError(false)
  // Commander puts its suggestion on a line of its own.
  .configureOutput({
    writeOut: say,
    writeErr: (text) => say(text, 2),
    getOutHelpWidth: () => HELP_WIDTH,
    getErrHelpWidth: () => HELP_WIDTH,
    getOutHasColors: () => false,
    getErrHasColors: () => false,
    outputError: (text, write) => write(`${text.trimEnd().replaceAll('\n', ' ')}\n`),
  });

program
  .command('echo')
  .description('Serves echo (RFC 862) until SIGINT or SIGTERM.')
  .addOption(new Option('--port <n>', 'port to listen on; 0 lets the kernel choose').default(7).argParser(port))
  .option('--host <host>', 'address or name to listen on', '127.0.0.1')
  .addOption(
    new Option('--style <style>', 'generators or async functions').choices(['yield', 'await']).default('yield'),
  )
  .addOption(new Option('--poller <poller>', 'the blocking call').choices(['epoll', 'poll', 'select']).default('epoll'))
  .option(
    '--reuse-port',
    'share the port with other processes that do so, and its connections with them (SO_REUSEPORT)',
  )
  .addOption(new Option('--path <path>', 'listen on a Unix socket instead').conflicts(['port', 'host', 'reusePort']))
  .option('--trace <file>', 'record what happens to descriptors and tasks')
  .action(async (options) => {
    try {
      process.exitCode = await echoServer(options);
    } catch (error) {
      complain(error);
      process.exitCode = 1;
    }
  });

program
  .command('article [name]')
  .description(
    "The programs of 'How do coroutines work internally in Python?', from input() to a server: lists them, or runs one.",
  )
  .option('--source', 'print its code instead')
  .option('--trace <file>', 'record what happens to descriptors and tasks')
  .addOption(new Option('--port <n>', 'servers: port to listen on; 0 lets the kernel choose').argParser(port))
  .option('--host <host>', 'servers: address to listen on', '127.0.0.1')
  .addOption(
    new Option('--poller <poller>', 'select-echo: the blocking call')
      .choices(['epoll', 'poll', 'select'])
      .default('select'),
  )
  .addOption(
    new Option('--delay <ms>', 'exchange-rates: how long an answer takes').default(1).argParser(count(0, 60_000)),
  )
  .addOption(
    new Option('--rates <address>', 'exchange-*: where the rates service is')
      .default(['127.0.0.1', 7070], '127.0.0.1:7070')
      .argParser(address),
  )
  .addOption(new Option('--threads <n>', 'exchange-threads: how many').default(256).argParser(count(1, 4096)))
  .addHelpText('after', () => `\nPrograms:\n${listPrograms().replace(/^/gm, '  ')}`)
  .action(async (name: string | undefined, options, command: Command) => {
    if (name === undefined) {
      say(`${listPrograms()}\n`);
      return;
    }
    const chosen = findProgram(name);
    if (chosen === undefined) command.error(`error: there is no program '${name}': 'onewait article' lists them`);
    for (const option of ['port', 'host', 'poller', 'delay', 'rates', 'threads'] as const) {
      if (command.getOptionValueSource(option) === 'cli' && !chosen.options.includes(option))
        command.error(`error: option '--${option}' is not for ${name}`);
    }
    try {
      if (options.source) say(sourceOf(chosen));
      else process.exitCode = await runProgram(chosen, options, options.trace);
    } catch (error) {
      complain(error);
      process.exitCode = 1;
    }
  });

traceCommand(program);

await program.parseAsync();
