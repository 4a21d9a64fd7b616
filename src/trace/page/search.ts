// Search: lanes and items whose name has the words. Lanes come first, then items as time goes.

import { Item, type Trace } from './data.ts';

export class Search {
  /** For each text and each lane whether it matches; null while nothing is searched for. */
  texts: Uint8Array | null = null;
  lanes: Uint8Array | null = null;
  laneCount = 0;
  itemCount = 0;
  private readonly trace: Trace;
  private readonly lowered: string[];

  constructor(trace: Trace) {
    this.trace = trace;
    this.lowered = trace.texts.map((text) => text.toLowerCase());
  }

  find(words: string): void {
    const wanted = words.trim().toLowerCase();
    this.laneCount = 0;
    this.itemCount = 0;
    if (wanted === '') {
      this.texts = null;
      this.lanes = null;
      return;
    }
    const { trace } = this;
    this.texts = Uint8Array.from(this.lowered, (text) => Number(text.includes(wanted)));
    this.lanes = Uint8Array.from(trace.lanes, ({ name }) => Number(name.toLowerCase().includes(wanted)));
    for (const matches of this.lanes) this.laneCount += matches;
    for (let i = 0; i < trace.count; i++) if (this.matches(i)) this.itemCount++;
  }

  /** The match after a lane or an item, or before it with `direction` -1; from the other end when there is none. `null`: nothing matches. */
  step(from: { lane: number; item: number }, direction: 1 | -1): { lane: number; item: number } | null {
    if (this.lanes === null || this.laneCount + this.itemCount === 0) return null;
    const onLane = from.item < 0;
    if (direction > 0) {
      const lane = onLane ? this.lanes.indexOf(1, from.lane + 1) : -1;
      if (lane >= 0) return { lane, item: -1 };
      const item = this.nextItem(onLane ? -1 : from.item, 1);
      if (item >= 0) return { lane: this.trace.lane[item]!, item };
      const first = this.lanes.indexOf(1);
      return first >= 0 ? { lane: first, item: -1 } : this.at(this.nextItem(-1, 1));
    }
    if (!onLane) {
      const item = this.nextItem(from.item, -1);
      if (item >= 0) return this.at(item);
      const last = this.lanes.lastIndexOf(1);
      return last >= 0 ? { lane: last, item: -1 } : this.at(this.nextItem(-1, -1));
    }
    const lane = from.lane > 0 ? this.lanes.lastIndexOf(1, from.lane - 1) : -1;
    if (lane >= 0) return { lane, item: -1 };
    const item = this.nextItem(-1, -1);
    return item >= 0 ? this.at(item) : { lane: this.lanes.lastIndexOf(1), item: -1 };
  }

  private at(item: number): { lane: number; item: number } {
    return { lane: this.trace.lane[item]!, item };
  }

  private matches(item: number): boolean {
    const kind = this.trace.kind[item]!;
    return kind !== Item.flow && kind !== Item.closed && this.texts![this.trace.name[item]!] === 1;
  }

  /** By begin, and of several at once by index. One pass: a million comparisons take milliseconds, so nothing is sorted beforehand. */
  private nextItem(from: number, direction: 1 | -1): number {
    const { begin, count } = this.trace;
    const t = from < 0 ? -direction * Number.POSITIVE_INFINITY : begin[from]!;
    let best = -1;
    for (let i = 0; i < count; i++) {
      const distance = (begin[i]! - t) * direction;
      if (distance < 0 || (distance === 0 && (i - from) * direction <= 0) || !this.matches(i)) continue;
      const nearer = best < 0 ? -1 : (begin[i]! - begin[best]!) * direction;
      if (nearer < 0 || (nearer === 0 && direction < 0)) best = i;
    }
    return best;
  }
}
