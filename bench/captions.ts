// One sentence under each chart that says what it shows. Computed from the figures, so that it is true of them; where
// figures are missing it says that.

import { connectionsOf, whole } from './format.ts';
import type { IdleSample } from './idle.ts';
import type { Result } from './results.ts';
import type { RatioField } from './suite.ts';

const NOTHING = 'There is no valid figure to show here; what is drawn hollow is not to be ranked by.';

/** From the best to the worst by `figure`; results without it are left out. */
function sortedBy(
  results: readonly Result[],
  figure: (result: Result) => number | null | undefined,
): [Result, number][] {
  return results
    .filter((result) => result.valid)
    .map((result): [Result, number | null | undefined] => [result, figure(result)])
    .filter((pair): pair is [Result, number] => pair[1] !== null && pair[1] !== undefined)
    .sort(([, a], [, b]) => b - a);
}

/** `headline` are the results of one number of connections. */
export function throughputCaption(headline: readonly Result[]): string {
  const rates = sortedBy(headline, (result) => result.roundTripsPerSecond);
  const [best] = rates;
  const worst = rates.at(-1);
  if (best === undefined || worst === undefined) return NOTHING;
  const at = `With ${connectionsOf(best[0].connections)}`;
  const most = `${best[0].server} completes ${whole(best[1])} round trips per second on one core`;
  const least = rates.length === 1 ? '' : `, and ${worst[0].server}, the last of ${rates.length}, ${whole(worst[1])}`;
  return `${at}, ${most}${least}. Hollow marks are not to be ranked by.`;
}

/** Of a ratio to what is to be beaten. */
export function gainCaption(headline: readonly Result[], field: RatioField, reference: string): string {
  const ratios = sortedBy(
    headline.filter((result) => result.server !== reference),
    (result) => result[field],
  );
  const [best] = ratios;
  if (best === undefined) return NOTHING;
  const [result, ratio] = best;
  return `With ${connectionsOf(result.connections)} ${result.server} completes ${ratio.toFixed(2)} times as many round trips as ${reference}.`;
}

/** Of the ratio to the floor, which nobody can beat. */
export function ratioCaption(headline: readonly Result[]): string {
  const ratios = sortedBy(
    headline.filter((result) => result.server !== 'raw-epoll'),
    (result) => result.ratioToRawEpoll,
  );
  const [best] = ratios;
  if (best === undefined) return NOTHING;
  const [result, ratio] = best;
  const range = result.spread.ratioToRawEpoll!;
  const percentOf = (value: number) => (value * 100).toFixed(0);
  const threads =
    result.ratioToThreads === null
      ? ''
      : `, and ${result.ratioToThreads.toFixed(2)} times that of a thread per connection`;
  return `With ${connectionsOf(result.connections)} ${result.server} comes nearest to the floor: ${percentOf(ratio)} % of its rate (${percentOf(range.min)} to ${percentOf(range.max)} % in single rounds)${threads}.`;
}

export function latencyCaption(headline: readonly Result[]): string {
  const latencies = sortedBy(headline, (result) => result.latencyMicros?.p99);
  const [worst] = latencies;
  const best = latencies.at(-1);
  if (worst === undefined || best === undefined) return NOTHING;
  const context = `With ${connectionsOf(best[0].connections)} that saturate the server`;
  const least = `99 of 100 messages are back within ${whole(best[1])} µs from ${best[0].server}`;
  const most = latencies.length === 1 ? '' : ` and within ${whole(worst[1])} µs from ${worst[0].server}`;
  return `${context}, ${least}${most}.`;
}

/** `idle` are the samples of one number of connections. */
export function memoryCaption(idle: readonly IdleSample[]): string {
  const total = (sample: IdleSample) => sample.rssBytesPerConnection + sample.kernelStackBytesPerConnection;
  const [least, ...others] = [...idle].sort((a, b) => total(a) - total(b));
  if (least === undefined) return NOTHING;
  const most = others.at(-1);
  const context = `With ${whole(least.connections)} idle connections ${least.server} holds ${whole(total(least))} bytes for each`;
  if (most === undefined) return `${context}.`;
  const stack = most.kernelStackBytesPerConnection;
  const kernel = stack === 0 ? '' : `, ${whole(stack)} of them kernel stack (the faded part of the bar)`;
  return `${context}, ${most.server} ${whole(total(most))}${kernel}.`;
}
