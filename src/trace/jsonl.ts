// A trace as JSON Lines: one object per record, in the order of the file, which is that of time within each thread.
// Texts are no objects of their own: they are folded into the records that they name. Neither are the records that begin a thread's batch.

import { errorName } from '../errors.ts';
import { Names } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { EndKind, Kind, OpenKind, SYSCALLS, TRANSFERS, WaitKind } from './record.ts';
import { TextOutput } from './text-output.ts';

/** A record in words: what `trace export --to jsonl` prints, and what slices of the other formats carry as their arguments. */
export interface RecordObject {
  /** Nanoseconds since the trace began. */
  t: number;
  kind: string;
  /** 0 is the main thread, others are numbered as Node's workers are. */
  thread: number;
  [field: string]: number | string;
}

const CONTROLS = ['?', 'ADD', 'DEL', 'MOD'];
const EVENTS = ['?', 'IN', 'OUT', 'IN|OUT'];
const OPENINGS = namesOf(OpenKind);
const ENDINGS = namesOf(EndKind);

/** The names of `kinds`, by number. */
function namesOf(kinds: Record<string, number>): string[] {
  const names: string[] = [];
  for (const [name, kind] of Object.entries(kinds)) names[kind] = name;
  return names;
}

/** What a record says, in words; null for what only names others. `names` must have been told of it, and not yet to forget it. */
export function objectOf(record: TraceRecord, names: Names): RecordObject | null {
  const { kind, code, thread, mask, result, arg } = record;
  const object: RecordObject = { t: Math.round(record.t), kind: '', thread };
  switch (kind) {
    case Kind.wait:
      object.kind = 'wait';
      object.syscall = SYSCALLS[code] ?? '?';
      object.timeoutNs = arg;
      outcome(object, result);
      object.blockedNs = Math.round(record.duration);
      return object;
    case Kind.control:
      object.kind = 'ctl';
      object.syscall = 'epoll_ctl';
      object.op = CONTROLS[code] ?? '?';
      descriptor(object, record);
      object.mask = arg;
      outcome(object, result);
      object.durationNs = Math.round(record.duration);
      if (record.task !== 0) object.task = record.task;
      return object;
    case Kind.ready:
      object.kind = 'ready';
      descriptor(object, record);
      object.mask = mask;
      return object;
    case Kind.syscall: {
      const syscall = SYSCALLS[code] ?? '?';
      object.kind = 'syscall';
      object.syscall = syscall;
      descriptor(object, record);
      if (TRANSFERS.has(syscall)) object.asked = arg;
      outcome(object, result);
      object.durationNs = Math.round(record.duration);
      if (record.task !== 0) object.task = record.task;
      const payload = names.payload(record);
      if (payload !== undefined) object.payload = payload;
      return object;
    }
    case Kind.spawn:
      task(object, 'spawn', record, names);
      object.parent = arg;
      return object;
    case Kind.suspend:
      task(object, 'suspend', record, names);
      waited(object, record, names);
      // V8 suspends an async function when others have run.
      if (arg > 0) object.agoNs = arg;
      return object;
    case Kind.resume:
      task(object, 'resume', record, names);
      waited(object, record, names);
      if (code !== WaitKind.start) object.runnableNs = arg;
      return object;
    case Kind.end:
      task(object, 'end', record, names);
      object.how = ENDINGS[code] ?? '?';
      if (code === EndKind.failed) object.error = names.error(record);
      return object;
    case Kind.timer:
      task(object, 'timer', record, names);
      object.lateNs = arg;
      return object;
    case Kind.host:
      object.kind = 'host';
      return object;
    case Kind.open: {
      object.kind = 'open';
      descriptor(object, record);
      object.name = names.descriptor(record);
      const local = names.localAddress(record);
      if (local !== undefined) object.localAddress = local;
      object.how = OPENINGS[code] ?? '?';
      if (record.task !== 0) object.task = record.task;
      return object;
    }
    case Kind.close:
      object.kind = 'close';
      descriptor(object, record);
      object.name = names.descriptor(record);
      return object;
    case Kind.lost:
      object.kind = 'lost';
      object.result = result;
      return object;
    default:
      return null;
  }
}

function descriptor(object: RecordObject, { fd, generation }: TraceRecord): void {
  if (fd >= 0) object.fd = fd;
  if (generation > 0) object.generation = generation;
}

function task(object: RecordObject, kind: string, record: TraceRecord, names: Names): void {
  object.kind = kind;
  object.task = record.task;
  object.name = names.task(record, record.task);
}

/** What a task is suspended on, and which wait that is: it has several when it waits for several things at once. */
function waited(object: RecordObject, record: TraceRecord, names: Names): void {
  if (record.code === WaitKind.start) return;
  object.wait = record.result;
  if (record.code === WaitKind.descriptor) {
    descriptor(object, record);
    object.mask = record.mask;
    object.on = `fd ${record.fd} ${EVENTS[record.mask & 3]}`;
  } else object.on = names.wait(record);
}

const errorNames = new Map<number, string>();

/** A negative errno comes with its name. */
function outcome(object: RecordObject, result: number): void {
  object.result = result;
  if (result >= 0) return;
  let name = errorNames.get(result);
  if (name === undefined) {
    name = errorName(result);
    if (errorNames.size < 4096) errorNames.set(result, name);
  }
  object.error = name;
}

/** JSON that a terminal shows as it is: bytes of a payload may be what it would take as commands, and JSON escapes not all of those. */
export function toJson(object: object): string {
  const json = JSON.stringify(object);
  if (!('payload' in object)) return json;
  return json.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
}

export class JsonlWriter extends TextOutput {
  private readonly names = new Names();

  push(record: TraceRecord): void {
    const { names } = this;
    names.remember(record);
    const object = objectOf(record, names);
    if (object !== null) this.add(`${toJson(object)}\n`);
    names.forget(record);
  }

  /** There is nothing to close: each line stands for itself. */
  finish(): void {}
}
