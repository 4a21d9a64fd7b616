// Ratios: what a server did in a round to what its reference did in the same round. They are made from samples as a report holds them,
// so that they can be made again from a file.

import type { Sample } from './sample.ts';
import { type Shape, titleOf } from './shape.ts';
import { pairedRatios } from './stats.ts';
import type { Measure, Ratio } from './suite.ts';

/** A sample in a report: its shape in words, and one percentile instead of all latencies. */
export interface ReportedSample extends Omit<Sample, 'latencyCounts' | 'repeat' | 'shape'> {
  readonly suite: string;
  readonly shape: string;
  readonly p99Micros: number;
}

/** From a sample to what a ratio is of; null if it is not known. */
export type Value = (sample: ReportedSample) => number | null;

export const VALUES: Readonly<Record<Measure, Value>> = {
  rate: (sample) => sample.roundTripsPerSecond,
  capacity: (sample) => (sample.serverCpuSeconds === null ? null : sample.roundTrips / sample.serverCpuSeconds),
  p99: (sample) => sample.p99Micros,
};

function byRound(samples: readonly ReportedSample[], value: Value, server: string, shape: Shape): Map<number, number> {
  const title = titleOf(shape);
  const values = new Map<number, number>();
  for (const sample of samples) {
    if (!sample.valid || sample.server !== server || sample.shape !== title) continue;
    const own = value(sample);
    if (own !== null) values.set(sample.round, own);
  }
  return values;
}

/** Of one suite's samples that count: one ratio for each round in which both have one. */
export function ratiosOf(
  samples: readonly ReportedSample[],
  value: Value,
  { server: reference, difference }: Ratio,
  server: string,
  shape: Shape,
): number[] {
  const own = byRound(samples, value, server, shape);
  return pairedRatios(own, byRound(samples, value, reference ?? server, { ...shape, ...difference }));
}
