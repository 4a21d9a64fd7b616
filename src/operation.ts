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
import type { Runnable } from './loop.ts';
import { native } from './native.ts';
import type { Task } from './task.ts';
import type { Suspension } from './trace/observer.ts';
import { nativeThen, SOON, shownAs } from './util.ts';

/** Something to wait for: `yield*` it in a generator, `await` it in an async function. Lazy, and good for one wait. */
export interface Operation<T> extends PromiseLike<T> {
  [Symbol.iterator](): Iterator<Trap, T, unknown>;
}

/** A coroutine: a generator that yields what it waits for. */
export type Coroutine<T> = Generator<Trap, T, unknown>;

/** An operation that somebody took charge of, and in the end did not need. */
export interface Discardable {
  discard(): void;
}

/** Who drives a coroutine: told when the trap that it took is settled. */
export interface Waiter {
  settled(trap: Trap): void;
}

/** What `new Promise` hands to its executor. */
type Resolver = (value: unknown) => void;

const CREATED = 0;
const CLAIMED = 1;
const PENDING = 2;
const SUCCEEDED = 3;
const FAILED = 4;
/** Succeeded, and who waited has its value. */
const OVER = 5;

/** How `next` hands over a value: one for all waits, for `yield*` looks at it at once, and at nothing else of it ever. */
const OUTCOME: { readonly done: true; value: unknown } = { done: true, value: undefined };

export abstract class Trap<T = unknown> implements Operation<T>, Runnable {
  /** On whose behalf: who made it, or the generator that yields it. */
  task: Task;
  /**
   * The iterator protocol's result while it is waited for: a trap is the iterator over itself and its own result too, which saves `yield*` two
   * objects per wait. `value` is the trap until it is settled, and then its value or its error. @internal
   */
  declare readonly done: false;
  /** @internal */
  value: unknown = this;
  /** What the trace knows of the wait, while it lasts and is recorded. @internal */
  suspension: Suspension | null = null;
  private state: number = CREATED;
  /** Who is to be told: a driver of coroutines, or the resolver of a started promise. */
  private waiter: Waiter | Resolver | null = null;
  /** Null: there is none, and others than its waiter have the operation and may come back to it. */
  private signal: AbortSignal | null | undefined;

  constructor(signal?: AbortSignal) {
    const task = currentTask();
    this.task = task;
    this.signal = signal;
    this.made(task);
  }

