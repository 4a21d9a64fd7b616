// Writes trace files for tests: what a program that is being traced would write, and what none would.

import { closeSync, openSync, writeSync } from 'node:fs';
import {
  HEADER_BYTES,
  Kind,
  MAGIC,
  PIECE_BYTES,
  PIECE_CONTINUES,
  PIECE_MORE,
  RECORD_BYTES,
  VERSION,
} from '../src/trace/record.ts';

/** Fields of a record; those that are left out are 0, and `fd` is -1. */
export interface Fields {
  t?: number;
  kind: number;
  code?: number;
  mask?: number;
  fd?: number;
  generation?: number;
  task?: number;
  result?: number;
  duration?: number;
  arg?: number;
}

export function header(): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.write(MAGIC);
  head.writeUInt32LE(VERSION, 8);
  head.writeUInt16LE(RECORD_BYTES, 12);
  head.writeBigUInt64LE(1_790_000_000_000_000_000n, 16);
  head.writeUInt32LE(1234, 32);
  return head;
}

export function record(fields: Fields): Buffer {
  const bytes = Buffer.alloc(RECORD_BYTES);
  bytes.writeDoubleLE(fields.t ?? 0, 0);
  bytes[8] = fields.kind;
  bytes[9] = fields.code ?? 0;
  bytes.writeUInt16LE(fields.mask ?? 0, 10);
  bytes.writeInt32LE(fields.fd ?? -1, 12);
  bytes.writeUInt32LE(fields.generation ?? 0, 16);
  bytes.writeUInt32LE(fields.task ?? 0, 20);
  bytes.writeDoubleLE(fields.result ?? 0, 24);
  bytes.writeDoubleLE(fields.duration ?? 0, 32);
  bytes.writeDoubleLE(fields.arg ?? 0, 40);
  return bytes;
}

/** A text, in pieces. */
export function text(code: number, whose: { t?: number; task?: number; fd?: number }, said: string | Buffer): Buffer {
  const bytes = Buffer.from(said);
  const pieces: Buffer[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += PIECE_BYTES) {
    const part = bytes.subarray(at, at + PIECE_BYTES);
    const more = at + PIECE_BYTES < bytes.length ? PIECE_MORE : 0;
    const piece = record({
      kind: Kind.text,
      code,
      mask: part.length | more | (at > 0 ? PIECE_CONTINUES : 0),
      ...whose,
    });
    piece.fill(0, 24);
    part.copy(piece, 24);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Parts that are written together. */
const PARTS_AT_ONCE = 4096;

/** A trace file that grows by `record` and `text`, until `close`. */
export class TraceFile {
  /** Records that are no texts. */
  count = 0;
  private readonly fd: number;
  private parts: Buffer[] = [header()];

  constructor(path: string) {
    this.fd = openSync(path, 'w');
  }

  record(fields: Fields): void {
    this.add(record(fields));
    this.count++;
  }

  /** A text of a kind (`code`) about a task or a descriptor. */
  text(fields: { t?: number; code: number; task?: number; fd?: number }, said: string): void {
    const { code, ...whose } = fields;
    this.add(text(code, whose, said));
  }

  close(): void {
    this.flush();
    closeSync(this.fd);
  }

  private add(part: Buffer): void {
    this.parts.push(part);
    if (this.parts.length >= PARTS_AT_ONCE) this.flush();
  }

  private flush(): void {
    writeSync(this.fd, Buffer.concat(this.parts));
    this.parts = [];
  }
}
