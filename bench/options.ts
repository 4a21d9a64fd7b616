// The command line of the benchmark. Wrong usage is one line on stderr and exit code 2.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { Server } from './servers.ts';
import { SUITES, type Suite } from './suite.ts';

export interface Options {
  readonly suite: Suite;
  readonly quick: boolean;
  /** The names of those to measure. */
  readonly servers: readonly string[];
  /** Only say which servers are ready. */
  readonly list: boolean;
  /** Only install the peers with these names. */
  readonly install: readonly string[] | null;
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
    .option('--servers <names>', "only these, separated by commas; 'all' is every server of the suite, peers included")
    .option('--peers', 'the peers as well: those that are not installed are skipped')
    .option('--list', 'say which servers are ready here, and how to have the others')
    .option('--install [names]', 'install what is missing of the peers, or of these, with apt-get and npm')
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
      const lines = (peers: boolean) =>
        all
          .filter(({ peer }) => (peer ?? false) === peers)
          .map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
          .join('\n');
      return `\nServers:\n${lines(false)}\n\nPeers, with --peers or by name in --servers:\n${lines(true)}`;
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
  const namesOf = (rows: readonly Server[]) => rows.map(({ name }) => name);
  const peersOf = (rows: readonly Server[]) => namesOf(rows.filter(({ peer }) => peer === true));
  /** The names of those to measure, if there are such servers. */
  const selected = (rows: readonly Server[]): readonly string[] => {
    const { servers: named, peers } = command.opts<{ servers?: string; peers?: true }>();
    if (named === 'all') return namesOf(rows);
    const names = named?.split(',') ?? namesOf(rows.filter(({ peer }) => peer !== true));
    return peers === true ? [...new Set([...names, ...peersOf(rows)])] : names;
  };
  const allPeers = peersOf([...servers.values()].flat());
  const toInstall = (): readonly string[] | null => {
    const { install } = command.opts<{ install?: string | true }>();
    return install === true ? allPeers : (install?.split(',') ?? null);
  };
  const requireOneOf = (what: string, names: readonly string[], known: readonly string[]) => {
    const unknown = names.find((name) => !known.includes(name));
    if (unknown !== undefined) command.error(`There is no ${what} '${unknown}': choose from ${known.join(', ')}.`);
  };
  try {
    command.parse(argv);
    const rows = servers.get(chosen())!;
    requireOneOf('server in this suite', selected(rows), namesOf(rows));
    requireOneOf('peer', toInstall() ?? [], allPeers);
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
    servers: selected(servers.get(chosen())!),
    list: values.list ?? false,
    install: toInstall(),
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
