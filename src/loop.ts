// The loop: what turns readiness into running coroutines. Start reading at `dispatch`.
//
// One turn:   flush and wait      below, in native code: the only call that blocks
//             wake                what the wait brought settles the traps that were registered for it
//             expire              timers that are due settle theirs
//             send                large writes that are left from the turn before leave together, and settle theirs
//             run                 the tasks whose traps were settled go on to their next trap
//             send, run           once more, for the large writes that these have queued
//             prepare             when to wake up next, whether there is anything to wait for
//             send, run           when V8 has run the async functions that were resumed, for theirs
//
// Invariants:
// - It does no I/O of its own and knows no socket: streams and listeners are descriptors that are told.
// - An event carries (fd, generation) and meets a descriptor only if both are current. Who is told may close anything, also what is ready
//   in the same batch.
// - Who waits on a descriptor is woken with an error before it is closed.
// - Interest is taken back lazily: readiness that nobody waits for removes it, so a server that always reads again never calls epoll_ctl.
// - Nobody starves: a turn runs what was ready when it began, and once more what its large writes made so; a task that never has to wait is sent to the back after its share of operations.

import { currentTask, isStepping, runAs } from './current.ts';
import { COMPLETION, type Driver, MAX_SENDS, READ_PAGE, READY } from './driver.ts';
import { ClosedError, type SystemError } from './errors.ts';
import type { Trap } from './operation.ts';
import { EVENT_EDGE, EVENT_READ, EVENT_WRITE, type Selector } from './selectors.ts';
import { type Main, Task, type TaskGroup, type TaskState } from './task.ts';
import { type Timer, TimerHeap } from './timers.ts';
import { subscribed } from './trace/channels.ts';
import type { Observer } from './trace/observer.ts';
import { OpenKind } from './trace/record.ts';
import { observe } from './trace/tracer.ts';
import { inspect, remove, SOON } from './util.ts';

export interface Runnable {
  run(): void;
}

/** A write that is too much to be copied: it leaves with others, and waits until then. */
export interface QueuedSend {
  readonly fd: number;
  readonly task: Task;
  /** The time has come: what is to be sent, or null when there is nothing any more, or nothing yet. */
  due(): Uint8Array | null;
  /** So many of those bytes were taken; or it is -errno. */
  sent(result: number): void;
}

/**
 * A descriptor that the loop watches, and who waits for it. A stream or a listener of ours is one, and so is what becomes a stream: they are told
 * what happens on it. All others only have waiters.
 */
export class Descriptor {
  /** Its number, also when it is closed. @internal */
  readonly number: number;
  /** Tells it from earlier ones of the same number; 0 while it is not registered with the selector. @internal */
  generation = 0;
  /** What it is registered for. @internal */
  interest = 0;
  /** Tasks in `readable(fd)` and `writable(fd)`, first in first out: one event wakes one of them. Most descriptors never have any. @internal */
  waiters: { readonly readers: Trap<void>[]; readonly writers: Trap<void>[] } | null = null;

  constructor(number: number) {
    this.number = number;
  }

  /** Whether something of ours closes it. @internal */
  get owned(): boolean {
    return false;
  }
  /** Whether its number is for another of ours to take over, with whoever waits: it has become a stream's. @internal */
  get handsOver(): boolean {
    return false;
  }
  /** Whether it is a listening socket. @internal */
  get listens(): boolean {
    return false;
  }
  /** Whose wait a change of interest concerns; null when nobody of its own waits. @internal */
  get actingFor(): Task | null {
    return null;
  }

  /** Readable, and no read was armed. False: nobody here waits for that. @internal */
  onReadable(): boolean {
    return false;
  }
  /** Writable. False: nobody here waits for that. @internal */
  onWritable(): boolean {
    return false;
  }
  /** An armed read is done: bytes in `memory` from `offset`; 0 is the end; negative is -errno. @internal */
  onRead(_result: number, _memory: ArrayBuffer, _offset: number): void {}
  /** It was closed behind our back, and its number is another's now: it must not touch that. @internal */
  onLost(): void {}
  /** A queued write was not taken whole: `written` bytes were, or it is -errno. `rest` is memory to be copied from at once. @internal */
  onUnwritten(_written: number, _rest: Uint8Array): void {}
}

