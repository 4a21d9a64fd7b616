// What can be waited for, and the one way into the loop.
//
// A *trap* is a single wait: for a descriptor, a time, a task. `yield*` on it hands the trap itself to whoever drives the generator, so
// that a coroutine yields what it waits for. `await` on it calls `then`, and the promise's own machinery does the suspending. Either way
// the trap is registered somewhere (`begin`), is settled once by whoever it was registered with (`succeed`, `fail`), and can be taken back
// before that (`undo`). Nothing else in onewait suspends a task.
//
// Invariants:
// - Lazy: making a trap does nothing. Single-use: waiting twice is an error that says so.
// - Settled once: an abort that comes after the event changes nothing, an event that comes after an abort finds no trap.
// - "Aborted" means that it did not happen: `undo` removes the registration before anybody else runs.

import { currentTask } from './current.ts';
import { isSystemError, OnewaitError } from './errors.ts';
import type { Task } from './task.ts';

/** Something to wait for: `yield*` it in a generator, `await` it in an async function. Lazy, and good for one wait. */
export interface Operation<T> extends PromiseLike<T> {
  [Symbol.iterator](): Iterator<Trap, T, unknown>;
}

/** A coroutine: a generator that yields what it waits for. */
export type Coroutine<T> = Generator<Trap, T, unknown>;

/** Who drives a coroutine: told when the trap that it took is settled. */
export interface Waiter {
  settled(trap: Trap): void;
}

const CREATED = 0;
const CLAIMED = 1;
const PENDING = 2;
const SUCCEEDED = 3;
const FAILED = 4;

export abstract class Trap<T = unknown> implements Operation<T> {
  /** On whose behalf: who made it, or the generator that yields it. */
  task: Task;
  private state: number = CREATED;
  /** The value or the error, once settled. @internal */
  outcome: unknown = undefined;
  private waiter: Waiter | null = null;
  private signal: AbortSignal | undefined;
  private onAbort: (() => void) | null = null;
  /** The traps that its task waits for, as a list: an async function may wait for several at once. @internal */
  previousPending: Trap | null = null;
  /** @internal */
  nextPending: Trap | null = null;
  /** When it was settled, while tracing. @internal */
  settledAt = 0;

  constructor(signal?: AbortSignal) {
    this.task = currentTask();
    this.signal = signal;
    this.task.created(this);
  }

  /** Registers the wait, or settles it at once. */
  protected abstract begin(): void;
  /** Takes the registration back. */
  protected abstract undo(): void;
  /** What is waited for, for people: 'fd 9 IN', '20 ms', 'echo#3'. */
  abstract describe(): string;
  /** The descriptor, where there is one. */
  get fd(): number {
    return -1;
  }
  /** What of the descriptor: EVENT_READ or EVENT_WRITE. */
  get event(): number {
    return 0;
  }
  /** Whether our own loop can settle it: a descriptor or a timer. Such waits keep the process alive. */
  protected get wakeable(): boolean {
    return true;
  }

  /** Whether it must begin although its task was cancelled: it sees to the end of what was begun before. */
  protected get shielded(): boolean {
    return false;
  }

  get pending(): boolean {
    return this.state === PENDING;
  }

  get succeeded(): boolean {
    return this.state === SUCCEEDED;
  }

  get unused(): boolean {
    return this.state === CREATED;
  }

  // --- yield* -------------------------------------------------------------------------------------------------------------

  [Symbol.iterator](): Iterator<Trap, T, unknown> {
    this.claim();
    this.task = currentTask();
    return this;
  }

  /** First call: starts the wait, and is done at once if nothing is to be waited for. Second call: the outcome. */
  next(): IteratorResult<Trap, T> {
    if (this.state === CLAIMED) {
      this.start();
      if (this.pending || !this.task.loop.mayRunOn()) return { done: false, value: this };
    }
    if (this.state === SUCCEEDED) return { done: true, value: this.outcome as T };
    // Made when the event came in; what a reader of the stack wants to see is where the coroutine waited for it.
    if (isSystemError(this.outcome)) Error.captureStackTrace(this.outcome, this.next);
    throw this.outcome;
  }

  /** Called for `generator.return()`: the wait is given up. */
  return(value?: unknown): IteratorResult<Trap, T> {
    if (this.state === PENDING) this.abort(new OnewaitError('ERR_ABANDONED', 'the coroutine was ended from outside'));
    return { done: true, value: value as T };
  }

  /** Starts the wait for a waiter that is no coroutine; it is told at the moment of settling, in the middle of the turn. @internal */
  startFor(waiter: Waiter): void {
    this.claim();
    this.start();
    this.attach(waiter);
  }

