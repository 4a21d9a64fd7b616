// A connected socket: bytes in, bytes out, with backpressure both ways.
//
// - One reader and one writer at a time; a second gets BusyError, the first notices nothing.
// - Reads and writes are queued for the loop's native turn; a large write that nobody else's can join leaves at once. What the kernel does not
//   take waits in the backlog; above the high-water mark the writer waits too, so the memory of a connection is bounded by the mark and one
//   turn's writes.
// - An error of a queued write is thrown by the next write, by flush() or by close().
// - The descriptor is owned here, closed once, and its waiters are woken before that.

import { isSharedArrayBuffer } from 'node:util/types';
import { compose } from '../compose.ts';
import { currentTask, isStepping } from '../current.ts';
import { MAX_READ, SMALL_WRITE } from '../driver.ts';
import { BusyError, ClosedError, EAGAIN, systemError } from '../errors.ts';
import { Descriptor, type Loop } from '../loop.ts';
import { native, type SocketAddress } from '../native.ts';
import { type Coroutine, DONE, type Operation } from '../operation.ts';
import { EVENT_READ, EVENT_WRITE } from '../selectors.ts';
import type { Task } from '../task.ts';
import { descriptorName } from '../trace/descriptor-name.ts';
import { shownAs } from '../util.ts';
import { bytes, integer, signalOf, type WaitOptions } from '../validate.ts';
import { ByteQueue } from './byte-queue.ts';
import { iterate, type OperationIterator } from './iterate.ts';
import { Fill, NextChunk, ReadAtMost, ReadChunk, ReadInto, type ReadTrap } from './reads.ts';
import { Flush, Outgoing, Write, writeOf } from './writes.ts';

/** Queued bytes above which a writer waits. */
export const HIGH_WATER_MARK: number = 64 * 1024;
const DEFAULT_LINE_LIMIT = 64 * 1024;

/** A connected stream socket. Made by `tcp.connect`, `unix.connect` and `Listener.accept`. */
export class Stream extends Descriptor {
  /** @internal */
  readonly loop: Loop;
  /** @internal */
  readonly highWaterMark: number;
  /** Nothing more will come; an error is to be thrown first. @internal */
  ended: boolean | Error = false;
  /** @internal */
  outgoing: Outgoing | null = null;

  private state: 'open' | 'closing' | 'closed' = 'open';
  /** Who waits for bytes; when nobody does, what has read a chunk, and can read the next one. */
  private reader: ReadTrap<unknown> | null = null;
  private input: ByteQueue | null = null;
  /** As far as anybody has asked for them. */
  private names: { local?: SocketAddress | undefined; remote?: SocketAddress | undefined } | null = null;

  /** @internal */
  constructor(loop: Loop, fd: number, highWaterMark: number) {
    super(fd);
    this.loop = loop;
    this.highWaterMark = highWaterMark;
    loop.attach(this);
  }

  /** The descriptor's number; -1 once it is closed. */
  get fd(): number {
    return this.state === 'closed' ? -1 : this.number;
  }

  /** Our end: { address, family, port }; undefined once it is closed. */
  get localAddress(): SocketAddress | undefined {
    this.names ??= {};
    this.names.local ??= this.name(false);
    return this.names.local;
  }

  /** The peer's end; undefined when it was gone before anybody asked. */
  get remoteAddress(): SocketAddress | undefined {
    this.names ??= {};
    this.names.remote ??= this.name(true);
    return this.names.remote;
  }

  get closed(): boolean {
    return this.state === 'closed';
  }

  /**
   * Waits for bytes: a chunk of at most `max` (and at most 64 KiB), or null at the end. The chunk is the caller's to keep. The operation is
   * not: in a generator that of a read which is over may be that of the next.
   * @throws SystemError of recv(2), once: what follows is the end. BusyError, ClosedError, RangeError
   */
  read(max: number = MAX_READ, options?: WaitOptions): Operation<Uint8Array | null> {
    const trap =
      max === MAX_READ && options === undefined
        ? (this.reader?.readAgain() ?? new ReadChunk(this, undefined))
        : new ReadAtMost(this, Math.min(integer(max, 'max', 1), MAX_READ), options && signalOf(options));
    return isStepping() ? trap : trap.promise();
  }

