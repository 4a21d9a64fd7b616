// The writes of a stream, each a trap, and what a stream has to remember of them.

import { isSharedArrayBuffer, isUint8Array } from 'node:util/types';
import { SMALL_WRITE } from '../driver.ts';
import { detachedMemory } from '../errors.ts';
import type { QueuedSend } from '../loop.ts';
import { type Operation, Trap, type Waiter } from '../operation.ts';
import { EVENT_WRITE } from '../selectors.ts';
import type { Task } from '../task.ts';
import { remove } from '../util.ts';
import type { ByteQueue } from './byte-queue.ts';
import type { Stream } from './stream.ts';

const EMPTY = new Uint8Array(0);

// How a write has begun.
const PLAIN = 0;
/** For the `await` style: it may be that nobody waits for it. */
const STARTED = 1;
/** One of several of which only the first is to happen: those that leave together all do. */
const RACED = 2;

/** Who waits for the kernel to take bytes. */
abstract class WriteTrap extends Trap<void> {
  abstract readonly stream: Stream;

  override describe(): string {
    return `fd ${this.stream.fd} OUT`;
  }
  override get fd(): number {
    return this.stream.fd;
  }
  override get event(): number {
    return EVENT_WRITE;
  }
}

/** Bytes for the kernel, or for the backlog while that is under the mark. */
export class Write extends WriteTrap implements QueuedSend {
  stream: Stream;
  private rest: Uint8Array;
  /** It is to leave with the others of this turn. */
  queued = false;
  private begun: typeof PLAIN | typeof STARTED | typeof RACED = PLAIN;

  constructor(stream: Stream, data: Uint8Array, signal: AbortSignal | undefined) {
    super(signal);
    this.stream = stream;
    this.rest = data;
  }

  protected override begin(): void {
    const { stream, rest } = this;
    stream.beginWrite(this);
    const isSmall = stream.backlogLength === 0 && rest.length <= SMALL_WRITE;
    if (isSmall && stream.loop.submitWrite(stream, rest, this.task)) {
      this.rest = EMPTY;
      if (this.begun === PLAIN) stream.loop.spareWrite = this;
      this.succeed(undefined);
      return;
    }
    // Another thread could change shared memory under the kernel's hands.
    if (isSharedArrayBuffer(rest.buffer)) this.rest = new Uint8Array(rest);
    stream.throwWriteError();
    // What native code would refuse (a proxy, say) must not be refused among others.
    const joins = this.begun !== RACED && isUint8Array(rest) && rest.length > 0 && stream.backlogLength === 0;
    this.queued = joins && stream.loop.submitSend(this);
    if (this.queued) {
      stream.ensureOutgoing().writer = this;
      return;
    }
    // Bytes queued earlier go first; whatever of them stays behind is then the backlog.
    stream.loop.flushBefore(stream.number);
    stream.throwWriteError();
    if (stream.backlogLength === 0) this.send();
    this.settleOrWait();
  }

  /** Makes it a write of something else, if it is over. */
  again(stream: Stream, data: Uint8Array): boolean {
    if (!this.renew()) return false;
    this.stream = stream;
    this.rest = data;
    return true;
  }

  due(): Uint8Array | null {
    this.queued = false;
    if (!this.pending || this.bereft()) return null;
    if (this.stream.backlogLength === 0) return this.rest;
    this.sent(0);
    return null;
  }
  sent(result: number): void {
    const { stream } = this;
    if (!this.pending) return;
    try {
      this.advance(stream.taken(result));
      if (this.rest.length > 0) stream.loop.observer?.onBehalfOf(this.task);
      this.settleOrWait();
    } catch (error) {
      stream.writerDone();
      this.fail(error);
    }
    stream.settleFlushers();
  }

  override promise(): Operation<void> {
    this.begun = STARTED;
    return super.promise();
  }
  override startFor(waiter: Waiter): void {
    this.begun = RACED;
    super.startFor(waiter);
  }
  /** What was started and is not waited for has happened, as far as its task can tell: its bytes are not lost with the task. */
  override cancel(error: unknown): void {
    if (this.begun === STARTED && this.queued) this.stream.loop.flush();
    super.cancel(error);
  }

  /** The backlog has shrunk. @throws SystemError of send(2) */
  proceed(): void {
    if (this.queued || this.bereft()) return;
    if (this.stream.backlogLength === 0) this.send();
    this.settleOrWait();
  }

  private bereft(): boolean {
    if (this.rest.length > 0) return false;
    this.stream.writerDone();
    this.fail(detachedMemory('write'));
    return true;
  }

  private send(): void {
    if (this.rest.length > 0) this.advance(this.stream.send(this.rest));
  }

  private advance(sent: number): void {
    this.rest = sent === this.rest.length ? EMPTY : this.rest.subarray(sent);
  }

  private settleOrWait(): void {
    const { stream, rest } = this;
    if (rest.length === 0 || stream.backlogLength + rest.length <= stream.highWaterMark) {
      stream.writerDone();
      if (rest.length > 0) stream.enqueue(rest);
      this.succeed(undefined);
      return;
    }
    stream.watchForRoom();
    stream.ensureOutgoing().writer = this;
  }

  protected override undo(): void {
    this.stream.writerDone();
    this.stream.settleFlushers();
  }
}

/** A write for a generator. To make a trap for each would have V8 collect twice as often. */
export function writeOf(stream: Stream, data: Uint8Array): Write {
  const { loop } = stream;
  const spare = loop.spareWrite as Write | null;
  if (spare === null || data.length > SMALL_WRITE) return new Write(stream, data, undefined);
  loop.spareWrite = null;
  return spare.again(stream, data) ? spare : new Write(stream, data, undefined);
}

/** Waits until the kernel has everything that was written, by a write that is still under way too. */
export class Flush extends WriteTrap {
  readonly stream: Stream;

  constructor(stream: Stream, signal: AbortSignal | undefined) {
    super(signal);
    this.stream = stream;
  }

  protected override begin(): void {
    const { stream } = this;
    this.task.resource = stream;
    stream.loop.flush();
    stream.throwWriteError();
    if (stream.outgoing !== null && stream.outgoing.broken !== null) throw stream.outgoing.broken;
    if (stream.flushed || stream.closed) this.succeed(undefined);
    else stream.ensureOutgoing().flushers.push(this);
  }
  protected override undo(): void {
    remove(this.stream.ensureOutgoing().flushers, this);
  }
}

/** What a stream has to remember of what is written to it: nothing, while it is written to little by little, its peer reads, and nobody records that. */
export class Outgoing {
  /** Whose write is under way. */
  writer: Write | null = null;
  readonly flushers: Flush[] = [];
  /** What the kernel has not taken. */
  backlog: ByteQueue | null = null;
  /** Of a write that nobody waits for any more. */
  error: Error | null = null;
  /** Why some of what was written can never leave; no write can follow it. */
  broken: Error | null = null;
  /** It was shut down. */
  ended = false;
  /** Whose bytes are queued; known only while tracing. */
  lastWriter: Task | null = null;
}
