// The reads of a stream, each a trap: a chunk of whatever is there, more into the stream's own buffer, bytes into the caller's memory.

import { MAX_READ } from '../driver.ts';
import { detachedMemory, EAGAIN } from '../errors.ts';
import { native } from '../native.ts';
import { type StartedPromise, Trap } from '../operation.ts';
import { EVENT_READ } from '../selectors.ts';
import type { Stream } from './stream.ts';

/** Who waits for bytes. It has no constructor, which would be one call more per read. */
export abstract class ReadTrap<T> extends Trap<T> {
  abstract readonly stream: Stream;

  /** An armed read is done. */
  abstract received(memory: ArrayBuffer, offset: number, length: number): void;
  /** The end of the stream. */
  abstract finished(): void;
  /** Readable, and no read was armed. */
  abstract readable(): void;
  /** Itself, as good as new, for the next `read()` of who takes one chunk after the other: null when it is no good for that. */
  readAgain(): ReadChunk | null {
    return null;
  }
  /** The same for the next `next()`. */
  nextAgain(): NextChunk | null {
    return null;
  }

  override get revocable(): boolean {
    return false;
  }
  protected override undo(): void {
    this.stream.readerLeft();
  }
  override describe(): string {
    return `fd ${this.stream.fd} IN`;
  }
  override get fd(): number {
    return this.stream.fd;
  }
  override get event(): number {
    return EVENT_READ;
  }
}

/** Who waits for a chunk of what is there, read by the native turn. */
abstract class ChunkTrap<T> extends ReadTrap<T> {
  readonly stream: Stream;
  /** The promise of it that is not resolved yet. */
  private unresolved: StartedPromise | null = null;

  constructor(stream: Stream, signal: AbortSignal | undefined) {
    super(signal);
    this.stream = stream;
  }

  /** Here it is. */
  protected abstract took(chunk: Uint8Array): void;

  protected get max(): number {
    return MAX_READ;
  }

  protected override begin(): void {
    const { stream } = this;
    const buffered = stream.beginRead(this);
    if (buffered !== null) this.took(buffered.take(Math.min(this.max, buffered.length)));
    else if (stream.ended) this.finished();
    else stream.arm(this, this.max);
  }
  override received(memory: ArrayBuffer, offset: number, length: number): void {
    this.took(new Uint8Array(memory, offset, length));
  }
  override readable(): void {}

  protected override promiseMade(promise: StartedPromise): void {
    this.unresolved = promise;
  }
  /** From now on it can wait for the next chunk: the promise has this one. */
  protected override resolved(): void {
    if (this.succeeded && this.value !== null) this.unresolved!.value = this.handOver();
    this.unresolved = null;
  }
}

/** A chunk, or null at the end. */
export class ReadChunk extends ChunkTrap<Uint8Array | null> {
  protected override took(chunk: Uint8Array): void {
    this.succeed(chunk);
  }
  override finished(): void {
    this.succeed(null);
  }
  /** To make a trap for each chunk would have V8 collect half as often again. */
  override readAgain(): ReadChunk | null {
    return this.renew() ? this : null;
  }
  override giveBack(chunk: Uint8Array | null): boolean {
    return chunk !== null && this.stream.putBack(chunk);
  }
}

/** The next chunk for who iterates. V8 looks for a `then` in all that a promise is resolved with, and has done sooner with this than with the chunk itself. */
export class NextChunk extends ChunkTrap<IteratorResult<Uint8Array, undefined>> {
  protected override took(value: Uint8Array): void {
    this.succeed({ value, done: false });
  }
  override finished(): void {
    this.succeed({ value: undefined, done: true });
  }
  override nextAgain(): NextChunk | null {
    return this.renew() ? this : null;
  }
  override giveBack({ value, done }: IteratorResult<Uint8Array, undefined>): boolean {
    return !done && this.stream.putBack(value);
  }
}

/** A chunk that must not be larger than somebody wants it. */
export class ReadAtMost extends ReadChunk {
  private readonly most: number;

  constructor(stream: Stream, most: number, signal: AbortSignal | undefined) {
    super(stream, signal);
    this.most = most;
  }

  protected override get max(): number {
    return this.most;
  }
  override readAgain(): null {
    return null;
  }
}

/** More bytes into the stream's own buffer, for those who look for something in them. True when there were some. */
export class Fill extends ReadTrap<boolean> {
  readonly stream: Stream;

  constructor(stream: Stream, signal: AbortSignal | undefined) {
    super(signal);
    this.stream = stream;
  }

  protected override begin(): void {
    const { stream } = this;
    stream.beginRead(this);
    if (stream.ended) this.succeed(false);
    else stream.arm(this, MAX_READ);
  }
  override received(memory: ArrayBuffer, offset: number, length: number): void {
    this.stream.unread(new Uint8Array(memory, offset, length));
    this.succeed(true);
  }
  override finished(): void {
    this.succeed(false);
  }
  override readable(): void {}
}

/** Bytes straight into the caller's memory. */
export class ReadInto extends ReadTrap<number> {
  readonly stream: Stream;
  private readonly target: Uint8Array;

  constructor(stream: Stream, target: Uint8Array, signal: AbortSignal | undefined) {
    super(signal);
    this.stream = stream;
    this.target = target;
  }

  protected override begin(): void {
    const { stream, target } = this;
    const buffered = stream.beginRead(this);
    if (target.length === 0) this.succeed(0);
    else if (buffered !== null) {
      const count = Math.min(target.length, buffered.length);
      target.set(buffered.peek().subarray(0, count));
      buffered.skip(count);
      this.succeed(count);
    } else if (stream.ended) this.succeed(0);
    else stream.await(this);
  }
  override received(memory: ArrayBuffer, offset: number, length: number): void {
    this.stream.unread(new Uint8Array(memory, offset, length));
    if (this.bereft()) return;
    try {
      this.begin();
    } catch (error) {
      this.stream.readerDone();
      this.fail(error);
    }
  }
  override finished(): void {
    this.succeed(0);
  }
  override readable(): void {
    const { stream, target } = this;
    if (this.bereft()) return;
    stream.loop.observer?.onBehalfOf(this.task);
    const result = native.recv(stream.fd, target, 0, target.length);
    if (result === EAGAIN) return;
    stream.readerDone();
    if (result > 0) this.succeed(result);
    else stream.endOfRead(this, result);
  }

  /** It never waits with room for nothing: whoever took its memory away meanwhile must not make 0 bytes, the end, of it. */
  private bereft(): boolean {
    if (this.target.length > 0) return false;
    this.stream.readerDone();
    this.fail(detachedMemory('read into'));
    return true;
  }
}