export class Loop {
  readonly driver: Driver;
  readonly selector: Selector;
  readonly timers: TimerHeap = new TimerHeap();
  /** Whether `runBlocking` drives it. */
  readonly blocking: boolean;
  /** On whose behalf code of Node's own runs: it is no coroutine, cannot be cancelled and never ends. */
  readonly guest: Task;
  /** Who looks on; null when nobody does. */
  observer: Observer | null = null;
  /** Whether the observer is one of those who subscribed to its channels. */
  publishing = false;
  /** Called at the end of a turn in which nothing ran and nothing is ready: what was woken before has run to its next wait. */
  readonly atRest: Set<() => void> = new Set();
  /** The runs that it drives. */
  readonly runs: Set<TaskGroup> = new Set();
  /** A small write that was only copied, and is over by the time its generator goes on: another generator's can be made of it. */
  spareWrite: QueuedSend | null = null;
  /** Whether events are being handed out. */
  waking = false;

  /** By number: the kernel hands out the lowest that is free, so the table is dense. */
  private readonly descriptors: (Descriptor | undefined)[] = [];
  // Two queues that swap, kept at their size: a slot is written once and emptied once, and nothing is allocated.
  private ready: (Runnable | null)[] = [];
  private running: (Runnable | null)[] = [];
  private readyCount = 0;
  private failures: Task[] = [];
  private taskIds = 0;
  private holds = 0;
  private referenced = false;
  private hosted = false;
  private ranSome = false;
  /** How many waits the turn has ended. */
  private woken = 0;
  private sends: QueuedSend[] = [];
  /** Whether V8 has been asked, in this turn, to call `sendAndRun` when it has run the async functions of the batch. */
  private sendsSoon = false;

  constructor(driver: Driver, blocking: boolean) {
    this.driver = driver;
    this.selector = driver.selector;
    this.blocking = blocking;
    const group: TaskGroup = {
      tasks: new Set(),
      ended: () => {},
      get root(): TaskGroup {
        return group;
      },
    };
    this.guest = new Task(this, 0, () => new Promise<never>(() => {}), 'node', group);
  }

  // --- one turn -----------------------------------------------------------------------------------------------------------

  /** What follows a wait. Called by the host once per batch, and by `turn`. */
  readonly dispatch = (): void => {
    this.ranSome = false;
    this.woken = 0;
    this.sendsSoon = false;
    this.waking = true;
    if (subscribed() !== this.publishing) observe(this);
    this.observer?.turn();
    try {
      this.wake();
      this.expire();
      this.waking = false;
      this.sendQueued();
      this.observer?.run();
      this.run();
      this.sendAndRun();
    } finally {
      this.waking = false;
      this.prepare();
    }
  };

  private wake(): void {
    const { driver } = this;
    this.takeUnwritten();
    const { events, completions } = driver;
    let failure: { readonly error: unknown } | null = null;
    for (let i = 0, at = 0; i < completions; i++, at += COMPLETION) {
      try {
        this.complete(events, at);
      } catch (error) {
        // What others have been sent must not be lost with it.
        failure ??= { error };
      }
    }
    driver.refill();
    if (failure !== null) throw failure.error;
  }

  private complete(events: Int32Array, at: number): void {
    const { driver } = this;
    const descriptor = this.descriptors[events[at + 1]!];
    if (descriptor === undefined || descriptor.generation !== events[at + 2]) return;
    const kind = events[at]!;
    if (this.observer !== null) {
      this.observer.ready(descriptor.number, kind === READY ? events[at + 3]! : EVENT_READ);
      // Who subscribed to its channel may have closed the descriptor.
      if (descriptor.generation !== events[at + 2]) return;
    }
    if (kind === READY) this.wakeReady(descriptor, events[at + 3]!);
    else {
      descriptor.onRead(events[at + 3]!, kind === READ_PAGE ? driver.page : driver.slab, events[at + 4]!);
      this.wakeOne(descriptor.waiters?.readers);
    }
  }

  private wakeReady(descriptor: Descriptor, events: number): void {
    this.observer?.onBehalfOf(descriptor.actingFor ?? this.guest);
    let unwanted = 0;
    if (events & EVENT_READ && !this.wakeOne(descriptor.waiters?.readers) && !descriptor.onReadable())
      unwanted |= EVENT_READ | EVENT_EDGE;
    if (events & EVENT_WRITE && !this.wakeOne(descriptor.waiters?.writers) && !descriptor.onWritable())
      unwanted |= EVENT_WRITE;
    if (unwanted !== 0 && descriptor.generation !== 0) this.narrow(descriptor, descriptor.interest & ~unwanted);
  }

  private wakeOne(waiters: Trap<void>[] | undefined): boolean {
    const first = waiters?.shift();
    first?.succeed(undefined);
    return first !== undefined;
  }

  private expire(): void {
    if (this.timers.size === 0) return;
    const now = this.driver.now();
    for (let timer = this.timers.takeDue(now); timer !== undefined; timer = this.timers.takeDue(now))
      timer.expire(now - timer.deadline);
  }

