// A task: one coroutine, who it is, what it waits for, and how it ended.
//
// - A generator is stepped by the loop, one trap at a time. An async function runs by itself and is only started here.
// - Cancellation is level-triggered: once cancelled, every wait of the task throws `Cancelled`, until it ends. Tasks behind a shield
//   (src/scope.ts) do not hear of the cancellation of what surrounds it.
// - Whoever joins gets the outcome. A failure that nobody joined by the end of the turn is reported once, by the loop.

import { currentTask, getLoop, Identity, isRunning, isStepping, runAs, setStepping } from './current.ts';
import { Cancelled, OnewaitError } from './errors.ts';
import type { Loop, Runnable } from './loop.ts';
import { type Coroutine, type Operation, Trap, type Waiter } from './operation.ts';
import { nativeThen, remove, shownAs } from './util.ts';
import { signalOf } from './validate.ts';

/** Operations in a row that a task may complete without waiting, before others get their turn. */
const SHARE = 128;

/** The task whose function is being called for the first time: what it runs before it waits, V8 runs on nobody's behalf. */
let startingTask: Task | null = null;

export type TaskState = 'ready' | 'running' | 'suspended' | 'done' | 'failed' | 'cancelled';

/** What can be run as a task: a generator, or a function that returns one, a promise, or an operation. */
export type Main<T> = Coroutine<T> | (() => Coroutine<T> | PromiseLike<T>);

export type TaskErrorHandler = (error: unknown, task: Task) => void;

/** A set of tasks that end together: that of a run() or of a scope. */
export interface TaskGroup {
  readonly tasks: Set<Task>;
  /** The run that it is part of. */
  readonly root: TaskGroup;
  /** Called when one of its tasks has ended, after that was noted in the task. */
  ended(task: Task): void;
  /** Called with a failure that nobody joined, instead of the report on standard error. */
  readonly onTaskError?: TaskErrorHandler | undefined;
}

/** Something that must not outlive the task that used it when that task fails: a stream. */
export interface Resource {
  readonly fd: number;
  destroy(): void;
  /** It must not retain the task, which has ended. */
  leftBy(task: Task): void;
}

export class Task<T = unknown> extends Identity implements Operation<T>, Waiter, Runnable {
  readonly id: number;
  readonly name: string;
  readonly loop: Loop;
  readonly group: TaskGroup;
  /** The error that its waits throw since it was cancelled. @internal */
  cancelled: Cancelled | null = null;
  /** Operations that it made and has not waited for. @internal */
  unused = 0;
  /** The stream that it used last: named in the report and closed when it fails and nobody joined it. @internal */
  resource: Resource | null = null;

  /** 'ready' before it is started, 'running' until it has ended, whatever it does meanwhile. */
  private status: Exclude<TaskState, 'suspended'> = 'ready';
  /** What is to be started, then its generator, or null of an async function, and in the end its value or its error: never two of them. */
  private content: unknown;
  /** What it waits for: a generator for one thing, an async function perhaps for several. */
  private pending: Trap | Set<Trap> | null = null;
  private joiners: Join<T>[] | null = null;
  private joined = false;
  private share = SHARE;

  constructor(loop: Loop, id: number, main: Main<T>, name: string | undefined, group: TaskGroup) {
    super();
    this.loop = loop;
    this.id = id;
    this.content = main;
    this.name = name ?? ((typeof main === 'function' && main.name) || 'task');
    this.group = group;
  }

  get state(): TaskState {
    if (this.ended) return this.status;
    if (this.waiting) return 'suspended';
    if (isRunning(this.self)) return 'running';
    // An async function that neither runs nor waits for anything of ours waits for a promise of somebody else's.
    return this.foreign ? 'suspended' : 'ready';
  }

  /** What it waits for ('fd 9 IN', '20 ms'), or null when it waits for nothing of ours. */
  get waitingFor(): string | null {
    return this.waiting
      ? this.waits()
          .map((trap) => trap.describe())
          .join(', ')
      : null;
  }

