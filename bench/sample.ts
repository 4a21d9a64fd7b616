// One sample: one server, one number of connections, one window. And the rule by which it counts.

import { readFileSync } from 'node:fs';
import { percent, whole } from './format.ts';
import { footprintOf } from './idle.ts';
import { closed, descriptorsOf, generate, type Lab, type RunningServer } from './lab.ts';
import type { LatencyCounts } from './stats.ts';
import type { Suite } from './suite.ts';
import { runWrk } from './wrk.ts';

export interface Shape {
  readonly connections: number;
  readonly messageBytes: number;
  readonly inFlight: number;
  /** Before the window, with its connections. */
  readonly leadSeconds: number;
  readonly seconds: number;
}

/** What the generator reports of a window. */
export interface Window {
  readonly established: number;
  readonly connectionErrors: number;
  readonly firstConnectionError: string | null;
  readonly roundTrips: number;
  readonly seconds: number;
  readonly roundTripsPerSecond: number;
  readonly serverCpuSeconds: number;
  readonly serverBusy: number;
  readonly generatorBusy: number;
  /** Of the generator's core, by whatever runs there. */
  readonly otherCoreBusy: number;
  /** Of the server, at the end of the window, with all its connections. */
  readonly rssBytes: number;
  readonly threads: number;
  readonly latencyCounts: LatencyCounts;
}

export interface Verdict {
  readonly valid: boolean;
  readonly whyInvalid: string | null;
  /** Whether taking it again could help. */
  readonly repeat: boolean;
}

export interface Sample extends Window, Verdict {
  readonly server: string;
  readonly connections: number;
  readonly round: number;
  readonly serverCpuMicrosPerRoundTrip: number;
}

/** Below this the server was waiting, and the sample measures whatever it waited for. */
export const BUSY_ENOUGH = 0.95;

/** One connection with one message in flight leaves the server asleep most of the time: what is measured are wakeups. */
export function isRanked(shape: Pick<Shape, 'connections'>): boolean {
  return shape.connections > 1;
}

/** `mustBeBusy` is false where waiting is what is compared; then only a generator without time to spare counts against a sample. */
export function judge(
  window: Window,
  shape: Pick<Shape, 'connections'>,
  isPinned: boolean,
  mustBeBusy = true,
): Verdict {
  const no = (whyInvalid: string, repeat: boolean): Verdict => ({ valid: false, whyInvalid, repeat });
  if (window.connectionErrors > 0) {
    const reached = `reached ${whole(window.established)} of ${whole(shape.connections)} connections`;
    return no(`${reached}: ${window.firstConnectionError}`, false);
  }
  if (window.roundTrips === 0) return no('no round trip was completed in the window', true);
  if (!isPinned) return no('not pinned: server and generator shared their cores', false);
  const waits = isRanked(shape) && window.serverBusy < BUSY_ENOUGH;
  if (waits && !mustBeBusy && window.otherCoreBusy >= BUSY_ENOUGH)
    return no(`the generator and the rates service had no time to spare: they were the limit`, true);
  if (waits && mustBeBusy) {
    const limit = window.generatorBusy >= BUSY_ENOUGH ? 'the generator' : 'the machine';
    const generator = `the generator ${percent(window.generatorBusy)}`;
    return no(`the server was only ${percent(window.serverBusy)} busy (${generator}): ${limit} was the limit`, true);
  }
  return { valid: true, whyInvalid: null, repeat: false };
}

interface CoreTime {
  readonly busy: number;
  readonly all: number;
}

/** Ticks of a core since the machine was started: see proc_stat(5). */
function coreTime(cpu: number | undefined): CoreTime {
  const line = new RegExp(`^cpu${cpu ?? ''}\\s+(.*)$`, 'm').exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '';
  const ticks = line.trim().split(/\s+/).slice(0, 8).map(Number);
  const all = ticks.reduce((sum, value) => sum + value, 0);
  return { busy: all - (ticks[3] ?? 0) - (ticks[4] ?? 0), all };
}

/** The generator's window: its edges are where it says, after the lead. */
async function generatorWindow(lab: Lab, running: RunningServer, shape: Shape): Promise<Window> {
  const args = [
    ['--connections', shape.connections],
    ['--size', shape.messageBytes],
    ['--in-flight', shape.inFlight],
    ['--warmup', shape.leadSeconds],
    ['--seconds', shape.seconds],
  ];
  let fields: Record<string, unknown> = {};
  let before: CoreTime = { busy: 0, all: 0 };
  let otherCoreBusy = 0;
  let footprint = { rssBytes: 0, threads: 0 };
  await generate(lab, running, args.flat().map(String), (event) => {
    fields = { ...fields, ...event };
    const now = coreTime(lab.pinning?.generatorCpu);
    if (event.event === 'begin') before = now;
    if (event.event !== 'end') return;
    otherCoreBusy = (now.busy - before.busy) / Math.max(1, now.all - before.all);
    footprint = footprintOf(running.process.pid);
  });
  const { rssBytes, threads } = footprint;
  return { ...(fields as unknown as Window), otherCoreBusy, rssBytes, threads };
}

/** wrk's window: all that it does, with the making of its connections. */
async function wrkWindow(lab: Lab, running: RunningServer, shape: Shape, path: string): Promise<Window> {
  const before = coreTime(lab.pinning?.generatorCpu);
  const window = await runWrk(lab, running, path, shape.connections, shape.seconds);
  const now = coreTime(lab.pinning?.generatorCpu);
  return { ...window, otherCoreBusy: (now.busy - before.busy) / Math.max(1, now.all - before.all) };
}

/** Load that is not looked at, but for what comes back. */
export async function warmUp(lab: Lab, running: RunningServer, shape: Shape, seconds: number): Promise<void> {
  await generatorWindow(lab, running, { ...shape, leadSeconds: 0, seconds });
}

export async function takeSample(
  lab: Lab,
  running: RunningServer,
  shape: Shape,
  round: number,
  { path, mustBeBusy }: Suite,
): Promise<Sample> {
  const descriptors = descriptorsOf(running);
  const window = await (path === null ? generatorWindow(lab, running, shape) : wrkWindow(lab, running, shape, path));
  await closed(running, descriptors);
  const { server, process } = running;
  const verdict = judge(window, shape, lab.pinning !== null, mustBeBusy);
  // What the server said about its own trouble (threads it could not create) explains more than the connections it closed.
  const complaint = window.connectionErrors > 0 ? (process.stderrTail.trim().split('\n').at(-1) ?? '') : '';
  return {
    ...verdict,
    whyInvalid: complaint === '' ? verdict.whyInvalid : `${verdict.whyInvalid}; it said: ${complaint}`,
    server: server.name,
    connections: shape.connections,
    round,
    established: window.established,
    connectionErrors: window.connectionErrors,
    firstConnectionError: window.firstConnectionError,
    roundTrips: window.roundTrips,
    seconds: window.seconds,
    roundTripsPerSecond: window.roundTripsPerSecond,
    serverCpuSeconds: window.serverCpuSeconds,
    serverCpuMicrosPerRoundTrip: window.roundTrips === 0 ? 0 : (window.serverCpuSeconds / window.roundTrips) * 1e6,
    serverBusy: window.serverBusy,
    generatorBusy: window.generatorBusy,
    otherCoreBusy: window.otherCoreBusy,
    rssBytes: window.rssBytes,
    threads: window.threads,
    latencyCounts: window.latencyCounts,
  };
}
