// What is under the pointer, and who the other party of a span is.

import { Item, lowerBound, type Trace } from './data.ts';
import { type Lanes, ROW_HEIGHT } from './lanes.ts';
import { itemsWithin } from './paint.ts';
import type { View } from './view.ts';

/** How far a thing may be from the pointer. */
const NEAR_PX = 3;
/** In a lane, what is drawn last is on top. */
const TOPMOST_FIRST = [
  Item.lost,
  Item.end,
  Item.timer,
  Item.libuv,
  Item.syscall,
  Item.running,
  Item.runnable,
  Item.ready,
  Item.blocked,
  Item.awaited,
  Item.suspended,
];

/** A lane, an item of it, and how many like it are under the same pixels. */
export interface Picked {
  lane: number;
  item: number;
  count: number;
}

/** What is at a place among the lanes, in pixels from their left and top. */
export function pick(trace: Trace, lanes: Lanes, view: View, x: number, y: number): Picked | null {
  const lane = lanes.rows[Math.floor((y + view.scrollTop) / ROW_HEIGHT)];
  if (lane === undefined || y < 0) return null;
  const from = view.timeAt(x - NEAR_PX);
  const to = view.timeAt(x + NEAR_PX);
  const at = view.timeAt(x);
  for (const kind of TOPMOST_FIRST) {
    const { first, last } = itemsWithin(trace, lane.index, kind, from, to);
    if (last === first) continue;
    const item = nearest(trace, first, last, at);
    // What is wide has to be under the pointer, not near it.
    const near = Math.max(trace.begin[item]! - at, at - trace.end[item]!);
    if (near > 0 && trace.duration(item) > 8 * NEAR_PX * view.nsPerPx) continue;
    return { lane: lane.index, item, count: last - first };
  }
  return { lane: lane.index, item: -1, count: 0 };
}

function nearest(trace: Trace, first: number, last: number, t: number): number {
  // Begins grow, so the nearest is one of the two around `t`, or one that goes on longer.
  const after = lowerBound(trace.begin, t, first, last);
  const before = Math.max(first, after - 1);
  if (after >= last || trace.end[before]! >= t) return before;
  return t - trace.end[before]! <= trace.begin[after]! - t ? before : after;
}

/** The item that a lane shows at `t`, what does something before what waits; -1 if there is nothing. */
function itemAt(trace: Trace, lane: number, t: number): number {
  for (const kind of [Item.running, Item.runnable, Item.syscall, Item.suspended, Item.awaited, Item.blocked]) {
    const { first, last } = itemsWithin(trace, lane, kind, t, t);
    for (let i = last - 1; i >= first; i--) if (trace.begin[i]! <= t && trace.end[i]! >= t) return i;
  }
  return -1;
}

/** What belongs to an item in another lane: the task's side of a wait or of a call, the descriptor's side of a suspension, who woke a task. */
export function counterpart(trace: Trace, item: number): { lane: number; item: number } | null {
  const lane = trace.lane[item]!;
  const begin = trace.begin[item]!;
  const kind = trace.kind[item]!;
  if (kind === Item.runnable || kind === Item.running) {
    const flow = trace.wokenBy(lane, kind === Item.runnable ? trace.end[item]! : begin);
    return flow < 0 ? null : { lane: trace.lane[flow]!, item: readyAt(trace, trace.lane[flow]!, trace.begin[flow]!) };
  }
  if (kind === Item.ready) {
    const [first, last] = trace.series(lane, Item.flow);
    const flow = lowerBound(trace.begin, begin, first, last);
    if (flow === last || trace.begin[flow] !== begin) return null;
    const to = trace.other[flow]!;
    return { lane: to, item: itemAt(trace, to, trace.end[flow]!) };
  }
  const other = trace.other[item]!;
  if (other < 0) return null;
  if (kind === Item.awaited || kind === Item.suspended) {
    const wanted = kind === Item.awaited ? Item.suspended : Item.awaited;
    const [first, last] = trace.series(other, wanted);
    for (let i = lowerBound(trace.begin, begin, first, last); i < last && trace.begin[i] === begin; i++)
      if (trace.other[i] === lane) return { lane: other, item: i };
  }
  return { lane: other, item: itemAt(trace, other, begin) };
}

function readyAt(trace: Trace, lane: number, t: number): number {
  const [first, last] = trace.series(lane, Item.ready);
  const item = lowerBound(trace.begin, t, first, last);
  return item < last && trace.begin[item] === t ? item : -1;
}
