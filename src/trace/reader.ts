// Reads a trace file record by record, in bounded memory, and trusts none of it: a damaged file gives one clear error with its offset.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { OnewaitError } from '../errors.ts';
import {
  HEADER_BYTES,
  Kind,
  MAGIC,
  MAX_TEXT,
  PIECE_BYTES,
  PIECE_CONTINUES,
  PIECE_MORE,
  RECORD_BYTES,
  TextKind,
  VERSION,
} from './record.ts';

/** One record; native/trace.h says which fields mean what for which kind. `t`, `duration` in nanoseconds. */
export interface TraceRecord {
  t: number;
  kind: number;
  code: number;
  mask: number;
  fd: number;
  generation: number;
  task: number;
  result: number;
  duration: number;
  arg: number;
  /** For texts: what they say. */
  text: string;
  /** Which thread of the program it is about: 0 is the main one, others are numbered as Node's workers are (`threadId`). */
  thread: number;
}

/** The head of a trace. */
export interface TraceHeader {
  /** Milliseconds since the epoch at t = 0. */
  wallClockMs: number;
  /** CLOCK_MONOTONIC at t = 0. */
  monotonicNs: bigint;
  pid: number;
}

const RECORDS_AT_ONCE = 4096;
/** Times of more than this, a hundred years, are damage. */
const MAX_NS = 3.2e18;

/** The file is no trace, or not a whole one. */
export class TraceError extends OnewaitError {
  constructor(path: string, message: string) {
    super('ERR_TRACE', `${path}: ${message}`);
  }
}

/** Where the bytes of a trace come from: like read(2), 0 is the end. */
export interface TraceSource {
  read(into: Uint8Array, at: number, length: number, offset: number): number;
  close(): void;
}

/** Reads one file, also one that grows meanwhile, or another source. */
export class TraceReader {
  readonly path: string;
  readonly header: TraceHeader;
  private readonly source: TraceSource;
  private readonly buffer = Buffer.alloc(RECORDS_AT_ONCE * RECORD_BYTES);
  private readonly numbers = new Float64Array(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length / 8);
  private readonly integers = new Int32Array(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length / 4);
  /** What of the buffer is not read yet, and where in the file that is. */
  private start = 0;
  private end = 0;
  private offset = HEADER_BYTES;
  private thread = 0;
  /** The second half of what one record told: a descriptor was ready, and this was done with it. */
  private second: TraceRecord | null = null;
  private pieces: Buffer[] = [];
  private pieceBytes = 0;

  /** @throws TraceError when it is not a trace or was written by a newer version; SystemError of open(2) */
  constructor(path: string, source: TraceSource = fileSource(path)) {
    this.path = path;
    this.source = source;
    try {
      this.header = this.readHeader();
    } catch (error) {
      source.close();
      throw error;
    }
  }

  /** The next record, or null at what is the end of the file now. @throws TraceError where it is damaged */
  next(): TraceRecord | null {
    const { second } = this;
    if (second !== null) {
      this.second = null;
      return second;
    }
    for (;;) {
      if (!this.fill()) return null;
      const where = this.offset;
      const at = this.start;
      this.start += RECORD_BYTES;
      this.offset += RECORD_BYTES;
      const kind = this.buffer[at + 8]!;
      if (kind === Kind.text) {
        const record = this.piece(at, where);
        if (record !== null) return record;
        continue;
      }
      // The rest of a text that the ring had no room for.
      if (this.pieces.length > 0) this.pieces = [];
      const record = this.decode(at);
      if (record.kind < Kind.wait || record.kind > Kind.thread)
        throw this.damaged(where, `there is no kind ${record.kind} of record`);
      if (
        !(record.t >= 0 && record.t <= MAX_NS) ||
        !(record.duration >= 0 && record.duration <= MAX_NS) ||
        !Number.isInteger(record.result) ||
        !Number.isInteger(record.arg)
      )
        throw this.damaged(where, 'a record holds what is no such number');
      if (kind === Kind.thread) {
        if (record.fd < 0) throw this.damaged(where, `there is no thread ${record.fd}`);
        this.thread = record.fd;
        record.thread = record.fd;
      } else if (kind === Kind.syscall && record.mask !== 0) {
        this.second = { ...record, mask: 0 };
        record.kind = Kind.ready;
        record.code = 0;
        record.result = 0;
        record.duration = 0;
        record.arg = 0;
        record.task = 0;
      }
      return record;
    }
  }