  /** The driver of a coroutine takes the trap that it yielded. @internal */
  attach(waiter: Waiter): void {
    this.waiter = waiter;
    if (this.state !== PENDING) waiter.settled(this);
  }

  // --- await --------------------------------------------------------------------------------------------------------------

  /**
   * For `await`. The callbacks are called by the loop, or at once when there is nothing to wait for.
   * `await` costs three microtasks this way; a promise per wait was measured at 20 ns less, and would have to start eagerly.
   */
  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    this.claim();
    this.start();
    const delivery = new Delivery(this, onFulfilled, onRejected);
    if (!this.pending && this.task.loop.mayRunOn()) delivery.run();
    else this.attach(delivery);
    return delivery as PromiseLike<A | B>;
  }

  /** The outcome, of a settled trap. @internal */
  take(): T {
    if (this.state === SUCCEEDED) return this.outcome as T;
    throw this.outcome;
  }

  // --- the other side -----------------------------------------------------------------------------------------------------

  /** What was waited for has happened. */
  succeed(value: T): void {
    this.settle(SUCCEEDED, value);
  }

  fail(error: unknown): void {
    this.settle(FAILED, error);
  }

  /** Ends the wait with an error, as if it had never begun. Does nothing once it is settled. */
  abort(error: unknown): void {
    if (this.state !== PENDING) return;
    this.undo();
    this.settle(FAILED, error);
  }

  /** The task was cancelled. Most waits end at once; those that must see their children end override this. */
  cancel(error: unknown): void {
    this.abort(error);
  }

  private claim(): void {
    if (this.state !== CREATED) {
      throw new OnewaitError('ERR_OPERATION_USED', `this operation (${this.describe()}) was already waited for; call the method again for another`);
    }
    this.state = CLAIMED;
  }

  private start(): void {
    const { task } = this;
    if (task.cancelled !== null && !this.shielded) {
      this.state = FAILED;
      this.outcome = task.cancelled;
      return;
    }
    const signal = this.signal;
    if (signal?.aborted) {
      this.state = FAILED;
      this.outcome = signal.reason;
      return;
    }
    try {
      this.begin();
    } catch (error) {
      this.state = FAILED;
      this.outcome = error;
      return;
    }
    if (this.state !== CLAIMED) return;
    this.state = PENDING;
    task.suspended(this);
    if (this.wakeable) task.loop.hold();
    if (signal !== undefined) {
      this.onAbort = () => this.abort(signal.reason);
      signal.addEventListener('abort', this.onAbort, { once: true });
    }
  }

  private settle(state: number, outcome: unknown): void {
    const before = this.state;
    if (before >= SUCCEEDED) return;
    this.state = state;
    this.outcome = outcome;
    if (before !== PENDING) return;
    if (this.onAbort !== null) this.signal!.removeEventListener('abort', this.onAbort);
    const { task } = this;
    if (this.wakeable) task.loop.release();
    if (task.loop.tracer !== null) this.settledAt = task.loop.driver.now();
    task.wakened(this);
    this.waiter?.settled(this);
  }
}

/**
 * Hands an outcome to the callbacks of `then`, and stands in for the promise that `then` returns: a real one is made only for those who
 * ask, or when there is a failure that nobody handles. `await` never asks.
 */
class Delivery implements Waiter, PromiseLike<unknown> {
  private readonly trap: Trap;
  private readonly onFulfilled: unknown;
  private readonly onRejected: unknown;
  private result: unknown = undefined;
  private done = false;
  private promise: Promise<unknown> | null = null;
  private resolve: ((value: unknown) => void) | null = null;

  constructor(trap: Trap, onFulfilled: unknown, onRejected: unknown) {
    this.trap = trap;
    this.onFulfilled = onFulfilled;
    this.onRejected = onRejected;
  }

  settled(): void {
    this.trap.task.loop.enqueue(this);
  }

  run(): void {
    const { trap } = this;
    trap.task.loop.tracer?.resume(trap.task, trap);
    const callback = trap.succeeded ? this.onFulfilled : this.onRejected;
    try {
      this.finish(typeof callback === 'function' ? callback(trap.outcome) : trap.take());
    } catch (error) {
      this.finish(Promise.reject(error));
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: the types are those of PromiseLike, applied by the caller
  then(onFulfilled?: any, onRejected?: any): Promise<any> {
    this.promise ??= this.done
      ? Promise.resolve(this.result)
      : new Promise((resolve) => {
          this.resolve = resolve;
        });
    return this.promise.then(onFulfilled, onRejected);
  }

  private finish(result: unknown): void {
    this.done = true;
    if (this.resolve === null) this.result = result;
    else this.resolve(result);
  }
}
