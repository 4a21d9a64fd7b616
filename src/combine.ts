// Several operations at once: all of them, or the first.

import { compose, giveBack } from './compose.ts';
import { currentTask } from './current.ts';
import { type Coroutine, type Operation, startedWait, Trap, type Waiter } from './operation.ts';
import { Scope } from './scope.ts';
import { isGenerator, isOperation, type Main, Task } from './task.ts';

/** An operation, a coroutine, or a function that makes one. */
export type Contender<T> = Operation<T> | Main<T>;

function toMain<T>(item: Contender<T>): Main<T> {
  if (typeof item === 'function' || isGenerator<T>(item)) return item;
  if (isOperation<T>(item)) return () => item;
  throw new TypeError('all() and race() take operations, coroutines, or functions that make one');
}

function check(items: unknown, name: string): void {
  if (!Array.isArray(items))
    throw new TypeError(`${name}() takes an array of operations, coroutines, or functions that make one`);
  for (const item of items) toMain(item);
}

/**
 * Runs all at once: their values in the same order. The first failure cancels the others, and operations that were done by then are undone, where that is
 * possible: a permit is released, a value or a connection is there for who asks next, one that was made is closed. Bytes that were read are gone, and so is what
 * functions and coroutines had.
 */
export function all<T>(items: ReadonlyArray<Contender<T>>): Operation<T[]> {
  check(items, 'all');
  return compose(
    'all',
    () => runAll(items),
    items,
    (values) => giveBackAll(items, values),
  );
}

function* runAll<T>(items: ReadonlyArray<Contender<T>>): Coroutine<T[]> {
  const owner = currentTask();
  if (owner.cancelled !== null) throw owner.cancelled;
  const scope = new Scope(owner);
  const tasks: Task<T>[] = [];
  const body = scope.spawn(() => valuesOf(items, tasks, scope, owner), { name: owner.name });
  yield* scope.join(false);
  try {
    return scope.conclude(body, null);
  } catch (error) {
    // The last first: what was taken of one channel comes to lie in it as it did.
    for (const [i, task] of [...tasks.entries()].reverse()) if (task.state === 'done') giveBack(items[i], task.outcome);
    throw error;
  }
}

function* valuesOf<T>(items: ReadonlyArray<Contender<T>>, tasks: Task<T>[], scope: Scope, owner: Task): Coroutine<T[]> {
  for (const item of items) tasks.push(scope.spawn(toMain(item), { name: nameOf(item, owner) }));
  const values: T[] = [];
  for (const task of tasks) values.push(yield* task);
  return values;
}

function giveBackAll<T>(items: ReadonlyArray<Contender<T>>, values: readonly T[]): boolean {
  let any = false;
  for (let i = items.length - 1; i >= 0; i--) any = giveBack(items[i], values[i]) || any;
  return any;
}

/**
 * The first to be done: its value, or its error. The losers are cancelled, and have ended when this returns. A plain wait that loses did not
 * happen: no byte is read, no connection accepted. What a loser was done with all the same is undone, where that is possible, as with `all`; something
 * disposable that a losing coroutine returned is disposed. What a task has returned that loses is its own: whoever joins it has it.
 * Winners and losers are used: to await the promise of a read that was in a race is ERR_OPERATION_USED. Read again. Whoever awaited it before hears
 * how it ended, and ERR_OPERATION_USED if it lost.
 */
export function race<T>(items: ReadonlyArray<Contender<T>>): Operation<T> {
  check(items, 'race');
  if (items.length === 0) throw new RangeError('race() of nothing would never be done');
  let won: Contender<T> | undefined;
  const noteWinner = (item: Contender<T>): void => {
    won = item;
  };
  return compose(
    'race',
    () => runRace(items, noteWinner),
    items,
    (value) => giveBack(won, value),
  );
}

function* runRace<T>(items: ReadonlyArray<Contender<T>>, noteWinner: (item: Contender<T>) => void): Coroutine<T> {
  const owner = currentTask();
  if (owner.cancelled !== null) throw owner.cancelled;
  const losers = new Scope(owner);
  const tasks = new Map<Trap<T>, { readonly task: Task<T>; readonly item: Contender<T> }>();
  const contenders = items.map((item) => {
    const trap = item instanceof Trap ? item : startedWait(item);
    if (trap !== null) return trap as Trap<T>;
    const task = item instanceof Task ? (item as Task<T>) : losers.spawn(toMain(item), { name: nameOf(item, owner) });
    const join = task.join() as Trap<T>;
    tasks.set(join, { task, item });
    return join;
  });
  try {
    const winner = yield* new First(contenders);
    // One that failed may have been cancelled with the owner, and its task is still to be.
    if (winner.succeeded) tasks.delete(winner);
    noteWinner(items[contenders.indexOf(winner)]!);
    return winner.take();
  } finally {
    for (const { task } of tasks.values()) task.cancel('another was first');
    losers.cancel('another was first');
    yield* losers.join(false);
    for (const { task, item } of tasks.values())
      if (task.state === 'done' && (task as unknown) !== item && !giveBack(item, task.outcome)) dispose(task.outcome);
  }
}

function nameOf(item: unknown, owner: Task): string {
  return (typeof item === 'function' && item.name) || owner.name;
}

function dispose(value: unknown): void {
  const dispose = (value as Disposable | null | undefined)?.[Symbol.dispose];
  if (typeof dispose === 'function') dispose.call(value);
}

/** Waits for the first of several traps, in the very moment of its settling: the others are taken back before anything else can reach them. */
class First<T> extends Trap<Trap<T>> implements Waiter {
  private readonly contenders: readonly Trap<T>[];
  private winner: Trap | null = null;

  constructor(contenders: readonly Trap<T>[]) {
    super();
    this.contenders = contenders;
  }

  protected override begin(): void {
    for (const [i, contender] of this.contenders.entries()) {
      try {
        contender.startFor(this);
      } catch (error) {
        // Used before, so not ours to take back; those that began are.
        for (const begun of this.contenders.slice(0, i)) begun.revoke(this);
        throw error;
      }
      if (this.winner === null) continue;
      // Its start may have let another win, which could not revoke what had not begun.
      if (this.winner !== contender) {
        if (contender.succeeded) contender.giveBack(contender.take());
        else contender.revoke(this);
      }
      return;
    }
  }

  settled(trap: Trap): void {
    if (this.winner !== null) return;
    this.winner = trap;
    this.undo();
    this.succeed(trap as Trap<T>);
  }

  override giveBack(winner: Trap<T>): boolean {
    return winner.succeeded && winner.giveBack(winner.take());
  }
  protected override undo(): void {
    // What is revoked tells its waiter, too: nobody wins any more.
    this.winner ??= this as Trap;
    for (const contender of this.contenders) if (contender !== this.winner) contender.revoke(this);
  }
  override describe(): string {
    return this.contenders.map((contender) => contender.describe()).join(' or ');
  }
  protected override get wakeable(): boolean {
    return false;
  }
}
