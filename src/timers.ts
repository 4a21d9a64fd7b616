// Timers by deadline: a binary heap in which each timer knows its place, so that cancelling one is O(log n) and leaves nothing behind.
//
// Invariant: equal deadlines fire in the order in which they were set.

/** Something to do at a time. The heap owns all three fields; start them at 0, -1 and 0. */
export interface Timer {
  /** Milliseconds on the loop's clock. */
  deadline: number;
  /** Place in the heap, or -1. */
  place: number;
  /** Order among equal deadlines. */
  order: number;
  expire(lateMs: number): void;
}

function before(a: Timer, b: Timer): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}

export class TimerHeap {
  readonly #heap: Timer[] = [];
  #orders = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** When the next timer is due; Infinity when there is none. */
  get next(): number {
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0]!.deadline;
  }

  add(timer: Timer, deadline: number): void {
    this.remove(timer);
    timer.deadline = deadline;
    timer.order = ++this.#orders;
    this.#heap.push(timer);
    this.#up(timer, this.#heap.length - 1);
  }

  remove(timer: Timer): void {
    const { place } = timer;
    if (place < 0) return;
    timer.place = -1;
    const last = this.#heap.pop()!;
    if (last === timer) return;
    this.#up(last, place);
    this.#down(last, last.place);
  }

  /** Takes out the first timer if it is due at `now`. */
  takeDue(now: number): Timer | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.deadline > now) return undefined;
    this.remove(first);
    return first;
  }

  #up(timer: Timer, from: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const other = this.#heap[parent]!;
      if (!before(timer, other)) break;
      this.#put(other, place);
      place = parent;
    }
    this.#put(timer, place);
  }

  #down(timer: Timer, from: number): void {
    let place = from;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.#heap.length) break;
      if (child + 1 < this.#heap.length && before(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      const other = this.#heap[child]!;
      if (!before(other, timer)) break;
      this.#put(other, place);
      place = child;
    }
    this.#put(timer, place);
  }

  #put(timer: Timer, place: number): void {
    this.#heap[place] = timer;
    timer.place = place;
  }
}
