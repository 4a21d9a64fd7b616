// Whatever was done to a trace: those who read it give lines and numbers, or one clear error, in bounded time and memory.
//
// Files in memory, three small traces, damage by a generator of its own that a seed repeats. ONEWAIT_FUZZ_RUNS=1000000 is the long run, which
// takes a while; ONEWAIT_FUZZ_SEED repeats one.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Doctor } from '../src/trace/doctor.ts';
import { readTrace } from '../src/trace/reader.ts';
import { HEADER_BYTES, Kind, RECORD_BYTES } from '../src/trace/record.ts';
import { TraceFormatter } from '../src/trace/show.ts';
import { Spans } from '../src/trace/spans.ts';
import { Summary } from '../src/trace/summary.ts';
import { summaryText } from '../src/trace/summary-text.ts';
import { onewait, script } from './processes.ts';

const RUNS = Number(process.env.ONEWAIT_FUZZ_RUNS ?? 20_000);
const SEED = Number(process.env.ONEWAIT_FUZZ_SEED ?? 1);
/** Where files cost no disk. */
const MEMORY = '/dev/shm';

let here = '';
const traces: Buffer[] = [];

beforeAll(async () => {
  here = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'onewait-fuzz-'));
  for (const [i, program] of [
    `async () => {
      const listener = await tcp.listen();
      const client = await tcp.connect({ port: listener.address.port });
      const server = await listener.accept();
      for (let i = 0; i < 3; i++) { await client.write('hello'); await server.read(); }
      client.destroy(); server.destroy(); listener.close();
    }`,
    `function* () {
      const task = spawn(function* child() { yield* sleep(1); throw new Error('for the trace'); });
      try { yield* task; } catch {}
    }`,
    'function* () { for (let i = 0; i < 4; i++) yield* yieldNow(); yield* sleep(0.1); }',
  ].entries()) {
    const path = join(here, `good${i}`);
    const child = script(`await run(${program}, { trace: process.argv[1] });`, { args: [path] });
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    traces.push(readFileSync(path));
  }
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

/** mulberry32: whole numbers below `limit`, the same for a seed every time. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % limit;
  };
}

const NUMBERS = [
  0,
  -0,
  -1,
  1,
  0.5,
  1e9,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e300,
  -1e300,
  Number.NaN,
  Number.POSITIVE_INFINITY,
];

/** Damages a trace once. Half of it knows the layout, and damages what a reader looks at. */
function damage(bytes: Buffer, random: (limit: number) => number): Buffer {
  if (bytes.length === 0) return bytes;
  const at = random(bytes.length);
  const records = Math.floor((bytes.length - HEADER_BYTES) / RECORD_BYTES);
  const one = records > 0 ? HEADER_BYTES + random(records) * RECORD_BYTES : -1;
  const other = records > 0 ? HEADER_BYTES + random(records) * RECORD_BYTES : -1;
  switch (random(one < 0 ? 6 : 12)) {
    case 0:
      bytes[at]! ^= 1 << random(8);
      return bytes;
    case 1:
      bytes[at] = random(256);
      return bytes;
    case 2:
      return bytes.fill(255, at, Math.min(bytes.length, at + random(16)));
    case 3:
      return bytes.subarray(0, at);
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random(200))]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + random(500)), bytes.subarray(at)]);
    case 6:
      bytes[one + 8] = 1 + random(15);
      return bytes;
    case 7:
      bytes[one + 9] = random(20);
      return bytes;
    case 8:
      bytes.writeUInt16LE(random(0x10000), one + 10);
      return bytes;
    case 9:
      bytes.writeInt32LE([-1, 0, 1, 2 ** 31 - 1, -(2 ** 31), random(40)][random(6)]!, one + [12, 16, 20][random(3)]!);
      return bytes;
    case 10:
      bytes.writeDoubleLE(NUMBERS[random(NUMBERS.length)]!, one + [0, 24, 32, 40][random(4)]!);
      return bytes;
    default: {
      const copy = Buffer.from(bytes.subarray(one, one + RECORD_BYTES));
      bytes.copy(bytes, one, other, other + RECORD_BYTES);
      copy.copy(bytes, other);
      return bytes;
    }
  }
}