  /** `task` is its own: of a trap of any class V8 would have to look it up. */
  private made(task: Task): void {
    task.unused++;
    if (task.loop.observer !== null && task.awaits) task.loop.observer.made(this as Trap);
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

  /** Whether only promises that are not ours can settle it. @internal */
  get foreign(): boolean {
    return false;
  }

  /** The tasks whose end is waited for, where these are its own: those of a scope. @internal */
  get within(): Iterable<Task> {
    return [];
  }

  /** Whether it must begin although its task was cancelled: it sees to the end of what was begun before. */
  protected get shielded(): boolean {
    return false;
  }

  get pending(): boolean {
    return this.state === PENDING;
  }

  /** Whether its task itself waits for it, its generator or by a promise, and no other operation. @internal */
  get direct(): boolean {
    return this.waiter === this.task || this.promised;
  }

  /** Whether a promise of it is still to be resolved. @internal */
  get promised(): boolean {
    return typeof this.waiter === 'function';
  }

  /** Whether nobody has its outcome, or will, but its own task or its promise. @internal */
  get free(): boolean {
    return this.waiter === null || this.direct;
  }

  /** What resolves its promise, which is not resolved yet. @internal */
  get resolver(): Resolver {
    return this.waiter as Resolver;
  }

  /** It is a part of another operation, which tells of its failure: `promise`, which is of it, is not to be called an unhandled rejection. @internal */
  lendPromise(promise: StartedPromise): void {
    const { waiter } = this;
    if (this.state === FAILED) handle(promise);
    else if (typeof waiter === 'function') {
      this.waiter = (outcome) => {
        if (outcome instanceof Promise) handle(promise);
        waiter(outcome);
      };
    }
  }

  get succeeded(): boolean {
    return this.state === SUCCEEDED;
  }

  // --- yield* -------------------------------------------------------------------------------------------------------------

  [Symbol.iterator](): Iterator<Trap, T, unknown> {
    return this.iterate();
  }

  /** What `[Symbol.iterator]` does, by a name: V8 looks up `super[...]` at each call, and does not compile it. @internal */
  protected iterate(): this {
    this.claim();
    this.task = currentTask();
    return this;
  }

  /** First call: starts the wait, and is done at once if nothing is to be waited for. Second call: the outcome. */
  next(): IteratorResult<Trap, T> {
    if (this.state === CLAIMED) {
      this.start();
      if (this.pending) return this as unknown as IteratorYieldResult<Trap>;
      if (!this.task.mayRunOn()) {
        this.yields();
        return { done: false, value: this };
      }
    }
    if (this.state === SUCCEEDED) {
      OUTCOME.value = this.handOver();
      return OUTCOME as IteratorReturnResult<T>;
    }
    // Made when the event came in; what a reader of the stack wants to see is where the coroutine waited for it.
    if (this.wakeable && isSystemError(this.value)) Error.captureStackTrace(this.value, this.next);
    throw this.value;
  }

  /** Called for `generator.return()`: the wait is given up. */
  return(value?: unknown): IteratorResult<Trap, T> {
    if (this.state === PENDING) this.abort(new OnewaitError('ERR_ABANDONED', 'the coroutine was ended from outside'));
    else if (this.state === SUCCEEDED) this.giveBack(this.value as T);
    return { done: true, value: value as T };
  }

  /** Starts the wait for a waiter that is no coroutine; it is told at the moment of settling, in the middle of the turn. @internal */
  startFor(waiter: Waiter): void {
    this.claim();
    this.start();
    this.attach(waiter);
  }

  /** The driver of a coroutine takes the trap that it yielded. @internal */
  attach(waiter: Waiter | Resolver): void {
    this.waiter = waiter;
    if (this.state !== PENDING) this.tell(waiter);
  }

  private tell(waiter: Waiter | Resolver): void {
    if (typeof waiter === 'function') this.task.loop.resolve(this);
    else waiter.settled(this);
  }

  /** Resolves the promise of a started trap, or steps the generator that waits for it. @internal */
  run(): void {
    const { waiter, task } = this;
    if (typeof waiter !== 'function' && waiter !== task) return; // taken over, or back, since
    const { observer } = task.loop;
    if (observer !== null) {
      observer.resume(task, this as Trap);
      if (this.waiter !== waiter) return; // by who looks on
    }
    if (waiter === task) task.run();
    else {
      this.waiter = null;
      (waiter as Resolver)(this.state === SUCCEEDED ? this.value : Promise.reject(this.value));
      this.resolved();
    }
  }

  /** This is its promise. */
  protected promiseMade(_promise: StartedPromise): void {}
  /** Its promise is resolved. */
  protected resolved(): void {}

  /** Its value, of which there is nothing here any more. It has succeeded. */
  protected handOver(): T {
    const { value } = this;
    this.state = OVER;
    this.value = undefined;
    this.waiter = null;
    return value as T;
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
    if (this.pending) this.attach(delivery);
    else if (this.task.mayRunOn()) delivery.run();
    else {
      this.yields();
      this.attach(delivery);
    }
    return delivery as PromiseLike<A | B>;
  }

  /**
   * Starts the wait now and hands out a promise for it: for the reads and writes of an async function, where `then` would cost four more
   * objects and two more microtasks per wait (measured at 100 ns of 440 per echo). The price is that such an operation is not lazy.
   * It remains an operation: `all`, `race` and `yield*` find the trap behind it. @internal
   */
  promise(): Operation<T> {
    this.claim();
    this.start();
    if (this.state !== PENDING && this.nothingLeft()) return DONE as Operation<T>;
    starting = this as Trap;
    const promise = new Promise(Trap.takeResolver) as StartedPromise;
    promise.trap = this as Trap;
    promise[Symbol.iterator] = iterateStarted;
    this.promiseMade(promise);
    if (this.state !== PENDING) this.tell(this.waiter!);
    return promise as unknown as Operation<T>;
  }

  /** One executor for all: a closure per wait is what this saves. */
  private static takeResolver(this: void, resolve: Resolver): void {
    starting!.waiter = resolve;
  }

  /** Whether there is nothing to wait for and nothing to tell: it is over at once, without a value, and its task may go on. */
  private nothingLeft(): boolean {
    if (this.task.mayRunOn() && this.succeeded && this.value === undefined) return true;
    this.yields();
    return false;
  }

  /** It is a part of another operation, which comes back to it when it is over. @internal */
  lend(): void {
    if (this.signal === undefined) this.signal = null;
  }

  /** Makes a wait that is over one that has not begun, as good as new. False when it is not over, did not end well, has a signal or is lent. @internal */
  protected renew(): boolean {
    if (this.state !== OVER || this.signal !== undefined) return false;
    const task = currentTask();
    this.state = CREATED;
    this.value = this;
    this.suspension = null;
    this.task = task;
    this.made(task);
    return true;
  }

  /** The outcome, of a settled trap. @internal */
  take(): T {
    if (this.state === SUCCEEDED) return this.value as T;
    throw this.value;
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

  /** It will not be waited for after all, and nobody forgot it. @internal */
  discard(): void {
    if (this.state === CREATED) this.claim();
  }

  /** Ends a wait that lost a race, begun or not; not what somebody else waits for. @internal */
  revoke(waiter: Waiter): void {
    this.discard();
    if (this.waiter === waiter) this.abort(undefined);
  }

  /** Ends a started wait that nobody wants the outcome of, and gives back what it may have brought already. False when that cannot be undone. @internal */
  takeBack(): boolean {
    if (this.state === SUCCEEDED) {
      if (!this.giveBack(this.value as T)) return false;
      // It did not happen, and must not be made anew: a promise and the ready queue may know it.
      this.refuse(undefined);
    }
    this.waiter = null;
    this.abort(undefined);
    return true;
  }

  /** Whether its success can be undone when others have gone on since: not of bytes, which would be out of order. @internal */
  get revocable(): boolean {
    return true;
  }

  /** Undoes its success for somebody who did not get its value, where that is possible: whether it was. @internal */
  giveBack(_value: T): boolean {
    return false;
  }

  /** The signal was aborted (EventListener). @internal */
  handleEvent(): void {
    this.abort(this.signal!.reason);
  }

  /** The task was cancelled. Most waits end at once; those that must see their children end override this. */
  cancel(error: unknown): void {
    this.abort(error);
  }

  private claim(): void {
    if (this.state !== CREATED) throw usedTwice(this);
    this.state = CLAIMED;
    this.task.unused--;
  }

  private start(): void {
    const { task, signal } = this;
    if (task.cancelled !== null && !this.shielded) {
      this.refuse(task.cancelled);
      return;
    }
    if (signal?.aborted) {
      this.refuse(signal.reason);
      return;
    }
    const { observer } = task.loop;
    if (observer !== null) observer.onBehalfOf(task);
    try {
      this.begin();
    } catch (error) {
      this.refuse(error);
      return;
    }
    if (this.state !== CLAIMED) return;
    this.state = PENDING;
    if (this.wakeable) task.loop.hold();
    signal?.addEventListener('abort', this, { once: true });
    // Who looks on may settle it.
    task.suspended(this);
  }

  /** It fails before it has begun. */
  private refuse(error: unknown): void {
    this.state = FAILED;
    this.value = error;
  }

  /** It is over already, but its task goes on only when others have had their turn. */
  private yields(): void {
    const { task } = this;
    if (task.loop.observer !== null) task.loop.observer.yields(task, this as Trap);
  }

  private settle(state: number, outcome: unknown): void {
    const before = this.state;
    if (before >= SUCCEEDED) return;
    this.state = state;
    this.value = outcome;
    if (before !== PENDING) return;
    const { task, signal } = this;
    const { loop } = task;
    signal?.removeEventListener('abort', this);
    if (this.wakeable) loop.release();
    if (this.suspension !== null) loop.observer?.settled(this.suspension, loop.waking);
    task.wakened(this);
    if (this.waiter !== null) this.tell(this.waiter);
  }
}

shownAs(Trap, (trap) => `Operation ${trap.describe()}`);

// On the prototype, where it takes no memory of each.
Object.defineProperty(Trap.prototype, 'done', { value: false });

// Where it is thrown it would be most of a function that V8 should rather inline. The same goes for those of src/io/stream.ts.
function usedTwice(trap: Trap): OnewaitError {
  return new OnewaitError(
    'ERR_OPERATION_USED',
    `this operation (${trap.describe()}) was already waited for; call the method again for another`,
  );
}

/** Whose promise is being made. */
let starting: Trap | null = null;

/**
 * A promise of a trap that has started. It is of no class of its own, which would cost `await` a look for its constructor (ECMA-262,
 * PromiseResolve: 20 ns).
 */
export interface StartedPromise extends Promise<unknown> {
  trap: Trap;
  /** What it was resolved with, once the trap may wait for something else. */
  value?: unknown;
  /** Somebody has that value who did not await the promise. */
  taken?: boolean;
  [Symbol.iterator]: () => Iterator<Trap, unknown, unknown>;
}

/** Its value was given back. */
const GIVEN_BACK = Symbol();

/**
 * What a promise of a trap becomes when its wait is somebody else's from now on (a race's, a timeout's), or did not happen: it will not be resolved, and
 * who awaits it is to hear of it. `await` calls `then` of a promise whose constructor is another (ECMA-262, PromiseResolve), so nothing is to be
 * made for who never asks. By its prototype: V8 awaits all promises more slowly once a single one has a `then` or a `constructor` of its own.
 */
class Spent extends Promise<unknown> {
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }
  // biome-ignore lint/suspicious/noExplicitAny: the types are those of Promise.then, applied by the caller
  override then(onFulfilled?: any, onRejected?: any): Promise<any> {
    const { trap } = this as unknown as StartedPromise;
    return Promise.reject(usedTwice(trap)).then(onFulfilled, onRejected);
  }
}

function spend(promise: StartedPromise): void {
  Object.setPrototypeOf(promise, Spent.prototype);
}

const nothing = (): void => {};

/** Its rejection is somebody's business. */
function handle(promise: StartedPromise): void {
  nativeThen.call(promise, undefined, nothing);
}

/**
 * Rejects a spent promise, for whoever awaited it before. Who was given it by another promise (`return promise`) awaits it a microtask later, but in the
 * way that it had before.
 */
function disappoint(promise: StartedPromise, resolve: Resolver, error: () => unknown): void {
  const reject = (): void => {
    if (native.isAwaited(promise)) resolve(Promise.reject(error()));
  };
  if (native.isAwaited(promise)) reject();
  else void SOON.then(reject);
}

function* iterateStarted(this: StartedPromise): Generator<Trap, unknown, unknown> {
  return yield* new Started(this);
}

function isStarted(operation: unknown): operation is StartedPromise {
  return (operation as Partial<StartedPromise> | null)?.[Symbol.iterator] === iterateStarted;
}

/** The wait behind a promise of `promise()`, to be waited for or taken back by the task that runs; null for anything else. @internal */
export function startedWait(operation: unknown): Trap | null {
  return isStarted(operation) ? new Started(operation) : null;
}

/**
 * Takes back the wait behind a promise of `promise()`, unless its outcome is there already or somebody else has its wait. Does nothing to anything
 * else. @internal
 */
export function takeBackStarted(operation: unknown): void {
  if (!isStarted(operation) || !operation.trap.promised || operation.value !== undefined) return;
  const { trap } = operation;
  const { resolver } = trap;
  // Whoever awaits it is about to have it.
  if (trap.succeeded && native.isAwaited(operation)) return;
  if (!trap.takeBack()) return;
  spend(operation);
  disappoint(operation, resolver, () => usedTwice(trap));
}

/** Another operation is made of one, and tells of its failure. Does nothing to what is no promise of `promise()`. @internal */
export function lendStarted(operation: unknown): void {
  if (isStarted(operation)) operation.trap.lendPromise(operation);
}

/** An operation with nothing to wait for and nothing to tell, in `await` style. @internal */
export const DONE: Operation<void> = Object.assign(Promise.resolve(undefined), {
  *[Symbol.iterator](): Generator<Trap, void, unknown> {},
});

/**
 * A wait that was started before, in other hands now: settled in the same moment, so that no outcome gets lost in between, and ended with it. Whoever
 * awaited its promise before hears how it ends, too.
 */
class Started extends Trap<unknown> implements Waiter {
  private readonly source: StartedPromise;
  private earlier: Resolver | null = null;

