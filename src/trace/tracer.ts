// The observer: the loop, its tasks and the I/O objects tell it what happens, at few, named points, and it writes records.
// Where tracing is off there is no tracer, and the points cost one comparison each. System calls are recorded by native code itself.
//
// Reading the clock is what a record costs, so it is read once per step of a task, when that is suspended, and once per turn. What wakes a task
// has been timed by native code.

import type { Loop } from '../loop.ts';
import { native } from '../native.ts';
import type { Trap } from '../operation.ts';
import type { Task, TaskState } from '../task.ts';
import { descriptorName, socketAddress } from './descriptor-name.ts';
import { EndKind, Kind, OpenKind, TextKind, WaitKind } from './record.ts';
import { activeRecording, type FlightRecorder, type Recording } from './recorder.ts';
import type { Ring } from './ring.ts';

/** What is known of a wait while it lasts: the descriptor may be closed when it is over. */
export interface Suspension {
  readonly fd: number;
  readonly generation: number;
  readonly event: number;
  /** When what was waited for happened; ns since the trace began. */
  settledAt: number;
}

export class Tracer {
  readonly recording: Recording;
  private readonly loop: Loop;
  private readonly ring: Ring;
  private readonly flight: FlightRecorder | null;

  constructor(loop: Loop, recording: Recording) {
    this.loop = loop;
    this.recording = recording;
    this.ring = recording.ring;
    this.flight = recording.flight;
    if (this.flight !== null) this.flight.snapshot = () => this.snapshot();
    this.snapshot();
  }

  spawn(task: Task, parent: Task): void {
    native.traceText(TextKind.taskName, task.id, -1, task.name);
    this.ring.write(this.ring.now(), Kind.spawn, 0, 0, -1, 0, task.id, parent.id);
  }

  suspend(task: Task, trap: Trap): void {
    const { fd, event } = trap;
    const { ring } = this;
    const t = ring.now();
    if (fd >= 0) {
      const generation = this.loop.generationOf(fd);
      trap.suspension = { fd, generation, event, settledAt: t };
      ring.write(t, Kind.suspend, WaitKind.descriptor, event, fd, generation, task.id, 0);
    } else {
      trap.suspension = { fd, generation: 0, event, settledAt: t };
      native.traceText(TextKind.waitName, task.id, -1, trap.describe());
      ring.write(t, Kind.suspend, WaitKind.other, 0, -1, 0, task.id, 0);
    }
  }

  /** What a task waited for has happened; it is runnable from now on. While events are handed out, native code has just read the clock. */
  settled(suspension: Suspension, waking: boolean): void {
    suspension.settledAt = waking ? this.ring.last : this.ring.now();
  }

  /** A task begins. */
  start(task: Task): void {
    this.ring.task = task.id;
    this.ring.write(this.ring.now(), Kind.resume, WaitKind.start, 0, -1, 0, task.id, 0);
  }

  /** A task goes on. A wait that had its result at once was none, and nothing is to be told. */
  resume(task: Task, trap: Trap): void {
    const { suspension } = trap;
    if (suspension === null) return;
    trap.suspension = null;
    const { ring } = this;
    const { fd, generation, event, settledAt } = suspension;
    const t = ring.last;
    ring.task = task.id;
    const code = fd >= 0 ? WaitKind.descriptor : WaitKind.other;
    ring.write(t, Kind.resume, code, event, fd, generation, task.id, Math.max(0, t - settledAt));
  }

  end(task: Task, state: TaskState, outcome: unknown): void {
    if (state === 'failed') native.traceText(TextKind.error, task.id, -1, describeError(outcome));
    this.ring.write(this.ring.now(), Kind.end, EndKind[state as keyof typeof EndKind], 0, -1, 0, task.id, 0);
  }

  timer(task: Task, lateMs: number): void {
    this.ring.write(this.ring.now(), Kind.timer, 0, 0, -1, 0, task.id, Math.round(lateMs * 1e6));
  }

  open(fd: number, how: (typeof OpenKind)[keyof typeof OpenKind], task: Task): void {
    native.traceText(TextKind.descriptorName, 0, fd, descriptorName(fd, how === OpenKind.listening));
    const local = how === OpenKind.accepted || how === OpenKind.connected ? socketAddress(fd, false) : null;
    if (local !== null) native.traceText(TextKind.localAddress, 0, fd, local);
    this.ring.write(this.ring.now(), Kind.open, how, 0, fd, 0, task.id, 0);
  }

  close(fd: number): void {
    this.ring.write(this.ring.now(), Kind.close, 0, 0, fd, 0, 0, 0);
  }

  /** A turn begins: what was waited for is there. */
  turn(): void {
    if (this.flight === null) return;
    const ns = this.ring.turnNs;
    if (ns > 0) this.flight.turned(ns);
  }

  /** Events have been handed out, and tasks are run now. */
  run(): void {
    this.ring.now();
  }

  /** A task has failed, and nobody joined it. */
  unhandled(): void {
    this.flight?.failed();
  }

  /** System calls that follow are made on behalf of this task. */
  onBehalfOf(task: Task): void {
    this.ring.task = task.id;
  }

  /** Names what is there already. */
  private snapshot(): void {
    for (const task of this.loop.tasks()) native.traceText(TextKind.taskName, task.id, -1, task.name);
    for (const { fd, handler } of this.loop.watched()) {
      native.traceText(TextKind.descriptorName, 0, fd, descriptorName(fd, handler?.listens === true));
      this.ring.write(this.ring.now(), Kind.open, OpenKind.found, 0, fd, 0, 0, 0);
    }
  }
}

/** Records what `loop` does from now on, if this thread is recorded; stops if not. */
export function observe(loop: Loop): void {
  const recording = activeRecording();
  if (recording === null) loop.tracer = null;
  else if (loop.tracer?.recording !== recording) loop.tracer = new Tracer(loop, recording);
}

function describeError(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    return 'a value that cannot be shown';
  }
}
