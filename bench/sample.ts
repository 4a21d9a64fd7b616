// One sample: one server, one number of connections, one window. And the rule by which it counts.

import { percent, whole } from './format.ts';
import { closed, descriptorsOf, generate, type Lab, type RunningServer } from './lab.ts';
import type { LatencyCounts } from './stats.ts';

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

export function judge(window: Window, shape: Pick<Shape, 'connections'>, isPinned: boolean): Verdict {
  const no = (whyInvalid: string, repeat: boolean): Verdict => ({ valid: false, whyInvalid, repeat });
  if (window.connectionErrors > 0) {
    const reached = `reached ${whole(window.established)} of ${whole(shape.connections)} connections`;
    return no(`${reached}: ${window.firstConnectionError}`, false);
  }
  if (window.roundTrips === 0) return no('no round trip was completed in the window', true);
  if (!isPinned) return no('not pinned: server and generator shared their cores', false);
  if (isRanked(shape) && window.serverBusy < BUSY_ENOUGH) {
    const limit = window.generatorBusy >= BUSY_ENOUGH ? 'the generator' : 'the machine';
    const generator = `the generator ${percent(window.generatorBusy)}`;
    return no(`the server was only ${percent(window.serverBusy)} busy (${generator}): ${limit} was the limit`, true);
  }
  return { valid: true, whyInvalid: null, repeat: false };
}

async function measureWindow(lab: Lab, running: RunningServer, shape: Shape): Promise<Window> {
  const args = [
    ['--connections', shape.connections],
    ['--size', shape.messageBytes],
    ['--in-flight', shape.inFlight],
    ['--warmup', shape.leadSeconds],
    ['--seconds', shape.seconds],
  ];
  let fields: Record<string, unknown> = {};
  await generate(lab, running, args.flat().map(String), (event) => {
    fields = { ...fields, ...event };
  });
  return fields as unknown as Window;
}

/** Load that is not looked at. */
export async function warmUp(lab: Lab, running: RunningServer, shape: Shape, seconds: number): Promise<void> {
  await measureWindow(lab, running, { ...shape, leadSeconds: 0, seconds });
}

export async function takeSample(lab: Lab, running: RunningServer, shape: Shape, round: number): Promise<Sample> {
  const descriptors = descriptorsOf(running);
  const window = await measureWindow(lab, running, shape);
  await closed(running, descriptors);
  const { server, process } = running;
  const verdict = judge(window, shape, lab.pinning !== null);
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
    latencyCounts: window.latencyCounts,
  };
}