/** Has everybody read a file. Returns whether it was whole; all that is thrown but a TraceError fails the test. */
function read(path: string, explain: boolean): boolean {
  const formatter = new TraceFormatter({ explain, filter: explain ? { fds: [0, 1] } : undefined });
  const summary = new Summary(3);
  const doctor = new Doctor({ heldNs: 1e6, idleNs: 1e6 });
  const spans = new Spans({});
  const lines: string[] = [];
  let whole = true;
  try {
    for (const record of readTrace(path).records) {
      lines.push(...formatter.push(record));
      summary.push(record);
      doctor.push(record);
      spans.push(record);
    }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_TRACE') throw error;
    const { message } = error as Error;
    if (!/^[^\n]+$/.test(message) || !message.includes(path)) throw error;
    whole = false;
  }
  lines.push(...formatter.end());
  spans.finish();
  for (const { sentence, lines: proof } of doctor.finish()) lines.push(sentence, ...proof);
  lines.push(...summaryText(summary.report()).split('\n'));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not come out
  for (const line of lines) if (/[\u0000-\u001f\u007f-\u009f]|NaN|undefined/.test(line)) throw new Error(line);
  return whole;
}

test(`${RUNS} damaged traces, of seed ${SEED}`, { timeout: 60_000 + RUNS * 5 }, () => {
  const path = join(here, 'damaged');
  let damaged = 0;
  let resident = 0;
  for (let run = 0; run < RUNS; run++) {
    const random = generator(SEED * 1_000_003 + run);
    let bytes: Buffer = Buffer.from(traces[random(traces.length)]!);
    for (let left = 1 + random(4); left > 0; left--) bytes = damage(bytes, random);
    writeFileSync(path, bytes);
    try {
      if (!read(path, run % 4 === 0)) damaged++;
    } catch (error) {
      throw new Error(`run ${run} of seed ${SEED}`, { cause: error });
    }
    if (run === Math.floor(RUNS / 4)) resident = process.memoryUsage().rss;
  }
  expect(damaged).toBeGreaterThan(RUNS / 20);
  expect(damaged).toBeLessThan(RUNS);
  // Nothing of a file stays when it has been read.
  expect(process.memoryUsage().rss - resident).toBeLessThan(200_000_000);
});

test('what is no trace, or not a whole one, costs each command one line and exit code 1', async () => {
  const good = traces[0]!;
  const newer = Buffer.from(good);
  newer.writeUInt32LE(9, 8);
  const odd = Buffer.from(good);
  odd[HEADER_BYTES + RECORD_BYTES + 8] = 99;
  const files: Array<[string, Buffer, RegExp]> = [
    ['empty', Buffer.alloc(0), /is empty/],
    ['foreign', readFileSync(process.execPath).subarray(0, 5000), /is no trace of onewait/],
    ['newer', newer, /was written by a newer onewait/],
    ['cut', good.subarray(0, good.length - 7), /was cut off/],
    ['odd', odd, /is damaged at offset 96: there is no kind 99/],
  ];
  const expected = new Map<string, RegExp>();
  for (const [name, bytes, message] of files) {
    writeFileSync(join(here, name), bytes);
    expected.set(join(here, name), message);
  }
  execFileSync('mkfifo', [join(here, 'fifo')]);
  expected.set(join(here, 'fifo'), /is no regular file/).set(here, /is no regular file/);
  expected.set(join(here, 'missing'), /ENOENT/);
  for (const [path, message] of expected) {
    const commands = [['show'], ['show', '--follow'], ['summary'], ['doctor']];
    // One that follows waits for the rest of what is cut off.
    const all = path.endsWith('/cut') ? commands.filter((command) => !command.includes('--follow')) : commands;
    for (const { code, stderr } of await Promise.all(
      all.map((command) => onewait(['trace', ...command, path]).end()),
    )) {
      expect(stderr).toMatch(/^onewait: [^\n]+\n$/);
      expect(stderr).toMatch(message);
      expect(code).toBe(1);
    }
  }
});

test('every kind of record, each with every code, is read without a trace of what came before', () => {
  const path = join(here, 'kinds');
  const parts: Buffer[] = [traces[0]!.subarray(0, HEADER_BYTES)];
  for (let kind: number = Kind.wait; kind <= Kind.thread; kind++) {
    for (let code = 0; code < 256; code++) {
      const bytes = Buffer.alloc(RECORD_BYTES);
      bytes[8] = kind;
      bytes[9] = code;
      if (kind !== Kind.text) bytes.writeUInt16LE(code, 10);
      parts.push(bytes);
    }
  }
  writeFileSync(path, Buffer.concat(parts));
  expect(read(path, false)).toBe(true);
  expect(read(path, true)).toBe(true);
});
