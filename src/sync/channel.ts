// Values from whoever sends to whoever receives, in order, each to one of them.
//
// Invariants:
// - Receivers wait only while nothing is in it and no sender waits; senders wait only while it is full.
// - "Cancelled" means that it did not happen: who gives up sending has the value still, who gives up receiving got none.

import { ClosedError } from '../errors.ts';
import type { OperationIterator } from '../io/iterate.ts';
import type { Operation } from '../operation.ts';
import { shownAs } from '../util.ts';
import { integer, signalOf, type WaitOptions } from '../validate.ts';
import { Fifo } from './fifo.ts';
import { type NameOption, named, Queued, WaitQueue } from './wait-queue.ts';

class Send<T> extends Queued<void> {
  readonly item: T;

  constructor(queue: WaitQueue<Send<T>>, item: T, signal: AbortSignal | undefined) {
    super(queue, signal);
    this.item = item;
  }
}

/** Whoever waits for a value. */
abstract class Receiver<T, R> extends Queued<R> {
  protected readonly channel: Channel<T>;

  constructor(channel: Channel<T>, queue: WaitQueue<AnyReceiver<T>>, signal: AbortSignal | undefined) {
    super(queue, signal);
    this.channel = channel;
  }

  abstract receive(item: T): void;
  /** There will be none, and that is no failure of whoever sent. */
  abstract end(): void;
}

class Receive<T> extends Receiver<T, T> {
  override receive(item: T): void {
    this.succeed(item);
  }
  override giveBack(item: T): boolean {
    this.channel.putBack(item);
    return true;
  }
  override end(): void {
    this.fail(new ClosedError('the channel is closed, and no value is left in it'));
  }
}

class Next<T> extends Receiver<T, IteratorResult<T, undefined>> {
  override receive(item: T): void {
    this.succeed({ done: false, value: item });
  }
  override giveBack(result: IteratorResult<T, undefined>): boolean {
    if (!result.done) this.channel.putBack(result.value);
    return true;
  }
  override end(): void {
    this.succeed({ done: true, value: undefined });
  }
}

type AnyReceiver<T> = Receiver<T, unknown>;

/**
 * A queue between tasks. Any number may send and receive, first come first served. When `capacity` values are in it, senders wait until one is received: who
 * is slow holds up who feeds it, and memory is bounded. With 0 a value goes from hand to hand; with Infinity nobody waits to send.
 */
export class Channel<T> implements OperationIterator<T> {
  readonly capacity: number;
  private readonly name: string;
  private readonly items: Fifo<T> = new Fifo();
  private readonly senders: WaitQueue<Send<T>> = new WaitQueue(
    () => `${this} to take a value`,
    (sender) => {
      if (this.trySend(sender.item)) sender.succeed(undefined);
      else this.senders.push(sender);
    },
  );
  private readonly receivers: WaitQueue<AnyReceiver<T>> = new WaitQueue(
    () => `${this} to have a value`,
    (receiver) => {
      if (this.hasValue) receiver.receive(this.take());
      else if (this.ended) this.end(receiver);
      else this.receivers.push(receiver);
    },
  );
  private ended = false;
  private error: unknown;

  /** @throws TypeError, RangeError when `capacity` is neither a whole number from 0 nor Infinity */
  constructor(capacity = 0, options?: NameOption) {
    this.capacity = capacity === Number.POSITIVE_INFINITY ? capacity : integer(capacity, 'capacity', 0);
    this.name = named(options);
  }

  /** How many values are in it. */
  get size(): number {
    return this.items.size;
  }

  /** How many wait until they can send. */
  get waitingToSend(): number {
    return this.senders.size;
  }

  /** How many wait for a value. */
  get waitingToReceive(): number {
    return this.receivers.size;
  }

  get closed(): boolean {
    return this.ended;
  }

  /** Waits until somebody has the value, or there is room for it. @throws ClosedError when it is closed: nobody will have it */
  send(item: T, options?: WaitOptions): Operation<void> {
    return new Send(this.senders, item, signalOf(options));
  }

  /** Sends without waiting, from anywhere, also from a callback of Node's. False: there is no room. @throws ClosedError */
  trySend(item: T): boolean {
    if (this.ended) throw nobodyReceives();
    const receiver = this.receivers.shift();
    if (receiver !== null) receiver.receive(item);
    else if (this.items.size < this.capacity) this.items.push(item);
    else return false;
    return true;
  }

  /** Waits for a value. @throws ClosedError when it is closed and empty, or what it was closed with */
  receive(options?: WaitOptions): Operation<T> {
    return new Receive(this, this.receivers, signalOf(options));
  }

  /** A value without waiting, from anywhere; undefined: there is none. */
  tryReceive(): T | undefined {
    return this.hasValue ? this.take() : undefined;
  }

  /** As `receive`, but the end is `{ done: true }`: a channel is its own iterator, and several tasks may share it. */
  next(options?: WaitOptions): ReturnType<OperationIterator<T>['next']> {
    // `for await` asks for a thenable and TypeScript for a promise; an operation is the former.
    return new Next(this, this.receivers, signalOf(options)) as Operation<unknown> as ReturnType<
      OperationIterator<T>['next']
    >;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * Nothing more is sent: who waits to send gets ClosedError, and has the value still. What is in the channel can be received; then it is at its end, or receivers
   * get `error`. From anywhere. Again: changes nothing.
   */
  close(error?: unknown): void {
    if (this.ended) return;
    this.ended = true;
    this.error = error;
    for (let sender = this.senders.shift(); sender !== null; sender = this.senders.shift())
      sender.fail(nobodyReceives());
    for (let receiver = this.receivers.shift(); receiver !== null; receiver = this.receivers.shift())
      this.end(receiver);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  toString(): string {
    return `channel${this.name}`;
  }

  private get hasValue(): boolean {
    return this.items.size > 0 || this.senders.size > 0;
  }

  /** The oldest value; there is one. */
  private take(): T {
    // With one that was put back there is more in it than it has room for.
    const sender = this.items.size > this.capacity ? null : this.senders.shift();
    if (sender !== null) {
      this.items.push(sender.item);
      sender.succeed(undefined);
    }
    return this.items.shift();
  }

  private end(receiver: AnyReceiver<T>): void {
    if (this.error === undefined) receiver.end();
    else receiver.fail(this.error);
  }

  /** Who received it is not there any more: it is for the next. @internal */
  putBack(item: T): void {
    const receiver = this.receivers.shift();
    if (receiver === null) this.items.unshift(item);
    else receiver.receive(item);
  }
}

shownAs(Channel, (channel) => String(channel));

function nobodyReceives(): ClosedError {
  return new ClosedError('the channel is closed: nobody would receive it');
}
