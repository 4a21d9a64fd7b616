// Which records somebody wants to see. Conditions of one sort are alternatives, those of different sorts must all hold.

import type { Names } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { Kind, SYSCALLS } from './record.ts';

/** What people call the kinds of records that are lines. */
export const KIND_NAMES: ReadonlyMap<string, number> = new Map([
  ['wait', Kind.wait],
  ['ctl', Kind.control],
  ['ready', Kind.ready],
  ['syscall', Kind.syscall],
  ['spawn', Kind.spawn],
  ['suspend', Kind.suspend],
  ['resume', Kind.resume],
  ['end', Kind.end],
  ['timer', Kind.timer],
  ['host', Kind.host],
  ['open', Kind.open],
  ['close', Kind.close],
  ['lost', Kind.lost],
]);

/** The calls that return a descriptor, which they are about as well. */
const ACCEPT = SYSCALLS.indexOf('accept4');
const SOCKET = SYSCALLS.indexOf('socket');

/** Tasks by name, by number, or both. */
export interface TaskPattern {
  readonly name: string | null;
  readonly id: number | null;
}

export interface Filter {
  readonly fds?: readonly number[] | undefined;
  readonly tasks?: readonly TaskPattern[] | undefined;
  readonly kinds?: readonly number[] | undefined;
  /** Nanoseconds since the trace began. */
  readonly from?: number | undefined;
  readonly to?: number | undefined;
}

/** 'echo#3', 'echo' for all of that name, '#3' or '3' for that number; null for what is none of these. */
export function taskPattern(text: string): TaskPattern | null {
  const [, name, id] = /^(.*?)(?:#(\d+))?$/s.exec(text) ?? [];
  if (name === undefined) return null;
  if (id === undefined) {
    if (/^\d+$/.test(name)) return { name: null, id: Number(name) };
    return name === '' ? null : { name, id: null };
  }
  return { name: name === '' ? null : name, id: Number(id) };
}

/** Whether a record meets the filter. `names` must have taken note of it. */
export function matches(filter: Filter, record: TraceRecord, names: Names): boolean {
  const { fds, tasks, kinds, from, to } = filter;
  if (from !== undefined && record.t < from) return false;
  if (to !== undefined && record.t > to) return false;
  if (kinds !== undefined && !kinds.includes(record.kind)) return false;
  if (fds !== undefined && !fds.some((fd) => concernsDescriptor(record, fd))) return false;
  return tasks === undefined || tasks.some((pattern) => concernsTask(record, pattern, names));
}

function concernsDescriptor(record: TraceRecord, fd: number): boolean {
  if (record.fd === fd) return true;
  const returns = record.code === ACCEPT || record.code === SOCKET;
  return record.kind === Kind.syscall && returns && record.result === fd;
}

function concernsTask(record: TraceRecord, pattern: TaskPattern, names: Names): boolean {
  return is(record.task) || (record.kind === Kind.spawn && is(record.arg));

  function is(task: number): boolean {
    if (task === 0) return pattern.name === 'node' && pattern.id === null;
    if (pattern.id !== null && pattern.id !== task) return false;
    return pattern.name === null || names.task(record, task) === `${pattern.name}#${task}`;
  }
}
