// So many at a time.

import { currentTask, getLoop } from '../current.ts';
import type { Operation } from '../operation.ts';
import type { Task } from '../task.ts';
import { shownAs } from '../util.ts';
import { integer, signalOf, type WaitOptions } from '../validate.ts';
import { type NameOption, named, Queued, WaitQueue } from './wait-queue.ts';

/** How many of those who hold it a description names. */
const MOST_NAMED = 3;

/** The right to go on, until it is released. */
export class Permit {
  private semaphore: Semaphore | null;
  /** Who got it; null when no loop ran. @internal */
  readonly task: Task | null;

  /** @internal */
  constructor(semaphore: Semaphore, task: Task | null) {
    this.semaphore = semaphore;
    this.task = task;
  }

  /** Gives it back: it is the next one's who waits. From anywhere, and any task. Again: changes nothing. */
  release(): void {
    const { semaphore } = this;
    this.semaphore = null;
    semaphore?.released(this);
  }

  /** `using permit = await semaphore.acquire()` releases it at the end of the block. */
  [Symbol.dispose](): void {
    this.release();
  }
}

class Acquire extends Queued<Permit> {
  override giveBack(permit: Permit): boolean {
    permit.release();
    return true;
  }
}

/**
 * Lets so many go on at a time, and the others wait, first come first served. With one permit it is a lock. Who comes later never overtakes who waits.
 * "Cancelled" means that no permit was taken.
 */
export class Semaphore {
  private readonly name: string;
  private readonly waits: WaitQueue<Acquire> = new WaitQueue(
    () => String(this),
    (wait) => {
      // Who waits is never passed by: there is no permit while anybody does.
      if (this.available > 0) wait.succeed(this.give(wait.task));
      else this.waits.push(wait);
    },
  );
  private readonly held: Set<Permit> = new Set();
  private readonly permits: number;

  /** @throws TypeError, RangeError when `permits` is not a whole number from 1 */
  constructor(permits: number, options?: NameOption) {
    this.permits = integer(permits, 'permits', 1);
    this.name = named(options);
  }

  /** How many permits nobody has. */
  get available(): number {
    return this.permits - this.held.size;
  }

  /** How many wait for one. */
  get waiting(): number {
    return this.waits.size;
  }

  /** Waits for a permit, which is to be released: `const permit = yield* semaphore.acquire(); try { ... } finally { permit.release(); }`. */
  acquire(options?: WaitOptions): Operation<Permit> {
    return new Acquire(this.waits, signalOf(options));
  }

  /** A permit without waiting, or null: there is none. */
  tryAcquire(): Permit | null {
    return this.available > 0 ? this.give(getLoop() === null ? null : currentTask()) : null;
  }

  toString(): string {
    const holders: string[] = [];
    for (const { task } of this.held) {
      if (holders.length === MOST_NAMED) break;
      holders.push(String(task ?? 'node'));
    }
    const more = this.held.size - holders.length;
    const who = holders.join(', ') + (more > 0 ? ` and ${more} more` : '');
    return `semaphore${this.name}${who === '' ? '' : ` of ${who}`}`;
  }

  private give(task: Task | null): Permit {
    const permit = new Permit(this, task);
    this.held.add(permit);
    return permit;
  }

  /** @internal */
  released(permit: Permit): void {
    this.held.delete(permit);
    const next = this.waits.shift();
    next?.succeed(this.give(next.task));
  }
}

shownAs(Semaphore, (semaphore) => String(semaphore));
