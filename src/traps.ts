// The traps that everything else is made of: a descriptor, a time, a turn. This file is the visible heart of the design:
// a coroutine that does `yield* readable(fd)` yields "fd 9, readable" to the loop, which resumes it when the wait says so.

import { type Operation, Trap } from './operation.ts';
import { EVENT_READ, EVENT_WRITE } from './selectors.ts';
import type { Timer } from './timers.ts';
import { fileDescriptor, milliseconds, signalOf, type WaitOptions } from './validate.ts';

/**
 * Waits until a read on `fd` will not block: data, the end, or an error. Any open descriptor, owned by anyone; it is never closed here.
 * Waiters queue: one event wakes one of them, first come first served. Files that cannot be polled are always ready.
 * @throws SystemError EBADF when `fd` is not open, TypeError or RangeError when it is no descriptor number; see epoll_ctl(2)
 */
export function readable(fd: number, options?: WaitOptions): Operation<void> {
  return new Readiness(fileDescriptor(fd), EVENT_READ, signalOf(options));
}

/** Waits until a write on `fd` will not block: room, or an error. Otherwise as `readable`. */
export function writable(fd: number, options?: WaitOptions): Operation<void> {
  return new Readiness(fileDescriptor(fd), EVENT_WRITE, signalOf(options));
}

/** Waits for `ms` milliseconds, fractions included: never less, and `Infinity` until cancelled. @throws RangeError for NaN or less than 0 */
export function sleep(ms: number, options?: WaitOptions): Operation<void> {
  return new Sleep(milliseconds(ms), signalOf(options));
}

/** Lets everything else that is ready run first, descriptors included. */
export function yieldNow(): Operation<void> {
  return new Yield();
}

class Readiness extends Trap<void> {
  private readonly number: number;
  private readonly wanted: number;
  private registration: (() => void) | null = null;

  constructor(fd: number, event: number, signal: AbortSignal | undefined) {
    super(signal);
    this.number = fd;
    this.wanted = event;
  }

  protected override begin(): void {
    this.registration = this.task.loop.wait(this.number, this.wanted, this);
  }
  protected override undo(): void {
    this.registration?.();
  }
  override describe(): string {
    return `fd ${this.number} ${this.wanted === EVENT_READ ? 'IN' : 'OUT'}`;
  }
  override get fd(): number {
    return this.number;
  }
  override get event(): number {
    return this.wanted;
  }
}

class Sleep extends Trap<void> implements Timer {
  deadline = 0;
  place = -1;
  order = 0;
  private readonly ms: number;

  constructor(ms: number, signal: AbortSignal | undefined) {
    super(signal);
    this.ms = ms;
  }

  protected override begin(): void {
    const { loop } = this.task;
    loop.setTimer(this, loop.driver.now() + this.ms);
  }
  protected override undo(): void {
    this.task.loop.timers.remove(this);
  }
  expire(lateMs: number): void {
    this.task.loop.observer?.timer(this.task, lateMs);
    this.succeed(undefined);
  }
  override describe(): string {
    return `${this.ms} ms`;
  }
}

class Yield extends Trap<void> {
  protected override begin(): void {
    this.task.endShare();
    this.succeed(undefined);
  }
  protected override undo(): void {}
  override describe(): string {
    return 'its turn';
  }
}
