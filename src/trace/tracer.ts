// The observer that writes records. System calls are recorded by native code itself.
//
// Reading the clock is what a record costs, so it is read once per step of a task, when that is suspended, and once per turn. What wakes a task
// has been timed by native code.

import type { Loop } from '../loop.ts';
import { native } from '../native.ts';
import type { Trap } from '../operation.ts';
import type { Task, TaskState } from '../task.ts';
import { Publisher, subscribed } from './channels.ts';
import { descriptorName, socketAddress } from './descriptor-name.ts';
import { ITS_TURN, type Observer, type Suspension } from './observer.ts';
import { EndKind, Kind, OpenKind, TextKind, WaitKind } from './record.ts';
import { activeRecording, type FlightRecorder, type Recording } from './recorder.ts';
import type { Ring } from './ring.ts';

class Tracer implements Observer {
  readonly recording: Recording;
  private readonly loop: Loop;
  private readonly ring: Ring;
  private readonly flight: FlightRecorder | null;
  private suspensions = 0;

  constructor(loop: Loop, recording: Recording) {
    this.loop = loop;
    this.recording = recording;
    this.ring = recording.ring;
    this.flight = recording.flight;
    if (this.flight !== null) this.flight.snapshot = () => this.snapshot();
    // Who looks on asks for names, of the few that it shows: to tell those of 5,000 connections takes 50 ms.
    if (!recording.live) this.snapshot();
  }

  spawn(task: Task, parent: Task): void {
    native.traceText(TextKind.taskName, task.id, -1, task.name);
    this.ring.write(this.ring.now(), Kind.spawn, 0, 0, -1, 0, task.id, parent.id);
  }

  made(trap: Trap): void {
    trap.suspension = { number: 0, fd: -1, generation: 0, event: 0, settledAt: this.ring.now() };
  }

  suspend(task: Task, trap: Trap): void {
    const { fd } = trap;
    if (fd < 0) this.wait(task, trap, trap.describe());
    else this.write(task, trap, WaitKind.descriptor, fd, this.loop.generationOf(fd), trap.event);
  }

  yields(task: Task, trap: Trap): void {
    this.wait(task, trap, ITS_TURN);
  }

  private wait(task: Task, trap: Trap, on: string): void {
    native.traceText(TextKind.waitName, task.id, -1, on);
    this.write(task, trap, WaitKind.other, -1, 0, 0);
  }

  private write(task: Task, trap: Trap, code: number, fd: number, generation: number, event: number): void {
    const { suspension } = trap;
    const { ring } = this;
    const number = ++this.suspensions;
    // The clock need not be read again where nothing has happened since.
    const t = suspension !== null && suspension.settledAt === ring.last ? ring.last : ring.now();
    const since = suspension === null ? 0 : t - suspension.settledAt;
    trap.suspension = { number, fd, generation, event, settledAt: t };
    ring.write(t, Kind.suspend, code, event, fd, generation, task.id, since, number);
  }

  /** While events are handed out, native code has just read the clock. */
  settled(suspension: Suspension, waking: boolean): void {
    suspension.settledAt = waking ? this.ring.last : this.ring.now();
  }

  start(task: Task): void {
    this.ring.task = task.id;
    this.ring.write(this.ring.now(), Kind.resume, WaitKind.start, 0, -1, 0, task.id, 0);
  }

  resume(task: Task, trap: Trap): void {
    const { suspension } = trap;
    if (suspension === null || suspension.number === 0) return;
    trap.suspension = null;
    const { ring } = this;
    const { number, fd, generation, event, settledAt } = suspension;
    const t = ring.last;
    ring.task = task.id;
    const code = fd >= 0 ? WaitKind.descriptor : WaitKind.other;
    ring.write(t, Kind.resume, code, event, fd, generation, task.id, Math.max(0, t - settledAt), number);
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

  /** Native code has told already. */
  ready(): void {}

  turn(): void {
    if (this.flight === null) return;
    const ns = this.ring.takeTurn();
    if (ns > 0) this.flight.turned(ns);
  }

  run(): void {
    this.ring.now();
  }

  unhandled(): void {
    this.flight?.failed();
  }

  onBehalfOf(task: Task): void {
    this.ring.task = task.id;
  }

  /** Names what is there already. */
  private snapshot(): void {
    for (const task of this.loop.tasks()) native.traceText(TextKind.taskName, task.id, -1, task.name);
    for (const { number: fd, listens } of this.loop.watched()) {
      native.traceText(TextKind.descriptorName, 0, fd, descriptorName(fd, listens));
      this.ring.write(this.ring.now(), Kind.open, OpenKind.found, 0, fd, 0, 0, 0);
    }
  }
}

/** Has `loop` observed from now on by who wants to know: the recording of this thread, if there is one, and subscribers of its channels. */
export function observe(loop: Loop): void {
  const { observer } = loop;
  const before = observer instanceof Publisher ? observer.next : observer;
  const recording = activeRecording();
  const isSame = before instanceof Tracer && before.recording === recording;
  const tracer = recording === null ? null : isSame ? before : new Tracer(loop, recording);
  loop.publishing = subscribed();
  loop.observer = loop.publishing ? new Publisher(tracer) : tracer;
}

function describeError(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    return 'a value that cannot be shown';
  }
}
