// The command line of the benchmark. Wrong usage is one line on stderr and exit code 2.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { Server } from './servers.ts';
import { type Effort, SUITES, type Suite } from './suite.ts';

export interface Options {
  readonly suites: readonly Suite[];
  readonly effort: Effort;
  /** The names of those to measure. */
  readonly servers: readonly string[];
  /** Only say which servers are ready. */
  readonly list: boolean;
  /** Only install the peers with these names. */
  readonly install: readonly string[] | null;
  readonly connections: readonly number[] | null;
  readonly messageBytes: number | null;
  readonly inFlight: number | null;
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

function parseSuites(text: string): readonly Suite[] {
  if (text === 'all') return SUITES;
  return text.split(',').map((name) => {
    const suite = SUITES.find((candidate) => candidate.name === name);
    if (suite === undefined)
      throw new InvalidArgumentError(`Choose from ${SUITES.map((candidate) => candidate.name).join(', ')}, all.`);
    return suite;
  });
}

/** Two columns, indented. */
function columns(rows: ReadonlyArray<readonly [string, string]>): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, summary]) => `  ${name.padEnd(width)}  ${summary}`).join('\n');
}

interface Facts {
  readonly programs: string;
  readonly mostConnections: number;
}

export function parseOptions(argv: readonly string[], facts: Facts): Options {
  const tables = new Map(SUITES.map((suite) => [suite, suite.servers(facts.programs, 0)]));
  const count = numberIn(1, facts.mostConnections, true);
  const command = new Command('npm run bench --')
    .description('Measures servers: one pinned to a core, the load generator on another.')
    .option('--suite <suites>', "what to measure, separated by commas, or 'all'", parseSuites, [SUITES[0]!])
    .addOption(new Option('--quick', 'about a minute instead of five').conflicts('full'))
    .option('--full', 'every shape and every peer that is there, and more of it: an hour and more')
    .option('--servers <names>', "only these, separated by commas; 'all' is every server of the suite, peers included")
    .option('--peers', 'the peers as well: those that are not installed are skipped')
    .option('--list', 'say which servers are ready here, and how to have the others')
    .option('--install [names]', 'install what is missing of the peers, or of these, with apt-get and npm')
    .option('--connections <counts>', `at these numbers of connections, at most ${facts.mostConnections}`, (text) =>
      text.split(',').map(count),
    )
    .option('--size <bytes>', 'bytes per message', numberIn(1, 16 << 20, true))
    .option('--in-flight <messages>', 'messages in flight per connection', numberIn(1, 1024, true))
    .option('--seconds <seconds>', 'length of each window', numberIn(0.05, 600, false))
    .option('--rounds <rounds>', 'rounds per number of connections', numberIn(1, 1000, true))
    .option('--json <file>', 'write machine, method, results and samples to this file')
    .option(
      '--out <folder>',
      'write report.html, a page with charts, and its main chart, headline.svg and .png, to this folder',
    )
    .option('--programs <folder>', 'where the compiled C++ programs are', facts.programs)
    .addHelpText('after', () => {
      const servers = (peers: boolean) =>
        columns(
          [...new Map([...tables.values()].flat().map((server) => [server.name, server])).values()]
            .filter(({ peer }) => (peer ?? false) === peers)
            .map(({ name, summary }) => [name, summary]),
        );
      const suites = columns(SUITES.map(({ name, summary }) => [name, summary]));
      return `\nSuites:\n${suites}\n\nServers:\n${servers(false)}\n\nPeers, with --peers or by name in --servers:\n${servers(true)}`;
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
  const chosen = (): readonly Suite[] => command.opts().suite;
  const namesOf = (rows: readonly Server[]) => [...new Set(rows.map(({ name }) => name))];
  const rowsOf = (suites: readonly Suite[]) => suites.flatMap((suite) => tables.get(suite)!);
  const allPeers = namesOf(rowsOf(SUITES).filter(({ peer }) => peer === true));
  /** The names of those to measure, if there are such servers. */
  const selected = (): readonly string[] => {
    const { servers: named, peers, full } = command.opts<{ servers?: string; peers?: true; full?: true }>();
    const all = namesOf(rowsOf(chosen()));
    if (named === 'all') return all;
    const names = named?.split(',') ?? all.filter((name) => !allPeers.includes(name));
    const withPeers = peers === true || (full === true && named === undefined);
    return withPeers ? [...new Set([...names, ...all.filter((name) => allPeers.includes(name))])] : names;
  };
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
    requireOneOf('server in what is measured', selected(), namesOf(rowsOf(chosen())));
    requireOneOf('peer', toInstall() ?? [], allPeers);
    const { seconds, inFlight, size } = command.opts();
    if (chosen().some(({ path }) => path !== null)) {
      if (seconds !== undefined && !Number.isInteger(seconds))
        command.error('The client of this suite is wrk, which counts whole --seconds.');
      if (inFlight !== undefined || size !== undefined)
        command.error('Requests of this suite are what they are: --size and --in-flight are for the others.');
    }
  } catch (error) {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
  const values = command.opts();
  return {
    suites: chosen(),
    effort: values.quick ? 'quick' : values.full ? 'full' : 'standard',
    servers: selected(),
    list: values.list ?? false,
    install: toInstall(),
    connections: values.connections ?? null,
    messageBytes: values.size ?? null,
    inFlight: values.inFlight ?? null,
    seconds: values.seconds ?? null,
    rounds: values.rounds ?? null,
    json: values.json ?? null,
    out: values.out ?? null,
    programs: values.programs,
  };
}
