// From records to spans: what each descriptor and each task did, and for how long. What `summary`, `timeline` and the exports show.
//
// A task is suspended, then runnable (what it waited for has happened), then running, until it is suspended again. An async function is resumed
// by V8, after the batch in which its promise was resolved: so a task runs from its resume, or from when the task before it in the same
// thread stopped, if that is later.
//
// Memory is that of what is open: a track is forgotten when its descriptor is closed or its task ends.

import { Names, threadName } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { Kind, SYSCALLS, WaitKind } from './record.ts';

/** A row of the timeline: the one blocking call of a thread, a descriptor from open to close, or a task. */
export interface Track {
  /** 1, 2, 3, ... in order of appearance. */
  readonly id: number;
  readonly kind: 'wait' | 'fd' | 'task';
  readonly thread: number;
  /** 'wait', 'fd 9 tcp 127.0.0.1:41514', 'echo#3'; of workers with 'worker 3: ' before it. A descriptor's may change: it is made, then named. */
  name: string;
  /** -1 for what is no descriptor. */
  readonly fd: number;
  /** 0 for what is no task. */
  readonly task: number;
  /** When it appeared; ns since the trace began. */
  readonly begin: number;
}

/** Something that took a while. Times are ns since the trace began. */
export interface Span {
  readonly track: Track;
  /**
   * Of a task: 'suspended', 'runnable', 'running'. Of a descriptor: 'awaited' (a task is suspended on it), 'syscall'. Of the one blocking call:
   * 'blocked'.
   */
  readonly kind: 'suspended' | 'runnable' | 'running' | 'awaited' | 'syscall' | 'blocked';
  readonly begin: number;
  readonly duration: number;
  /** 'recvfrom', 'fd 9 IN', '20 ms', 'echo#3'. */
  readonly name: string;
  /** The other party, where there is one: the task of a system call or of an awaited descriptor, the descriptor of a suspended task. */
  readonly other: Track | null;
  /** The record that ended it; null when the trace did. */
  readonly record: TraceRecord | null;
}

/** Something at one moment: a descriptor became ready, a task ended, a timer fired, libuv got its turn, records were lost. */
export interface Mark {
  readonly track: Track;
  readonly kind: 'ready' | 'spawn' | 'end' | 'timer' | 'libuv' | 'lost';
  readonly t: number;
  readonly name: string;
  readonly record: TraceRecord;
}

/** From readiness to resume: what woke a task. */
export interface Flow {
  readonly from: Track;
  readonly fromT: number;
  readonly to: Track;
  readonly toT: number;
}

/** Takes what is found, as it is found: a span when it has ended, so the spans of a track are in order of their ends. */
export interface SpanSink {
  /** A track has begun, or its name has changed. */
  track?(track: Track): void;
  span?(span: Span): void;
  mark?(mark: Mark): void;
  flow?(flow: Flow): void;
  /** A task that `from` woke ran, so many ns after that was ready. */
  woke?(from: Track, latency: number): void;
  /** A descriptor was closed or a task has ended. */
  ended?(track: Track, t: number): void;
}

interface Suspension {
  readonly since: number;
  readonly on: string;
  readonly fd: number;
  readonly other: Track | null;
}

interface TaskState {
  readonly track: Track;
  /** Since when it runs; -1 while it does not. */
  runningSince: number;
  /** Since when it could run, from its spawn on. */
  runnableSince: number;
  /** The resume that it runs from, and what had become ready for it, and when. */
  resumed: TraceRecord | null;
  wakes: Array<{ from: Track; readyAt: number }>;
  /** What it waits for, by the number of the wait; an async function may wait for several things at once. */
  readonly suspensions: Map<number, Suspension>;
}

interface DescriptorState {
  readonly track: Track;
  /** Whether it was told how the program came by it. */
  opened: boolean;
  readyAt: number;
}