  /** Waits for bytes and puts them into `buffer`: how many, or 0 at the end. `offset` and `length` are in bytes. */
  readInto(buffer: ArrayBufferView, offset = 0, length?: number, options?: WaitOptions): Operation<number> {
    if (!ArrayBuffer.isView(buffer)) throw new TypeError('buffer must be a typed array or a DataView');
    const view = bytes(buffer, 'buffer');
    if (isSharedArrayBuffer(view.buffer))
      throw new TypeError('buffer must not be backed by a SharedArrayBuffer; read into memory of your own and copy');
    integer(offset, 'offset', 0, view.length);
    const count = length === undefined ? view.length - offset : integer(length, 'length', 0, view.length - offset);
    return new ReadInto(this, view.subarray(offset, offset + count), signalOf(options));
  }

  /** Waits for exactly `n` bytes. @throws ClosedError ERR_UNEXPECTED_END when the stream ends before; what was there can still be read */
  readExactly(n: number, options?: WaitOptions): Operation<Uint8Array> {
    integer(n, 'n', 0, 0x7fffffff);
    const signal = signalOf(options);
    return compose('readExactly', () => this.takeExactly(n, signal));
  }

  /**
   * Waits until `delimiter` comes and returns everything up to and with it.
   * @throws RangeError ERR_LIMIT when it does not come within `limit` bytes, ClosedError ERR_UNEXPECTED_END when the stream ends before.
   * Nothing is lost by either: what was there can still be read
   */
  readUntil(
    delimiter: string | Uint8Array,
    limit: number = DEFAULT_LINE_LIMIT,
    options?: WaitOptions,
  ): Operation<Uint8Array> {
    const wanted = Uint8Array.from(bytes(delimiter, 'delimiter'));
    if (wanted.length === 0) throw new RangeError('delimiter must not be empty');
    integer(limit, 'limit', wanted.length);
    const signal = signalOf(options);
    return compose('readUntil', () => this.takeUntil(wanted, limit, signal));
  }

  /**
   * The lines of what comes, as UTF-8 without their '\n' or '\r\n'; the last one counts without, too. `for await`, or `yield* lines.next()`.
   * @throws RangeError ERR_LIMIT for a line longer than `limit` bytes
   */
  lines(options: WaitOptions & { limit?: number } = {}): OperationIterator<string> {
    const limit = integer(options.limit ?? DEFAULT_LINE_LIMIT, 'options.limit', 1);
    return iterate(() => this.readLine(limit, options));
  }

  /**
   * Writes all of `data`, and is done when the kernel has it or when it is queued under the high-water mark; above it the writer waits. The
   * memory may be reused then. Strings are written as UTF-8. As with `read`, in a generator the operation of a write which is over may be that
   * of another.
   * @throws SystemError of send(2), also of earlier writes; BusyError, ClosedError, TypeError
   */
  write(data: string | ArrayBufferView | ArrayBuffer, options?: WaitOptions): Operation<void> {
    const memory = bytes(data);
    const signal = options && signalOf(options);
    if (isStepping()) return signal === undefined ? writeOf(this, memory) : new Write(this, memory, signal);
    return signal === undefined && this.writesAtOnce(memory) ? DONE : new Write(this, memory, signal).promise();
  }

  /** Waits until the kernel has everything that was written. @throws SystemError of a queued write */
  flush(options?: WaitOptions): Operation<void> {
    return new Flush(this, signalOf(options));
  }

  /** Ends our direction, after what was written: the peer reads its end, and may go on writing. See shutdown(2). */
  shutdown(options?: WaitOptions): Operation<void> {
    const signal = signalOf(options);
    return compose('shutdown', () => this.flushAndShutDown(signal));
  }

  /**
   * Hands what was written to the kernel, then closes. Whoever waits on the stream gets ClosedError. In a cancelled task it closes at once.
   * Closing twice is the same as once.
   * @throws SystemError of a queued write; the stream is closed all the same
   */
  close(options?: WaitOptions): Operation<void> {
    const signal = signalOf(options);
    return compose('close', () => this.flushAndDestroy(signal));
  }

  /** Closes at once. What the kernel did not take is dropped; whoever waits on the stream gets ClosedError. */
  destroy(): void {
    if (this.state === 'closed') return;
    this.loop.observer?.onBehalfOf(currentTask());
    this.loop.detach(this);
    this.end();
    native.close(this.number);
    this.loop.observer?.close(this.number);
  }

  private end(): void {
    this.state = 'closed';
    this.wakeReader();
    this.wakeWriter();
    for (const flusher of this.outgoing?.flushers.splice(0) ?? []) flusher.fail(this.closedError('flush'));
    if (this.outgoing !== null) this.outgoing.backlog = null;
    this.input = null;
  }

