// From samples to results: one per server and number of connections, in the shape that `--json` writes.
//
// Only samples that count make figures. Where none does, the figures of those that do not are shown instead, and the result
// says that it is not valid and why. Figures are medians over rounds; percentiles are of all rounds' latencies together.

import { connectionsOf } from './format.ts';
import type { IdleSample } from './idle.ts';
import type { Machine } from './machine.ts';
import type { Plan } from './plan.ts';
import type { Run } from './runner.ts';
import { BUSY_ENOUGH, isRanked, type Sample } from './sample.ts';
import { type LatencyMicros, latencyMicros, median, mergeCounts, pairedRatios, type Spread, spread } from './stats.ts';
import type { RatioField, Suite } from './suite.ts';

export interface Result {
  readonly server: string;
  readonly connections: number;
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly roundTripsPerSecond: number | null;
  readonly serverCpuMicrosPerRoundTrip: number | null;
  readonly serverBusy: number | null;
  readonly latencyMicros: LatencyMicros | null;
  /** Measured with `rssConnections` idle connections. */
  readonly rssBytesPerConnection: number | null;
  readonly rssConnections: number | null;
  readonly kernelStackBytesPerConnection: number | null;
  /** Of the whole server, while it serves all connections. */
  readonly rssBytes: number | null;
  readonly threads: number | null;
  readonly ratioToRawEpoll: number | null;
  readonly ratioToThreads: number | null;
  readonly ratioToBlocking: number | null;
  readonly ratioToYield: number | null;
  readonly ratioToAwait: number | null;
  readonly valid: boolean;
  readonly whyInvalid: string | null;
  /** False where wakeups are measured and not servers: such figures are shown, and nobody is ranked by them. */
  readonly ranked: boolean;
  /** How many samples the figures are of, and how many did not count. */
  readonly samples: number;
  readonly invalidSamples: number;
  /** How many connections were established, at best. */
  readonly established: number | null;
  readonly spread: Readonly<Record<'roundTripsPerSecond' | RatioField, Spread | null>>;
}

export interface Report {
  readonly suite: { readonly name: string; readonly title: string; readonly ratios: Suite['ratios'] };
  readonly machine: Machine;
  readonly method: Readonly<Record<string, string>>;
  /** False when the run was interrupted or a server died. */
  readonly complete: boolean;
  readonly results: readonly Result[];
  readonly idle: readonly IdleSample[];
  readonly samples: ReadonlyArray<Omit<Sample, 'latencyCounts' | 'repeat'>>;
  /** Servers that were not measured, and how to have them. */
  readonly skipped: readonly string[];
}

const rateByRound = (samples: readonly Sample[]) =>
  new Map(samples.map((sample) => [sample.round, sample.roundTripsPerSecond]));

/** Memory at this number of connections, or at the nearest that was measured. */
function idleOf(idle: readonly IdleSample[], server: string, connections: number): IdleSample | undefined {
  const distance = (sample: IdleSample) => Math.abs(sample.connections - connections);
  return idle.filter((sample) => sample.server === server).sort((a, b) => distance(a) - distance(b))[0];
}

interface Group {
  readonly all: readonly Sample[];
  readonly counting: readonly Sample[];
}

function groupOf(run: Run, server: string, connections: number): Group {
  const all = run.samples.filter((sample) => sample.server === server && sample.connections === connections);
  return { all, counting: all.filter((sample) => sample.valid) };
}

