// One sample: one server, one shape, one window. And the rule by which it counts.

import { readFileSync } from 'node:fs';
import { percent, whole } from './format.ts';
import { footprintOf } from './idle.ts';
import { closed, descriptorsOf, generate, isOurs, type Lab, type Reachable, type RunningServer, spins } from './lab.ts';
import { isRanked, type Shape } from './shape.ts';
import type { LatencyCounts } from './stats.ts';
import type { Demand, Stage, Suite } from './suite.ts';
import { runWrk } from './wrk.ts';

type Seconds = Pick<Stage, 'leadSeconds' | 'seconds'>;

/** What an open loop and flooders add to a window. */
interface Pacing {
  /** Messages per second that should have been sent in the window, and that were answered in it. */
  readonly intendedRate: number;
  readonly achievedRate: number;
  /** Ninety-nine of a hundred messages were sent no later than this after they should have been: the generator's own doing. */
  readonly lateMicrosP99: number;
  /** Messages that there was no room for, and that were not answered within two seconds after the window. */
  readonly unsent: number;
  readonly unanswered: number;
  /** Messages that met a hiccup of the machine: they are in no percentile. Absent where its cores could not be watched (bench/loadgen/hiccups.h). */
  readonly disturbed?: number | undefined;
  /** Whether another process that had a core is such a hiccup, too: absent where `disturbed` is. */
  readonly processesSeen?: boolean | undefined;
}

/** What the generator reports of a window. */
export interface Window {
  readonly established: number;
  readonly connectionErrors: number;
  readonly firstConnectionError: string | null;
  readonly roundTrips: number;
  readonly seconds: number;
  readonly roundTripsPerSecond: number;
  /** Null where the server is not watched. */
  readonly serverCpuSeconds: number | null;
  readonly serverBusy: number | null;
  readonly generatorBusy: number;
  /** Of the generator's core, by whatever runs there. */
  readonly otherCoreBusy: number;
  /** Of the server, at the end of the window, with all its connections; null where it is not watched. */
  readonly rssBytes: number | null;
  readonly threads: number | null;
  readonly latencyCounts: LatencyCounts;
  /** Null of a closed loop. */
  readonly pacing: Pacing | null;
  /** Null where nothing floods. */
  readonly floodBytesPerSecond: number | null;
}

export interface Verdict {
  readonly valid: boolean;
  readonly whyInvalid: string | null;
  /** Whether taking it again could help. */
  readonly repeat: boolean;
  /** Whether an open loop asked for more than the generator could make. */
  readonly limitedByGenerator?: boolean;
}

export interface Sample extends Window, Verdict {
  readonly server: string;
  readonly shape: Shape;
  readonly round: number;
  readonly serverCpuMicrosPerRoundTrip: number | null;
}

/** Below this the server was waiting, and the sample measures whatever it waited for. */
export const BUSY_ENOUGH = 0.95;

/** An open loop that answers less than this share of what it is asked has a queue that grows: no latency describes it. */
export const ON_TIME = 0.99;

/** No more messages than this share met a hiccup of the machine, or the others would be what was left of a time that was one. */
const MOST_DISTURBED = 0.1;

/** A generator that is later than this has measured itself. */
export const LATEST_MICROS = 100;

/**
 * Whether the `samples` of an open loop say that its rate is more than the generator can make: it was the limit with most of the `servers`, each
 * time that they were asked.
 */
export function exceedsGenerator(
  samples: ReadonlyArray<Pick<Sample, 'server' | 'limitedByGenerator'>>,
  servers: readonly string[],
): boolean {
  const limited = servers.filter((name) => {
    const own = samples.filter(({ server }) => server === name);
    return own.length > 0 && own.every(({ limitedByGenerator }) => limitedByGenerator);
  });
  return limited.length > servers.length / 2;
}