interface ThreadState {
  readonly wait: Track;
  readonly tasks: Map<number, TaskState>;
  readonly descriptors: Map<number, DescriptorState>;
  /** Those that have not stopped, as far as is known. */
  readonly running: Set<TaskState>;
  /** When a task last stopped running. */
  stoppedAt: number;
}

/** More tasks, descriptors, threads and waits of a task than programs have: a damaged file must not take all memory. The oldest go first. */
const MAX_LIVE = 1 << 16;
const MAX_THREADS = 256;
const MAX_WAITS = 4096;

const EVENTS = ['?', 'IN', 'OUT', 'IN|OUT'];

export class Spans {
  readonly names: Names = new Names();
  private readonly sink: SpanSink;
  private readonly threads = new Map<number, ThreadState>();
  private tracks = 0;
  private last = 0;

  constructor(sink: SpanSink) {
    this.sink = sink;
  }

  /** The next record of the trace. */
  push(record: TraceRecord): void {
    this.names.remember(record);
    this.last = Math.max(this.last, record.t + record.duration);
    this.take(record);
    this.names.forget(record);
  }

  /** The trace is over: what goes on still is shown up to here. */
  finish(): void {
    for (const state of this.threads.values()) this.finishThread(state, this.last);
  }

  private finishThread(state: ThreadState, t: number): void {
    for (const task of state.tasks.values()) this.stop(state, task, t, null);
    for (const task of state.tasks.values()) {
      for (const suspension of task.suspensions.values()) this.suspended(task, suspension, t, null);
    }
  }

  private take(record: TraceRecord): void {
    if (record.kind === Kind.thread) {
      const over = record.result === 0 ? undefined : this.threads.get(record.thread);
      if (over === undefined) return;
      this.finishThread(over, record.t);
      this.threads.delete(record.thread);
      return;
    }
    const state = this.thread(record);
    const { kind, t } = record;
    switch (kind) {
      case Kind.wait:
        // An async function that awaits a promise of somebody else's tells nobody; but while the thread waits, nothing runs.
        for (const task of state.running) this.stop(state, task, t, record);
        this.span(state.wait, 'blocked', t, record.duration, SYSCALLS[record.code] ?? '?', null, record);
        break;
      case Kind.host:
        this.mark(state.wait, 'libuv', t, 'turn of libuv', record);
        break;
      case Kind.lost:
        this.mark(state.wait, 'lost', t, `${record.result} records lost`, record);
        break;
      case Kind.control:
      case Kind.syscall:
        this.syscall(state, record);
        break;
      case Kind.ready: {
        const descriptor = this.descriptor(state, record);
        descriptor.readyAt = t;
        this.mark(descriptor.track, 'ready', t, EVENTS[record.mask & 3]!, record);
        break;
      }
      case Kind.open:
        this.open(state, record);
        break;
      case Kind.close:
        this.close(state, record);
        break;
      case Kind.spawn: {
        const task = this.task(state, record);
        task.runnableSince = t;
        this.mark(task.track, 'spawn', t, `spawned by ${this.names.task(record, record.arg)}`, record);
        break;
      }
      case Kind.timer:
        this.mark(this.task(state, record).track, 'timer', t, 'timer', record);
        break;
      case Kind.suspend:
        this.suspend(state, record);
        break;
      case Kind.resume:
        this.resume(state, record);
        break;
      case Kind.end: {
        const task = this.task(state, record);
        this.stop(state, task, t, record);
        for (const suspension of task.suspensions.values()) this.suspended(task, suspension, t, record);
        this.mark(task.track, 'end', t, this.names.ending(record), record);
        state.tasks.delete(record.task);
        this.sink.ended?.(task.track, t);
        break;
      }
    }
  }

