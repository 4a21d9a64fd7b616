// The arithmetic of the report. Percentiles come from counts that were added up, never from averaged percentiles; a ratio
// compares two samples of the same round, never two medians.

/** What a histogram holds: [latency in nanoseconds, how often], in rising order. */
export type LatencyCounts = ReadonlyArray<readonly [nanos: number, count: number]>;

export interface Spread {
  readonly min: number;
  readonly max: number;
}

export interface LatencyMicros {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** The middle value, or the mean of the two middle ones; null of nothing. */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function spread(values: readonly number[]): Spread | null {
  return values.length === 0 ? null : { min: Math.min(...values), max: Math.max(...values) };
}

/** One histogram of several windows. */
export function mergeCounts(windows: readonly LatencyCounts[]): LatencyCounts {
  const merged = new Map<number, number>();
  for (const counts of windows) {
    for (const [nanos, count] of counts) merged.set(nanos, (merged.get(nanos) ?? 0) + count);
  }
  return [...merged].sort(([a], [b]) => a - b);
}

/** The latency in microseconds that at least `quantile` (0 to 1) of all do not exceed. */
export const microsAt = (counts: LatencyCounts, quantile: number): number => nanosAt(counts, quantile) / 1000;

/** The smallest latency that at least `quantile` (0 to 1) of all do not exceed. */
function nanosAt(counts: LatencyCounts, quantile: number): number {
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const rank = Math.max(1, Math.ceil(quantile * total));
  let seen = 0;
  for (const [nanos, count] of counts) {
    seen += count;
    if (seen >= rank) return nanos;
  }
  return 0;
}

/** Null of an empty histogram. */
export function latencyMicros(counts: LatencyCounts): LatencyMicros | null {
  if (counts.length === 0) return null;
  const micros = (quantile: number) => microsAt(counts, quantile);
  return { p50: micros(0.5), p90: micros(0.9), p99: micros(0.99), p999: micros(0.999), max: micros(1) };
}

/** Per round in which both have a value: the one divided by the other. */
export function pairedRatios(values: ReadonlyMap<number, number>, reference: ReadonlyMap<number, number>): number[] {
  const ratios: number[] = [];
  for (const [round, value] of values) {
    const divisor = reference.get(round);
    if (divisor !== undefined && divisor > 0) ratios.push(value / divisor);
  }
  return ratios;
}