  get ended(): boolean {
    return this.status !== 'ready' && this.status !== 'running';
  }

  override toString(): string {
    return `${this.name}#${this.id}`;
  }

  /** Waits until the task has ended: its value, or its error (`Cancelled` if it was cancelled). Any number of tasks may join. */
  join(options?: { signal?: AbortSignal }): Operation<T> {
    return new Join(this, signalOf(options));
  }

  /** `yield* task` is `yield* task.join()`. */
  [Symbol.iterator](): Iterator<Trap, T, unknown> {
    return this.join()[Symbol.iterator]();
  }

  /**
   * `await task` is `await task.join()`. A getter, for `await` asks for `then` on behalf of the function that awaits, and calls it later, on
   * nobody's.
   */
  get then(): PromiseLike<T>['then'] {
    const waiter = getLoop() === null ? this.loop.guest : currentTask();
    return (onFulfilled, onRejected) => runAs(waiter, () => this.join()).then(onFulfilled, onRejected);
  }

  /**
   * Cancels the task: its current wait did not happen and throws `Cancelled`, as will every later one. A task that has not started
   * never does. Cancelling twice, or one that has ended, changes nothing. An async function hears of it at its next wait of ours only.
   */
  cancel(reason?: unknown): void {
    if (this.ended || this.cancelled !== null) return;
    this.cancelled = Cancelled.of(reason);
    if (this.status === 'ready') {
      this.status = 'running';
      this.content = null;
      this.loop.enqueue(this);
      return;
    }
    for (const trap of this.waits()) trap.cancel(this.cancelled);
  }

  // --- driven by the loop -------------------------------------------------------------------------------------------------

  /** Starts the task, or resumes its generator after the wait that it yielded. @internal */
  run(): void {
    if (this.status === 'ready') this.start(this.content as Main<T>);
    else if (this.steps) this.step();
    else if (!this.ended) this.end('cancelled', this.cancelled);
  }

  /** Its generator's trap is settled. @internal */
  settled(trap: Trap): void {
    // Who looks on wants to know what it was. (It is somebody else's where a 'yield' lacks its star.)
    this.loop.enqueue(this.loop.observer === null || trap.task !== this.self ? this : trap);
  }

  /** It waits for one more thing. @internal */
  suspended(trap: Trap): void {
    if (this.pending === null) this.pending = trap;
    else if (this.pending instanceof Set) this.pending.add(trap);
    else this.pending = new Set([this.pending, trap]);
    const { observer } = this.loop;
    if (observer !== null) observer.suspend(this.self, trap);
  }

  /** Whether it may go on at once from a wait that was over before it began. If not, it has to go through the ready queue. @internal */
  mayRunOn(): boolean {
    if (--this.share > 0) return true;
    this.share = SHARE;
    return false;
  }

  /** It has had its share, and others come first. @internal */
  endShare(): void {
    this.share = 0;
  }

  /** It waits for one thing less. @internal */
  wakened(trap: Trap): void {
    this.share = SHARE;
    if (this.pending === trap) this.pending = null;
    else if (this.pending instanceof Set && this.pending.delete(trap) && this.pending.size === 0) this.pending = null;
  }

  private get waiting(): boolean {
    return this.pending !== null;
  }

  /** Whether it is a generator that has started and has not ended. */
  private get steps(): boolean {
    return this.status === 'running' && this.content !== null;
  }

  /** @internal */
  waits(): Trap[] {
    if (this.pending === null) return [];
    return this.pending instanceof Set ? [...this.pending] : [this.pending];
  }

  /** Whether only promises that are not ours can move it. @internal */
  get foreign(): boolean {
    if (this.waiting) return this.waits().every((trap) => trap.foreign);
    return this.status !== 'ready' && !this.steps;
  }

