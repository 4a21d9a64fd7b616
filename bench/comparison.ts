// What two reports say differently, beyond noise. Absolute figures of two runs are not comparable, for machines have phases; ratios within a round
// are: the groups that are tested are the ratios of all rounds, in the one report and in the other.
//
// What the test takes for chance alone: a process may be a little faster or slower than another of the same server for as long as it lives, and three of
// them share the rounds of a stage. Two runs of the same program show how much is left of that.

import { leastP, type RankTest, rankTest } from './rank-test.ts';
import { ratiosOf, VALUES, type Value } from './ratios.ts';
import type { Report, Result, SuiteReport } from './results.ts';
import { titleOf } from './shape.ts';
import { median, spread } from './stats.ts';
import type { Measure, Ratio } from './suite.ts';

/** Chance alone would seldom show as much as a change that is reported, ... */
export const LEAST_LIKELY = 0.01;
/** ... and a change is worth a line, as a share of the median. */
export const LEAST_CHANGE = 0.01;

/**
 * Memory is measured three times per report at the most, which is nothing to test. A change is one if each sample of the one report is above all
 * of the other, and it is this much: processes of the same server with 5,000 connections differed by up to 0.7 MB for all connections together.
 * Measured less often it has to be more than processes have ever differed by.
 */
const LEAST_MEMORY = { bytes: 2 ** 20, bytesOfFew: 4 * 2 ** 20, share: 0.1 };

/** What was compared: the figure of a server in a shape. */
export interface Subject {
  readonly suite: string;
  readonly server: string;
  readonly shape: string;
  /** Empty where it is what the suite measures in general: round trips per second. */
  readonly figure: string;
  /** Whom the ratio is to, in words. */
  readonly reference: string;
}

export interface Change extends Subject, RankTest {
  readonly before: number;
  readonly after: number;
  readonly isWorse: boolean;
  readonly samplesBefore: number;
  readonly samplesAfter: number;
}

/** Bytes per idle connection. */
export interface Memory {
  readonly suite: string;
  readonly server: string;
  readonly connections: number;
  readonly before: number;
  readonly after: number;
  readonly samplesBefore: number;
  readonly samplesAfter: number;
  /** Null: the difference is no larger than runs of the same server have. */
  readonly isWorse: boolean | null;
}

/** Too few of either for any difference to be beyond noise. */
interface TooFew extends Subject {
  readonly samplesBefore: number;
  readonly samplesAfter: number;
}

export interface Comparison {
  /** Why the comparison is doubtful. */
  readonly warnings: readonly string[];
  readonly changes: readonly Change[];
  readonly memory: readonly Memory[];
  readonly unchanged: readonly Subject[];
  readonly tooFew: readonly TooFew[];
  /** Suites and shapes in words, with the servers that only one of the reports has there. */
  readonly onlyBefore: readonly string[];
  readonly onlyAfter: readonly string[];
}

interface Figure {
  readonly name: string;
  readonly value: Value;
  readonly lessIsBetter: boolean;
}

const CPU: Figure = {
  name: 'CPU per round trip',
  value: (sample) => sample.serverCpuMicrosPerRoundTrip,
  lessIsBetter: true,
};
const P99: Figure = { name: 'p99 latency', value: VALUES.p99, lessIsBetter: true };

/** What is compared in a suite that measures that. A capacity is CPU time per round trip already. */
const FIGURES: Readonly<Record<Measure, readonly Figure[]>> = {
  rate: [{ name: '', value: VALUES.rate, lessIsBetter: false }, CPU, P99],
  capacity: [{ name: 'round trips per CPU second', value: VALUES.capacity, lessIsBetter: false }, P99],
  p99: [P99, CPU],
};

