// Operations made of operations: a generator that waits in several steps, as one thing to `yield*` or `await`.

import { currentTask, setStepping } from './current.ts';
import { OnewaitError } from './errors.ts';
import type { Runnable } from './loop.ts';
import {
  type Coroutine,
  type Discardable,
  lendStarted,
  type Operation,
  Trap,
  takeBackStarted,
  type Waiter,
} from './operation.ts';
import type { Task } from './task.ts';
import { shownAs } from './util.ts';

const NONE: readonly unknown[] = [];

/**
 * Makes a lazy, single-use operation of what `steps` returns. With `yield*` it is delegated to and costs nothing of its own; with `await` it is
 * driven here on behalf of the task that made it. `parts` are the operations that it was made of, if any; `undo` undoes it for somebody who did not get its
 * value, where that is possible: whether it was.
 *
 * `steps` must not be a generator function that is made for each operation. V8 makes one a prototype and a hidden class when it is called, in the
 * old generation, and those keep it and all that it closes over from being collected as young garbage. An arrow function has neither.
 */
export function compose<T>(
  what: string,
  steps: () => Coroutine<T>,
  parts: readonly unknown[] = NONE,
  undo: ((value: T) => boolean) | null = null,
): Operation<T> {
  return new Composite(what, steps, parts, undo);
}

/** Undoes an operation that was done for somebody who did not get its value, where that is possible: whether it was. */
export function giveBack(operation: unknown, value: unknown): boolean {
  if (operation instanceof Composite) return operation.giveBack(value);
  return operation instanceof Trap && operation.revocable && operation.giveBack(value);
}

/** Operations that are not needed in the end, because it was over before they began: whoever made them did not forget them. */
function discard(operations: readonly unknown[]): void {
  for (const operation of operations) {
    (operation as Partial<Discardable>).discard?.();
    takeBackStarted(operation);
  }
}

class Composite<T> implements Operation<T>, Discardable {
  readonly what: string;
  private readonly task: Task;
  private readonly parts: readonly unknown[];
  private readonly undo: ((value: T) => boolean) | null;
  private steps: (() => Coroutine<T>) | null;

  constructor(
    what: string,
    steps: () => Coroutine<T>,
    parts: readonly unknown[],
    undo: ((value: T) => boolean) | null,
  ) {
    this.what = what;
    this.steps = steps;
    this.parts = parts;
    this.undo = undo;
    for (const part of parts) {
      if (part instanceof Trap) part.lend();
      else lendStarted(part);
    }
    this.task = currentTask();
    this.task.unused++;
  }

  /** @internal */
  discard(): void {
    if (this.steps === null) return;
    this.steps = null;
    this.task.unused--;
    discard(this.parts);
  }

  /** @internal */
  giveBack(value: T): boolean {
    return this.undo?.(value) ?? false;
  }

  [Symbol.iterator](): Iterator<Trap, T, unknown> {
    return this.begin();
  }

  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    return new Promise<T>((resolve, reject) => new Drive(this.task, this.begin(), resolve, reject).run()).then(
      onFulfilled,
      onRejected,
    );
  }

  private *take(steps: Coroutine<T>): Coroutine<T> {
    try {
      return yield* steps;
    } finally {
      discard(this.parts);
    }
  }

  private begin(): Coroutine<T> {
    const { steps } = this;
    if (steps === null) {
      throw new OnewaitError(
        'ERR_OPERATION_USED',
        `this operation (${this.what}) was already waited for; call the method again for another`,
      );
    }
    this.steps = null;
    this.task.unused--;
    return this.parts.length === 0 ? steps() : this.take(steps());
  }
}

shownAs(Composite, (composite) => `Operation ${composite.what}`);

/** Steps a generator for somebody who awaits it. */
class Drive<T> implements Waiter, Runnable {
  private readonly task: Task;
  private readonly generator: Coroutine<T>;
  private readonly resolve: (value: T) => void;
  private readonly reject: (error: unknown) => void;
  private taken: Trap | null = null;

  constructor(task: Task, generator: Coroutine<T>, resolve: (value: T) => void, reject: (error: unknown) => void) {
    this.task = task;
    this.generator = generator;
    this.resolve = resolve;
    this.reject = reject;
  }

  settled(trap: Trap): void {
    this.taken = trap;
    this.task.loop.enqueue(this);
  }

  run(): void {
    if (this.taken !== null) {
      this.task.loop.observer?.resume(this.task, this.taken);
      this.taken = null;
    }
    const before = setStepping(this.task);
    let result: IteratorResult<Trap, T>;
    try {
      result = this.generator.next();
    } catch (error) {
      this.reject(error);
      return;
    } finally {
      setStepping(before);
    }
    if (result.done) this.resolve(result.value);
    else result.value.attach(this);
  }
}