  /** Whether the file has records of more than one thread by now. Looks at the kinds alone, and leaves the reader where it is. */
  severalThreads(): boolean {
    const chunk = Buffer.alloc(this.buffer.length);
    let first = -1;
    for (let offset = HEADER_BYTES; ; offset += chunk.length) {
      const length = this.source.read(chunk, 0, chunk.length, offset);
      for (let at = 0; at + RECORD_BYTES <= length; at += RECORD_BYTES) {
        if (chunk[at + 8] !== Kind.thread) continue;
        const thread = chunk.readInt32LE(at + 12);
        if (first < 0) first = thread;
        else if (thread !== first) return true;
      }
      if (length < chunk.length) return false;
    }
  }

  /** Whether the file is another trace by now: shorter than what was read of it, or with another header. */
  get begunAnew(): boolean {
    const head = Buffer.alloc(HEADER_BYTES);
    const last = Buffer.alloc(1);
    if (this.source.read(head, 0, HEADER_BYTES, 0) < HEADER_BYTES) return true;
    if (head.readBigUInt64LE(24) !== this.header.monotonicNs || head.readUInt32LE(32) !== this.header.pid) return true;
    return this.source.read(last, 0, 1, this.offset - 1) === 0;
  }

  /** How many records the disk had no room for, as far as is known by now: the writer notes it at its end. */
  get missing(): number {
    const head = Buffer.alloc(HEADER_BYTES);
    return this.source.read(head, 0, HEADER_BYTES, 0) < HEADER_BYTES ? 0 : head.readUInt32LE(36);
  }

  /** To be called where no more will come. @throws TraceError when the file ends within a record */
  finish(): void {
    if (this.pieces.length > 0)
      throw new TraceError(this.path, `ends in the middle of a text, at offset ${this.offset}: it was cut off`);
    if (this.end > this.start)
      throw new TraceError(this.path, `ends in the middle of a record, at offset ${this.offset}: it was cut off`);
  }

  close(): void {
    this.source.close();
  }

  private readHeader(): TraceHeader {
    const { path } = this;
    const head = Buffer.alloc(HEADER_BYTES);
    const length = this.source.read(head, 0, HEADER_BYTES, 0);
    if (length === 0) throw new TraceError(path, 'is empty, so no trace');
    if (head.toString('latin1', 0, 8) !== MAGIC)
      throw new TraceError(path, `is no trace of onewait: it does not begin with ${MAGIC} at offset 0`);
    if (length < HEADER_BYTES)
      throw new TraceError(path, `ends in the middle of its header, at offset ${length}: it was cut off`);
    const version = head.readUInt32LE(8);
    if (version === 0) throw new TraceError(path, 'is damaged at offset 8: there is no format 0');
    if (version > VERSION)
      throw new TraceError(
        path,
        `was written by a newer onewait (format ${version}, this one reads ${VERSION}); update onewait`,
      );
    if (version < VERSION)
      throw new TraceError(path, `is of format ${version}, which only onewait before 0.1.0 wrote; record it anew`);
    if (head.readUInt16LE(12) !== RECORD_BYTES)
      throw new TraceError(path, 'is damaged: the size of its records, at offset 12, is wrong');
    return {
      wallClockMs: Number(head.readBigUInt64LE(16) / 1_000_000n),
      monotonicNs: head.readBigUInt64LE(24),
      pid: head.readUInt32LE(32),
    };
  }

  /** Makes a record available at `start`; false when there is none yet. */
  private fill(): boolean {
    while (this.end - this.start < RECORD_BYTES) {
      this.buffer.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
      const room = this.buffer.length - this.end;
      const got = this.source.read(this.buffer, this.end, room, this.offset + this.end);
      if (got === 0) return false;
      this.end += got;
    }
    return true;
  }