function judgePacing(pacing: Pacing, roundTrips: number, generatorBusy: number): Verdict {
  const { intendedRate, achievedRate, lateMicrosP99, disturbed = 0 } = pacing;
  const no = (whyInvalid: string, repeat: boolean): Verdict => ({ valid: false, whyInvalid, repeat });
  const rates = `answered ${whole(achievedRate)} of ${whole(intendedRate)} messages per second`;
  if (generatorBusy >= BUSY_ENOUGH)
    return { ...no(`${rates}: the generator had no time to spare`, false), limitedByGenerator: true };
  if (achievedRate < ON_TIME * intendedRate) return no(`${rates}: the server missed the rate`, true);
  if (lateMicrosP99 > LATEST_MICROS)
    return {
      ...no(
        `a hundredth of the messages were sent ${whole(lateMicrosP99)} µs late or later: the generator was the limit`,
        true,
      ),
      limitedByGenerator: true,
    };
  if (disturbed > MOST_DISTURBED * roundTrips)
    return no(
      `the machine took the cores away while ${whole(disturbed)} of ${whole(roundTrips)} messages were under way`,
      true,
    );
  return { valid: true, whyInvalid: null, repeat: false };
}

export function judge(window: Window, shape: Shape, isPinned: boolean, demand: Demand = 'busy'): Verdict {
  const no = (whyInvalid: string, repeat: boolean): Verdict => ({ valid: false, whyInvalid, repeat });
  if (window.connectionErrors > 0) {
    const all = shape.connections + shape.idleConnections + shape.flooders;
    const reached = `reached ${whole(window.established)} of ${whole(all)} connections`;
    return no(`${reached}: ${window.firstConnectionError}`, false);
  }
  if (window.roundTrips === 0) return no('no round trip was completed in the window', true);
  if (!isPinned) return no('not pinned: server and generator shared their cores', false);
  if (window.pacing !== null) return judgePacing(window.pacing, window.roundTrips, window.generatorBusy);
  if (window.serverBusy === null)
    return window.generatorBusy < BUSY_ENOUGH
      ? { valid: true, whyInvalid: null, repeat: false }
      : no(`the generator was ${percent(window.generatorBusy)} busy: it was the limit`, true);
  const waits = isRanked(shape) && window.serverBusy < BUSY_ENOUGH;
  if (waits && demand === 'waits' && window.otherCoreBusy >= BUSY_ENOUGH)
    return no(
      'the other core, of the generator and what the server asks, had no time to spare: it was the limit',
      true,
    );
  if (waits && (demand === 'busy' || demand === 'on-time')) {
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

/** Where hiccups of the machine are looked for: what a flood has the kernel do for a server would look like one. */
function watchedCores({ pinning }: Lab, { process }: Reachable, { rate, flooders }: Shape): readonly number[] {
  if (pinning === null || rate === null || flooders > 0) return [];
  return process === null ? [pinning.generatorCpu] : [pinning.serverCpu, pinning.generatorCpu];
}

/** How the generator is told a shape. */
function generatorArgs(shape: Shape, watched: readonly number[]): string[] {
  const args: Array<[string, number | null]> = [
    ['--connections', shape.connections],
    ['--size', shape.messageBytes],
    ['--in-flight', shape.rate === null && !shape.churn ? shape.inFlight : null],
    ['--idle-connections', shape.idleConnections || null],
    ['--flooders', shape.flooders || null],
    ['--rate', shape.rate],
  ];
  const given = args.filter(([, value]) => value !== null).flat();
  const cores = watched.flatMap((core) => ['--watch-core', core]);
  return [...given, ...cores, ...(shape.churn ? ['--churn'] : [])].map(String);
}

/** The generator's window: its edges are where it says, after the lead. */
async function generatorWindow(lab: Lab, running: Reachable, shape: Shape, seconds: Seconds): Promise<Window> {
  const args = [
    ...generatorArgs(shape, watchedCores(lab, running, shape)),
    '--warmup',
    `${seconds.leadSeconds}`,
    '--seconds',
    `${seconds.seconds}`,
  ];
  let fields: Record<string, unknown> = {};
  let before: CoreTime = { busy: 0, all: 0 };
  let otherCoreBusy = 0;
  let footprint: Pick<Window, 'rssBytes' | 'threads'> = { rssBytes: null, threads: null };
  await generate(lab, running, args, (event) => {
    fields = { ...fields, ...event };
    const now = coreTime(lab.pinning?.generatorCpu);
    if (event.event === 'begin') before = now;
    if (event.event !== 'end') return;
    otherCoreBusy = (now.busy - before.busy) / Math.max(1, now.all - before.all);
    if (running.process !== null) footprint = footprintOf(running.process.pid);
  });
  const reported = fields as unknown as Window & Pacing;
  const { rssBytes, threads } = footprint;
  return {
    ...reported,
    serverCpuSeconds: running.process === null ? null : reported.serverCpuSeconds,
    serverBusy: running.process === null ? null : reported.serverBusy,
    // A polling generator leaves nothing of its core, whatever it has to do.
    otherCoreBusy: spins(lab) ? reported.generatorBusy : otherCoreBusy,
    rssBytes,
    threads,
    pacing: shape.rate === null ? null : reported,
    floodBytesPerSecond: shape.flooders === 0 ? null : reported.floodBytesPerSecond,
  };
}

/** wrk's window: all that it does, with the making of its connections. */
async function wrkWindow(
  lab: Lab,
  running: RunningServer,
  shape: Shape,
  { seconds }: Seconds,
  path: string,
): Promise<Window> {
  const before = coreTime(lab.pinning?.generatorCpu);
  const window = await runWrk(lab, running, path, shape.connections, seconds);
  const now = coreTime(lab.pinning?.generatorCpu);
  const otherCoreBusy = (now.busy - before.busy) / Math.max(1, now.all - before.all);
  return { ...window, otherCoreBusy, pacing: null, floodBytesPerSecond: null };
}

/** Load that is not looked at, but for what comes back. */
export async function warmUp(lab: Lab, running: Reachable, shape: Shape, seconds: number): Promise<void> {
  const closedLoop = { ...shape, rate: null, churn: false, flooders: 0, idleConnections: 0 };
  await generatorWindow(lab, running, closedLoop, { leadSeconds: 0, seconds });
  if (shape.churn) await generatorWindow(lab, running, shape, { leadSeconds: 0, seconds: seconds / 2 });
}

export async function takeSample(
  lab: Lab,
  running: Reachable,
  shape: Shape,
  stage: Seconds,
  round: number,
  { path, demand }: Suite,
): Promise<Sample> {
  const descriptors = descriptorsOf(running);
  const window = await (path !== null && isOurs(running)
    ? wrkWindow(lab, running, shape, stage, path)
    : generatorWindow(lab, running, shape, stage));
  await closed(running, descriptors);
  const { server, process } = running;
  const verdict = judge(window, shape, lab.pinning !== null || process === null, demand);
  // What the server said about its own trouble (threads it could not create) explains more than the connections it closed.
  const complaint = window.connectionErrors > 0 ? (process?.stderrTail.trim().split('\n').at(-1) ?? '') : '';
  return {
    ...verdict,
    whyInvalid: complaint === '' ? verdict.whyInvalid : `${verdict.whyInvalid}; it said: ${complaint}`,
    server: server.name,
    shape,
    round,
    established: window.established,
    connectionErrors: window.connectionErrors,
    firstConnectionError: window.firstConnectionError,
    roundTrips: window.roundTrips,
    seconds: window.seconds,
    roundTripsPerSecond: window.roundTripsPerSecond,
    serverCpuSeconds: window.serverCpuSeconds,
    serverCpuMicrosPerRoundTrip: cpuMicrosPerRoundTrip(window),
    serverBusy: window.serverBusy,
    generatorBusy: window.generatorBusy,
    otherCoreBusy: window.otherCoreBusy,
    rssBytes: window.rssBytes,
    threads: window.threads,
    latencyCounts: window.latencyCounts,
    pacing: window.pacing === null ? null : pacingOf(window.pacing),
    floodBytesPerSecond: window.floodBytesPerSecond,
  };
}

function cpuMicrosPerRoundTrip({ serverCpuSeconds, roundTrips }: Window): number | null {
  if (serverCpuSeconds === null) return null;
  return roundTrips === 0 ? 0 : (serverCpuSeconds / roundTrips) * 1e6;
}

/** Without what else the generator says. */
const pacingOf = (said: Pacing): Pacing => ({
  intendedRate: said.intendedRate,
  achievedRate: said.achievedRate,
  lateMicrosP99: said.lateMicrosP99,
  unsent: said.unsent,
  unanswered: said.unanswered,
  disturbed: said.disturbed,
  processesSeen: said.processesSeen,
});