  /** Whether what runs is its async function, which V8 will suspend, and no generator, be it its own or one of ours that it awaits. @internal */
  get awaits(): boolean {
    return startingTask === this.self || (!this.steps && !isStepping());
  }

  /** The tasks of the scopes that it is in, which it waits for. @internal */
  *children(): Generator<Task, void, undefined> {
    for (const trap of this.waits()) yield* trap.within;
  }

  private get self(): Task {
    return this as unknown as Task;
  }

  private start(body: Main<T>): void {
    this.status = 'running';
    this.content = null;
    this.loop.observer?.start(this.self);
    if (typeof body !== 'function') {
      this.content = body;
      this.step();
      return;
    }
    let made: unknown;
    let promise = false;
    try {
      startingTask = this.self;
      try {
        made = runAs(this.self, body);
      } finally {
        startingTask = null;
      }
      // Anything may have come back, also something that throws when it is looked at.
      if (isGenerator<T>(made)) this.content = made;
      else if (isOperation<T>(made)) this.content = delegate(made);
      else if (isAsyncGenerator(made)) {
        throw new TypeError(
          `${this} is an async generator, which nobody iterates. Write an async function, or a generator (function*)`,
        );
      } else promise = typeof (made as PromiseLike<T> | null | undefined)?.then === 'function';
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.content !== null) this.step();
    else if (promise) {
      if (this.loop.blocking) {
        // What becomes of it when this call has returned concerns nobody.
        (made as PromiseLike<T>).then(undefined, () => {});
        this.fail(
          new TypeError(
            `${this} is an async function, and runBlocking() cannot run one: V8 resumes async functions only when this call has returned. ` +
              'Write it as a generator (function*), or use run()',
          ),
        );
        return;
      }
      if (made instanceof Promise && made.then === nativeThen) runAs(this.self, () => made.then(ownDone, ownFailed));
      else {
        (made as PromiseLike<T>).then(
          (value) => this.end('done', value),
          (error: unknown) => this.fail(error),
        );
      }
    } else {
      // A plain function that did its work and returned.
      this.end('done', made);
    }
  }

  private step(foreign: unknown = undefined): void {
    const generator = this.content as Coroutine<T>;
    const before = setStepping(this.self);
    let result: IteratorResult<Trap, T>;
    try {
      result = foreign === undefined ? generator.next() : generator.throw(foreign);
    } catch (error) {
      setStepping(before);
      this.fail(error);
      return;
    }
    setStepping(before);
    if (result.done) this.end('done', result.value);
    else if (result.value instanceof Trap) result.value.attach(this);
    else this.step(foreignYield(result.value));
  }

  private fail(error: unknown): void {
    if (error === this.cancelled && error !== null) {
      this.end('cancelled', error);
      return;
    }
    if (!this.ended) this.end('failed', error);
  }

  private end(status: 'done' | 'failed' | 'cancelled', result: unknown): void {
    if (this.ended) return;
    this.status = status;
    this.content = result;
    this.resource?.leftBy(this.self);
    if (status !== 'failed') this.resource = null;
    // One that failed or was cancelled may have got no further than making it.
    if (this.unused > 0 && status === 'done') warnUnused(this.self);
    this.loop.ended(this.self, status, result);
    if (this.joiners !== null) for (const join of this.joiners.splice(0)) this.settle(join);
    this.group.tasks.delete(this.self);
    this.group.ended(this.self);
  }

  /** @internal */
  addJoiner(join: Join<T>): void {
    if (this.ended) {
      this.settle(join);
      return;
    }
    this.joiners ??= [];
    this.joiners.push(join);
  }

  /** @internal */
  removeJoiner(join: Join<T>): void {
    if (this.joiners !== null) remove(this.joiners, join);
  }

  /** How it ended: its value or error. @internal */
  get outcome(): unknown {
    return this.content;
  }

  /** Whether anybody was told of its failure. @internal */
  get wasJoined(): boolean {
    return this.joined;
  }

  /** Its failure is somebody's business. @internal */
  adopt(): void {
    this.joined = true;
  }