  private run(): void {
    // Whatever becomes ready meanwhile has its turn after the next wait.
    const batch = this.ready;
    const count = this.readyCount;
    this.ready = this.running;
    this.running = batch;
    this.readyCount = 0;
    this.woken += count;
    for (let i = 0; i < count; i++) {
      const runnable = batch[i]!;
      batch[i] = null;
      runnable.run();
    }
    if (count > 0) this.ranSome = true;
  }

  private prepare(): void {
    const { driver } = this;
    const busy = this.readyCount > 0 || this.sends.length > 0;
    // An async function that was just resumed goes on when this batch has returned: look again before letting go of the process.
    const idle = !busy && this.holds === 0 && !this.pending;
    const again = this.ranSome && (idle || this.atRest.size > 0);
    driver.setDeadline(this.timers.next);
    driver.setRunnable(busy || again);
    if (idle && !again) this.reference(false);
    if (!busy && !this.ranSome) for (const check of this.atRest) check();
    if (this.failures.length > 0) this.reportFailures();
  }

  // --- tasks --------------------------------------------------------------------------------------------------------------

  spawn<T>(main: Main<T>, name: string | undefined, group: TaskGroup): Task<T> {
    const task = new Task<T>(this, ++this.taskIds, main, name, group);
    group.tasks.add(task as unknown as Task);
    this.observer?.spawn(task as unknown as Task, currentTask());
    this.enqueue(task);
    return task;
  }

  /** The tasks that have not ended, parents before those of their scopes. */
  *tasks(): Generator<Task, void, undefined> {
    for (const run of this.runs) yield* withChildren(run.tasks);
  }

  /** The descriptors that somebody of ours waits for, or could. */
  watched(): Descriptor[] {
    return this.descriptors.filter((descriptor) => descriptor !== undefined);
  }

  /** To be run in the next turn. */
  enqueue(runnable: Runnable): void {
    this.ready[this.readyCount++] = runnable;
    if (this.readyCount > 1) return;
    this.driver.setRunnable(true);
    this.reference(true);
  }

  /**
   * Resolves the promise of an awaited trap. V8 runs what awaits it when the batch is over, so while events are handed out the ready queue
   * would be a detour. At other times it is taken, or tasks that wake each other would keep the batch from ever being over.
   */
  resolve(trap: Runnable): void {
    if (!this.waking) {
      this.enqueue(trap);
      return;
    }
    this.ranSome = true;
    this.woken++;
    trap.run();
  }

  setTimer(timer: Timer, deadline: number): void {
    this.timers.add(timer, deadline);
    if (this.timers.next === deadline) this.driver.setDeadline(deadline);
  }

  /** Something that a descriptor or a timer can end is waited for: the process stays. */
  hold(): void {
    if (this.holds++ === 0) this.reference(true);
  }

  release(): void {
    this.holds--;
  }

  /** Nothing has run, nothing is ready, and no descriptor or timer can make it so. */
  get stuck(): boolean {
    return !this.ranSome && this.holds === 0 && this.readyCount === 0 && !this.pending;
  }

  /** A task has ended. Whether anybody cares for its failure is known when the turn is over. */
  ended(task: Task, status: TaskState, result: unknown): void {
    this.observer?.end(task, status, result);
    if (status === 'failed') this.failures.push(task);
    // An async function ends between turns. What follows from it, a report or the end of its run, is due in the next, which must come.
    this.driver.setRunnable(true);
    this.reference(true);
  }

  private reportFailures(): void {
    // One by one: a handler that throws must not cost the others theirs.
    for (let task = this.failures.shift(); task !== undefined; task = this.failures.shift()) {
      const fd = task.letGo(!task.wasJoined);
      if (task.wasJoined) continue;
      task.adopt();
      if (task.group.onTaskError === undefined) this.observer?.unhandled(task);
      if (task.group.onTaskError === undefined) process.stderr.write(failureReport(task, fd));
      else task.group.onTaskError(task.outcome, task);
    }
  }

  // --- descriptors --------------------------------------------------------------------------------------------------------

  /** Takes charge of a descriptor of ours. */
  attach(descriptor: Descriptor): void {
    // The number may have been closed behind our back while somebody waited on it.
    const stale = this.descriptors[descriptor.number];
    if (stale?.handsOver) {
      descriptor.generation = stale.generation;
      descriptor.interest = stale.interest;
      descriptor.waiters = stale.waiters;
    } else if (stale !== undefined) {
      // What it has queued would go to the new file.
      this.driver.drop(stale.number);
      this.detach(stale);
      stale.onLost();
    }
    this.descriptors[descriptor.number] = descriptor;
  }

