// From samples to results: one per suite, server and shape, in the form that `--json` writes.
//
// Only samples that count make figures. Where none does, the figures of those that do not are shown instead, and the result
// says that it is not valid and why. Figures are medians over rounds; percentiles are of all rounds' latencies together.

import type { IdleSample } from './idle.ts';
import type { Machine } from './machine.ts';
import { describeMethod, describeSuite, describeTarget } from './method.ts';
import type { Plan } from './plan.ts';
import { type ReportedSample, ratiosOf, VALUES } from './ratios.ts';
import type { Run } from './runner.ts';
import type { Sample } from './sample.ts';
import { isRanked, type Shape, titleOf } from './shape.ts';
import { type LatencyMicros, latencyMicros, median, mergeCounts, microsAt, type Spread, spread } from './stats.ts';
import { type Measure, RATIO_FIELDS, type Ratio, type RatioField } from './suite.ts';
import type { Target } from './target.ts';

/** Shares of all latencies, and the microseconds within which they lie: what the chart of latencies draws. */
export type Percentiles = ReadonlyArray<readonly [quantile: number, micros: number]>;

type Ratios = { readonly [Field in RatioField]: number | null };

export interface Result extends Shape, Ratios {
  readonly suite: string;
  readonly server: string;
  /** The shape in words. */
  readonly shape: string;
  readonly roundTripsPerSecond: number | null;
  readonly serverCpuMicrosPerRoundTrip: number | null;
  readonly serverBusy: number | null;
  readonly generatorBusy: number | null;
  readonly latencyMicros: LatencyMicros | null;
  readonly percentiles: Percentiles;
  /** Of an open loop. */
  readonly achievedRate: number | null;
  /** The share of its messages that met a hiccup of the machine, and are in no percentile; null where the machine was not watched. */
  readonly disturbedShare: number | null;
  readonly floodBytesPerSecond: number | null;
  /** Measured with `rssConnections` idle connections. */
  readonly rssBytesPerConnection: number | null;
  readonly rssConnections: number | null;
  readonly kernelStackBytesPerConnection: number | null;
  /** Of the whole server, while it serves all connections. */
  readonly rssBytes: number | null;
  readonly threads: number | null;
  readonly valid: boolean;
  readonly whyInvalid: string | null;
  /** False where wakeups are measured and not servers: such figures are shown, and nobody is ranked by them. */
  readonly ranked: boolean;
  /** How many samples the figures are of, and how many did not count. */
  readonly samples: number;
  readonly invalidSamples: number;
  /** How many connections were established, at best. */
  readonly established: number | null;
  readonly spread: Readonly<Record<'roundTripsPerSecond' | 'p99' | RatioField, Spread | null>>;
}

/** Whether the generator could have asked the best server for more than it did. */
export interface SelfCheck {
  readonly suite: string;
  readonly shape: string;
  readonly server: string;
  /** So many times what the server did, if the generator had nothing else to do than it had. */
  readonly headroom: number;
  readonly enough: boolean;
}

export interface SuiteReport {
  readonly name: string;
  readonly title: string;
  readonly measure: Measure;
  readonly ratios: readonly Ratio[];
  readonly method: Readonly<Record<string, string>>;
}

export interface Report {
  readonly suites: readonly SuiteReport[];
  readonly machine: Machine;
  readonly method: Readonly<Record<string, string>>;
  /** False when the run was interrupted or a server died. */
  readonly complete: boolean;
  readonly results: readonly Result[];
  readonly idle: ReadonlyArray<IdleSample & { readonly suite: string }>;
  readonly samples: readonly ReportedSample[];
  readonly selfChecks: readonly SelfCheck[];
  /** Servers that were not measured, and how to have them. */
  readonly skipped: readonly string[];
}

/** How much faster than the best server the generator must be. */
const HEADROOM = 1.2;

/** Memory at this number of connections, or at the nearest that was measured. */
function idleOf(idle: readonly IdleSample[], server: string, connections: number): IdleSample | undefined {
  const distance = (sample: IdleSample) => Math.abs(sample.connections - connections);
  return idle.filter((sample) => sample.server === server).sort((a, b) => distance(a) - distance(b))[0];
}

interface Group {
  readonly all: readonly Sample[];
  readonly counting: readonly Sample[];
}

function groupOf(run: Run, server: string, shape: Shape): Group {
  const title = titleOf(shape);
  const all = run.samples.filter((sample) => sample.server === server && titleOf(sample.shape) === title);
  return { all, counting: all.filter((sample) => sample.valid) };
}

/** Closer together towards the end, where they matter. */
const QUANTILES = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1];

function reported(suite: string, { latencyCounts, repeat: _repeat, shape, ...sample }: Sample): ReportedSample {
  return { ...sample, suite, shape: titleOf(shape), p99Micros: microsAt(latencyCounts, 0.99) };
}

