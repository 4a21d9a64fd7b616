// The observer: the loop, its tasks and the I/O objects tell it what happens, at few, named points, and it writes records.
// Where tracing is off there is no tracer, and the points cost one comparison each. System calls are recorded by native code itself.

import { systemError } from '../errors.ts';
import type { Loop } from '../loop.ts';
import { native } from '../native.ts';
import type { Trap } from '../operation.ts';
import type { Task, TaskState } from '../task.ts';
import { EndKind, Kind, type OpenKind, TextKind, WaitKind } from './record.ts';

/** Records that the ring holds until the writer thread has taken them: 12 MiB, a tenth of a second of full load. */
const RING_RECORDS = 1 << 18;

export class Tracer {
  private readonly loop: Loop;
  /** What is suspended: on which descriptor, which may be closed when it resumes, and since when it is runnable again. */
  private readonly suspended = new WeakMap<Trap, { fd: number; generation: number; settledAt: number }>();

  /** @internal */
  onExit: () => void = () => {};

  constructor(loop: Loop) {
    this.loop = loop;
  }

  spawn(task: Task, parent: Task): void {
    native.traceText(TextKind.taskName, task.id, -1, 0, task.name);
    native.traceEvent(Kind.spawn, 0, task.id, -1, 0, 0, parent.id);
  }

  suspend(task: Task, trap: Trap): void {
    const { fd } = trap;
    const generation = fd >= 0 ? this.loop.generationOf(fd) : 0;
    this.suspended.set(trap, { fd, generation, settledAt: 0 });
    if (fd >= 0) {
      native.traceEvent(Kind.suspend, WaitKind.descriptor, task.id, fd, generation, trap.event, 0);
      return;
    }
    native.traceText(TextKind.waitName, task.id, -1, 0, trap.describe());
    native.traceEvent(Kind.suspend, WaitKind.other, task.id, -1, 0, 0, 0);
  }

  /** What a task waited for has happened; it is runnable from now on. */
  settled(trap: Trap): void {
    const suspension = this.suspended.get(trap);
    if (suspension !== undefined) suspension.settledAt = this.loop.driver.now();
  }

  /** `trap` is null when the task starts. One that had its result at once was never suspended on, and nothing is to be told. */
  resume(task: Task, trap: Trap | null): void {
    if (trap === null) {
      native.traceEvent(Kind.resume, WaitKind.start, task.id, -1, 0, 0, 0);
      return;
    }
    const suspension = this.suspended.get(trap);
    if (suspension === undefined) return;
    this.suspended.delete(trap);
    const { fd, generation, settledAt } = suspension;
    const runnableNs = Math.round((this.loop.driver.now() - settledAt) * 1e6);
    native.traceEvent(
      Kind.resume,
      fd >= 0 ? WaitKind.descriptor : WaitKind.other,
      task.id,
      fd,
      generation,
      trap.event,
      runnableNs,
    );
  }

  end(task: Task, state: TaskState, outcome: unknown): void {
    if (state === 'failed') native.traceText(TextKind.error, task.id, -1, 0, describeError(outcome));
    native.traceEvent(Kind.end, EndKind[state as keyof typeof EndKind], task.id, -1, 0, 0, 0);
  }

  timer(task: Task, lateMs: number): void {
    native.traceEvent(Kind.timer, 0, task.id, -1, 0, 0, Math.round(lateMs * 1e6));
  }

  open(fd: number, how: (typeof OpenKind)[keyof typeof OpenKind], name: string, task: Task): void {
    native.traceText(TextKind.descriptorName, 0, fd, 0, name);
    native.traceEvent(Kind.open, how, task.id, fd, 0, 0, 0);
  }

  close(fd: number): void {
    native.traceEvent(Kind.close, 0, 0, fd, 0, 0, 0);
  }

  /** System calls that follow are made on behalf of this task. */
  onBehalfOf(task: Task): void {
    native.traceTask(task.id);
  }
}

function describeError(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    return 'a value that cannot be shown';
  }
}

/** What open(2) says of what must not be overwritten, or cannot be. */
const NO_TRACE_FILE: Record<string, string> = {
  EINVAL: 'it exists, and is no regular file',
  ENXIO: 'it exists, and is no regular file',
  EISDIR: 'it is a directory',
  ELOOP: 'it is a symbolic link, which may lead anywhere',
};

/** Starts recording this thread's system calls. @throws SystemError when the file cannot be made */
export function openTrace(path: string): void {
  const result = native.traceOpen(path, RING_RECORDS);
  if (result < 0) {
    const error = systemError('open', result);
    error.message = `cannot record a trace in ${path}: ${NO_TRACE_FILE[error.code] ?? error.message}`;
    throw error;
  }
}

/** Starts recording what `loop` does. @throws SystemError when the file cannot be made */
export function startTracer(loop: Loop, path: string): void {
  if (loop.tracer !== null) return;
  openTrace(path);
  loop.tracer = new Tracer(loop);
  // process.exit() runs no cleanup hook of the addon (a worker that is terminated does, and nothing of this).
  loop.tracer.onExit = () => stopTracer(loop);
  process.once('exit', loop.tracer.onExit);
}

/** Stops recording: everything is in the file when this returns. Warns when some of it was lost. */
export function stopTracer(loop: Loop): void {
  if (loop.tracer === null) return;
  process.removeListener('exit', loop.tracer.onExit);
  loop.tracer = null;
  const lost = native.traceClose();
  if (lost > 0) {
    process.emitWarning(
      `the trace is not complete: ${lost} records are missing, for want of memory or room on the disk`,
      {
        code: 'ONEWAIT_TRACE_LOST',
      },
    );
  }
}