  /** Waits for the next chunk, as `read` does: { value, done }. For who iterates: `for await (const chunk of stream)`. */
  next(): ReturnType<OperationIterator<Uint8Array>['next']> {
    const trap = this.reader?.nextAgain() ?? new NextChunk(this, undefined);
    return (isStepping() ? trap : trap.promise()) as ReturnType<OperationIterator<Uint8Array>['next']>;
  }

  /** The chunks until the end. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.close();
  }

  // --- for the traps above ------------------------------------------------------------------------------------------------

  /** What every read begins with. Bytes that are there already, or null. @internal */
  beginRead(trap: ReadTrap<unknown>): ByteQueue | null {
    this.check('read from');
    trap.task.resource = this;
    if (this.reader?.pending && this.reader !== trap) throw this.busy('read from', this.reader.task, trap.task);
    if (this.outgoing !== null) this.throwWriteError();
    if (this.input !== null && this.input.length > 0) return this.input;
    if (this.ended instanceof Error) this.throwReadError(this.ended);
    return null;
  }

  /** @internal */
  arm(trap: ReadTrap<unknown>, length: number): void {
    this.loop.submitRead(this, length, trap.task);
    this.reader = trap;
  }

  /** @internal */
  await(trap: ReadTrap<unknown>): void {
    this.loop.watch(this, EVENT_READ);
    this.reader = trap;
  }

  /** @internal */
  readerDone(): void {
    this.reader = null;
  }

  /** @internal */
  readerLeft(): void {
    this.reader = null;
    // Without a reader nothing is to be read: the bytes stay with the kernel, and so does the backpressure.
    if (this.state !== 'closed' && this.interest & EVENT_READ) this.loop.disarm(this);
  }

  /** Before everything else that is there. Not if nobody will ask, for it is closed, or somebody has asked, who gets what comes next. @internal */
  putBack(data: Uint8Array): boolean {
    if (this.state === 'closed' || this.waitingReader !== null) return false;
    const rest = this.input?.peek();
    this.input = new ByteQueue();
    this.input.push(data);
    if (rest !== undefined) this.input.push(rest);
    return true;
  }

  /** @internal */
  unread(data: Uint8Array): void {
    this.input ??= new ByteQueue();
    this.input.push(data);
  }

  /** @internal */
  endOfRead(trap: ReadTrap<unknown> | null, result: number): void {
    this.ended = true;
    if (result === 0) {
      if (trap === null) return;
      // The kernel told of the reset when we wrote, and tells the reader of an end like any other. It was none.
      const error = this.takeWriteError();
      if (error === null) trap.finished();
      else trap.fail(error);
      return;
    }
    // A reset takes the queued writes along: one error says both.
    this.takeWriteError();
    const error = this.error('read', result);
    if (trap === null) this.ended = error;
    else trap.fail(error);
  }

  /** @internal */
  beginWrite(trap: Write): void {
    this.check('write to');
    trap.task.resource = this;
    if (this.loop.observer !== null) this.ensureOutgoing().lastWriter = trap.task;
    const { outgoing } = this;
    if (outgoing === null) return;
    if (outgoing.writer?.queued) this.loop.flush();
    if (outgoing.writer !== null) throw this.busy('write to', outgoing.writer.task, trap.task);
    this.throwWriteError();
    if (outgoing.broken !== null) throw outgoing.broken;
    if (outgoing.ended) throw this.shutDown();
  }

  /** From now on there is something to remember. @internal */
  ensureOutgoing(): Outgoing {
    this.outgoing ??= new Outgoing();
    return this.outgoing;
  }

  /** @internal */
  writerDone(): void {
    if (this.outgoing !== null) this.outgoing.writer = null;
  }

  /** @internal */
  get backlogLength(): number {
    return this.outgoing === null || this.outgoing.backlog === null ? 0 : this.outgoing.backlog.length;
  }

  /** The kernel has everything. @internal */
  get flushed(): boolean {
    return this.outgoing === null || (this.outgoing.writer === null && this.backlogLength === 0);
  }

  /** @internal */
  settleFlushers(): void {
    if (this.outgoing !== null && this.flushed)
      for (const flusher of this.outgoing.flushers.splice(0)) flusher.succeed(undefined);
  }

  /**
   * Waits for the kernel to take more. Where that cannot be waited for, what was written is not whole: nothing may follow it. @throws SystemError
   * of epoll_ctl(2) @internal
   */
  watchForRoom(): void {
    try {
      this.loop.watch(this, EVENT_WRITE);
    } catch (error) {
      this.ensureOutgoing().broken = error as Error;
      throw error;
    }
  }

