// One record as the text of one line, as strace would write it. What a line is called by is in names.ts; lines are put together in show.ts.

import { errorName } from '../errors.ts';
import type { Names } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { Kind, OpenKind, SYSCALLS, TRANSFERS, WaitKind } from './record.ts';

const CONTROLS = ['?', 'ADD', 'DEL', 'MOD'];
const EPOLL_FLAGS: ReadonlyArray<[number, string]> = [
  [0x1, 'IN'],
  [0x2, 'PRI'],
  [0x4, 'OUT'],
  [0x2000, 'RDHUP'],
  [0x80000000, 'ET'],
];
/** How a program came by a descriptor that its name does not tell already. */
const ORIGINS = new Map<number, string>([
  [OpenKind.accepted, 'accepted'],
  [OpenKind.connected, 'connected'],
]);
const ESCAPES: Record<string, string> = {
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '"': '\\"',
  '\\': '\\\\',
};

/** '    0.516679': when, in seconds since the trace began. */
export function timeOf(record: TraceRecord): string {
  return (record.t / 1e9).toFixed(6).padStart(12);
}

/** What a record says, without its time; null for those that only name something. `names` must have taken note of it. */
export function textOf(record: TraceRecord, names: Names): string | null {
  const { kind, fd, task, result, arg } = record;
  switch (kind) {
    case Kind.wait: {
      const timeout = arg < 0 ? '-1' : `${(arg / 1e6).toFixed(arg % 1e6 === 0 ? 0 : 3)} ms`;
      const brought = result < 0 ? errorOf(result) : `${result} ready`;
      return column(`wait(timeout=${timeout}) = ${brought}`, `blocked ${ms(record.duration)}`);
    }
    case Kind.control:
      return column(
        `epoll_ctl(${CONTROLS[record.code] ?? '?'}, ${fd}, ${flags(arg)}) = ${outcome(result)}`,
        task === 0 ? '' : names.task(record, task),
      );
    case Kind.ready:
      return `fd ${fd} ${names.descriptor(record)}  ${events(record.mask)}`;
    case Kind.syscall:
      return syscall(record, names);
    case Kind.spawn:
      return `${names.task(record, task)} spawned by ${names.task(record, arg)}`;
    case Kind.suspend:
      return `${names.task(record, task)} suspends on ${waitedFor(record, names)}`;
    case Kind.resume:
      return record.code === WaitKind.start
        ? `${names.task(record, task)} starts`
        : column(`${waitedFor(record, names)}  ${wake(record, names)}`, runnable(record));
    case Kind.end:
      return `${names.task(record, task)} ${names.ending(record)}`;
    case Kind.timer:
      return column(`timer of ${names.task(record, task)}`, `late ${ms(arg)}`);
    case Kind.host:
      return 'turn of libuv';
    case Kind.open: {
      if (record.code === OpenKind.found) return `fd ${fd} found: ${names.descriptor(record)}`;
      const origin = ORIGINS.get(record.code);
      const by = origin === undefined ? '' : ` ${origin} by ${names.task(record, task)}`;
      const local = names.localAddress(record);
      return `fd ${fd} opened: ${names.descriptor(record)}${by}${local === undefined ? '' : ` at ${local}`}`;
    }
    case Kind.close:
      return `fd ${fd} closed`;
    case Kind.lost:
      return `... ${result} records lost: the ring or the disk was full`;
    default:
      return null;
  }
}

/** Record, time and text as one line, for those who quote single records. */
export function lineOf(record: TraceRecord, names: Names): string {
  return `${timeOf(record)}  ${textOf(record, names) ?? ''}`;
}

/** '=> resume echo#3' */
export function wake(record: TraceRecord, names: Names): string {
  return `=> resume ${names.task(record, record.task)}`;
}

/** 'runnable 0.012 ms': how long it could have run before it did. */
export function runnable(record: TraceRecord): string {
  return `runnable ${ms(record.arg)}`;
}

/** 'fd 9 IN', '20 ms', 'echo#3': what a suspend or resume record is about. */
function waitedFor(record: TraceRecord, names: Names): string {
  return record.code === WaitKind.descriptor ? `fd ${record.fd} ${events(record.mask)}` : names.wait(record);
}

export function events(mask: number): string {
  return mask === 3 ? 'IN|OUT' : mask === 2 ? 'OUT' : 'IN';
}

export function ms(ns: number): string {
  return `${(ns / 1e6).toFixed(3)} ms`;
}

function syscall(record: TraceRecord, names: Names): string {
  const { fd, task, arg, result } = record;
  const name = SYSCALLS[record.code] ?? '?';
  const payload = names.payload(record);
  const bytes = payload === undefined ? '' : `, ${quoted(payload, result)}`;
  const asked = TRANSFERS.has(name) ? `${bytes}, ${arg}` : '';
  const call = `${name}(${name === 'socket' ? '' : fd}${asked}) = ${outcome(result)}`;
  const line = column(call, `<${(record.duration / 1000).toFixed(1)} us>`);
  return task === 0 ? line : `${line.padEnd(74)}  ${names.task(record, task)}`;
}

/** As strace quotes bytes: "hello\n", and three dots where there were more. */
function quoted(payload: string, length: number): string {
  const text = payload.replace(/[^ !#-[\]-~]/g, (char, at: number) => {
    const short = ESCAPES[char];
    if (short !== undefined) return short;
    const octal = char.charCodeAt(0).toString(8);
    // A digit that follows would be read as one of the number.
    return `\\${/[0-9]/.test(payload[at + 1] ?? '') ? octal.padStart(3, '0') : octal}`;
  });
  return `"${text}"${payload.length < length ? '...' : ''}`;
}

function column(left: string, right: string): string {
  return right === '' ? left : `${left.padEnd(56)}  ${right}`;
}

function outcome(result: number): string {
  return result < 0 ? `-1 ${errorOf(result)}` : String(result);
}

/** Found once: an EAGAIN is in every other line of some traces. */
const errors = new Map<number, string>();
function errorOf(result: number): string {
  let name = errors.get(result);
  if (name === undefined) {
    name = errorName(result);
    if (errors.size < 256) errors.set(result, name);
  }
  return name;
}

function flags(mask: number): string {
  const names = EPOLL_FLAGS.filter(([bit]) => mask & bit).map(([, name]) => name);
  return names.join('|') || '0';
}
