// Reads a trace file record by record, in bounded memory, and trusts none of it: a damaged file gives one clear error with its offset.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { OnewaitError } from '../errors.ts';
import { HEADER_BYTES, Kind, MAGIC, RECORD_BYTES, VERSION } from './record.ts';

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
}

/** The head of a trace. */
export interface TraceHeader {
  /** Milliseconds since the epoch at t = 0. */
  wallClockMs: number;
  pid: number;
  thread: number;
}

const RECORDS_AT_ONCE = 4096;
/** What native/trace.cc cuts texts to. */
const MAX_TEXT = 480;

/** The file is no trace, or not a whole one. */
class TraceError extends OnewaitError {
  constructor(path: string, message: string) {
    super('ERR_TRACE', `${path}: ${message}`);
  }
}

/**
 * Opens a trace.
 * @throws TraceError when it is not a trace, was written by a newer version, or (while iterating) is damaged; SystemError of open(2)
 */
export function readTrace(path: string): { header: TraceHeader; records: Generator<TraceRecord, void, undefined> } {
  // Opening a FIFO would wait for somebody to write to it.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) throw new TraceError(path, 'is no regular file, so no trace either');
    const head = Buffer.alloc(HEADER_BYTES);
    const length = readSync(fd, head, 0, HEADER_BYTES, 0);
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
    if (head.readUInt32LE(12) !== RECORD_BYTES)
      throw new TraceError(path, 'is damaged: the size of its records, at offset 12, is wrong');
    const header = {
      wallClockMs: Number(head.readBigUInt64LE(16) / 1_000_000n),
      pid: head.readUInt32LE(32),
      thread: head.readUInt32LE(36),
    };
    return { header, records: readRecords(path, fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function* readRecords(path: string, fd: number): Generator<TraceRecord, void, undefined> {
  const buffer = Buffer.alloc(RECORDS_AT_ONCE * RECORD_BYTES);
  let offset = HEADER_BYTES;
  let start = 0;
  let end = 0;
  /** Makes `count` bytes available at `start`; false at the end of the file. */
  const need = (count: number): boolean => {
    while (end - start < count) {
      buffer.copyWithin(0, start, end);
      end -= start;
      start = 0;
      const got = readSync(fd, buffer, end, buffer.length - end, offset + end);
      if (got === 0) return false;
      end += got;
    }
    return true;
  };
  const take = (count: number): number => {
    const at = start;
    start += count;
    offset += count;
    return at;
  };
  try {
    while (need(RECORD_BYTES)) {
      const where = offset;
      const record = decode(buffer, take(RECORD_BYTES));
      if (record.kind < Kind.wait || record.kind > Kind.text) {
        throw new TraceError(path, `is damaged at offset ${where}: there is no kind ${record.kind} of record`);
      }
      if (record.kind === Kind.text) {
        if (record.result < 0 || record.result > MAX_TEXT)
          throw new TraceError(path, `is damaged at offset ${where}: a text of ${record.result} bytes`);
        const slots = Math.ceil(record.result / RECORD_BYTES) * RECORD_BYTES;
        if (!need(slots)) throw cutOff(path, where);
        const at = take(slots);
        record.text = buffer.toString('utf8', at, at + record.result);
      }
      yield record;
    }
    if (end > start) throw cutOff(path, offset);
  } finally {
    closeSync(fd);
  }
}

function cutOff(path: string, offset: number): TraceError {
  return new TraceError(path, `ends in the middle of a record, at offset ${offset}: it was cut off`);
}

function decode(buffer: Buffer, at: number): TraceRecord {
  return {
    t: Number(buffer.readBigUInt64LE(at)),
    kind: buffer.readUInt8(at + 8),
    code: buffer.readUInt8(at + 9),
    mask: buffer.readUInt16LE(at + 10),
    fd: buffer.readInt32LE(at + 12),
    generation: buffer.readUInt32LE(at + 16),
    task: buffer.readUInt32LE(at + 20),
    result: Number(buffer.readBigInt64LE(at + 24)),
    duration: Number(buffer.readBigUInt64LE(at + 32)),
    arg: Number(buffer.readBigInt64LE(at + 40)),
    text: '',
  };
}
