// The loop's other half, below: a selector and the native turn. `Driver` is what the loop needs of it; tests put a simulated one in its place.
//
// Submissions are written into memory shared with native code and carried out together at the start of the next turn, so a read or a
// small write costs a few stores instead of a call. native/turn.h has the layout and the reasons.

import { markAsUntransferable } from 'node:worker_threads';
import { systemError } from './errors.ts';
import { type NativeTurn, native } from './native.ts';
import { EpollSelector, PollSelector, type Selector, SelectSelector } from './selectors.ts';

/** Which of the three pollers is the blocking call. */
export type PollerName = 'epoll' | 'poll' | 'select';

/** Kinds of completions: what else there is, is a read into the slab. */
export const READY: number = 1;
export const READ_PAGE: number = 2;

/** Integers per completion: kind, fd, generation, result, offset, length. */
export const COMPLETION: number = 6;
const SUBMISSION = 5;
const SEND = 3;
const SUBMIT_READ = 1;
const SUBMIT_WRITE = 2;
const DROPPED = 0;

const MAX_SUBMISSIONS = 4096;
const MAX_COMPLETIONS = 1024;
/** Sends at a time. */
export const MAX_SENDS: number = 1024;
const OUT_BYTES = 256 * 1024;
const HEAD_BYTES = 64;

// Fields of the head, as indices of a Float64Array and an Int32Array over it.
const DEADLINE = 0;
const NOW = 1;
const SUBMISSIONS = 4;
const COMPLETIONS = 5;
const UNWRITTEN = 6;
const RUNNABLE = 7;
const PAGE_CURSOR = 8;
const SLAB_CURSOR = 9;

/** Writes up to this size are copied and leave with the next turn; larger ones are not copied, and leave together with others of their turn, or at once. */
export const SMALL_WRITE: number = 4096;
/** The most that one read brings. */
export const MAX_READ: number = 64 * 1024;

const SMALL_READ = 4096;
const PAGE_BYTES = 32 * 1024;
/** These are the sizes of native/addon.cc, too. A batch of messages of 16 KiB, and room for another read. */
const SLAB_BYTES = 512 * 1024;

/** Whose bytes they are: a descriptor, and the task that writes to it. */
export interface Addressee {
  readonly fd: number;
  readonly task: { readonly id: number };
}

export interface Driver {
  readonly selector: Selector;
  /** What the last wait brought: `completions` times COMPLETION integers. */
  readonly events: Int32Array;
  readonly completions: number;
  /** Writes that the last flush left unfinished, in the same form. */
  readonly unwrittenEvents: Int32Array;
  readonly unwritten: number;
  /** Says that they were taken. */
  clearUnwritten(): void;
  /** The bytes of queued writes. */
  readonly out: Uint8Array;
  /** Memory that the completions' offsets point into. */
  readonly page: ArrayBuffer;
  readonly slab: ArrayBuffer;
  /** Milliseconds on a clock that never jumps: that of `performance.now()`. */
  now(): number;
  /** When the last turn had waited, or had read if it did not wait, on the same clock. */
  readonly woken: number;
  /** Ends the next wait at this time. */
  setDeadline(deadline: number): void;
  /** Makes the next wait return at once. */
  setRunnable(runnable: boolean): void;
  /** Arms a read of at most `length` bytes; 0 disarms. False when there is no room: flush first. */
  submitRead(fd: number, length: number, task: number): boolean;
  /** Copies `data` and queues it. False when there is no room: flush first. */
  submitWrite(fd: number, data: Uint8Array, task: number): boolean;
  /** Whether a write to this descriptor is queued. */
  hasWrite(fd: number): boolean;
  /** Forgets the reads and writes that are queued for this descriptor: its number is another file's now. */
  drop(fd: number): void;
  /** Whether writes or reads wait for the next flush. */
  readonly pending: boolean;
  /** Carries out what is queued; returns how many writes were left unfinished. */
  flush(): number;
  /** Hands the kernel each of the buffers, MAX_SENDS at the most, for its addressee. How many bytes of each it took, or -errno. */
  send(to: readonly Addressee[], buffers: readonly Uint8Array[]): number[];
  /** Replaces memory that is used up. Call it when no completion is left to look at. */
  refill(): void;
  /** One blocking turn. */
  run(): number;
  forget(fd: number): void;
  /** Hosted turns: `dispatch` is called for each batch until `stop`. */
  start(dispatch: () => void): void;
  stop(): void;
  /** Whether the host keeps the process alive. */
  ref(): void;
  unref(): void;
}

function makeSelector(poller: PollerName): Selector {
  if (poller === 'poll') return new PollSelector();
  if (poller === 'select') return new SelectSelector();
  return new EpollSelector();
}

/**
 * Chunks of several streams share it: transferring the buffer of one (postMessage) copies it in Node 20 and is refused later (DataCloneError), or the others
 * would lose their bytes.
 */
function untransferable(memory: ArrayBuffer): ArrayBuffer {
  markAsUntransferable(memory);
  return memory;
}

function newPage(): ArrayBuffer {
  return untransferable(native.takePage() ?? unfilled(PAGE_BYTES));
}

function newSlab(): ArrayBuffer {
  // V8 looks at how much young ArrayBuffers hold, and collects, when it allocates the memory of one. A slab's is ours.
  void new ArrayBuffer(1);
  return untransferable(native.takeSlab() ?? unfilled(SLAB_BYTES));
}

/** Like that of Node's own pool it has anything in it: zeros would cost as much as what is read over them. */
function unfilled(bytes: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(bytes).buffer as ArrayBuffer;
}

export class NativeDriver implements Driver {
  readonly selector: Selector;
  readonly events: Int32Array;
  readonly unwrittenEvents: Int32Array;
  readonly out: Uint8Array;
  page: ArrayBuffer = newPage();
  slab: ArrayBuffer = newSlab();

