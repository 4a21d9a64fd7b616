// The TypeScript end of the ring: writes records into the memory that native code shares (native/trace.h has the layout). A record costs a few
// stores instead of a call; only reading the clock is one, and a ring that is full.

import { native } from '../native.ts';
import { RECORD_BYTES } from './record.ts';

const HEAD_BYTES = 192;
// Fields of the head, as indices of a Float64Array and of an Int32Array over it.
const CLOCK = 0;
const WRITTEN = 2;
const LIMIT = 3;
const CAPACITY = 4;
const TASK = 5;
const TURN = 4;
const TAKEN = 32;

export class Ring {
  private readonly clock: Float64Array;
  private readonly head: Int32Array;
  private readonly numbers: Float64Array;
  private readonly integers: Int32Array;
  private readonly mask: number;

  constructor(memory: ArrayBuffer) {
    this.clock = new Float64Array(memory, 0, HEAD_BYTES / 8);
    this.head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.numbers = new Float64Array(memory, HEAD_BYTES);
    this.integers = new Int32Array(memory, HEAD_BYTES);
    this.mask = this.head[CAPACITY]! - 1;
  }

  /** Reads the clock: ns since the trace began. */
  now(): number {
    native.traceTick();
    return this.clock[CLOCK]!;
  }

  /** What the clock said when it was read last, here or in native code. */
  get last(): number {
    return this.clock[CLOCK]!;
  }

  /**
   * How long the longest turn took, from the return of a wait to the next wait, of those since this was called last: JavaScript is not called
   * after a wait that brought nothing.
   */
  takeTurn(): number {
    const ns = this.clock[TURN]!;
    this.clock[TURN] = 0;
    return ns;
  }

  /** How many records were written so far, modulo 2^32. */
  get written(): number {
    return this.head[WRITTEN]! >>> 0;
  }

  /**
   * A copy of the records from number `from` on, one that was written: at most `most`, the last of them. They stay where they are until the producer
   * comes round, which is this thread; only a flight recorder's oldest are `forgotten` before.
   */
  since(from: number, most: number, forgotten: boolean): Uint8Array {
    const { head, written } = this;
    const held = forgotten ? (written - head[TAKEN]!) >>> 0 : head[CAPACITY]!;
    const count = Math.min((written - from) >>> 0, most, held);
    const first = (written - count) & this.mask;
    const before = Math.min(count, head[CAPACITY]! - first);
    const copy = new Uint8Array(count * RECORD_BYTES);
    const bytes = new Uint8Array(this.head.buffer, HEAD_BYTES);
    copy.set(bytes.subarray(first * RECORD_BYTES, (first + before) * RECORD_BYTES));
    copy.set(bytes.subarray(0, (count - before) * RECORD_BYTES), before * RECORD_BYTES);
    return copy;
  }

  /** System calls that follow are made on behalf of this task. */
  set task(id: number) {
    this.head[TASK] = id;
  }

  /** Writes a record; `t` in ns since the trace began. A ring that is full counts it as lost. */
  write(
    t: number,
    kind: number,
    code: number,
    mask: number,
    fd: number,
    generation: number,
    task: number,
    arg: number,
    result = 0,
  ): void {
    const { head, numbers, integers } = this;
    if (head[WRITTEN] === head[LIMIT] && !native.traceRoom()) return;
    const written = head[WRITTEN]!;
    const slot = written & this.mask;
    const number = slot * (RECORD_BYTES / 8);
    const integer = slot * (RECORD_BYTES / 4);
    numbers[number] = t;
    integers[integer + 2] = kind | (code << 8) | (mask << 16);
    integers[integer + 3] = fd;
    integers[integer + 4] = generation;
    integers[integer + 5] = task;
    numbers[number + 3] = result;
    numbers[number + 4] = 0;
    numbers[number + 5] = arg;
    head[WRITTEN] = written + 1;
  }
}