  /** It has failed. What it used last is let go, and must not stay open if nobody is left to see to it. Its descriptor, or -1. @internal */
  letGo(close: boolean): number {
    const { resource } = this;
    this.resource = null;
    const fd = resource?.fd ?? -1;
    if (close) {
      const before = setStepping(this.self);
      resource?.destroy();
      setStepping(before);
    }
    return fd;
  }

  /** Its async function has returned. @internal */
  returned(value: T): void {
    this.end('done', value);
  }

  /** Its async function has thrown. @internal */
  threw(error: unknown): void {
    this.fail(error);
  }

  private settle(join: Join<T>): void {
    this.joined = true;
    if (this.status === 'done') join.succeed(this.content as T);
    else join.fail(this.content);
  }
}

shownAs(Task, (task) => `Task ${task}, ${task.state}${task.waitingFor === null ? '' : ` on ${task.waitingFor}`}`);

// V8 calls a promise's callbacks in the async context in which they were given, so two functions will do for all tasks. A pair of its own, with
// what it closes over, would be 150 bytes of every connection. A `then` of somebody else's may call them in any context.
function ownDone(value: unknown): void {
  currentTask().returned(value);
}
function ownFailed(error: unknown): void {
  currentTask().threw(error);
}

class Join<T> extends Trap<T> {
  private readonly target: Task<T>;

  constructor(target: Task<T>, signal?: AbortSignal) {
    super(signal);
    this.target = target;
  }

  protected override begin(): void {
    if (this.task === (this.target as unknown as Task)) {
      throw new OnewaitError('ERR_SELF_JOIN', `${this.task} waits for its own end, which can never come`);
    }
    this.target.addJoiner(this);
  }
  protected override undo(): void {
    this.target.removeJoiner(this);
  }
  override describe(): string {
    return String(this.target);
  }
  protected override get wakeable(): boolean {
    return false;
  }
}

/** @throws TypeError when it is nothing that a task can run */
export function checkMain(main: unknown): void {
  if (typeof main !== 'function' && !isGenerator(main)) {
    throw new TypeError('main must be a coroutine, or a function that makes a coroutine or a promise');
  }
}

export function isGenerator<T>(value: unknown): value is Coroutine<T> {
  const candidate = value as Coroutine<T> | undefined | null;
  return (
    typeof candidate?.next === 'function' &&
    typeof candidate.throw === 'function' &&
    !(Symbol.asyncIterator in candidate)
  );
}

function isAsyncGenerator(value: unknown): boolean {
  const candidate = value as AsyncGenerator | undefined | null;
  return typeof candidate?.throw === 'function' && typeof candidate[Symbol.asyncIterator] === 'function';
}

export function isOperation<T>(value: unknown): value is Operation<T> {
  const candidate = value as Operation<T> | undefined | null;
  return typeof candidate?.then === 'function' && typeof candidate[Symbol.iterator] === 'function';
}

function* delegate<T>(operation: Operation<T>): Coroutine<T> {
  return yield* operation;
}

/** An operation that was made and neither awaited nor yielded did nothing, which is never what was meant. */
function warnUnused(task: Task): void {
  const count = task.unused === 1 ? 'an operation' : `${task.unused} operations`;
  process.emitWarning(
    `${task} made ${count} and ended without waiting: an operation does nothing until it gets 'yield*' or 'await'`,
    {
      code: 'ONEWAIT_UNUSED_OPERATION',
    },
  );
}

function foreignYield(value: unknown): TypeError {
  const what =
    typeof (value as PromiseLike<unknown> | undefined)?.then === 'function'
      ? 'a promise'
      : `${Object.prototype.toString.call(value)}`;
  return new TypeError(
    `a coroutine yielded ${what}, which the loop cannot wait for. Use yield* with an operation, as in 'yield* sleep(10)'; ` +
      "for a promise, 'yield* spawn(() => promise)'",
  );
}