  readonly #turn: NativeTurn;
  readonly #clock: Float64Array;
  readonly #head: Int32Array;
  readonly #submissions: Int32Array;
  readonly #sends: Int32Array;
  /** `performance.now()` at 0 of the native clock. */
  readonly #epoch: number;
  #outUsed = 0;

  constructor(poller: PollerName = 'epoll') {
    this.selector = makeSelector(poller);
    this.#turn = new native.Turn(this.selector.poller, process.env.ONEWAIT_IO_URING !== '0');
    const shared = this.#turn.shared();
    let at = HEAD_BYTES;
    const area = (integers: number): Int32Array => {
      const view = new Int32Array(shared, at, integers);
      at += view.byteLength;
      return view;
    };
    this.#clock = new Float64Array(shared, 0, 2);
    this.#head = new Int32Array(shared, 0, HEAD_BYTES / 4);
    this.#submissions = area(MAX_SUBMISSIONS * SUBMISSION);
    this.events = area(MAX_COMPLETIONS * COMPLETION);
    this.unwrittenEvents = area(MAX_SUBMISSIONS * COMPLETION);
    this.#sends = area(MAX_SENDS * SEND);
    this.out = new Uint8Array(shared, at, OUT_BYTES);
    this.#turn.setAreas(this.page, this.slab);
    this.#epoch = performance.now() - this.#turn.now();
  }

  get completions(): number {
    return this.#head[COMPLETIONS]!;
  }

  get unwritten(): number {
    return this.#head[UNWRITTEN]!;
  }

  clearUnwritten(): void {
    this.#head[UNWRITTEN] = 0;
  }

  get pending(): boolean {
    return this.#head[SUBMISSIONS] !== 0;
  }

  get woken(): number {
    return this.#clock[NOW]! + this.#epoch;
  }

  now(): number {
    return this.#turn.now() + this.#epoch;
  }

  setDeadline(deadline: number): void {
    this.#clock[DEADLINE] = deadline - this.#epoch;
  }

  setRunnable(runnable: boolean): void {
    this.#head[RUNNABLE] = runnable ? 1 : 0;
  }

  submitRead(fd: number, length: number, task: number): boolean {
    return this.#submit(SUBMIT_READ, fd, 0, length, task);
  }

  submitWrite(fd: number, data: Uint8Array, task: number): boolean {
    const { length } = data;
    const count = this.#head[SUBMISSIONS]!;
    const offset = count === 0 ? 0 : this.#outUsed;
    if (offset + length > OUT_BYTES) return false;
    // What is written to one stream piece by piece leaves in one piece.
    const last = (count - 1) * SUBMISSION;
    const submissions = this.#submissions;
    if (count > 0 && submissions[last] === SUBMIT_WRITE && submissions[last + 1] === fd)
      submissions[last + 3]! += length;
    else if (!this.#submit(SUBMIT_WRITE, fd, offset, length, task)) return false;
    this.out.set(data, offset);
    this.#outUsed = offset + length;
    return true;
  }

  hasWrite(fd: number): boolean {
    const submissions = this.#submissions;
    for (let at = 0; at < this.#head[SUBMISSIONS]! * SUBMISSION; at += SUBMISSION)
      if (submissions[at] === SUBMIT_WRITE && submissions[at + 1] === fd) return true;
    return false;
  }

  drop(fd: number): void {
    const submissions = this.#submissions;
    for (let at = 0; at < this.#head[SUBMISSIONS]! * SUBMISSION; at += SUBMISSION)
      if (submissions[at + 1] === fd) submissions[at] = DROPPED;
  }

  flush(): number {
    return this.#turn.flush();
  }

  send(to: readonly Addressee[], buffers: readonly Uint8Array[]): number[] {
    const sends = this.#sends;
    for (let i = 0; i < to.length; i++) {
      sends[i * SEND] = to[i]!.fd;
      sends[i * SEND + 1] = to[i]!.task.id;
    }
    this.#turn.send(buffers);
    return to.map((_, i) => sends[i * SEND + 2]!);
  }

  refill(): void {
    const head = this.#head;
    // Where somebody detached it all the same (ArrayBuffer.prototype.transfer), its length is 0.
    const pageUsed = head[PAGE_CURSOR]! + SMALL_READ > this.page.byteLength;
    const slabUsed = head[SLAB_CURSOR]! + MAX_READ > this.slab.byteLength;
    if (!pageUsed && !slabUsed) return;
    if (pageUsed) {
      this.page = newPage();
      head[PAGE_CURSOR] = 0;
    }
    if (slabUsed) {
      this.slab = newSlab();
      head[SLAB_CURSOR] = 0;
    }
    this.#turn.setAreas(this.page, this.slab);
  }

  run(): number {
    return this.#turn.run();
  }

  forget(fd: number): void {
    this.#turn.forget(fd);
  }

  start(dispatch: () => void): void {
    const result = this.#turn.start(dispatch);
    if (result < 0) throw systemError('epoll_ctl', result);
  }

  stop(): void {
    this.#turn.stop();
  }

  ref(): void {
    this.#turn.ref();
  }

  unref(): void {
    this.#turn.unref();
  }

  #submit(op: number, fd: number, offset: number, length: number, task: number): boolean {
    const count = this.#head[SUBMISSIONS]!;
    if (count === MAX_SUBMISSIONS) return false;
    const submissions = this.#submissions;
    const at = count * SUBMISSION;
    submissions[at] = op;
    submissions[at + 1] = fd;
    submissions[at + 2] = offset;
    submissions[at + 3] = length;
    submissions[at + 4] = task;
    this.#head[SUBMISSIONS] = count + 1;
    return true;
  }
}