  /** Wakes who waits on a descriptor with an error and forgets it. Its owner may close it then. */
  detach(descriptor: Descriptor): void {
    // Queued submissions name the number, which may be somebody else's in a moment.
    this.flush();
    this.narrow(descriptor, 0);
    // It may be somebody else's already, if it was closed behind our back.
    if ((this.descriptors[descriptor.number] ?? descriptor) === descriptor) {
      this.driver.forget(descriptor.number);
      this.descriptors[descriptor.number] = undefined;
    }
    this.expel(descriptor);
  }

  /** What they wait on is gone. */
  private expel(descriptor: Descriptor): void {
    const { waiters } = descriptor;
    if (waiters === null) return;
    for (const traps of [waiters.readers, waiters.writers]) {
      for (const trap of traps.splice(0))
        trap.fail(new ClosedError(`fd ${descriptor.number} was closed while ${trap.task} waited on it`));
    }
  }

  /**
   * Registers interest of the owner. Costs nothing while it is registered. With EVENT_EDGE new readiness is enough, as long as nobody asks
   * for more: then the turn remembers it for armed reads, and nothing else hears of it. @throws SystemError of epoll_ctl (ENOMEM, ENOSPC)
   */
  watch(descriptor: Descriptor, events: number): void {
    let interest = descriptor.interest | events;
    if (!(events & EVENT_EDGE) || interest & EVENT_WRITE) interest &= ~EVENT_EDGE;
    if (interest === descriptor.interest) return;
    descriptor.generation = this.selector.watch(descriptor.number, interest, descriptor);
    descriptor.interest = interest;
  }

  /** Takes interest back. */
  narrow(descriptor: Descriptor, interest: number): void {
    if (interest === descriptor.interest) return;
    if (interest !== 0) {
      try {
        descriptor.generation = this.selector.watch(descriptor.number, interest, descriptor);
        descriptor.interest = interest;
        return;
      } catch {
        // It was closed behind our back, perhaps by whoever was woken just before. The batch goes on without it.
        this.expel(descriptor);
      }
    }
    descriptor.interest = 0;
    this.selector.unregister(descriptor.number);
    descriptor.generation = 0;
    if (!descriptor.owned && !descriptor.waiters?.readers.length && !descriptor.waiters?.writers.length)
      this.descriptors[descriptor.number] = undefined;
  }

  /** Queues a task for one event of a descriptor that may be anybody's. Returns its undo. @throws SystemError EBADF */
  wait(fd: number, event: number, trap: Trap<void>): () => void {
    let descriptor = this.descriptors[fd];
    if (descriptor === undefined) {
      descriptor = new Descriptor(fd);
      this.observer?.open(fd, OpenKind.found, trap.task);
      this.watch(descriptor, event);
      this.descriptors[fd] = descriptor;
    } else if (descriptor.owned || descriptor.interest === 0) {
      this.watch(descriptor, event);
    } else {
      // Not ours: it may have been closed and opened anew since the last wait, and only the kernel knows. One epoll_ctl revalidates it.
      const interest = descriptor.interest | event;
      let generation: number;
      try {
        generation = this.selector.watch(fd, interest, descriptor);
      } catch (error) {
        if ((error as SystemError).code === 'EBADF') this.detach(descriptor);
        throw error;
      }
      // Who waited until now waited for another file.
      if (generation !== descriptor.generation) this.expel(descriptor);
      descriptor.generation = generation;
      descriptor.interest = interest;
    }
    descriptor.waiters ??= { readers: [], writers: [] };
    const waiters = event === EVENT_READ ? descriptor.waiters.readers : descriptor.waiters.writers;
    waiters.push(trap);
    return () => remove(waiters, trap);
  }

  // --- queued reads and writes --------------------------------------------------------------------------------------------

  /** Reads for the suspended reader when its descriptor is next ready: its `onRead` is told. */
  submitRead(descriptor: Descriptor, length: number, task: Task): void {
    if (!(descriptor.interest & EVENT_READ)) this.watch(descriptor, EVENT_READ | EVENT_EDGE);
    if (this.driver.submitRead(descriptor.number, length, task.id)) return;
    this.flush();
    this.driver.submitRead(descriptor.number, length, task.id);
  }

  /** Nobody reads any more: what comes stays with the kernel. */
  disarm(descriptor: Descriptor): void {
    if (!this.driver.submitRead(descriptor.number, 0, 0)) {
      this.flush();
      this.driver.submitRead(descriptor.number, 0, 0);
    }
  }

  /** Which registration of a number is current; 0 when there is none. */
  generationOf(fd: number): number {
    return this.descriptors[fd]?.generation ?? 0;
  }

