// Spans on lanes, for viewers that draw a call stack: both Chrome's and Perfetto's formats ask that slices of one row nest, and show nonsense
// when they overlap in part. So a track has as many lanes as it needs, and slices of a lane follow each other, without nesting either.
//
// A task has one lane, and more while it waits for several things at once. A descriptor has one for its system calls and others for who awaits
// it, which goes on meanwhile. An arrow runs from a descriptor that became ready to the slice in which the task that it woke runs; it is told
// with that slice, for viewers bind an arrow's end to a slice that they know.
//
// Memory is that of what is open, as it is for spans.

import type { Names } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { type Flow, type Mark, type Span, Spans, type Track } from './spans.ts';

export interface Lane {
  /** 1, 2, 3, ... */
  readonly id: number;
  readonly track: Track;
  /** Whether it shows who awaits a descriptor. Its first lane of system calls exists before. */
  readonly awaited: boolean;
  /** 0 for the first of its sort in the track. */
  readonly number: number;
}

/** From the slice in which a descriptor was awaited, on lane `from`, to the slice of the task that it woke. Both times are within those. */
export interface Arrow {
  readonly id: number;
  readonly from: Lane;
  readonly fromT: number;
  readonly toT: number;
}

/** Takes slices when they have ended. Times are whole ns since the trace began. */
export interface LaneSink {
  /** A lane has begun, or the name of its track has changed. */
  lane(lane: Lane): void;
  /** `arrows` end at it. */
  slice(lane: Lane, span: Span, begin: number, end: number, arrows: readonly Arrow[]): void;
  /** `arrows` are the ids of those that begin at it. */
  mark(lane: Lane, mark: Mark, t: number, arrows: readonly number[]): void;
}

/** More lanes than tasks wait for descriptors; only damage needs more, and has its slices cut short. */
const MAX_LANES = 1024;
const NONE: never[] = [];

/** Lanes of one sort in a track, and until when each is taken. */
interface Rows {
  readonly lanes: Lane[];
  readonly ends: number[];
}

interface TrackState {
  readonly main: Rows;
  readonly awaited: Rows;
  /** The awaited slice that was told last. */
  lastAwaited: { lane: Lane; begin: number; end: number } | null;
  /** A descriptor's last readiness, held back until it is known whom it woke. */
  ready: Mark | null;
  woken: number[];
  /** Arrows to a task's next running slice. */
  arrows: Arrow[];
}

export class Lanes {
  private readonly sink: LaneSink;
  private readonly spans: Spans;
  /** Weak, for a closed descriptor's track is known as long as some task is suspended on it. */
  private readonly states = new WeakMap<Track, TrackState>();
  private readonly held = new Set<Track>();
  private laneCount = 0;
  private arrowCount = 0;

  constructor(sink: LaneSink) {
    this.sink = sink;
    this.spans = new Spans({
      track: (track) => this.rename(track),
      span: (span) => this.span(span),
      mark: (mark) => this.mark(mark),
      flow: (flow) => this.flow(flow),
      ended: (track) => this.release(track),
    });
  }

  get names(): Names {
    return this.spans.names;
  }

  push(record: TraceRecord): void {
    this.spans.push(record);
  }

  finish(): void {
    this.spans.finish();
    for (const track of this.held) this.release(track);
  }

  /** Lanes begin with what is on them, so a track that is new has none yet. */
  private rename(track: Track): void {
    const state = this.states.get(track);
    if (state === undefined) return;
    for (const lane of state.main.lanes) this.sink.lane(lane);
    for (const lane of state.awaited.lanes) this.sink.lane(lane);
  }

  private span(span: Span): void {
    const { track, kind } = span;
    const state = this.state(track);
    const awaited = kind === 'awaited';
    let begin = Math.round(span.begin);
    let end = Math.max(begin, Math.round(span.begin + span.duration));
    if (awaited) this.first(track, state);
    const rows = awaited ? state.awaited : state.main;
    let number = rows.ends.findIndex((taken) => taken <= begin);
    if (number < 0 && rows.lanes.length < MAX_LANES) number = rows.lanes.length;
    else if (number < 0) {
      number = MAX_LANES - 1;
      begin = rows.ends[number]!;
      end = Math.max(begin, end);
    }
    const lane = rows.lanes[number] ?? this.add(track, rows, awaited);
    rows.ends[number] = end;
    if (awaited) state.lastAwaited = { lane, begin, end };
    let arrows: Arrow[] = NONE;
    if (kind === 'running' && state.arrows.length > 0) {
      // V8 may have run other tasks first, or this one already when something else woke it, too.
      arrows = state.arrows.map((arrow) => ({ ...arrow, toT: within(arrow.toT, begin, end) }));
      state.arrows = [];
    }
    this.sink.slice(lane, span, begin, end, arrows);
  }

  private mark(mark: Mark): void {
    const { track } = mark;
    const state = this.state(track);
    const lane = this.first(track, state);
    if (mark.kind === 'ready') {
      this.release(track);
      state.ready = mark;
      this.held.add(track);
    } else this.sink.mark(lane, mark, Math.round(mark.t), NONE);
  }

  private flow({ from, fromT, to, toT }: Flow): void {
    const source = this.state(from);
    const id = ++this.arrowCount;
    if (source.ready?.t === fromT) source.woken.push(id);
    // Spans tell that it was awaited before they tell what came of it.
    const { lane, begin, end } = source.lastAwaited!;
    // What became ready may be awaited no more at the same moment.
    this.state(to).arrows.push({ id, from: lane, fromT: within(Math.round(fromT), begin, end), toT: Math.round(toT) });
  }

  /** Tells the readiness that was held back: whom it woke is known, or it woke nobody. */
  private release(track: Track): void {
    this.held.delete(track);
    const state = this.states.get(track);
    if (state === undefined || state.ready === null) return;
    const { ready, woken } = state;
    state.ready = null;
    state.woken = [];
    this.sink.mark(this.first(track, state), ready, Math.round(ready.t), woken);
  }

  private state(track: Track): TrackState {
    let state = this.states.get(track);
    if (state === undefined) {
      const rows = (): Rows => ({ lanes: [], ends: [] });
      state = { main: rows(), awaited: rows(), lastAwaited: null, ready: null, woken: [], arrows: [] };
      this.states.set(track, state);
    }
    return state;
  }

  /** The lane that a track is named by. */
  private first(track: Track, { main }: TrackState): Lane {
    return main.lanes[0] ?? this.add(track, main, false);
  }

  private add(track: Track, { lanes, ends }: Rows, awaited: boolean): Lane {
    const lane: Lane = { id: ++this.laneCount, track, awaited, number: lanes.length };
    lanes.push(lane);
    ends.push(0);
    this.sink.lane(lane);
    return lane;
  }
}

/** The moment of a slice that is nearest to `t`; its end is not of it. */
function within(t: number, begin: number, end: number): number {
  return Math.max(begin, Math.min(t, end - 1));
}
