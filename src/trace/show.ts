// `onewait trace show`: a trace as lines that read like strace, with the task that each concerns.
//
// A descriptor that becomes ready and the task that it wakes are two records and one line. So the lines of a turn are held back until the
// turn is over, that is until the next wait, and the wake is put where its readiness is.

import { errorName } from '../errors.ts';
import type { TraceRecord } from './reader.ts';
import { EndKind, Kind, OpenKind, SYSCALLS, TextKind, WaitKind } from './record.ts';

const CONTROLS = ['?', 'ADD', 'DEL', 'MOD'];
const EPOLL_FLAGS: ReadonlyArray<[number, string]> = [
  [0x1, 'IN'],
  [0x2, 'PRI'],
  [0x4, 'OUT'],
  [0x2000, 'RDHUP'],
  [0x80000000, 'ET'],
];
/** The calls that are asked for a number of bytes. */
const TRANSFERS = new Set(['recvfrom', 'sendto', 'read', 'write']);
/** What the first descriptors are, unless somebody closed them. */
const STANDARD = ['stdin', 'stdout', 'stderr'];
/** Longest a turn can grow before its lines are let go: memory stays bounded whatever the file says. */
const MAX_HELD = 65_536;
/** Names of each sort that are kept; the oldest goes first. */
const MAX_NAMES = 65_536;

/** Turns records into lines. `push` takes one record and returns the lines that are complete; `end` returns the rest. */
export class TraceFormatter {
  private readonly tasks = new Map<number, string>();
  private readonly descriptors = new Map<number, string>();
  private readonly waits = new Map<number, string>();
  private readonly errors = new Map<number, string>();
  private held: string[] = [];
  /** Where in `held` the readiness of a descriptor stands that woke nobody yet. */
  private readonly causes = new Map<number, number>();

  push(record: TraceRecord): string[] {
    const text = this.format(record);
    const done = record.kind === Kind.wait || this.held.length >= MAX_HELD ? this.end() : [];
    if (text === null) return done;
    if (record.kind === Kind.ready) this.causes.set(record.fd, this.held.length);
    this.held.push(`${(record.t / 1e9).toFixed(6).padStart(12)}  ${text}`);
    return done;
  }

  end(): string[] {
    const lines = this.held;
    this.held = [];
    this.causes.clear();
    return lines;
  }

  private format(record: TraceRecord): string | null {
    const { kind, fd, task, result, arg } = record;
    switch (kind) {
      case Kind.wait: {
        const timeout = arg < 0 ? '-1' : `${(arg / 1e6).toFixed(arg % 1e6 === 0 ? 0 : 3)} ms`;
        const brought = result < 0 ? errorName(result) : `${result} ready`;
        return column(`wait(timeout=${timeout}) = ${brought}`, `blocked ${ms(record.duration)}`);
      }
      case Kind.control:
        return column(
          `epoll_ctl(${CONTROLS[record.code] ?? '?'}, ${fd}, ${flags(arg)}) = ${outcome(result)}`,
          this.whose(task),
        );
      case Kind.ready:
        return `fd ${fd} ${this.descriptorName(fd)}  ${events(record.mask)}`;
      case Kind.syscall: {
        const name = SYSCALLS[record.code] ?? '?';
        const asked = TRANSFERS.has(name) ? `, ${arg}` : '';
        const argument = name === 'socket' ? '' : fd;
        const line = column(
          `${name}(${argument}${asked}) = ${outcome(result)}`,
          `<${(record.duration / 1000).toFixed(1)} us>`,
        );
        return task === 0 ? line : `${line.padEnd(74)}  ${this.taskName(task)}`;
      }
      case Kind.spawn:
        return `${this.taskName(task)} spawned by ${this.taskName(arg)}`;
      case Kind.suspend:
        return `${this.taskName(task)} suspends on ${record.code === WaitKind.descriptor ? `fd ${fd} ${events(record.mask)}` : (this.waits.get(task) ?? '?')}`;
      case Kind.resume:
        return this.resume(record);
      case Kind.end: {
        const error = this.errors.get(task);
        this.errors.delete(task);
        const how =
          record.code === EndKind.done
            ? 'done'
            : record.code === EndKind.cancelled
              ? 'cancelled'
              : `failed: ${error ?? '?'}`;
        const line = `${this.taskName(task)} ${how}`;
        this.waits.delete(task);
        return line;
      }
      case Kind.timer:
        return column(`timer of ${this.taskName(task)}`, `late ${ms(arg)}`);
      case Kind.host:
        return 'turn of libuv';
      case Kind.open:
        return `fd ${fd} opened: ${this.descriptorName(fd)}${record.code === OpenKind.accepted ? ` accepted by ${this.taskName(task)}` : ''}`;
      case Kind.close:
        this.descriptors.delete(fd);
        return `fd ${fd} closed`;
      case Kind.lost:
        return `... ${result} records lost: the ring was full`;
      default:
        this.remember(record);
        return null;
    }
  }

  /** Puts the wake at the end of the line of the readiness that caused it, if that is in this turn. */
  private resume(record: TraceRecord): string | null {
    const { task, fd } = record;
    if (record.code === WaitKind.start) return `${this.taskName(task)} starts`;
    const wake = `=> resume ${this.taskName(task)}`;
    const runnable = `runnable ${ms(record.arg)}`;
    if (record.code === WaitKind.descriptor) {
      const cause = this.causes.get(fd);
      if (cause !== undefined) {
        this.causes.delete(fd);
        this.held[cause] = `${`${this.held[cause]}  ${wake}`.padEnd(70)}  ${runnable}`;
        return null;
      }
    }
    const on = record.code === WaitKind.descriptor ? `fd ${fd} ${events(record.mask)}` : (this.waits.get(task) ?? '?');
    return column(`${on}  ${wake}`, runnable);
  }

  private remember(record: TraceRecord): void {
    if (record.code === TextKind.taskName) keep(this.tasks, record.task, record.text);
    else if (record.code === TextKind.descriptorName) keep(this.descriptors, record.fd, record.text);
    else if (record.code === TextKind.waitName) keep(this.waits, record.task, record.text);
    else if (record.code === TextKind.error) keep(this.errors, record.task, record.text);
  }

  private taskName(task: number): string {
    return task === 0 ? 'node' : `${this.tasks.get(task) ?? 'task'}#${task}`;
  }

  private whose(task: number): string {
    return task === 0 ? '' : this.taskName(task);
  }

  private descriptorName(fd: number): string {
    return this.descriptors.get(fd) ?? STANDARD[fd] ?? '?';
  }
}

/** Remembers a name, which comes from a file: on a terminal it must neither end the line nor do anything else. */
function keep(names: Map<number, string>, key: number, text: string): void {
  if (names.size >= MAX_NAMES && !names.has(key)) names.delete(names.keys().next().value!);
  names.set(key, text.replace(/\p{Cc}/gu, '?'));
}

function column(left: string, right: string): string {
  return right === '' ? left : `${left.padEnd(56)}  ${right}`;
}

function ms(ns: number): string {
  return `${(ns / 1e6).toFixed(3)} ms`;
}

function outcome(result: number): string {
  return result < 0 ? `-1 ${errorName(result)}` : String(result);
}

function events(mask: number): string {
  return mask === 3 ? 'IN|OUT' : mask === 2 ? 'OUT' : 'IN';
}

function flags(mask: number): string {
  const names = EPOLL_FLAGS.filter(([bit]) => mask & bit).map(([, name]) => name);
  return names.join('|') || '0';
}
