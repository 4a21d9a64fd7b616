// A trace in Google's Trace Event Format, its JSON Object Format: for chrome://tracing, ui.perfetto.dev and whatever else reads it.
//
// A lane is a thread of one process, whose rows are sorted by kind: the blocking call, tasks, descriptors. Spans are complete events (X),
// marks are instant events (i), and what woke a task is a flow (s, f) between the slice in which a descriptor was awaited and the slice in
// which the task runs. Events are not sorted by time: the format does not ask for that. Times are microseconds, with three decimals.
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

import { objectOf, toJson } from './jsonl.ts';
import { type Arrow, type Lane, type LaneSink, Lanes } from './lanes.ts';
import type { TraceHeader, TraceRecord } from './reader.ts';
import type { Mark, Span, Track } from './spans.ts';
import { TextOutput } from './text-output.ts';

const SORTED: Record<Track['kind'], number> = { wait: 0, task: 1, fd: 2 };
/** Sort indices are 32 bits; this many are for each kind of track. */
const MAX_RANK = 2 ** 28 - 1;

export class ChromeWriter extends TextOutput implements LaneSink {
  private readonly lanes = new Lanes(this);
  private readonly pid: number;

  constructor({ pid, wallClockMs }: TraceHeader) {
    super();
    this.pid = pid;
    const head = {
      displayTimeUnit: 'ns',
      otherData: { recordedBy: 'onewait', began: new Date(wallClockMs).toISOString() },
    };
    this.add(`${JSON.stringify(head).slice(0, -1)},"traceEvents":[\n`);
    this.add(JSON.stringify({ name: 'process_name', ph: 'M', pid, tid: 0, args: { name: 'onewait' } }));
  }

  push(record: TraceRecord): void {
    this.lanes.push(record);
  }

  finish(): void {
    this.lanes.finish();
    this.add('\n]}\n');
  }

  /** The last name of a row is the one that counts. */
  lane(lane: Lane): void {
    const { track, awaited, number } = lane;
    const name = `${track.name}${awaited ? ' awaited' : ''}${number > 0 ? ` (${number + 1})` : ''}`;
    const rank = Math.min(Math.max(track.task, track.fd, 0), MAX_RANK);
    this.metadata(lane, 'thread_name', { name });
    this.metadata(lane, 'thread_sort_index', { sort_index: SORTED[track.kind] * (MAX_RANK + 1) + rank });
  }

  slice(lane: Lane, span: Span, begin: number, end: number, arrows: readonly Arrow[]): void {
    const { name, kind, record, other } = span;
    const args = this.argumentsOf(record, other);
    this.event(
      `{"name":${JSON.stringify(name)},"cat":"${kind}","ph":"X","ts":${micros(begin)},"dur":${micros(end - begin)},${this.where(lane)}${args}}`,
    );
    for (const { id, from, fromT, toT } of arrows) {
      const flow = `{"name":"wakes","cat":"flow","id":${id},"ph":`;
      this.event(`${flow}"s","ts":${micros(fromT)},${this.where(from)}}`);
      this.event(`${flow}"f","bp":"e","ts":${micros(toT)},${this.where(lane)}}`);
    }
  }

  mark(lane: Lane, { name, kind, record }: Mark, t: number): void {
    const args = this.argumentsOf(record, null);
    this.event(
      `{"name":${JSON.stringify(name)},"cat":"${kind}","ph":"i","s":"t","ts":${micros(t)},${this.where(lane)}${args}}`,
    );
  }

  private metadata(lane: Lane, name: string, args: object): void {
    this.event(`{"name":"${name}","ph":"M",${this.where(lane)},"args":${JSON.stringify(args)}}`);
  }

  private where({ id }: Lane): string {
    return `"pid":${this.pid},"tid":${id}`;
  }

  private argumentsOf(record: TraceRecord | null, other: Track | null): string {
    const { t: _t, kind: _kind, ...args } = (record && objectOf(record, this.lanes.names)) ?? { t: 0, kind: '' };
    if (other !== null) Object.assign(args, { other: other.name });
    return `,"args":${toJson(args)}`;
  }

  private event(text: string): void {
    this.add(`,\n${text}`);
  }
}

/** 1234567 ns is 1234.567. */
function micros(ns: number): string {
  const rest = ns % 1000;
  const whole = String((ns - rest) / 1000);
  return rest === 0 ? whole : `${whole}.${String(rest).padStart(3, '0')}`;
}