  /**
   * Copies a small write, to leave with the next turn. False when there was no room: what was queued has left then, but perhaps not whole, and
   * what is left comes before this.
   */
  submitWrite(descriptor: Descriptor, data: Uint8Array, task: Task): boolean {
    if (this.driver.submitWrite(descriptor.number, data, task.id)) return true;
    this.flush();
    return false;
  }

  /**
   * Queues a large write to leave when all tasks of this turn have run. A system call amid JavaScript is dear, for it costs the processor its
   * TLB entries (native/turn.h), but a turn of its own is dearer: false when the turn has woken nobody else whose writes could leave with it.
   */
  submitSend(send: QueuedSend): boolean {
    if (this.woken < 2 || this.sends.length === MAX_SENDS) return false;
    this.sends.push(send);
    this.driver.setRunnable(true);
    if (!this.sendsSoon && !isStepping()) {
      this.sendsSoon = true;
      runAs(this.guest, () => void SOON.then(this.sendAndRun));
    }
    return true;
  }

  /**
   * Large writes leave before anything else is read, while the processor has them in its caches, and whoever waited for them goes on. Once after the
   * generators of a turn and once after its async functions, or tasks that only write would keep it from being over.
   */
  private readonly sendAndRun = (): void => {
    if (this.sends.length === 0) return;
    this.flush();
    this.run();
  };

  /** Whether reads or writes are queued. */
  private get pending(): boolean {
    return this.driver.pending || this.sends.length > 0;
  }

  /** Sends what is queued now. */
  flush(): void {
    if (this.driver.pending) {
      this.driver.flush();
      this.takeUnwritten();
    }
    this.sendQueued();
  }

  private sendQueued(): void {
    const queued = this.sends;
    if (queued.length === 0) return;
    this.sends = [];
    const leaving: QueuedSend[] = [];
    const buffers: Uint8Array[] = [];
    for (const send of queued) {
      const data = send.due();
      if (data === null) continue;
      leaving.push(send);
      buffers.push(data);
    }
    const results = this.driver.send(leaving, buffers);
    for (let i = 0; i < leaving.length; i++) leaving[i]!.sent(results[i]!);
  }

  /** Sends what is queued for this descriptor, so that what follows cannot overtake it. */
  flushBefore(fd: number): void {
    if (this.driver.hasWrite(fd)) this.flush();
  }

  private takeUnwritten(): void {
    const { unwrittenEvents, unwritten, out } = this.driver;
    for (let i = 0, at = 0; i < unwritten; i++, at += COMPLETION) {
      const written = unwrittenEvents[at + 3]!;
      const offset = unwrittenEvents[at + 4]!;
      const rest = out.subarray(offset + Math.max(written, 0), offset + unwrittenEvents[at + 5]!);
      this.descriptors[unwrittenEvents[at + 1]!]?.onUnwritten(written, rest);
    }
    this.driver.clearUnwritten();
  }

  // --- who drives it ------------------------------------------------------------------------------------------------------

  /** Lets Node's own loop drive it. */
  start(): void {
    if (this.hosted) return;
    this.driver.start(this.dispatch);
    this.hosted = true;
    this.referenced = false;
    this.prepare();
    this.reference(true);
  }

  /** Gives the blocking call back to libuv. */
  stop(): void {
    this.observer?.onBehalfOf(this.guest);
    this.flush();
    this.reference(false);
    this.hosted = false;
    this.driver.stop();
  }

  private reference(wanted: boolean): void {
    if (!this.hosted || wanted === this.referenced) return;
    this.referenced = wanted;
    if (wanted) this.driver.ref();
    else this.driver.unref();
  }
}

function* withChildren(tasks: Iterable<Task>): Generator<Task, void, undefined> {
  // They may lie deeper than the stack is.
  const levels = [tasks[Symbol.iterator]()];
  while (levels.length > 0) {
    const { done, value: task } = levels.at(-1)!.next();
    if (done) {
      levels.pop();
      continue;
    }
    yield task;
    levels.push(task.children());
  }
}

function failureReport(task: Task, lastFd: number): string {
  const error = task.outcome;
  let fd: unknown = lastFd;
  let what: string;
  try {
    fd = (error as { fd?: unknown } | null | undefined)?.fd ?? lastFd;
    what = error instanceof Error ? (error.stack ?? String(error)) : inspect(error);
  } catch {
    what = 'a value that cannot be shown';
  }
  return `onewait: task ${task} failed${typeof fd === 'number' && fd >= 0 ? ` on fd ${fd}` : ''}: ${what}\n`;
}
