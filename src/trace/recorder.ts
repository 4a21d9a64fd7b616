// Whether this thread is being recorded, and into what: a file, or a ring in memory that a flight recorder writes out when something happens.
//
// One recording per thread. Native code records system calls and waits by itself as soon as there is one; whoever drives a loop attaches a
// Tracer to it, which records its tasks.

import { writeSync } from 'node:fs';
import { constants } from 'node:os';
import { isMainThread, threadId } from 'node:worker_threads';
import { OnewaitError, systemError } from '../errors.ts';
import { native } from '../native.ts';
import { MAX_TEXT, RECORD_BYTES } from './record.ts';
import { Ring } from './ring.ts';

export interface RecordOptions {
  /** Of every read and write, so many of its first bytes are recorded. None by default: they may be secrets. At most 4,096. */
  payload?: number | undefined;
}

export interface FlightOptions extends RecordOptions {
  /** Bytes of memory to keep the last moments in; 16 MiB by default. */
  bytes?: number | undefined;
  /** A turn of the loop that takes longer than so many milliseconds is written out. 1,000 by default; Infinity: none. */
  slowTurnMs?: number | undefined;
}

/** Records that the ring holds until the writer thread has taken them: 12 MiB, a tenth of a second of full load. */
const STREAM_RECORDS = 1 << 18;
const FLIGHT_BYTES = 16 << 20;
const MAX_FLIGHT_BYTES = 2 ** 31;
const SLOW_TURN_MS = 1000;
/** For those who look on: more than live.ts hands out at once, and a small part of a processor's cache. */
const LIVE_RECORDS = 1 << 16;
/** So many slow turns are written out by themselves: a program that is always slow must not fill the disk. */
const MOST_SLOW_DUMPS = 10;

/** What open(2) says of what must not be overwritten, or cannot be. */
const NO_TRACE_FILE: Record<string, string> = {
  EINVAL: 'it exists, and is no regular file',
  ENXIO: 'it exists, and is no regular file',
  EISDIR: 'it is a directory',
  ENOENT: 'open ENOENT, its folder does not exist',
  ELOOP: 'it is a symbolic link, which may lead anywhere',
  EBUSY: 'another process is writing it',
};

/** What this thread records. */
export class Recording {
  readonly ring: Ring;
  readonly file: string;
  /** Null unless it is a flight recorder. */
  readonly flight: FlightRecorder | null;
  /** Nobody asked for it but those who look on (live.ts): it never reaches a file, and gives way to any other. */
  readonly live: boolean;
  private readonly atExit = (): void => this.finish((message) => writeError(message));

  constructor(file: string | null, flight: FlightOptions | null, payload: number) {
    this.live = file === null;
    this.file = file ?? '';
    const records = this.live
      ? LIVE_RECORDS
      : flight === null
        ? STREAM_RECORDS
        : powerOfTwo((flight.bytes ?? FLIGHT_BYTES) / RECORD_BYTES);
    checkFile(this.file, native.traceOpen(this.file, records, this.live || flight !== null, threadId, payload));
    this.ring = new Ring(native.traceMemory()!);
    this.flight = flight === null ? null : new FlightRecorder(this, flight.slowTurnMs ?? SLOW_TURN_MS);
    // process.exit() runs no cleanup hook of the addon (a worker that is terminated does, and nothing of this).
    process.once('exit', this.atExit);
  }

  /** Everything is in the file when this returns. Warns when some of it is missing there. */
  stop(): void {
    this.finish((message) => process.emitWarning(message, { code: 'ONEWAIT_TRACE_LOST' }));
  }

  /** A process that exits prints no warnings any more. */
  private finish(warn: (message: string) => void): void {
    if (active !== this) return;
    active = null;
    process.removeListener('exit', this.atExit);
    this.flight?.stop();
    const lost = native.traceClose();
    if (lost > 0)
      warn(
        `the trace ${this.file} is not complete: ${lost} records are missing, for want of memory or room on the disk`,
      );
  }
}

/** Writes the last moments out: on SIGUSR2, on an uncaught error, after a slow turn, or when asked. */
export class FlightRecorder {
  /** Called before the ring is written out: names what is alive, for the records that named it may be gone. */
  snapshot: () => void = () => {};
  private readonly recording: Recording;
  private readonly slowTurnNs: number;
  private dumps = 0;
  private slowDumps = 0;
  /** How much of the turn that goes on went into writing. */
  private writingNs = 0;
  private readonly onSignal = (): void => this.report('SIGUSR2');
  private readonly onError = (): void => this.report('an uncaught error');

  constructor(recording: Recording, slowTurnMs: number) {
    this.recording = recording;
    this.slowTurnNs = slowTurnMs * 1e6;
    // Signals are the main thread's.
    if (isMainThread) process.on('SIGUSR2', this.onSignal);
    process.on('uncaughtExceptionMonitor', this.onError);
  }

  /** @internal */
  stop(): void {
    process.removeListener('SIGUSR2', this.onSignal);
    process.removeListener('uncaughtExceptionMonitor', this.onError);
  }

  /**
   * Writes what there is to `file`, by default the recording's own, with a number from the second time on, and that of the process where another one
   * with the same name, a child or a parent, has left its own. The file. @throws SystemError
   */
  dump(file?: string): string {
    const own = this.recording.file + (this.dumps === 0 ? '' : `.${this.dumps + 1}`);
    let path = file ?? own;
    const begin = performance.now();
    try {
      this.snapshot();
      let result = native.traceDump(path, file === undefined);
      if (result === -constants.errno.EEXIST) {
        path = `${own}.${process.pid}`;
        result = native.traceDump(path, false);
      }
      checkFile(path, result);
    } finally {
      this.writingNs += (performance.now() - begin) * 1e6;
    }
    if (file === undefined) this.dumps++;
    return path;
  }

