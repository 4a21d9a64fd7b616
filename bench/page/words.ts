// What figures say, in words that are true of any figures.

import { whole } from '../format.ts';
import type { Result } from '../results.ts';
import { roleOf } from './cast.ts';

/** Where no figure counts. */
export const NOTHING = 'There is no valid figure to show here.';

export type Valued = readonly [server: string, value: number];

/** Of results that count; from the most to the least, or from the least to the most. */
export function ranked(
  results: readonly Result[],
  figure: (result: Result) => number | null | undefined,
  first: 'most' | 'least' = 'most',
): Valued[] {
  return results
    .filter((result) => result.valid)
    .map((result) => [result.server, figure(result)] as const)
    .filter((pair): pair is Valued => pair[1] !== null && pair[1] !== undefined)
    .sort(([, a], [, b]) => (first === 'most' ? b - a : a - b));
}

/** The best of onewait. */
export const oursOf = (values: readonly Valued[]): Valued | undefined =>
  values.find(([server]) => roleOf(server) === 'ours');

/** a, b and c. */
export function listed(items: readonly string[]): string {
  if (items.length < 2) return items.join('');
  return `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

/** More are not read as a list. */
const MOST_LISTED = 6;

/** Of many the first, the last, the best of onewait and what it is compared with, in their order, each with its value. */
export function standings(values: readonly Valued[], format: (value: number) => string): string {
  const named = new Set<Valued | undefined>([
    values[0],
    values.at(-1),
    oursOf(values),
    values.find(([server]) => roleOf(server) === 'floor'),
    values.find(([server]) => roleOf(server) === 'threads'),
  ]);
  const shown = values.length <= MOST_LISTED ? values : values.filter((value) => named.has(value));
  const items = shown.map(([server, value]) => `${server} ${format(value)}`);
  const of = shown.length === values.length ? '' : ` (${shown.length} of ${values.length})`;
  return listed(items) + of;
}

/** 24 µs, 1.2 ms, 3 s: three digits at most, and no line ends within. */
export function duration(micros: number): string {
  const [value, unit] = micros >= 1e6 ? [micros / 1e6, 's'] : micros >= 1e3 ? [micros / 1e3, 'ms'] : [micros, 'µs'];
  return `${Number(value.toPrecision(value >= 10 && value < 100 ? 2 : 3))}\u00a0${unit}`;
}

const threeDigits = (value: number): string => `${Number(value.toPrecision(3))}`;

/** 210 k. */
export function thousands(value: number): string {
  if (value >= 1e6) return `${threeDigits(value / 1e6)}\u00a0M`;
  return value >= 1e3 ? `${threeDigits(value / 1e3)}\u00a0k` : threeDigits(value);
}

export const times = (ratio: number): string => (ratio >= 9.95 ? whole(ratio) : ratio.toFixed(2));
