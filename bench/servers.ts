// The servers that can be measured: one row each, in peers.ts those that are somebody else's. The rest of the benchmark
// knows no server but those that others are compared with.
//
// Every server listens where it is told, prints a line that `ready` matches when it accepts connections, and
// ends on SIGTERM.

import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where a server listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Server {
  readonly name: string;
  readonly summary: string;
  /** A path, or a name to be found on PATH. */
  readonly command: string;
  readonly args: (at: Address) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files without which it cannot run, besides the command. */
  readonly files?: readonly string[];
  readonly ready: RegExp;
  /** It runs several loops, on all cores but the generator's. */
  readonly severalCores?: boolean;
  /** More than it can serve, by what it is: select(2) has a limit. */
  readonly mostConnections?: number;
  /** How many tasks its user may have, where that is what is measured. */
  readonly mostTasks?: number;
  /** What it runs on, with its version; null if that is not there. */
  readonly version?: () => string | null;
  /** What to do when it is not available. */
  readonly install: string;
  /** Somebody else's, see peers.ts: measured only when it is asked for. */
  readonly peer?: true;
}

/** Where servers listen unless they are asked for from elsewhere. */
export const HOST = '127.0.0.1';

export const listening: RegExp = /^listening on /m;
export const address = ({ host, port }: Address): readonly string[] => ['--port', `${port}`, '--host', host];

const here = fileURLToPath(new URL('.', import.meta.url));
/** The project's folder; this file is in bench/ of it, or compiled in dist/bench/. */
export const root: string = join(here, here.endsWith('/dist/bench/') ? '../..' : '..');

const cli = join(root, 'dist/src/cli/main.js');
/** What node-net runs, in whichever Node. */
export const nodeNet: string = join(root, 'dist/bench/servers/node-net.js');
const nodeVersion = () => `Node ${process.versions.node}`;

/** One of the article's programs. */
function program(name: string, summary: string, options: readonly string[]): Server {
  return {
    name,
    summary,
    command: process.execPath,
    args: (at) => [cli, 'article', name, ...address(at), ...options],
    files: [cli],
    ready: listening,
    install: "build it with 'node native/setup.mjs'",
  };
}

/** What the exchange asks: a rate takes it a millisecond. */
export const RATES: Server = program('exchange-rates', 'the rates service', ['--delay', '1']);

/** The five versions of the exchange, which ask the rates service at port `rates`. */
export function exchangeTable(rates: number): readonly Server[] {
  const asking = ['--rates', `${HOST}:${rates}`];
  return [
    program('exchange-hardcoded', 'rates in the program: nothing to wait for', []),
    program('exchange-blocking', 'one request at a time', asking),
    program('exchange-threads', 'a native thread per request that waits', [...asking, '--threads', '1024']),
    program('exchange-callbacks', 'one loop, callbacks', asking),
    program('exchange-coroutines', 'one loop, coroutines', asking),
  ];
}

/** The servers that echo and need nothing but this project, with the C++ ones in the folder `programs`. */
export function serverTable(programs: string): readonly Server[] {
  const compiled = (name: string, summary: string): Server => ({
    name,
    summary,
    command: join(programs, name),
    args: address,
    ready: listening,
    install: "build it with 'node native/setup.mjs --bench' (needs a C++20 compiler: apt-get install g++)",
  });
  const onewait = (style: 'yield' | 'await', summary: string): Server => ({
    name: `onewait-${style}`,
    summary,
    command: process.execPath,
    args: (at) => [cli, 'echo', ...address(at), '--style', style],
    files: [cli],
    ready: listening,
    version: nodeVersion,
    install: "build it with 'node native/setup.mjs'",
  });
  return [
    compiled(
      'raw-epoll',
      'C++, level-triggered epoll, one thread, no other work: the floor for a system call per step',
    ),
    compiled('thread-per-connection', 'C++, a thread per connection with blocking read and write: the baseline'),
    {
      name: 'node-net',
      summary: "Node's net module, a callback per chunk",
      command: process.execPath,
      args: (at) => [nodeNet, ...address(at)],
      files: [nodeNet],
      ready: listening,
      version: nodeVersion,
      install: "build it with 'node native/setup.mjs'",
    },
    onewait('yield', 'onewait, a generator per connection'),
    onewait('await', 'onewait, an async function per connection'),
  ];
}