  constructor(promise: StartedPromise) {
    super();
    this.source = promise;
  }

  private get trap(): Trap {
    return this.source.trap;
  }

  protected override begin(): void {
    const { trap, value } = this.source;
    if (value === undefined) {
      if (!trap.free) throw usedTwice(trap);
      if (trap.promised) {
        this.earlier = trap.resolver;
        spend(this.source);
      }
      trap.attach(this);
    } else if (value === GIVEN_BACK) throw usedTwice(trap);
    else {
      this.source.taken = true;
      this.succeed(value);
    }
  }
  settled(trap: Trap): void {
    if (trap.succeeded) {
      this.succeed(trap.value);
      this.earlier?.(trap.value);
    } else {
      const error = trap.value === undefined ? usedTwice(trap) : trap.value;
      this.fail(error);
      if (this.earlier !== null) disappoint(this.source, this.earlier, () => error);
    }
  }
  protected override undo(): void {
    this.trap.takeBack();
    if (this.earlier !== null) disappoint(this.source, this.earlier, () => usedTwice(this.trap));
  }
  override revoke(waiter: Waiter): void {
    const begun = this.pending;
    super.revoke(waiter);
    if (begun) return;
    const { trap, value, taken } = this.source;
    if (value === undefined) takeBackStarted(this.source);
    else if (value !== GIVEN_BACK && !taken && !native.isAwaited(this.source) && trap.giveBack(value)) {
      this.source.value = GIVEN_BACK;
      spend(this.source);
    }
  }
  override describe(): string {
    return this.trap.describe();
  }
  override get fd(): number {
    return this.trap.fd;
  }
  override get event(): number {
    return this.trap.event;
  }
  protected override get wakeable(): boolean {
    return false;
  }
}

/** Hands an outcome to the callbacks of `then`, and stands in for the promise that `then` returns. `await` never asks for that. */
class Delivery implements Waiter, Runnable, PromiseLike<unknown> {
  private readonly trap: Trap;
  private readonly onFulfilled: unknown;
  private readonly onRejected: unknown;
  /** What the callback returned, or a promise of it for who asked before; this object itself while it has not been called. */
  private result: unknown = this;
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
    const { observer } = trap.task.loop;
    if (observer !== null) observer.resume(trap.task, trap);
    const callback = trap.succeeded ? this.onFulfilled : this.onRejected;
    try {
      this.finish(typeof callback === 'function' ? callback(trap.value) : trap.take());
    } catch (error) {
      // A promise, so that Node reports it when nobody handles it.
      this.finish(Promise.reject(error));
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: the types are those of PromiseLike, applied by the caller
  then(onFulfilled?: any, onRejected?: any): Promise<any> {
    if (this.result === this) {
      this.result = new Promise((resolve) => {
        this.resolve = resolve;
      });
    }
    return Promise.resolve(this.result).then(onFulfilled, onRejected);
  }

  private finish(result: unknown): void {
    if (this.resolve === null) this.result = result;
    else this.resolve(result);
  }
}