function resultOf(
  run: Run,
  samples: readonly ReportedSample[],
  plan: Plan,
  server: string,
  shape: Shape,
  interrupted: boolean,
): Result {
  const { all, counting } = groupOf(run, server, shape);
  const shown = counting.length > 0 ? counting : all;
  const rates = shown.map((sample) => sample.roundTripsPerSecond);
  const counts = mergeCounts(shown.map((sample) => sample.latencyCounts));
  const pacing = shown.flatMap((sample) => sample.pacing ?? []);
  const floods = shown.flatMap((sample) => sample.floodBytesPerSecond ?? []);
  const { measure, ratios: wanted } = plan.suite;
  const ratios = new Map(
    wanted.map((ratio) => [ratio.field, ratiosOf(samples, VALUES[measure], ratio, server, shape)]),
  );
  const ofRatios = <T>(value: (ratios: readonly number[]) => T | null) =>
    Object.fromEntries(RATIO_FIELDS.map((field) => [field, value(ratios.get(field) ?? [])])) as {
      [Field in RatioField]: T | null;
    };
  const idle = idleOf(run.idle, server, shape.connections);
  const failure = run.failures.get(server);
  const valid = !interrupted && failure === undefined && counting.length > 0;
  const lastProblem = all.findLast((sample) => !sample.valid)?.whyInvalid ?? 'not measured';
  return {
    suite: plan.suite.name,
    server,
    shape: titleOf(shape),
    ...shape,
    roundTripsPerSecond: median(rates),
    serverCpuMicrosPerRoundTrip: median(shown.flatMap((sample) => sample.serverCpuMicrosPerRoundTrip ?? [])),
    serverBusy: median(shown.flatMap((sample) => sample.serverBusy ?? [])),
    generatorBusy: median(shown.map((sample) => sample.generatorBusy)),
    latencyMicros: latencyMicros(counts),
    percentiles: counts.length === 0 ? [] : QUANTILES.map((quantile) => [quantile, microsAt(counts, quantile)]),
    achievedRate: median(pacing.map(({ achievedRate }) => achievedRate)),
    disturbedShare: disturbedShare(shown),
    floodBytesPerSecond: median(floods),
    rssBytesPerConnection: idle?.rssBytesPerConnection ?? null,
    rssConnections: idle?.connections ?? null,
    kernelStackBytesPerConnection: idle?.kernelStackBytesPerConnection ?? null,
    rssBytes: median(shown.flatMap((sample) => sample.rssBytes ?? [])),
    threads: median(shown.flatMap((sample) => sample.threads ?? [])),
    ...ofRatios(median),
    valid,
    whyInvalid: interrupted ? 'interrupted' : (failure ?? (valid ? null : lastProblem)),
    ranked: isRanked(shape),
    samples: shown.length,
    invalidSamples: all.length - counting.length,
    established: all.length === 0 ? null : Math.max(...all.map((sample) => sample.established)),
    spread: {
      roundTripsPerSecond: spread(rates),
      p99: spread(shown.map(({ latencyCounts }) => microsAt(latencyCounts, 0.99))),
      ...ofRatios(spread),
    },
  };
}

function disturbedShare(samples: readonly Sample[]): number | null {
  const watched = samples.filter(({ pacing }) => pacing?.disturbed !== undefined);
  const sum = (of: (sample: Sample) => number) => watched.reduce((total, sample) => total + of(sample), 0);
  return watched.length === 0
    ? null
    : sum(({ pacing }) => pacing!.disturbed!) /
        Math.max(
          1,
          sum((sample) => sample.roundTrips),
        );
}

/** Of the best server in each closed-loop shape, where servers must be busy: was the generator fast enough to say so? */
function selfChecksOf(results: readonly Result[]): SelfCheck[] {
  const shapes = [...new Set(results.filter(({ rate, ranked }) => rate === null && ranked).map(({ shape }) => shape))];
  return shapes.flatMap((shape) => {
    const own = results.filter((result) => result.shape === shape && result.valid);
    const best = own.sort((a, b) => b.roundTripsPerSecond! - a.roundTripsPerSecond!)[0];
    if (best === undefined) return [];
    const headroom = 1 / Math.max(best.generatorBusy!, 0.01);
    return [{ suite: best.suite, shape, server: best.server, headroom, enough: headroom >= HEADROOM }];
  });
}

/** What one suite has shown. */
export interface Outcome {
  readonly plan: Plan;
  readonly servers: readonly string[];
  readonly run: Run;
}

export interface Circumstances {
  readonly interrupted: boolean;
  readonly skipped: readonly string[];
  /** What servers run on: 'bun: Bun 1.4.5'. */
  readonly versions?: readonly string[];
  /** What was measured instead of servers that are started here. */
  readonly target?: Target | null;
}

export function makeReport(
  machine: Machine,
  outcomes: readonly Outcome[],
  { interrupted, skipped, versions = [], target }: Circumstances,
): Report {
  const samples = outcomes.map(({ plan, run }) => run.samples.map((sample) => reported(plan.suite.name, sample)));
  const results = outcomes.flatMap(({ plan, servers, run }, i) =>
    run.shapes.flatMap((shape) =>
      servers
        .filter((server) => run.failures.has(server) || interrupted || groupOf(run, server, shape).all.length > 0)
        .map((server) => resultOf(run, samples[i]!, plan, server, shape, interrupted)),
    ),
  );
  return {
    suites: outcomes.map(({ plan, run }) => {
      const { name, title, measure, ratios } = plan.suite;
      return { name, title, measure, ratios, method: describeSuite(plan, run.shapes) };
    }),
    machine,
    method: {
      ...(target ? describeTarget(machine, target) : describeMethod(machine)),
      ...(versions.length > 0 ? { versions: versions.join('; ') } : {}),
    },
    complete: !interrupted && outcomes.every(({ run }) => run.failures.size === 0),
    results,
    idle: outcomes.flatMap(({ plan, run }) => run.idle.map((sample) => ({ ...sample, suite: plan.suite.name }))),
    samples: samples.flat(),
    selfChecks: outcomes
      .filter(({ plan }) => plan.suite.demand === 'busy')
      .flatMap(({ plan }) => selfChecksOf(results.filter(({ suite }) => suite === plan.suite.name))),
    skipped,
  };
}
