// What the loop, its tasks and the I/O objects tell whoever looks on. They do so at these points and no others; `loop.observer` is null, and a point costs
// one comparison, while nobody does.

import type { Trap } from '../operation.ts';
import type { Task, TaskState } from '../task.ts';
import type { OpenKind } from './record.ts';

/** What is known of a wait while it lasts: the descriptor may be closed when it is over. */
export interface Suspension {
  /** Which wait of its loop it is: 1, 2, 3, ...; 0 while it has not begun. */
  readonly number: number;
  readonly fd: number;
  readonly generation: number;
  readonly event: number;
  /** When what was waited for happened; ns since the trace began. */
  settledAt: number;
}

/** What a task waits for that gives way to others, for people. */
export const ITS_TURN = 'its turn';

export interface Observer {
  /** A turn begins: what was waited for is there. */
  turn(): void;
  /** A descriptor is ready: EVENT_READ, EVENT_WRITE or both. */
  ready(fd: number, events: number): void;
  /** Events have been handed out, and tasks are run now. */
  run(): void;
  spawn(task: Task, parent: Task): void;
  /** A task begins. */
  start(task: Task): void;
  /**
   * An async function has made a trap, and most likely awaits it at once. V8 says so only when others that can go on have done so: then `suspend`
   * comes, but this is when it stopped running.
   */
  made(trap: Trap): void;
  /** A task waits for `trap`, and marks it with a suspension. */
  suspend(task: Task, trap: Trap): void;
  /** A task could go on, and waits for its turn: `trap` had its result at once. Marked as above. */
  yields(task: Task, trap: Trap): void;
  /** What a task waited for has happened, and it is runnable; `waking` while events are handed out. */
  settled(suspension: Suspension, waking: boolean): void;
  /** A task goes on. A trap whose suspension has not begun had its result at once: then there is nothing to tell. */
  resume(task: Task, trap: Trap): void;
  end(task: Task, state: TaskState, outcome: unknown): void;
  /** A timer of a task has fired, so many milliseconds late. */
  timer(task: Task, lateMs: number): void;
  open(fd: number, how: (typeof OpenKind)[keyof typeof OpenKind], task: Task): void;
  close(fd: number): void;
  /** A task has failed, and nobody joined it. */
  unhandled(task: Task): void;
  /** System calls that follow are made on behalf of this task. */
  onBehalfOf(task: Task): void;
}