  /** @internal */
  enqueue(data: Uint8Array): void {
    this.watchForRoom();
    const outgoing = this.ensureOutgoing();
    outgoing.backlog ??= new ByteQueue();
    outgoing.backlog.push(data);
  }

  /** Offers bytes to the kernel: how many it took. @internal */
  send(data: Uint8Array): number {
    return this.taken(native.send(this.number, data, 0, data.length));
  }

  /** How many bytes send(2) says that it took. @internal */
  taken(result: number): number {
    if (result === EAGAIN) return 0;
    if (result < 0) throw this.error('write', result);
    return result;
  }

  /** @internal */
  throwWriteError(): void {
    const error = this.takeWriteError();
    if (error !== null) throw error;
  }

  private takeWriteError(): Error | null {
    if (this.outgoing === null || this.outgoing.error === null) return null;
    const { error } = this.outgoing;
    this.outgoing.error = null;
    return error;
  }

  private throwReadError(error: Error): never {
    this.ended = true;
    throw error;
  }

  private busy(what: string, busy: Task, task: Task): BusyError {
    return new BusyError(`${what} fd ${this.number}`, String(busy), String(task));
  }

  private shutDown(): ClosedError {
    return new ClosedError(`fd ${this.number} was shut down for writing; write before shutdown()`, 'ERR_SHUT_DOWN');
  }

  // --- for the loop -------------------------------------------------------------------------------------------------------

  /** @internal */
  override get owned(): boolean {
    return true;
  }

  /** @internal */
  override get actingFor(): Task | null {
    return (this.waitingReader ?? this.outgoing?.writer ?? this.outgoing?.flushers[0])?.task ?? null;
  }

  /** @internal */
  override onRead(result: number, memory: ArrayBuffer, offset: number): void {
    const reader = this.waitingReader;
    if (result <= 0 || !reader?.direct) this.reader = null;
    if (result <= 0) this.endOfRead(reader, result);
    else if (reader === null) this.unread(new Uint8Array(memory, offset, result));
    else reader.received(memory, offset, result);
  }

  /** @internal */
  override onReadable(): boolean {
    const reader = this.waitingReader;
    reader?.readable();
    return reader !== null;
  }

  /** @internal */
  override onWritable(): boolean {
    const { outgoing } = this;
    if (outgoing === null) return false;
    const { backlog } = outgoing;
    if (outgoing.lastWriter !== null) this.loop.observer?.onBehalfOf(outgoing.lastWriter);
    try {
      while (backlog !== null && backlog.length > 0) {
        const data = backlog.peek();
        const count = this.send(data);
        backlog.skip(count);
        if (count < data.length) break;
      }
      outgoing.writer?.proceed();
    } catch (error) {
      this.writeFailed(error as Error);
      return false;
    }
    this.settleFlushers();
    return !this.flushed;
  }

  /** @internal */
  override onUnwritten(written: number, rest: Uint8Array): void {
    const writer = this.outgoing?.lastWriter ?? null;
    if (writer !== null) this.loop.observer?.onBehalfOf(writer);
    if (written < 0) {
      this.writeFailed(this.error('write', written));
      return;
    }
    try {
      this.enqueue(rest);
    } catch (error) {
      this.writeFailed(error as Error);
    }
  }

  /** @internal */
  override onLost(): void {
    this.end();
  }

  // --- inside -------------------------------------------------------------------------------------------------------------

  /**
   * For the `await` style, in which a write starts when it is made: one that is only copied, and changes nothing but the queue, needs no trap
   * to be waited for. False when there is more to it: then `Write` sees to it.
   */
  private writesAtOnce(data: Uint8Array): boolean {
    const task = currentTask();
    if (this.state !== 'open' || data.length > SMALL_WRITE) return false;
    const { outgoing } = this;
    if (outgoing !== null && (!this.flushed || outgoing.error !== null || outgoing.broken !== null || outgoing.ended))
      return false;
    if (task.cancelled !== null) return false;
    if (!task.mayRunOn()) {
      task.endShare(); // `Write` will ask again, and must hear the same
      return false;
    }
    task.resource = this;
    if (this.loop.observer !== null) this.ensureOutgoing().lastWriter = task;
    return this.loop.submitWrite(this, data, task);
  }

