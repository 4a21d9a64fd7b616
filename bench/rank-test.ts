// The rank test of Mann and Whitney, two-sided: whether one of two groups tends to have the greater values. It looks at their order
// alone, so it asks nothing of how they are distributed, and one wild value counts for one.
//
// Null hypothesis: which values are in which group is chance. W is the sum of the ranks of the first group; equal values share the
// mean of their ranks. Up to MOST_EXACT values in all, p is exact, with whatever values are equal: every way to choose the first group is
// counted, by the sum of its ranks. Beyond, W is taken as normal, with the variance corrected for equal values, and for being a
// whole number (Lehmann, Nonparametrics, 1.4).

export interface RankTest {
  /** How likely chance alone gives sums of ranks that lie as far apart, or farther. */
  readonly p: number;
  readonly isExact: boolean;
}

/** The counting takes a tenth of a second at most. */
const MOST_EXACT = 100;

/** Twice the rank of each value, for then all are whole numbers. */
function doubledRanks(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  sorted.forEach((value, i) => {
    if (!first.has(value)) first.set(value, i + 1);
    last.set(value, i + 1);
  });
  return values.map((value) => first.get(value)! + last.get(value)!);
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** What `size` of `total` doubled ranks have as a sum on average: equal values change nothing about it. */
const meanSum = (size: number, total: number): number => size * (total + 1);

/** The share of the ways to choose `size` of `ranks` whose sum is at least `distance` away from the mean. */
function exact(ranks: readonly number[], size: number, distance: number): number {
  const most = sum(ranks);
  const mean = meanSum(size, ranks.length);
  // ways[k][s]: how many choices of k of the ranks seen so far have the sum s.
  const ways = Array.from({ length: size + 1 }, () => new Float64Array(most + 1));
  ways[0]![0] = 1;
  ranks.forEach((rank, seen) => {
    for (let k = Math.min(size, seen + 1); k > 0; k--) {
      const [without, onto] = [ways[k - 1]!, ways[k]!];
      for (let s = most - rank; s >= 0; s--) onto[s + rank]! += without[s]!;
    }
  });
  let all = 0;
  let far = 0;
  ways[size]!.forEach((count, s) => {
    all += count;
    if (Math.abs(s - mean) >= distance) far += count;
  });
  return far / all;
}

/** Of the standard normal distribution, both tails beyond `z`: Abramowitz and Stegun, 7.1.26, off by less than 1.5e-7. */
function bothTails(z: number): number {
  const x = z / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.min(1, polynomial * Math.exp(-x * x));
}

function approximate(ranks: readonly number[], size: number, distance: number): number {
  const total = ranks.length;
  const ties = new Map<number, number>();
  for (const rank of ranks) ties.set(rank, (ties.get(rank) ?? 0) + 1);
  const tied = sum([...ties.values()].map((count) => count ** 3 - count));
  const variance = ((size * (total - size)) / 12) * (total + 1 - tied / (total * (total - 1)));
  if (variance === 0) return 1;
  // Sums of ranks are half of what was doubled, and half a step nearer for the correction.
  return bothTails(Math.max(0, distance / 2 - 0.5) / Math.sqrt(variance));
}

/** Neither group may be empty. */
export function rankTest(first: readonly number[], second: readonly number[]): RankTest {
  const ranks = doubledRanks([...first, ...second]);
  const distance = Math.abs(sum(ranks.slice(0, first.length)) - meanSum(first.length, ranks.length));
  const isExact = ranks.length <= MOST_EXACT;
  return { p: (isExact ? exact : approximate)(ranks, first.length, distance), isExact };
}

/** The least p that groups of these sizes can have: every value of the one is below every value of the other. */
export function leastP(first: number, second: number): number {
  let choices = 1;
  for (let i = 1; i <= first; i++) choices = (choices * (second + i)) / i;
  return Math.min(1, 2 / choices);
}
