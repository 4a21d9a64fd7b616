// Counts of durations in logarithmic buckets, as HdrHistogram does it: eight to each doubling, so a percentile is within 4 % of the truth.
// Memory is that of the range that occurs, and never more than a few kilobytes.

/** Buckets to each doubling. */
const STEPS = 8;
/** Durations beyond this are counted as this: 2^62 ns are a hundred years. */
const MAX_BUCKET = 62 * STEPS;

/** Durations in nanoseconds. */
export class Histogram {
  count = 0;
  total = 0;
  max = 0;
  private counts = new Uint32Array(0);
  /** Bucket of the first of `counts`. */
  private first = 0;

  add(ns: number): void {
    this.count++;
    this.total += ns;
    if (ns > this.max) this.max = ns;
    this.put(bucketOf(ns), 1);
  }

  addAll(other: Histogram): void {
    this.count += other.count;
    this.total += other.total;
    this.max = Math.max(this.max, other.max);
    for (const [i, count] of other.counts.entries()) if (count > 0) this.put(other.first + i, count);
  }

  /** The duration that this part of them, from 0 to 1, does not exceed. 0 when there are none. */
  percentile(part: number): number {
    let rest = Math.ceil(this.count * part);
    for (const [i, count] of this.counts.entries()) {
      rest -= count;
      if (rest <= 0 && count > 0) return Math.min(middleOf(this.first + i), this.max);
    }
    return this.max;
  }

  /** How many are from 2^n to 2^(n+1) ns, for each n from the first such to the last. */
  doublings(): Array<{ fromNs: number; count: number }> {
    const sums = new Map<number, number>();
    for (const [i, count] of this.counts.entries()) {
      if (count === 0) continue;
      const doubling = Math.floor((this.first + i) / STEPS);
      sums.set(doubling, (sums.get(doubling) ?? 0) + count);
    }
    const present = [...sums.keys()];
    if (present.length === 0) return [];
    const [low, high] = [present[0]!, present.at(-1)!];
    return Array.from({ length: high - low + 1 }, (_, i) => ({
      fromNs: low + i === 0 ? 0 : 2 ** (low + i),
      count: sums.get(low + i) ?? 0,
    }));
  }

  private put(bucket: number, count: number): void {
    const { counts, first } = this;
    if (counts.length === 0) {
      this.counts = new Uint32Array(STEPS);
      this.first = bucket - (bucket % STEPS);
    } else if (bucket < first || bucket >= first + counts.length) {
      const from = Math.min(first, bucket - (bucket % STEPS));
      const to = Math.max(first + counts.length, bucket + 1);
      const grown = new Uint32Array(Math.ceil((to - from) / STEPS) * STEPS);
      grown.set(counts, first - from);
      this.counts = grown;
      this.first = from;
    }
    this.counts[bucket - this.first]! += count;
  }
}

function bucketOf(ns: number): number {
  if (!(ns >= 1)) return 0;
  return Math.min(MAX_BUCKET, Math.floor(Math.log2(ns) * STEPS));
}

function middleOf(bucket: number): number {
  return 2 ** ((bucket + 0.5) / STEPS);
}