/** The first of the suite's ratios whose reference is not the server itself in the same shape, and was measured in both. */
function ratioFor({ ratios }: SuiteReport, result: Result, measured: ReadonlySet<string>): Ratio | undefined {
  return ratios.find(({ server, difference }) => {
    const reference = { ...result, server: server ?? result.server, shape: titleOf({ ...result, ...difference }) };
    return keyOf(reference) !== keyOf(result) && measured.has(keyOf(reference));
  });
}

const referenceOf = ({ server, label }: Ratio): string => server ?? `itself, ${label.replace(/^\/ /, '')}`;

const keyOf = ({ suite, server, shape }: Pick<Result, 'suite' | 'server' | 'shape'>): string =>
  JSON.stringify([suite, server, shape]);

const samplesOf = (report: Report, suite: string) => report.samples.filter((sample) => sample.suite === suite);

type Verdict =
  | { readonly kind: 'changes'; readonly of: Change }
  | { readonly kind: 'tooFew'; readonly of: TooFew }
  | { readonly kind: 'unchanged'; readonly of: Subject };

function judge(
  subject: Subject,
  { lessIsBetter }: Figure,
  before: readonly number[],
  after: readonly number[],
): Verdict {
  const counts = { samplesBefore: before.length, samplesAfter: after.length };
  const [a, b] = [median(before), median(after)];
  if (a === null || b === null || leastP(before.length, after.length) >= LEAST_LIKELY)
    return { kind: 'tooFew', of: { ...subject, ...counts } };
  const test = rankTest(before, after);
  if (test.p >= LEAST_LIKELY || Math.abs(b - a) < LEAST_CHANGE * a) return { kind: 'unchanged', of: subject };
  return {
    kind: 'changes',
    of: { ...subject, ...test, ...counts, before: a, after: b, isWorse: b > a === lessIsBetter },
  };
}

function compareSuite(before: Report, after: Report, suite: SuiteReport): Verdict[] {
  const [a, b] = [samplesOf(before, suite.name), samplesOf(after, suite.name)];
  const others = new Set(after.results.map(keyOf));
  const shared = before.results.filter((result) => result.suite === suite.name && others.has(keyOf(result)));
  const measured = new Set(shared.map(keyOf));
  return shared.flatMap((result) => {
    const ratio = ratioFor(suite, result, measured);
    if (ratio === undefined) return [];
    const { server, shape } = result;
    return FIGURES[suite.measure].flatMap((figure) => {
      const ratios = (samples: Report['samples']) => ratiosOf(samples, figure.value, ratio, server, result);
      // What neither knows, of servers that are not watched, is not missing.
      if (![...a, ...b].some((sample) => figure.value(sample) !== null)) return [];
      const subject = { suite: suite.name, server, shape, figure: figure.name, reference: referenceOf(ratio) };
      return [judge(subject, figure, ratios(a), ratios(b))];
    });
  });
}

function compareMemory(before: Report, after: Report): Memory[] {
  return before.idle.flatMap(({ suite, server, connections, rssBytesPerConnection: a, rssSamples, whyIncomplete }) => {
    const other = after.idle.find(
      (sample) => sample.suite === suite && sample.server === server && sample.connections === connections,
    );
    if (other === undefined || whyIncomplete !== null || other.whyIncomplete !== null) return [];
    const b = other.rssBytesPerConnection;
    const difference = Math.abs(b - a);
    const isFew = Math.min(rssSamples.length, other.rssSamples.length) < 3;
    const least = isFew ? LEAST_MEMORY.bytesOfFew : LEAST_MEMORY.bytes;
    const isLarge = difference * connections >= least && difference >= LEAST_MEMORY.share * a;
    const [first, second] = [spread(rssSamples)!, spread(other.rssSamples)!];
    const isChange = isLarge && (first.max < second.min || second.max < first.min);
    const samples = { samplesBefore: rssSamples.length, samplesAfter: other.rssSamples.length };
    return [{ suite, server, connections, before: a, after: b, ...samples, isWorse: isChange ? b > a : null }];
  });
}

