// Scopes: tasks that cannot outlive the code that started them. What trio calls a nursery together with its cancel scope.
//
// The body of a scope is a task of its own, in both styles alike. An async function may open scopes side by side (Promise.all), and a stack
// of scopes per task, as trio has it, would then mix them up.
//
// - A scope is left when all its tasks have ended. A task that fails cancels the others. One error is thrown as it is, several as an
//   AggregateError. `Cancelled` thrown because of the scope's own cancellation ends here.
// - Cancellation from outside goes down to all tasks of the scope, except through a shield.

import { compose, giveBack } from './compose.ts';
import { currentTask } from './current.ts';
import { OnewaitError, TimeoutError } from './errors.ts';
import { type Coroutine, type Operation, Trap } from './operation.ts';
import { checkMain, type Main, type Task, type TaskGroup } from './task.ts';
import type { Timer } from './timers.ts';
import { milliseconds } from './validate.ts';

/** What runs in a scope: a function of it that makes a coroutine, a promise or an operation. */
export type ScopeBody<T> = (scope: Scope) => Coroutine<T> | PromiseLike<T>;

/** A nursery: `spawn` starts tasks in it, `cancel` ends them all, `deadline` does so by itself. */
export class Scope implements TaskGroup {
  /** @internal */
  readonly tasks: Set<Task> = new Set();
  /** @internal */
  readonly root: TaskGroup;

  private readonly owner: Task;
  private readonly errors: unknown[] = [];
  private readonly timer: Timer;
  private cancellation: { readonly reason: unknown } | null = null;
  private expired = false;
  /** Nothing can happen in it any more. */
  private left = false;
  private children: Children | null = null;

  /** @internal */
  constructor(owner: Task) {
    this.owner = owner;
    this.root = owner.group.root;
    const expire = (): void => {
      owner.loop.release();
      this.expired = true;
      this.cancel('the deadline has passed');
    };
    this.timer = { deadline: Number.POSITIVE_INFINITY, place: -1, order: 0, expire };
  }

  /** When the scope cancels itself, in milliseconds on the clock of `performance.now()`; Infinity: never. It can be moved while the scope runs. */
  get deadline(): number {
    return this.timer.deadline;
  }

  set deadline(deadline: number) {
    milliseconds(deadline, 'deadline');
    const { loop } = this.owner;
    this.clearDeadline();
    if (deadline === Number.POSITIVE_INFINITY || this.left) return;
    loop.hold();
    loop.setTimer(this.timer, deadline);
  }

  /** Whether `cancel` was called, by a deadline or a failed task too. */
  get cancelled(): boolean {
    return this.cancellation !== null;
  }

  /** Starts a task in the scope. Its failure is the scope's: it need not be joined. @throws OnewaitError ERR_SCOPE_ENDED when it has been left */
  spawn<T>(main: Main<T>, options?: { name?: string | undefined }): Task<T> {
    checkMain(main);
    if (this.left) throw new OnewaitError('ERR_SCOPE_ENDED', 'the scope has been left: nothing can be spawned in it');
    const task = this.owner.loop.spawn(main, options?.name, this);
    if (this.cancellation !== null) task.cancel(this.cancellation.reason);
    return task;
  }

  /** Cancels every task of the scope, and those that are yet to be spawned in it. */
  cancel(reason?: unknown): void {
    this.cancellation ??= { reason };
    for (const task of [...this.tasks]) task.cancel(reason);
  }

  /** @internal */
  ended(task: Task): void {
    if (task.state === 'failed') {
      task.adopt();
      // A task that joined another fails with the same error: that is one failure.
      if (!this.errors.includes(task.outcome)) this.errors.push(task.outcome);
      this.cancel(task.outcome);
    }
    if (this.tasks.size === 0) this.children?.succeed(undefined);
  }

  /** Waits until every task has ended. Cancelling the waiter cancels the tasks, unless they are shielded from it. @internal */
  join(shielded: boolean): Trap<void> {
    this.children = new Children(this, shielded);
    return this.children;
  }

  /** What came of it: errors if there were any, or the outcome of the body. @internal */
  conclude<T>(body: Task<T>, timeout: number | null): T {
    this.clearDeadline();
    this.left = true;
    if (this.errors.length === 1) throw this.errors[0];
    if (this.errors.length > 1) throw new AggregateError(this.errors, `${this.errors.length} tasks of a scope failed`);
    if (body.state === 'done') return body.outcome as T;
    if (this.expired && timeout !== null) throw new TimeoutError(timeout);
    if (this.owner.cancelled !== null) throw this.owner.cancelled;
    if (this.cancellation !== null) return undefined as T;
    throw body.outcome;
  }

  private clearDeadline(): void {
    const { loop } = this.owner;
    if (this.timer.place < 0) return;
    loop.timers.remove(this.timer);
    loop.release();
    this.timer.deadline = Number.POSITIVE_INFINITY;
  }
}

class Children extends Trap<void> {
  private readonly scope: Scope;
  private readonly shield: boolean;

  constructor(scope: Scope, shield: boolean) {
    super();
    this.scope = scope;
    this.shield = shield;
  }

  protected override begin(): void {
    if (this.scope.tasks.size === 0) this.succeed(undefined);
  }
  protected override undo(): void {}
  override describe(): string {
    return [...this.scope.tasks].join(' and ') || 'a scope';
  }
  protected override get wakeable(): boolean {
    return false;
  }
  override get foreign(): boolean {
    return [...this.scope.tasks].every((task) => task.foreign);
  }
  override get within(): Iterable<Task> {
    return this.scope.tasks;
  }
  protected override get shielded(): boolean {
    return true;
  }
  override cancel(error: unknown): void {
    if (!this.shield) this.scope.cancel(error);
  }
}

function* run<T>(body: ScopeBody<T>, timeout: number | null, shielded: boolean): Coroutine<T> {
  const owner = currentTask();
  if (owner.cancelled !== null && !shielded) throw owner.cancelled;
  const scope = new Scope(owner);
  if (timeout !== null) scope.deadline = owner.loop.driver.now() + timeout;
  const task = scope.spawn(() => body(scope), { name: owner.name });
  yield* scope.join(shielded);
  return scope.conclude(task, timeout);
}

function checkBody(body: unknown): void {
  if (typeof body !== 'function')
    throw new TypeError('the body must be a function that makes a coroutine, a promise or an operation');
}

/**
 * Runs `body` with a scope, and is done when it and everything spawned in the scope have ended: the value of `body`, or undefined if the
 * scope was cancelled by its own `cancel` or deadline.
 * @throws the error of a task that failed; AggregateError when several did
 */
export function scope<T>(body: ScopeBody<T>): Operation<T> {
  checkBody(body);
  return compose('scope', () => run(body, null, false));
}

/** Runs `body` for at most `ms` milliseconds; its scope's deadline can be moved. @throws TimeoutError when it was cancelled for being late */
export function timeout<T>(ms: number, body: ScopeBody<T> | Operation<T>): Operation<T> {
  milliseconds(ms);
  const make = typeof body === 'function' ? body : (): Operation<T> => body;
  return compose(
    'timeout',
    () => run(make, ms, false),
    [body],
    (value) => giveBack(body, value),
  );
}

/** Runs `body` to its end, whatever is cancelled around it: for clean-up that has to wait. */
export function shield<T>(body: () => Coroutine<T> | PromiseLike<T>): Operation<T> {
  checkBody(body);
  return compose('shield', () => run(body, null, true));
}
