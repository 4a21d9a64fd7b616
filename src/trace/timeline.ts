// `onewait trace timeline`: a trace as one page of HTML that needs nothing else, no network either.
//
// The page is written beside its place and moved there when it is whole, so there is never half of one. Readable by its owner only, as the trace.
// All that comes from the trace is compressed and base64 in the page, so nothing of it can be taken for HTML, and the page shows it as text.

import { closeSync, openSync, realpathSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { errorName, OnewaitError } from '../errors.ts';
import { readTrace } from './reader.ts';
import { Kind, TRANSFERS } from './record.ts';
import { Spans } from './spans.ts';
import { TimelineData } from './timeline-data.ts';
import { pageParts } from './timeline-page.ts';

const REPORT_EVERY = 65_536;

/** What was written. */
export interface TimelineSummary {
  records: number;
  lanes: number;
  bytes: number;
}

/**
 * Makes a page of the trace at `path` and writes it to `output`, in place of a file that is there. `progress` is told now and then how many
 * records have been read; it is awaited, and if it throws nothing is left behind.
 * @throws TraceError when it is no whole trace, OnewaitError when the output can be no file, SystemError of open(2) and write(2)
 */
export async function writeTimeline(
  path: string,
  output: string,
  progress: (records: number) => Promise<void>,
): Promise<TimelineSummary> {
  const { header, records } = readTrace(path);
  const target = placeFor(output, path);
  const parts = pageParts(basename(path));
  const partial = `${target}.${process.pid}.partial`;
  const file = new PageFile(partial);
  try {
    file.text(parts.head);
    const data = new TimelineData((kind, bytes) => file.block(kind, bytes));
    const spans = new Spans(data);
    let count = 0;
    for (const record of records) {
      spans.push(record);
      if (record.kind === Kind.text || record.kind === Kind.thread) continue;
      if (++count % REPORT_EVERY === 0) await progress(count);
    }
    spans.finish();
    data.finish();
    const about = {
      name: basename(path),
      pid: header.pid,
      wallClockMs: header.wallClockMs,
      records: count,
      lanes: data.lanes,
      items: data.items,
      end: data.end,
      errors: [...data.errnos].map((errno) => [errno, errorName(errno)]),
      transfers: [...TRANSFERS],
    };
    file.block('about', Buffer.from(JSON.stringify(about)));
    file.text(parts.tail);
    file.close();
    renameSync(partial, target);
    return { records: count, lanes: data.lanes, bytes: file.bytes };
  } catch (error) {
    file.close();
    rmSync(partial, { force: true });
    throw error;
  }
}

/** Where the page goes: links are followed, and only a file is ever replaced. */
function placeFor(output: string, trace: string): string {
  let found: ReturnType<typeof statSync>;
  try {
    found = statSync(output);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return output;
    throw error;
  }
  if (found.isDirectory()) throw new OnewaitError('ERR_OUTPUT', `${output} is a directory: name a file in it`);
  if (!found.isFile()) throw new OnewaitError('ERR_OUTPUT', `${output} is no regular file: name one for the page`);
  const source = statSync(trace);
  if (found.dev === source.dev && found.ino === source.ino)
    throw new OnewaitError('ERR_OUTPUT', `${output} is the trace itself: name another file for the page`);
  return realpathSync(output);
}

/** The page while it is written. */
class PageFile {
  bytes = 0;
  private fd: number;

  constructor(path: string) {
    // 'x': a link that somebody has put there is not followed.
    this.fd = openSync(path, 'wx', 0o600);
  }

  text(text: string): void {
    this.all(Buffer.from(text));
  }

  /** Bytes for the page's script, which finds them by their kind. */
  block(kind: string, bytes: Uint8Array): void {
    this.text(`<script type="application/octet-stream" data-block="${kind}">`);
    this.text(Buffer.from(bytes).toString('base64'));
    this.text('</script>\n');
  }

  close(): void {
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }

  private all(bytes: Uint8Array): void {
    for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(writeSync(this.fd, rest));
    this.bytes += bytes.length;
  }
}