  private syscall(state: ThreadState, record: TraceRecord): void {
    const name = record.kind === Kind.control ? 'epoll_ctl' : (SYSCALLS[record.code] ?? '?');
    // The end of what was never heard of, a listener's spare descriptor for instance, is no track.
    if (record.fd < 0 || (name === 'close' && !state.descriptors.has(record.fd))) return;
    const { track } = this.descriptor(state, record);
    // A task may have ended before its descriptor is closed on its behalf: it does not come to life again for that.
    const task = state.tasks.get(record.task)?.track ?? null;
    this.span(track, 'syscall', record.t, record.duration, name, task, record);
    if (name === 'close' && record.result === 0) this.close(state, record);
  }

  private suspend(state: ThreadState, record: TraceRecord): void {
    const task = this.task(state, record);
    const since = this.stop(state, task, Math.max(0, record.t - Math.max(0, record.arg)), record);
    const onDescriptor = record.code === WaitKind.descriptor;
    const other = onDescriptor && record.fd >= 0 ? this.descriptor(state, record).track : null;
    const on = onDescriptor ? `fd ${record.fd} ${EVENTS[record.mask & 3]}` : this.names.wait(record);
    if (task.suspensions.size >= MAX_WAITS) task.suspensions.delete(task.suspensions.keys().next().value!);
    task.suspensions.set(record.result, { since, on, fd: onDescriptor ? record.fd : -1, other });
  }

  private resume(state: ThreadState, record: TraceRecord): void {
    const task = this.task(state, record);
    const { t } = record;
    if (record.code !== WaitKind.start) {
      const suspension = task.suspensions.get(record.result);
      if (suspension !== undefined) {
        task.suspensions.delete(record.result);
        const runnableSince = Math.max(suspension.since, t - Math.max(0, record.arg));
        this.suspended(task, suspension, runnableSince, record);
        if (task.runningSince < 0) task.runnableSince = runnableSince;
        const cause = suspension.fd < 0 ? undefined : state.descriptors.get(suspension.fd);
        if (cause !== undefined && cause.track === suspension.other && cause.readyAt >= suspension.since) {
          task.wakes.push({ from: cause.track, readyAt: cause.readyAt });
          this.sink.flow?.({
            from: cause.track,
            fromT: cause.readyAt,
            to: task.track,
            toT: Math.max(t, state.stoppedAt),
          });
        }
      }
    }
    if (task.runningSince < 0) {
      task.runningSince = Math.max(t, state.stoppedAt);
      task.resumed = record;
    }
    state.running.add(task);
  }

  /**
   * It does not run any more, from `t` on, or from its resume on if that was later: then it waits for something that it made long before.
   * Returns since when.
   */
  private stop(state: ThreadState, task: TaskState, t: number, record: TraceRecord | null): number {
    if (task.runningSince < 0) return t;
    const begin = Math.max(task.runningSince, state.stoppedAt);
    const until = t >= begin || record === null ? Math.max(begin, t) : record.t;
    task.runningSince = -1;
    state.running.delete(task);
    state.stoppedAt = until;
    for (const { from, readyAt } of task.wakes.splice(0)) this.sink.woke?.(from, Math.max(0, begin - readyAt));
    // Only now is it known when those that were resumed before it let it run.
    if (task.runnableSince >= 0 && task.runnableSince < begin)
      this.span(task.track, 'runnable', task.runnableSince, begin - task.runnableSince, 'runnable', null, task.resumed);
    task.runnableSince = -1;
    this.span(task.track, 'running', begin, until - begin, 'running', null, record);
    return until;
  }

  private suspended(task: TaskState, suspension: Suspension, until: number, record: TraceRecord | null): void {
    const { since, on, other } = suspension;
    this.span(task.track, 'suspended', since, until - since, on, other, record);
    if (other !== null) this.span(other, 'awaited', since, until - since, task.track.name, task.track, record);
  }

