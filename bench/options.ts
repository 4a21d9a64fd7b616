// The command line of the benchmark. Wrong usage is one line on stderr and exit code 2.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { SUITES, type Suite } from './suite.ts';

export interface Options {
  readonly suite: Suite;
  readonly quick: boolean;
  readonly servers: readonly string[] | null;
  readonly connections: readonly number[] | null;
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly seconds: number | null;
  readonly rounds: number | null;
  readonly json: string | null;
  readonly out: string | null;
  readonly programs: string;
}

function numberIn(low: number, high: number, whole: boolean): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
      throw new InvalidArgumentError(`It must be a ${whole ? 'whole ' : ''}number from ${low} to ${high}.`);
    }
    return value;
  };
}

interface Facts {
  readonly programs: string;
  readonly mostConnections: number;
}

export function parseOptions(argv: readonly string[], facts: Facts): Options {
  const servers = new Map(SUITES.map((suite) => [suite, suite.servers(facts.programs, 0)]));
  const count = numberIn(1, facts.mostConnections, true);
  const command = new Command('npm run bench --')
    .description('Measures servers: one pinned to a core, the load generator on another.')
    .addOption(
      new Option(
        '--suite <suite>',
        "what to measure: echo servers, the article's exchange over HTTP, or what recording a trace costs",
      )
        .choices(SUITES.map(({ name }) => name))
        .default('echo'),
    )
    .option('--quick', 'about a minute instead of five')
    .option('--servers <names>', 'only these, separated by commas')
    .option('--connections <counts>', `at these numbers of connections, at most ${facts.mostConnections}`, (text) =>
      text.split(',').map(count),
    )
    .option('--size <bytes>', 'bytes per message', numberIn(1, 16 << 20, true), 64)
    .option('--in-flight <messages>', 'messages in flight per connection', numberIn(1, 1024, true), 1)
    .option('--seconds <seconds>', 'length of each window', numberIn(0.05, 600, false))
    .option('--rounds <rounds>', 'rounds per number of connections', numberIn(1, 1000, true))
    .option('--json <file>', 'write machine, method, results and samples to this file')
    .option('--out <folder>', 'write report.html, a page with charts, to this folder')
    .option('--programs <folder>', 'where the compiled C++ programs are', facts.programs)
    .addHelpText('after', () => {
      const all = [...servers.values()].flat();
      const width = Math.max(...all.map(({ name }) => name.length));
      return `\nServers:\n${all.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}`;
    })
    .allowExcessArguments(false)
    .configureOutput({
      outputError: (text, write) =>
        write(
          `onewait bench: ${text
            .replace(/^error: /, '')
            .trim()
            .replaceAll('\n', ' ')}\n`,
        ),
    })
    .exitOverride();
  const chosen = (): Suite => SUITES.find(({ name }) => name === command.opts().suite)!;
  try {
    command.parse(argv);
    const names = servers.get(chosen())!.map(({ name }) => name);
    const unknown = (command.opts().servers as string | undefined)?.split(',').find((name) => !names.includes(name));
    if (unknown !== undefined)
      command.error(`There is no server '${unknown}' in this suite: choose from ${names.join(', ')}.`);
    const { seconds, inFlight } = command.opts();
    if (chosen().path !== null) {
      if (seconds !== undefined && !Number.isInteger(seconds))
        command.error('The client of this suite is wrk, which counts whole --seconds.');
      if (inFlight !== 1 || command.getOptionValueSource('size') === 'cli')
        command.error('Requests of this suite are what they are: --size and --in-flight are for the others.');
    }
  } catch (error) {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
  const values = command.opts();
  return {
    suite: chosen(),
    quick: values.quick ?? false,
    servers: values.servers?.split(',') ?? null,
    connections: values.connections ?? null,
    messageBytes: values.size,
    inFlight: values.inFlight,
    seconds: values.seconds ?? null,
    rounds: values.rounds ?? null,
    json: values.json ?? null,
    out: values.out ?? null,
    programs: values.programs,
  };
}
