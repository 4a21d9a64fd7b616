// Where samples are taken: a server on one core, the generator on another, and one account of how either failed.

import { readdirSync } from 'node:fs';
import { createServer, type Server as Listener } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Child, Children } from './children.ts';
import type { Pinning } from './machine.ts';
import { type Address, HOST, type Server } from './servers.ts';
import type { Talk } from './suite.ts';
import type { Target } from './target.ts';

const READY_WITHIN_MS = 15_000;
/** A server that keeps connections longer than this keeps them for good, and the next sample will say what that costs. */
const CLOSED_WITHIN_MS = 3_000;

/** A server or the generator ended, or did what it must not. */
export class SampleFailure extends Error {
  override readonly name = 'SampleFailure';
}

/** The user ended the benchmark. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

export interface Lab {
  readonly children: Children;
  readonly pinning: Pinning | null;
  readonly programs: string;
  /** What is asked and answered, where servers do not echo. */
  readonly talk: Talk | null;
  /** Aborted when the user interrupts; whoever aborts also ends the children. */
  readonly signal: AbortSignal;
}

/** A server that can be asked. */
export interface Reachable extends Address {
  readonly server: { readonly name: string };
  /** Null of one that somebody else has started: nothing is known of it but what it answers. */
  readonly process: Child | null;
}

export interface RunningServer extends Reachable {
  readonly process: Child;
}

export const isOurs = (server: Reachable): server is RunningServer => server.process !== null;

let lastPort = 7000 + (process.pid % 1000);

/** Null if somebody else does. */
const listenOn = (where: { host: string; port: number } | { path: string }): Promise<Listener | null> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null)).listen(where, () => resolve(server));
  });

/**
 * A port below the ephemeral range, where no outgoing connection can have taken it, and another one for each that asks, also of another run at the same
 * time: an abstract socket (unix(7)) of its number is kept for as long as this process lives.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    lastPort = lastPort >= 9900 ? 7000 : lastPort + 1;
    const port = lastPort;
    const claim = await listenOn({ path: `\0onewait-bench-port-${port}` });
    claim?.unref();
    const probe = claim && (await listenOn({ host: HOST, port }));
    if (probe === null) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}

const tailOf = (child: Child): string => {
  const tail = child.stderrTail.trim();
  return tail === '' ? '' : `; its stderr ends with: ${tail.split('\n').slice(-5).join(' | ')}`;
};

/** 0 when it has ended, or is not ours. */
export function descriptorsOf({ process }: Reachable): number {
  if (process === null) return 0;
  try {
    return readdirSync(`/proc/${process.pid}/fd`).length;
  } catch {
    return 0;
  }
}

/** Waits until the server has closed its side of the connections that a sample left behind: the next one would share the core with that. */
export async function closed(running: Reachable, descriptorsBefore: number): Promise<void> {
  const deadline = Date.now() + CLOSED_WITHIN_MS;
  while (descriptorsOf(running) > descriptorsBefore && Date.now() < deadline) await delay(5);
}

/** The cores that a server may use: one, so that servers are compared and not machines, or for several loops all but the generator's. */
function coresFor(lab: Pick<Lab, 'pinning'>, server: Server): readonly number[] {
  if (lab.pinning === null) return [];
  return server.severalCores ? lab.pinning.otherCpus : [lab.pinning.serverCpu];
}

export async function startServer(
  lab: Pick<Lab, 'children' | 'pinning' | 'signal'>,
  server: Server,
  cpus: readonly number[] = coresFor(lab, server),
  at: Address | null = null,
): Promise<RunningServer> {
  const { host, port } = at ?? { host: HOST, port: await freePort() };
  let isReady: () => void = () => {};
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const onLine = (line: string) => {
    if (server.ready.test(line)) isReady();
  };
  if (lab.signal.aborted) throw new Interrupted();
  const command = [server.command, ...server.args({ host, port })];
  const process = lab.children.start(command, cpus, onLine, server.env, server.mostTasks);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, READY_WITHIN_MS, `it was not ready within ${READY_WITHIN_MS / 1000} seconds`);
  });
  const problem = await Promise.race([ready, process.ended.then((ending) => `it ended: ${ending}`), late]);
  clearTimeout(timer);
  if (problem !== undefined) {
    await process.end();
    if (lab.signal.aborted) throw new Interrupted();
    throw new SampleFailure(`${server.name} did not start: ${problem}${tailOf(process)}`);
  }
  return { server, host, port, process };
}

/** Starts a server of ours; one that runs elsewhere is taken as it is. */
export async function reach(lab: Lab, server: Server | Target): Promise<Reachable> {
  return 'command' in server
    ? startServer(lab, server)
    : { server, host: server.host, port: server.port, process: null };
}

/** Runs `body` against a fresh server and ends that, whatever happens. */
export async function withServer<T>(
  lab: Lab,
  server: Server,
  body: (running: RunningServer) => Promise<T>,
): Promise<T> {
  const running = await startServer(lab, server);
  try {
    return await body(running);
  } finally {
    await running.process.end();
  }
}

/** The core of the generator, and of what the server asks. */
export const generatorCores = ({ pinning }: Pick<Lab, 'pinning'>): readonly number[] =>
  pinning === null ? [] : [pinning.generatorCpu];

/** Whether the generator polls. On a core that the server, or what the server asks, also needs it would take that from them. */
export const spins = ({ pinning, talk }: Lab): boolean => pinning !== null && talk === null;

/** One line of the generator's stdout. */
export type GeneratorEvent = Readonly<Record<string, unknown>> & { readonly event: string };

/**
 * Runs the generator against a server to its end. `onEvent` gets each of its events, and a function that lets a waiting
 * generator go on.
 */
export async function generate(
  lab: Lab,
  { server, host, port, process }: Reachable,
  args: readonly string[],
  onEvent: (event: GeneratorEvent, goOn: () => void) => void,
): Promise<void> {
  const watched = process === null ? [] : ['--server-pid', `${process.pid}`];
  const where = ['--host', host, '--port', `${port}`, ...watched];
  const spin = spins(lab) ? ['--spin'] : [];
  const talk = lab.talk === null ? [] : ['--request', lab.talk.request, '--response', lab.talk.response];
  const command = [join(lab.programs, 'loadgen'), ...where, ...spin, ...talk, ...args];
  if (lab.signal.aborted) throw new Interrupted();
  const generator = lab.children.start(command, generatorCores(lab), (line) => {
    onEvent(JSON.parse(line) as GeneratorEvent, () => generator.writeLine());
  });
  // A dead server is noticed by the generator as a closed connection; ending the generator as well covers the idle one.
  void process?.ended.then(() => generator.end());
  const ending = await generator.ended;
  if (lab.signal.aborted) throw new Interrupted();
  if (generator.exitCode === 0) return;
  // The generator sees the connections go before this process hears of the server's end.
  if (process !== null) await Promise.race([process.ended, new Promise((resolve) => setTimeout(resolve, 300))]);
  if (process !== null && process.ending !== null)
    throw new SampleFailure(`${server.name} died (${process.ending})${tailOf(process)}`);
  throw new SampleFailure(`${server.name}: the load generator gave up (${ending})${tailOf(generator)}`);
}