  private decode(at: number): TraceRecord {
    const { buffer, numbers, integers } = this;
    // The buffer is aligned, and records are multiples of 8; a file that lost bytes is read as the nonsense that it is.
    const number = at >> 3;
    const integer = at >> 2;
    return {
      t: numbers[number]!,
      kind: buffer[at + 8]!,
      code: buffer[at + 9]!,
      mask: buffer[at + 10]! | (buffer[at + 11]! << 8),
      fd: integers[integer + 3]!,
      generation: integers[integer + 4]! >>> 0,
      task: integers[integer + 5]! >>> 0,
      result: numbers[number + 3]!,
      duration: numbers[number + 4]!,
      arg: numbers[number + 5]!,
      text: '',
      thread: this.thread,
    };
  }

  /** One piece of a text; the whole of it when this was the last. Pieces without a beginning (a ring was full) are left out. */
  private piece(at: number, where: number): TraceRecord | null {
    const mask = this.buffer[at + 10]! | (this.buffer[at + 11]! << 8);
    const bytes = mask & ~(PIECE_MORE | PIECE_CONTINUES);
    if (bytes > PIECE_BYTES) throw this.damaged(where, `a piece of ${bytes} bytes in a text`);
    if (!(mask & PIECE_CONTINUES)) {
      this.pieces = [];
      this.pieceBytes = 0;
    } else if (this.pieces.length === 0) return null;
    this.pieceBytes += bytes;
    if (this.pieceBytes > MAX_TEXT) throw this.damaged(where, `a text of more than ${MAX_TEXT} bytes`);
    this.pieces.push(Buffer.from(this.buffer.subarray(at + 24, at + 24 + bytes)));
    if (mask & PIECE_MORE) return null;
    const record = this.decode(at);
    if (!(record.t >= 0 && record.t <= MAX_NS)) throw this.damaged(where, 'a record holds what is no such number');
    record.mask = 0;
    record.result = this.pieceBytes;
    record.duration = 0;
    record.arg = 0;
    record.text = Buffer.concat(this.pieces).toString(record.code === TextKind.payload ? 'latin1' : 'utf8');
    this.pieces = [];
    return record;
  }

  private damaged(offset: number, what: string): TraceError {
    return new TraceError(this.path, `is damaged at offset ${offset}: ${what}`);
  }
}

function fileSource(path: string): TraceSource {
  // Opening a FIFO would wait for somebody to write to it.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!fstatSync(fd).isFile()) {
    closeSync(fd);
    throw new TraceError(path, 'is no regular file, so no trace either');
  }
  return {
    read: (into, at, length, offset) => readSync(fd, into, at, length, offset),
    close: () => closeSync(fd),
  };
}

/** A trace in memory. */
export function memorySource(bytes: Uint8Array): TraceSource {
  return {
    read: (into, at, length, offset) => {
      const part = bytes.subarray(offset, offset + length);
      into.set(part, at);
      return part.length;
    },
    close: () => {},
  };
}

/**
 * Opens a trace.
 * @throws TraceError when it is not a trace, was written by a newer version, or (while iterating) is damaged; SystemError of open(2)
 */
export function readTrace(path: string): { header: TraceHeader; records: Generator<TraceRecord, void, undefined> } {
  const reader = new TraceReader(path);
  return { header: reader.header, records: recordsOf(reader) };
}

function* recordsOf(reader: TraceReader): Generator<TraceRecord, void, undefined> {
  try {
    let last: TraceRecord | null = null;
    for (let record = reader.next(); record !== null; record = reader.next()) {
      last = record;
      yield record;
    }
    reader.finish();
    const { missing } = reader;
    if (missing > 0 && last !== null)
      yield {
        ...last,
        kind: Kind.lost,
        code: 0,
        mask: 0,
        fd: -1,
        task: 0,
        result: missing,
        duration: 0,
        arg: 0,
        text: '',
      };
  } finally {
    reader.close();
  }
}
