// The command line of the benchmark. Wrong usage is one line on stderr and exit code 2.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { type Address, HOST, type Server } from './servers.ts';
import { type Effort, SUITES, type Suite } from './suite.ts';
import { parseAddress, type Target, unwatched } from './target.ts';

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
  /** Before memory is looked at. */
  readonly settleSeconds: number;
  readonly json: string | null;
  readonly out: string | null;
  readonly programs: string;
  /** What is measured instead of servers that are started here. */
  readonly target: Target | null;
  /** What is served instead of measuring. */
  readonly serve: { readonly server: Server; readonly at: Address } | null;
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

function parseTarget(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new InvalidArgumentError('It must be a host and a port, as in 10.0.0.2:7000.');
  return address;
}

/** Two columns, indented. */
function columns(rows: ReadonlyArray<readonly [string, string]>): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, summary]) => `  ${name.padEnd(width)}  ${summary}`).join('\n');
}

/** A command whose wrong usage is one line, and throws. */
export function commandOf(name: string): Command {
  return new Command(name)
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
}

/** What has nothing to do with serving. */
const MEASURING = [
  ...['suite', 'quick', 'full', 'servers', 'connections', 'size', 'inFlight', 'seconds', 'rounds', 'json', 'out'],
  ...['peers', 'list', 'install', 'target'],
];

interface Facts {
  readonly programs: string;
  readonly mostConnections: number;
}

export function parseOptions(argv: readonly string[], facts: Facts): Options {
  const tables = new Map(SUITES.map((suite) => [suite, suite.servers(facts.programs, 0)]));
  const count = numberIn(1, facts.mostConnections, true);
  const command = commandOf('npm run bench --')
    .description('Measures servers: one pinned to a core, the load generator on another.')
    .addOption(
      new Option('--suite <suites>', "what to measure, separated by commas, or 'all'")
        .argParser(parseSuites)
        .default([SUITES[0]!], SUITES[0]!.name),
    )
    .addOption(new Option('--quick', 'less of it: four minutes instead of a quarter of an hour').conflicts('full'))
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
    .option(
      '--settle <seconds>',
      'how long servers are idle before their memory is looked at',
      numberIn(0, 600, false),
      30,
    )
    .option('--json <file>', 'write machine, method, results and samples to this file')
    .option(
      '--out <folder>',
      'write report.html, a page with charts, and its main chart, headline.svg and .png, to this folder',
    )
    .option('--programs <folder>', 'where the compiled C++ programs are', facts.programs)
    .addOption(
      new Option('--target <host:port>', 'measure a server that echoes there, and that this machine does not watch')
        .argParser(parseTarget)
        .conflicts(['servers', 'peers', 'list', 'install']),
    )
    .option('--name <name>', 'what the server of --target is called')
    .addOption(
      new Option('--serve <server>', 'measure nothing: serve, for a --target on another machine').conflicts(MEASURING),
    )
    .option('--port <port>', 'where to --serve (default: 7000)', numberIn(1, 65535, true))
    .option('--host <address>', `where to --serve; 0.0.0.0 lets other machines in (default: ${HOST})`)
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
    .addHelpText('after', '\nTwo reports of --json are compared by: npm run bench -- compare BEFORE.json AFTER.json');
  const chosen = (): readonly Suite[] => command.opts().suite;
  const namesOf = (rows: readonly Server[]) => [...new Set(rows.map(({ name }) => name))];
  const rowsOf = (suites: readonly Suite[]) => suites.flatMap((suite) => tables.get(suite)!);
  const echoing = SUITES.filter(({ path }) => path === null);
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
    requireOneOf('server', selected(), namesOf(rowsOf(chosen())));
    requireOneOf('peer', toInstall() ?? [], allPeers);
    const { seconds, inFlight, size, target, name, serve, host, port } = command.opts();
    const demanding = chosen().filter(({ anyServer }) => !anyServer);
    if (target !== undefined && demanding.length > 0) {
      const others = SUITES.filter(({ anyServer }) => anyServer).map((suite) => suite.name);
      const refused = demanding.map((suite) => suite.name).join(', ');
      command.error(`--target: ${refused} must start the servers: choose from ${others.join(', ')}.`);
    }
    if (name !== undefined && target === undefined) command.error('--name is for the server of a --target.');
    if ((host !== undefined || port !== undefined) && serve === undefined)
      command.error('--host and --port are for --serve.');
    requireOneOf('server that echoes', serve === undefined ? [] : [serve], namesOf(rowsOf(echoing)));
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
  const { target, serve } = values;
  const served = echoing.flatMap((suite) => suite.servers(values.programs, 0)).find((server) => server.name === serve);
  return {
    suites: target === undefined ? chosen() : chosen().map(unwatched),
    effort: values.quick ? 'quick' : values.full ? 'full' : 'standard',
    servers: selected(),
    list: values.list ?? false,
    install: toInstall(),
    connections: values.connections ?? null,
    messageBytes: values.size ?? null,
    inFlight: values.inFlight ?? null,
    seconds: values.seconds ?? null,
    rounds: values.rounds ?? null,
    settleSeconds: values.settle,
    json: values.json ?? null,
    out: values.out ?? null,
    programs: values.programs,
    target: target === undefined ? null : { ...target, name: values.name ?? `${target.host}:${target.port}` },
    serve:
      served === undefined ? null : { server: served, at: { host: values.host ?? HOST, port: values.port ?? 7000 } },
  };
}