function resultOf(run: Run, plan: Plan, server: string, connections: number, interrupted: boolean): Result {
  const { all, counting } = groupOf(run, server, connections);
  const shown = counting.length > 0 ? counting : all;
  const rates = shown.map((sample) => sample.roundTripsPerSecond);
  const ratiosTo = (field: RatioField): number[] => {
    const reference = plan.suite.ratios.find((ratio) => ratio.field === field)?.server ?? '';
    return pairedRatios(rateByRound(counting), rateByRound(groupOf(run, reference, connections).counting));
  };
  const toFloor = ratiosTo('ratioToRawEpoll');
  const toThreads = ratiosTo('ratioToThreads');
  const toBlocking = ratiosTo('ratioToBlocking');
  const toYield = ratiosTo('ratioToYield');
  const toAwait = ratiosTo('ratioToAwait');
  const idle = idleOf(run.idle, server, connections);
  const failure = run.failures.get(server);
  const valid = !interrupted && failure === undefined && counting.length > 0;
  const lastProblem = all.findLast((sample) => !sample.valid)?.whyInvalid ?? 'not measured';
  return {
    server,
    connections,
    messageBytes: plan.messageBytes,
    inFlight: plan.inFlight,
    roundTripsPerSecond: median(rates),
    serverCpuMicrosPerRoundTrip: median(shown.map((sample) => sample.serverCpuMicrosPerRoundTrip)),
    serverBusy: median(shown.map((sample) => sample.serverBusy)),
    latencyMicros: latencyMicros(mergeCounts(shown.map((sample) => sample.latencyCounts))),
    rssBytesPerConnection: idle?.rssBytesPerConnection ?? null,
    rssConnections: idle?.connections ?? null,
    kernelStackBytesPerConnection: idle?.kernelStackBytesPerConnection ?? null,
    rssBytes: median(shown.map((sample) => sample.rssBytes)),
    threads: median(shown.map((sample) => sample.threads)),
    ratioToRawEpoll: median(toFloor),
    ratioToThreads: median(toThreads),
    ratioToBlocking: median(toBlocking),
    ratioToYield: median(toYield),
    ratioToAwait: median(toAwait),
    valid,
    whyInvalid: interrupted ? 'interrupted' : (failure ?? (valid ? null : lastProblem)),
    ranked: isRanked({ connections }),
    samples: shown.length,
    invalidSamples: all.length - counting.length,
    established: all.length === 0 ? null : Math.max(...all.map((sample) => sample.established)),
    spread: {
      roundTripsPerSecond: spread(rates),
      ratioToRawEpoll: spread(toFloor),
      ratioToThreads: spread(toThreads),
      ratioToBlocking: spread(toBlocking),
      ratioToYield: spread(toYield),
      ratioToAwait: spread(toAwait),
    },
  };
}

function describeMethod(machine: Machine, plan: Plan): Record<string, string> {
  const { pinning } = machine;
  const { suite } = plan;
  const stages = plan.stages.map(
    (stage) => `${connectionsOf(stage.connections)}: ${stage.rounds} rounds of ${stage.seconds} s`,
  );
  return {
    shape:
      suite.path === null
        ? `closed loop; ${plan.inFlight} message(s) of ${plan.messageBytes} bytes in flight per connection; every byte verified`
        : 'closed loop of wrk; one HTTP request in flight per connection, kept alive; every status checked, and while warming up every byte',
    cores:
      pinning === null
        ? 'not pinned: there is one core only, so nothing here is valid'
        : `server pinned to CPU ${pinning.serverCpu}, generator to CPU ${pinning.generatorCpu}, ${suite.path === null ? 'where it polls' : 'with the rates service, which takes 1 ms'}`,
    rounds: `${stages.join('; ')}; a fresh server per number of connections, warmed up; all servers in each round, the order rotated each round`,
    validity: suite.mustBeBusy
      ? `a sample counts if every connection was established and the server was at least ${BUSY_ENOUGH * 100} % busy (CPU time of its whole process over wall time); at 1 connection wakeups are measured: shown, not ranked`
      : `a sample counts if every connection was established and either the server's core was at least ${BUSY_ENOUGH * 100} % busy or the other core was not: who waits is what is compared`,
    figures: 'medians over rounds; a ratio is the median of the ratios of rates within a round',
    latency:
      'from the first attempt to send a message to its complete return, of a saturated server; percentiles of all counting windows together',
    memory:
      'growth from 64 idle connections to all, each after one echo, divided by their number: Rss of smaps_rollup; kernel stacks from /proc/meminfo',
  };
}

export function makeReport(
  machine: Machine,
  plan: Plan,
  servers: readonly string[],
  run: Run,
  outcome: { readonly interrupted: boolean; readonly skipped: readonly string[] },
): Report {
  const { name, title, ratios } = plan.suite;
  return {
    suite: { name, title, ratios },
    machine,
    method: describeMethod(machine, plan),
    complete: !outcome.interrupted && run.failures.size === 0,
    results: plan.stages.flatMap(({ connections }) =>
      servers.map((server) => resultOf(run, plan, server, connections, outcome.interrupted)),
    ),
    idle: run.idle,
    samples: run.samples.map(({ latencyCounts: _counts, repeat: _repeat, ...sample }) => sample),
    skipped: outcome.skipped,
  };
}