  /** What was done before, to a socket that is being made, belongs to it; what is left of another one of its number does not. */
  private open(state: ThreadState, record: TraceRecord): void {
    if (state.descriptors.get(record.fd)?.opened) this.close(state, record);
    const descriptor = this.descriptor(state, record);
    descriptor.opened = true;
    const name = this.descriptorLabel(record);
    if (descriptor.track.name === name) return;
    descriptor.track.name = name;
    this.sink.track?.(descriptor.track);
  }

  private close(state: ThreadState, record: TraceRecord): void {
    const descriptor = state.descriptors.get(record.fd);
    if (descriptor === undefined) return;
    state.descriptors.delete(record.fd);
    this.sink.ended?.(descriptor.track, record.t);
  }

  private thread(record: TraceRecord): ThreadState {
    let state = this.threads.get(record.thread);
    if (state === undefined) {
      if (this.threads.size >= MAX_THREADS) this.forgetThread(record.t);
      const wait = this.newTrack('wait', record, labelOf(record.thread, 'wait'), -1, 0, 0);
      state = { wait, tasks: new Map(), descriptors: new Map(), running: new Set(), stoppedAt: 0 };
      this.threads.set(record.thread, state);
    }
    return state;
  }

  private forgetThread(t: number): void {
    const [oldest] = this.threads;
    if (oldest === undefined) return;
    const [thread, { tasks, descriptors }] = oldest;
    this.threads.delete(thread);
    for (const { track } of [...tasks.values(), ...descriptors.values()]) this.sink.ended?.(track, t);
  }

  private task(state: ThreadState, record: TraceRecord): TaskState {
    let task = state.tasks.get(record.task);
    if (task === undefined) {
      const [oldest] = state.tasks.size >= MAX_LIVE ? state.tasks : [];
      if (oldest !== undefined) {
        state.tasks.delete(oldest[0]);
        this.sink.ended?.(oldest[1].track, record.t);
      }
      const track = this.newTrack(
        'task',
        record,
        labelOf(record.thread, this.names.task(record, record.task)),
        -1,
        record.task,
        record.t,
      );
      task = { track, runningSince: -1, runnableSince: -1, resumed: null, wakes: [], suspensions: new Map() };
      state.tasks.set(record.task, task);
    }
    return task;
  }

  private descriptor(state: ThreadState, record: TraceRecord): DescriptorState {
    let descriptor = state.descriptors.get(record.fd);
    if (descriptor === undefined) {
      const [oldest] = state.descriptors.size >= MAX_LIVE ? state.descriptors : [];
      if (oldest !== undefined) {
        state.descriptors.delete(oldest[0]);
        this.sink.ended?.(oldest[1].track, record.t);
      }
      const track = this.newTrack('fd', record, this.descriptorLabel(record), record.fd, 0, record.t);
      descriptor = { track, opened: false, readyAt: -1 };
      state.descriptors.set(record.fd, descriptor);
    }
    return descriptor;
  }

  private descriptorLabel(record: TraceRecord): string {
    const name = this.names.descriptor(record);
    return labelOf(record.thread, `fd ${record.fd}${name === '?' ? '' : ` ${name}`}`);
  }

  private newTrack(
    kind: Track['kind'],
    { thread }: TraceRecord,
    name: string,
    fd: number,
    task: number,
    begin: number,
  ): Track {
    const track: Track = {
      id: ++this.tracks,
      kind,
      thread,
      name,
      fd,
      task,
      begin,
    };
    this.sink.track?.(track);
    return track;
  }

  private span(
    track: Track,
    kind: Span['kind'],
    begin: number,
    duration: number,
    name: string,
    other: Track | null,
    record: TraceRecord | null,
  ): void {
    this.sink.span?.({ track, kind, begin, duration: Math.max(0, duration), name, other, record });
  }

  private mark(track: Track, kind: Mark['kind'], t: number, name: string, record: TraceRecord): void {
    this.sink.mark?.({ track, kind, t, name, record });
  }
}

function labelOf(thread: number, name: string): string {
  return thread === 0 ? name : `${threadName(thread)}: ${name}`;
}
