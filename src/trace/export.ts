// A trace in the formats of other tools, piece by piece: memory is that of a piece, and of what is open in the trace.

import { ChromeWriter } from './chrome.ts';
import { JsonlWriter } from './jsonl.ts';
import { PerfettoWriter } from './perfetto.ts';
import { readTrace, TraceError, type TraceHeader, type TraceRecord } from './reader.ts';

/** Turns records into bytes of a format. */
interface Writer {
  push(record: TraceRecord): void;
  /** No more will come: writes what is to be written at the end. */
  finish(): void;
  /** How much waits to be taken. */
  readonly size: number;
  take(): Uint8Array;
}

const WRITERS: Record<'jsonl' | 'chrome' | 'perfetto', (header: TraceHeader) => Writer> = {
  jsonl: () => new JsonlWriter(),
  chrome: (header) => new ChromeWriter(header),
  perfetto: (header) => new PerfettoWriter(header),
};

export type ExportFormat = keyof typeof WRITERS;
export const EXPORT_FORMATS: ExportFormat[] = Object.keys(WRITERS) as ExportFormat[];

const PIECE_SIZE = 1 << 16;

/**
 * The bytes of a trace in a format. Of a damaged trace they are those of what comes before the damage, whole and valid, and then this throws.
 * @throws TraceError when it is no trace, or is damaged; SystemError of open(2)
 */
export function* exportTrace(path: string, format: ExportFormat): Generator<Uint8Array, void, undefined> {
  const { header, records } = readTrace(path);
  const writer = WRITERS[format](header);
  let damage: TraceError | null = null;
  try {
    for (const record of records) {
      writer.push(record);
      if (writer.size >= PIECE_SIZE) yield writer.take();
    }
  } catch (error) {
    if (!(error instanceof TraceError)) throw error;
    damage = error;
  }
  writer.finish();
  yield writer.take();
  if (damage !== null) throw damage;
}
