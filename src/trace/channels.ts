// The loop's events as channels of `node:diagnostics_channel`, for tools that know nothing of traces. Free while nobody subscribes: once per
// turn it is looked up whether somebody does, and only then is there an observer. So the first turn after a subscription may be missed.
//
// Deliberately absent: what would have to be computed. A message holds the task itself, and numbers that were there already.

import { type Channel, channel } from 'node:diagnostics_channel';
import type { Trap } from '../operation.ts';
import type { Task, TaskState } from '../task.ts';
import { ITS_TURN, type Observer, type Suspension } from './observer.ts';
import { OpenKind } from './record.ts';

/** Messages of `onewait:fd:ready`. `events` has EVENT_READ (1), EVENT_WRITE (2) or both. */
export interface FdReady {
  fd: number;
  events: number;
}
/** Messages of `onewait:fd:open`. */
export interface FdOpen {
  fd: number;
  how: 'accepted' | 'connected' | 'listening' | 'found';
  task: Task;
}
/** Messages of `onewait:fd:close`. */
export interface FdClose {
  fd: number;
}
/** Messages of `onewait:task:spawn`. */
export interface TaskSpawn {
  task: Task;
  parent: Task;
}
/** Messages of `onewait:task:suspend` and `onewait:task:resume`. `fd` is -1 where something else is waited for. */
export interface TaskWait {
  task: Task;
  /** 'fd 9 IN', '20 ms', 'echo#3'. */
  on: string;
  fd: number;
}
/** Messages of `onewait:task:end`. `outcome` is the value or the error. */
export interface TaskEnd {
  task: Task;
  state: TaskState;
  outcome: unknown;
}

function named<Message>(name: string): Channel<unknown, Message> {
  return channel(name) as Channel<unknown, Message>;
}

const READY: Channel<unknown, FdReady> = named('onewait:fd:ready');
const OPEN: Channel<unknown, FdOpen> = named('onewait:fd:open');
const CLOSE: Channel<unknown, FdClose> = named('onewait:fd:close');
const SPAWN: Channel<unknown, TaskSpawn> = named('onewait:task:spawn');
const SUSPEND: Channel<unknown, TaskWait> = named('onewait:task:suspend');
const RESUME: Channel<unknown, TaskWait> = named('onewait:task:resume');
const END: Channel<unknown, TaskEnd> = named('onewait:task:end');

/** Whether anybody listens to any of them. */
export function subscribed(): boolean {
  return (
    READY.hasSubscribers ||
    OPEN.hasSubscribers ||
    CLOSE.hasSubscribers ||
    SPAWN.hasSubscribers ||
    SUSPEND.hasSubscribers ||
    RESUME.hasSubscribers ||
    END.hasSubscribers
  );
}

const HOW = Object.fromEntries(Object.entries(OpenKind).map(([name, code]) => [code, name])) as Record<
  number,
  FdOpen['how']
>;

/** Publishes, and passes on to the trace if there is one. */
export class Publisher implements Observer {
  readonly next: Observer | null;

  constructor(next: Observer | null) {
    this.next = next;
  }

  turn(): void {
    this.next?.turn();
  }
  ready(fd: number, events: number): void {
    this.next?.ready(fd, events);
    READY.publish({ fd, events });
  }
  run(): void {
    this.next?.run();
  }
  spawn(task: Task, parent: Task): void {
    this.next?.spawn(task, parent);
    SPAWN.publish({ task, parent });
  }
  start(task: Task): void {
    this.next?.start(task);
  }
  made(trap: Trap): void {
    this.next?.made(trap);
  }
  suspend(task: Task, trap: Trap): void {
    if (this.next !== null) this.next.suspend(task, trap);
    else trap.suspension = { number: 1, fd: trap.fd, generation: 0, event: trap.event, settledAt: 0 };
    SUSPEND.publish({ task, on: trap.describe(), fd: trap.fd });
  }
  yields(task: Task, trap: Trap): void {
    if (this.next !== null) this.next.yields(task, trap);
    else trap.suspension = { number: 1, fd: -1, generation: 0, event: 0, settledAt: 0 };
    SUSPEND.publish({ task, on: ITS_TURN, fd: -1 });
  }
  settled(suspension: Suspension, waking: boolean): void {
    this.next?.settled(suspension, waking);
  }
  resume(task: Task, trap: Trap): void {
    const { suspension } = trap;
    if (suspension === null || suspension.number === 0) return;
    if (this.next !== null) this.next.resume(task, trap);
    else trap.suspension = null;
    // Of a descriptor's operation that had its result at once, its turn was waited for.
    const on = suspension.fd === trap.fd ? trap.describe() : ITS_TURN;
    RESUME.publish({ task, on, fd: suspension.fd });
  }
  end(task: Task, state: TaskState, outcome: unknown): void {
    this.next?.end(task, state, outcome);
    END.publish({ task, state, outcome });
  }
  timer(task: Task, lateMs: number): void {
    this.next?.timer(task, lateMs);
  }
  open(fd: number, how: (typeof OpenKind)[keyof typeof OpenKind], task: Task): void {
    this.next?.open(fd, how, task);
    OPEN.publish({ fd, how: HOW[how]!, task });
  }
  close(fd: number): void {
    this.next?.close(fd);
    CLOSE.publish({ fd });
  }
  unhandled(task: Task): void {
    this.next?.unhandled(task);
  }
  onBehalfOf(task: Task): void {
    this.next?.onBehalfOf(task);
  }
}