  /** @internal */
  leftBy(task: Task): void {
    if (this.reader?.task === task && !this.reader.pending) this.reader = null;
  }

  private get waitingReader(): ReadTrap<unknown> | null {
    return this.reader?.pending ? this.reader : null;
  }

  private get buffered(): number {
    return this.input === null ? 0 : this.input.length;
  }

  private *takeExactly(n: number, signal: AbortSignal | undefined): Coroutine<Uint8Array> {
    while (this.buffered < n) yield* this.fillFor(`${n} bytes`, signal);
    return n === 0 ? new Uint8Array(0) : this.input!.take(n);
  }

  private *takeUntil(wanted: Uint8Array, limit: number, signal: AbortSignal | undefined): Coroutine<Uint8Array> {
    for (let searched = 0; ; ) {
      const at = this.input === null ? -1 : this.input.indexOf(wanted, searched);
      const length = at + wanted.length;
      if (at >= 0 && length <= limit) return this.input!.take(length);
      if (at >= 0 || this.buffered >= limit) {
        throw Object.assign(
          new RangeError(`the delimiter did not come within ${limit} bytes; allow more, or read() what is there`),
          { code: 'ERR_LIMIT' },
        );
      }
      searched = Math.max(0, this.buffered - wanted.length + 1);
      yield* this.fillFor('the delimiter', signal);
    }
  }

  private *flushAndShutDown(signal: AbortSignal | undefined): Coroutine<void> {
    // What is written while it waits comes before the end, too.
    do {
      yield* new Flush(this, signal);
      this.loop.flush();
    } while (!this.flushed && !this.closed);
    if (this.outgoing?.ended || this.closed) return;
    this.ensureOutgoing().ended = true;
    const result = native.shutdown(this.number);
    if (result < 0) throw this.error('shutdown', result);
  }

  private *flushAndDestroy(signal: AbortSignal | undefined): Coroutine<void> {
    if (this.closed) return;
    if (this.outgoing?.writer?.queued) this.loop.flush();
    this.state = 'closing';
    this.wakeReader();
    this.wakeWriter();
    try {
      yield* new Flush(this, signal);
    } finally {
      this.destroy();
    }
  }

  private *fillFor(what: string, signal: AbortSignal | undefined): Coroutine<void> {
    if (yield* new Fill(this, signal)) return;
    throw new ClosedError(`fd ${this.number} ended after ${this.buffered} bytes, before ${what}`, 'ERR_UNEXPECTED_END');
  }

  private *readLine(limit: number, options: WaitOptions): Coroutine<string | null> {
    let line: Uint8Array;
    try {
      line = yield* this.readUntil('\n', limit, options);
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_UNEXPECTED_END') throw error;
      if (this.buffered === 0) return null;
      return Buffer.from(this.input!.take(this.buffered)).toString();
    }
    const end = line[line.length - 2] === 13 ? line.length - 2 : line.length - 1;
    return Buffer.from(line.buffer, line.byteOffset, end).toString();
  }

  private writeFailed(error: Error): void {
    const outgoing = this.ensureOutgoing();
    outgoing.backlog = null;
    const { writer } = outgoing;
    outgoing.writer = null;
    const flushers = outgoing.flushers.splice(0);
    if (writer === null && flushers.length === 0) outgoing.error = error;
    writer?.fail(error);
    for (const flusher of flushers) flusher.fail(error);
  }

  private check(what: string): void {
    if (this.state !== 'open') throw this.closedError(what);
  }

  private wakeReader(): void {
    const reader = this.waitingReader;
    this.reader = null;
    reader?.fail(this.closedError('read from'));
  }

  private wakeWriter(): void {
    const writer = this.outgoing?.writer;
    this.writerDone();
    writer?.fail(this.closedError('write to'));
  }

  private closedError(what: string): ClosedError {
    return new ClosedError(`cannot ${what} fd ${this.number}: it is closed`);
  }

  private error(syscall: string, errno: number): Error {
    return systemError(syscall, errno, { fd: this.number });
  }

  private name(peer: boolean): SocketAddress | undefined {
    if (this.state === 'closed') return undefined;
    const name = native.socketName(this.number, peer);
    return typeof name === 'number' ? undefined : name;
  }
}

shownAs(Stream, (stream) =>
  stream.closed ? 'Stream, closed' : `Stream fd ${stream.fd}, ${descriptorName(stream.fd, false)}`,
);

/** Nobody gets a stream that was made for them. @internal */
export function hangUp(stream: Stream): boolean {
  stream.destroy();
  return true;
}