  /** A task has failed, and nobody cared. */
  failed(): void {
    this.report('the failure of a task');
  }

  /** A turn took so long. What it spent on writing out is not the program's. */
  turned(turnNs: number): void {
    const ns = turnNs - this.writingNs;
    this.writingNs = 0;
    if (ns <= this.slowTurnNs || this.slowDumps === MOST_SLOW_DUMPS) return;
    this.slowDumps++;
    this.report(`a turn of ${Math.round(ns / 1e6)} ms`);
  }

  private report(cause: string): void {
    let outcome: string;
    try {
      outcome = `the last moments before ${cause} are in ${this.dump()}`;
    } catch (error) {
      outcome = (error as Error).message;
    }
    writeError(outcome);
  }
}

/** At once: the process may be about to end. */
function writeError(message: string): void {
  try {
    writeSync(2, `onewait: ${message}\n`);
  } catch {
    // Nobody listens.
  }
}

let active: Recording | null = null;
let asked = false;

/** What this thread records now, or null. */
export function activeRecording(): Recording | null {
  return active;
}

/** Whether somebody asked for what this thread records now. */
export function isRecording(): boolean {
  return active !== null && !active.live;
}

/** What this thread records, for somebody who looks on: what it does already, or else into memory from now on. */
export function recordLive(): Recording {
  active ??= new Recording(null, null, 0);
  return active;
}

/** Starts recording this thread into `file` (mode 0600). @throws OnewaitError ERR_RECORDING when it does so already; SystemError of open(2); RangeError */
export function record(file: string, options: RecordOptions = {}): Recording {
  return begin(file, null, options.payload);
}

/** Starts a flight recorder on this thread. @throws OnewaitError ERR_RECORDING, RangeError */
export function recordFlight(file: string, options: FlightOptions = {}): Recording {
  const { bytes = FLIGHT_BYTES, slowTurnMs = SLOW_TURN_MS } = options;
  if (!(bytes >= 64 * 1024 && bytes <= MAX_FLIGHT_BYTES))
    throw new RangeError(`a flight recorder keeps between 64 KiB and 2 GiB, not ${bytes} bytes`);
  if (!(slowTurnMs >= 0)) throw new RangeError(`slowTurnMs must be a number of milliseconds, and is ${slowTurnMs}`);
  return begin(file, options, options.payload);
}

function begin(file: string, flight: FlightOptions | null, payload = 0): Recording {
  if (typeof file !== 'string' || file === '')
    throw new TypeError(`a trace needs the name of a file, and got ${String(file)}`);
  if (!Number.isInteger(payload) || payload < 0 || payload > MAX_TEXT)
    throw new RangeError(`payload must be a whole number of bytes from 0 to ${MAX_TEXT}, and is ${payload}`);
  if (active?.live) active.stop();
  if (active !== null)
    throw new OnewaitError('ERR_RECORDING', `this thread is recorded already, into ${active.file}: stop that first`);
  active = new Recording(file, flight, payload);
  return active;
}

/**
 * Starts what the environment asks for, the first time that it is called on this thread: ONEWAIT_TRACE=FILE records into a file (`FILE.PID` where another
 * process, whose child this may be, writes that one);
 * ONEWAIT_TRACE_RING=16MiB keeps the last moments (ONEWAIT_TRACE says where they go, `onewait-PID.trace` by default), and
 * ONEWAIT_TRACE_SLOW=MS says which turns are slow; ONEWAIT_TRACE_PAYLOAD=BYTES.
 * @throws RangeError for what is no such number; SystemError
 */
export function recordAsAsked(): void {
  if (asked) return;
  asked = true;
  const {
    ONEWAIT_TRACE: file,
    ONEWAIT_TRACE_RING: ring,
    ONEWAIT_TRACE_SLOW: slow,
    ONEWAIT_TRACE_PAYLOAD: payload,
  } = process.env;
  if (isRecording() || (!file && !ring)) return;
  const options = { payload: payload ? parseNumber('ONEWAIT_TRACE_PAYLOAD', payload) : 0 };
  if (!ring) recordBeside(file!, options);
  else {
    const base = file || `onewait-${process.pid}.trace`;
    recordFlight(isMainThread ? base : `${base}.worker${threadId}`, {
      ...options,
      bytes: parseBytes(ring),
      slowTurnMs: slow ? parseNumber('ONEWAIT_TRACE_SLOW', slow) : undefined,
    });
  }
}

/** A program that has inherited the name of a file, from one that writes it, takes another: `FILE.PID`. */
function recordBeside(file: string, options: RecordOptions): void {
  try {
    record(file, options);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EBUSY') throw error;
    record(`${file}.${process.pid}`, options);
  }
}

/** '16MiB', '64K' or '1000000'. */
function parseBytes(text: string): number {
  const match = /^(\d+)\s*(?:([KMG])(?:i?B)?)?$/i.exec(text.trim());
  if (match === null) throw new RangeError(`ONEWAIT_TRACE_RING must be a size such as 16MiB, and is '${text}'`);
  return Number(match[1]) * 1024 ** ' KMG'.indexOf((match[2] ?? ' ').toUpperCase());
}

function parseNumber(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0))
    throw new RangeError(`${name} must be a number, 0 or more, and is '${text}'`);
  return value;
}

/** The greatest power of two that is not more. */
function powerOfTwo(count: number): number {
  return 2 ** Math.floor(Math.log2(count));
}

function checkFile(path: string, result: number): void {
  if (result >= 0) return;
  const error = systemError('open', result);
  error.message = `cannot record a trace in ${path}: ${NO_TRACE_FILE[error.code] ?? error.message}`;
  throw error;
}
