// What the tasks, descriptors and threads of a trace are called. Names come from a file, so they are cleaned, and only so many are kept.

import type { TraceRecord } from './reader.ts';
import { EndKind, Kind, TextKind, WaitKind } from './record.ts';

/** What the first descriptors are, unless somebody closed them. */
const STANDARD = ['stdin', 'stdout', 'stderr'];
/** Names of each sort that are kept; the oldest goes first. */
const MAX_NAMES = 65_536;
/** Names of tasks that have ended that are kept: their descriptors may be closed after them. */
const MAX_ENDED = 1024;
/** More threads than a program has. Keys are numbers made of a thread and of a task or descriptor. */
const THREAD = 2 ** 32;

export class Names {
  private readonly tasks = new Map<number, string>();
  private readonly ended = new Map<number, string>();
  private readonly descriptors = new Map<number, string>();
  /** What the next suspend of a task is on, and what those that last are on, by task and number of the wait: a task may have several. */
  private readonly nextWaits = new Map<number, string>();
  private readonly waits = new Map<string, string>();
  private readonly errors = new Map<number, string>();
  private readonly payloads = new Map<number, string>();
  private readonly localAddresses = new Map<number, string>();
  /** Whether the trace has records of more than one thread so far. */
  severalThreads = false;
  private firstThread = -1;

  /** Takes note of what a record names. Call it for each, in order; a name is forgotten after `forget`. */
  remember(record: TraceRecord): void {
    const { kind, thread } = record;
    if (kind === Kind.thread) {
      if (this.firstThread < 0) this.firstThread = thread;
      else if (thread !== this.firstThread) this.severalThreads = true;
      return;
    }
    const task = thread * THREAD + record.task;
    if (kind === Kind.suspend && record.code === WaitKind.other) {
      const name = this.nextWaits.get(task);
      this.nextWaits.delete(task);
      if (name !== undefined) keep(this.waits, waitKey(record), name);
    }
    if (kind !== Kind.text) return;
    const { code, text } = record;
    if (code === TextKind.taskName) keep(this.tasks, task, text);
    else if (code === TextKind.descriptorName) keep(this.descriptors, thread * THREAD + record.fd, text);
    else if (code === TextKind.waitName) keep(this.nextWaits, task, text);
    else if (code === TextKind.error) keep(this.errors, task, text);
    else if (code === TextKind.payload) this.payloads.set(thread, text);
    else if (code === TextKind.localAddress) keep(this.localAddresses, thread * THREAD + record.fd, text);
  }

  /** Lets go of the names that a record was the last to need. */
  forget(record: TraceRecord): void {
    const { kind, thread } = record;
    if (kind === Kind.end) {
      const task = thread * THREAD + record.task;
      const name = this.tasks.get(task);
      if (name !== undefined) {
        this.tasks.delete(task);
        if (this.ended.size >= MAX_ENDED) this.ended.delete(this.ended.keys().next().value!);
        this.ended.set(task, name);
      }
      this.nextWaits.delete(task);
      this.errors.delete(task);
    } else if (kind === Kind.resume) this.waits.delete(waitKey(record));
    else if (kind === Kind.open) this.localAddresses.delete(thread * THREAD + record.fd);
    else if (kind === Kind.close) this.descriptors.delete(thread * THREAD + record.fd);
    else if (kind === Kind.syscall) this.payloads.delete(thread);
  }

  /** 'echo#3', or 'node' for what belongs to no task. */
  task({ thread }: TraceRecord, task: number): string {
    if (task === 0) return 'node';
    const key = thread * THREAD + task;
    return `${this.tasks.get(key) ?? this.ended.get(key) ?? 'task'}#${task}`;
  }

  /** 'tcp 127.0.0.1:41514', 'stdin', or '?'. */
  descriptor({ thread, fd }: TraceRecord): string {
    return this.descriptors.get(thread * THREAD + fd) ?? STANDARD[fd] ?? '?';
  }

  /** What a task waits for that is no descriptor, of a suspend or resume record: '20 ms', 'echo#3'. */
  wait(record: TraceRecord): string {
    const { kind, thread, task } = record;
    // A suspend that was not taken note of yet.
    const next = kind === Kind.suspend ? this.nextWaits.get(thread * THREAD + task) : undefined;
    return next ?? this.waits.get(waitKey(record)) ?? '?';
  }

  /** 'done', 'cancelled', or 'failed: Error: no': how a task ended, of an end record. */
  ending(record: TraceRecord): string {
    if (record.code === EndKind.done) return 'done';
    if (record.code === EndKind.cancelled) return 'cancelled';
    return `failed: ${this.error(record)}`;
  }

  /** 'Error: no': why a task failed, of an end record. */
  error({ thread, task }: TraceRecord): string {
    return this.errors.get(thread * THREAD + task) ?? '?';
  }

  /** The address of a socket that is named after its peer, of an open record. */
  localAddress({ thread, fd }: TraceRecord): string | undefined {
    return this.localAddresses.get(thread * THREAD + fd);
  }

  /** The first bytes that the system call took or brought, one character each, if the trace has them. */
  payload({ thread }: TraceRecord): string | undefined {
    return this.payloads.get(thread);
  }
}

/** 'main', or 'worker 3'. */
export function threadName(thread: number): string {
  return thread === 0 ? 'main' : `worker ${thread}`;
}

/** On a terminal a name must neither end the line nor do anything else. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

function waitKey({ thread, task, result }: TraceRecord): string {
  return `${thread} ${task} ${result}`;
}

function keep<Key>(names: Map<Key, string>, key: Key, text: string): void {
  if (names.size >= MAX_NAMES && !names.has(key)) names.delete(names.keys().next().value!);
  names.set(key, printable(text));
}