/** The echo server in both styles, untraced, recording to a file, and with a flight recorder. */
export function tracedTable(programs: string): readonly Server[] {
  return serverTable(programs)
    .filter(({ name }) => name.startsWith('onewait-'))
    .flatMap((server) => [
      server,
      {
        ...server,
        name: `${server.name}-file`,
        summary: `${server.summary}, recording to a file`,
        env: { ONEWAIT_TRACE: scratchFile(server.name) },
      },
      {
        ...server,
        name: `${server.name}-flight`,
        summary: `${server.summary}, with a flight recorder`,
        env: { ONEWAIT_TRACE: scratchFile(server.name), ONEWAIT_TRACE_RING: '16MiB' },
      },
    ]);
}

/** The echo server on each of the three pollers, and the floor. */
export function pollerTable(programs: string): readonly Server[] {
  const [floor, ...others] = serverTable(programs);
  const yielding = others.find(({ name }) => name === 'onewait-yield')!;
  const on = (poller: string, difference: Partial<Server> = {}): Server => ({
    ...yielding,
    ...difference,
    name: `onewait-${poller}`,
    summary: `onewait on ${poller}, a generator per connection`,
    args: (at) => [...yielding.args(at), '--poller', poller],
  });
  // FD_SETSIZE descriptors, those that Node has open among them: select(2).
  return [floor!, on('epoll'), on('poll'), on('select', { mostConnections: 980 })];
}

/** What systemd gives a service that asks for nothing else, on a machine with 32,768 process ids: DefaultTasksMax=15% of systemd-system.conf(5). */
const SERVICE_TASKS = 4_915;

/** A thread per connection, with as many threads as the machine has and as a service gets, and a coroutine per connection with as many. */
export function taskLimitTable(programs: string): readonly Server[] {
  const table = serverTable(programs);
  const row = (name: string) => table.find((server) => server.name === name)!;
  const asService = (server: Server): Server => ({
    ...server,
    name: `${server.name}-as-service`,
    summary: `${server.summary}, with at most ${SERVICE_TASKS} tasks`,
    mostTasks: SERVICE_TASKS,
  });
  const [threads, coroutines] = [row('thread-per-connection'), row('onewait-yield')];
  return [threads, asService(threads), coroutines, asService(coroutines)];
}

/** One loop, and several that share a port. */
export function coresTable(): readonly Server[] {
  const several = fileURLToPath(new URL('./servers/onewait-loops.js', import.meta.url));
  const loops = Math.max(2, availableParallelism() - 1);
  const row = (name: string, summary: string, kind: string, count: number): Server => ({
    name,
    summary,
    command: process.execPath,
    args: (at) => [several, ...address(at), `--${kind}`, `${count}`],
    files: [several],
    ready: listening,
    severalCores: true,
    install: "build it with 'node native/setup.mjs'",
  });
  return [
    row('onewait-1', 'one loop', 'workers', 1),
    row(`onewait-workers-${loops}`, `${loops} loops in worker threads`, 'workers', loops),
    row(`onewait-processes-${loops}`, `${loops} loops in processes`, 'processes', loops),
  ];
}

let scratch: string | null = null;

/** A file that is gone when the benchmark is over. */
function scratchFile(name: string): string {
  if (scratch === null) {
    const folder = mkdtempSync(join(tmpdir(), 'onewait-bench-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    scratch = folder;
  }
  return join(scratch, `${name}.trace`);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether `command` is an executable file, by its path or on PATH. */
export function isCommand(command: string): boolean {
  if (command.includes('/')) return isExecutable(command);
  return (process.env.PATH ?? '').split(delimiter).some((folder) => isExecutable(join(folder, command)));
}

export function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

export function isAvailable(server: Server): boolean {
  return isCommand(server.command) && (server.files ?? []).every(isReadable) && server.version?.() !== null;
}
