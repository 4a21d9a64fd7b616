// What tasks and descriptors cost within a window of time, from the records of it. What `onewait trace top` shows.
//
// Windows follow each other. If records between them are missing, what went on meanwhile is not known, and everything begins anew; a window is then
// as long as its records reach back.

import { Histogram } from './histogram.ts';
import type { CostsHead } from './live.ts';
import { memorySource, TraceReader } from './reader.ts';
import { Kind, READS, SYSCALLS, WRITES } from './record.ts';
import { type Mark, type Span, type SpanSink, Spans, type Track } from './spans.ts';

export const SORTS = ['cpu', 'calls', 'bytes', 'latency'] as const;
export type Sort = (typeof SORTS)[number];

/** Of a task or a descriptor. */
export interface Cost {
  readonly track: Track;
  /** ns: of a task that it ran, of a descriptor in system calls on it. */
  cpu: number;
  /** System calls: of a task that were made on its behalf. */
  calls: number;
  bytesIn: number;
  bytesOut: number;
  /** Calls that came too early. */
  again: number;
  /** ns, the 99th percentile: how long a task was runnable before it ran; from the readiness of a descriptor until who waited for it ran. */
  latency: number;
}

export interface Window {
  /** ns. */
  readonly length: number;
  readonly records: number;
  readonly turns: number;
  /** ns in the one wait. */
  readonly blocked: number;
  /** Turns given to libuv. */
  readonly libuv: number;
  /** Records that did not fit into the ring. */
  readonly lost: number;
  /** Records that are left out: they came faster than they were asked for. */
  readonly skipped: number;
  readonly tasks: Cost[];
  readonly fds: Cost[];
}

const EAGAIN = -11;
const INTO = new Set([...READS].map((name) => SYSCALLS.indexOf(name)));
const OUT_OF = new Set([...WRITES].map((name) => SYSCALLS.indexOf(name)));

interface Sum extends Cost {
  readonly latencies: Histogram;
}

export class Costs implements SpanSink {
  private readonly path: string;
  private spans = new Spans(this);
  private begin = -1;
  private sums = new Map<Track, Sum>();
  private turns = 0;
  private blocked = 0;
  private libuv = 0;
  private lost = 0;

  /** `path` is named where records are damaged. */
  constructor(path: string) {
    this.path = path;
  }

  /** The window that an answer ends; null when it only begins one. @throws TraceError */
  push({ now, records, skipped }: CostsHead, trace: Uint8Array): Window | null {
    const isContinued = skipped === 0 && this.begin >= 0;
    if (!isContinued) this.spans = new Spans(this);
    if (skipped < 0) {
      this.begin = now;
      return null;
    }
    const reader = new TraceReader(this.path, memorySource(trace));
    if (!isContinued) this.begin = -1;
    for (let record = reader.next(); record !== null; record = reader.next()) {
      // The first says only whose records follow, and has the time of the answer.
      if (this.begin < 0 && record.kind !== Kind.thread) this.begin = record.t;
      this.spans.push(record);
    }
    const begin = this.begin < 0 ? now : this.begin;
    const costs = [...this.sums.values()];
    for (const sum of costs) sum.latency = sum.latencies.percentile(0.99);
    const window: Window = {
      length: Math.max(1, now - begin),
      records,
      turns: this.turns,
      blocked: this.blocked,
      libuv: this.libuv,
      lost: this.lost,
      skipped,
      tasks: costs.filter(({ track }) => track.kind === 'task'),
      fds: costs.filter(({ track }) => track.kind === 'fd'),
    };
    this.begin = now;
    this.sums = new Map();
    this.turns = 0;
    this.blocked = 0;
    this.libuv = 0;
    this.lost = 0;
    return window;
  }

  // --- what Spans finds -----------------------------------------------------------------------------------------------------

  span({ track, kind, begin, duration, other, record }: Span): void {
    // Of what began before the window, its part within it counts.
    const within = Math.min(duration, Math.max(0, begin + duration - Math.max(0, this.begin)));
    if (kind === 'blocked') {
      this.turns++;
      this.blocked += within;
    } else if (kind === 'running') this.sum(track).cpu += within;
    else if (kind === 'runnable') this.sum(track).latencies.add(duration);
    else if (kind === 'syscall') {
      const code = record!.kind === Kind.control ? -1 : record!.code;
      const result = record!.result;
      this.sum(track).cpu += within;
      for (const one of other === null ? [track] : [track, other]) {
        const sum = this.sum(one);
        sum.calls++;
        if (result === EAGAIN) sum.again++;
        if (result > 0 && INTO.has(code)) sum.bytesIn += result;
        if (result > 0 && OUT_OF.has(code)) sum.bytesOut += result;
      }
    }
  }

  mark({ kind, record }: Mark): void {
    if (kind === 'libuv') this.libuv++;
    else if (kind === 'lost') this.lost += record.result;
  }

  woke(from: Track, latency: number): void {
    this.sum(from).latencies.add(latency);
  }

  private sum(track: Track): Sum {
    let sum = this.sums.get(track);
    if (sum === undefined) {
      sum = { track, cpu: 0, calls: 0, bytesIn: 0, bytesOut: 0, again: 0, latency: 0, latencies: new Histogram() };
      this.sums.set(track, sum);
    }
    return sum;
  }
}

/** Sorts in place, what costs most first. */
export function sortCosts(costs: Cost[], by: Sort): Cost[] {
  const value = (cost: Cost): number => (by === 'bytes' ? cost.bytesIn + cost.bytesOut : cost[by]);
  return costs.sort((a, b) => value(b) - value(a) || b.calls - a.calls || a.track.id - b.track.id);
}
