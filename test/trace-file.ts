// Writes trace files as native code would, for tests that want one of their own making.

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

/** The fields of a record that are not 0 (of `fd`: not -1). */
export interface RecordFields {
  t: number;
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

const BUFFER_BYTES = 4096 * RECORD_BYTES;

/** A trace file that grows by `record` and `text`, until `close`. */
export class TraceFile {
  count = 0;
  private readonly fd: number;
  private readonly buffer = Buffer.alloc(BUFFER_BYTES);
  private used = 0;

  constructor(path: string) {
    this.fd = openSync(path, 'w');
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC);
    header.writeUInt32LE(VERSION, 8);
    header.writeUInt16LE(RECORD_BYTES, 12);
    header.writeBigUInt64LE(1_790_000_000_000_000_000n, 16);
    header.writeUInt32LE(1234, 32);
    writeSync(this.fd, header);
  }

  record(fields: RecordFields): void {
    const at = this.next(fields);
    this.buffer.writeDoubleLE(fields.result ?? 0, at + 24);
    this.buffer.writeDoubleLE(fields.duration ?? 0, at + 32);
    this.buffer.writeDoubleLE(fields.arg ?? 0, at + 40);
    this.count++;
  }

  /** A text of a kind (`code`) about a task or a descriptor. */
  text(fields: Omit<RecordFields, 'kind'>, text: string): void {
    const bytes = Buffer.from(text);
    for (let from = 0; from === 0 || from < bytes.length; from += PIECE_BYTES) {
      const piece = bytes.subarray(from, from + PIECE_BYTES);
      const flags = (from > 0 ? PIECE_CONTINUES : 0) | (from + PIECE_BYTES < bytes.length ? PIECE_MORE : 0);
      const at = this.next({ ...fields, kind: Kind.text, mask: piece.length | flags });
      this.buffer.fill(0, at + 24, at + RECORD_BYTES);
      piece.copy(this.buffer, at + 24);
    }
  }

  close(): void {
    this.flush();
    closeSync(this.fd);
  }

  private next({ t, kind, code = 0, mask = 0, fd = -1, generation = 0, task = 0 }: RecordFields): number {
    if (this.used === BUFFER_BYTES) this.flush();
    const { buffer, used: at } = this;
    buffer.writeDoubleLE(t, at);
    buffer[at + 8] = kind;
    buffer[at + 9] = code;
    buffer.writeUInt16LE(mask, at + 10);
    buffer.writeInt32LE(fd, at + 12);
    buffer.writeUInt32LE(generation, at + 16);
    buffer.writeUInt32LE(task, at + 20);
    this.used += RECORD_BYTES;
    return at;
  }

  private flush(): void {
    writeSync(this.fd, this.buffer, 0, this.used);
    this.used = 0;
  }
}