/** What the one has and the other has not: suites, or shapes with their servers. */
function onlyIn(report: Report, other: Report): string[] {
  const suites = report.suites.filter(({ name }) => !other.suites.some((suite) => suite.name === name));
  const names = suites.map(({ name }) => name);
  const known = new Set(other.results.map(keyOf));
  const missing = new Map<string, string[]>();
  for (const result of report.results) {
    if (names.includes(result.suite) || known.has(keyOf(result))) continue;
    const where = `${result.suite}, ${result.shape}`;
    missing.set(where, [...(missing.get(where) ?? []), result.server]);
  }
  return [
    ...names.map((name) => `the suite ${name}`),
    ...[...missing].map(([where, servers]) => `${where}: ${servers.join(', ')}`),
  ];
}

/** How long the windows were. */
const secondsOf = (report: Report, suite: string, shape: string): number | null =>
  median(samplesOf(report, suite).flatMap((sample) => (sample.shape === shape ? sample.seconds : [])));

/** One line for the windows of a suite that are of different lengths. */
function windowWarning(before: Report, after: Report, { name }: SuiteReport): string[] {
  const shapes = new Set(before.results.flatMap(({ suite, shape }) => (suite === name ? shape : [])));
  for (const shape of shapes) {
    const [a, b] = [secondsOf(before, name, shape), secondsOf(after, name, shape)];
    if (a !== null && b !== null && Math.abs(a - b) > 0.1 * Math.min(a, b))
      return [`${name}: windows of different lengths, ${a.toFixed(2)} s and ${b.toFixed(2)} s at ${shape}`];
  }
  return [];
}

function warningsOf(before: Report, after: Report, shared: readonly SuiteReport[]): string[] {
  const facts: ReadonlyArray<readonly [string, (report: Report) => string]> = [
    ['processors', ({ machine }) => `${machine.cpuModel}, ${machine.cores} cores`],
    ['kernels', ({ machine }) => machine.kernel],
    ['congestion controls', ({ machine }) => machine.congestionControl],
    ['versions of Node', ({ machine }) => machine.node],
    // To the GiB: what the kernel keeps for itself varies.
    ['sizes of memory', ({ machine }) => `${Math.round(machine.memoryBytes / 2 ** 30)} GiB`],
    ['places for server and generator', ({ method }) => method.cores ?? 'unknown'],
  ];
  return [
    ...facts
      .filter(([, fact]) => fact(before) !== fact(after))
      .map(([what, fact]) => `different ${what}: ${fact(before)} | ${fact(after)}`),
    ...[before, after].flatMap(({ complete }, i) =>
      complete
        ? []
        : [`the ${i === 0 ? 'first' : 'second'} run is not complete: it was interrupted, or a server failed`],
    ),
    ...shared.flatMap((suite) => windowWarning(before, after, suite)),
  ];
}

export function compareReports(before: Report, after: Report): Comparison {
  const pairs = before.suites.flatMap((suite) => {
    const other = after.suites.find(({ name }) => name === suite.name);
    return other === undefined ? [] : [{ suite, isSame: other.measure === suite.measure }];
  });
  const shared = pairs.filter(({ isSame }) => isSame).map(({ suite }) => suite);
  const verdicts = shared.flatMap((suite) => compareSuite(before, after, suite));
  return {
    warnings: [
      ...warningsOf(before, after, shared),
      ...pairs
        .filter(({ isSame }) => !isSame)
        .map(({ suite }) => `${suite.name}: not compared, for it measures something else in the second report`),
    ],
    changes: verdicts.flatMap(({ kind, of }) => (kind === 'changes' ? of : [])),
    memory: compareMemory(before, after),
    unchanged: verdicts.flatMap(({ kind, of }) => (kind === 'unchanged' ? of : [])),
    tooFew: verdicts.flatMap(({ kind, of }) => (kind === 'tooFew' ? of : [])),
    onlyBefore: onlyIn(before, after),
    onlyAfter: onlyIn(after, before),
  };
}
