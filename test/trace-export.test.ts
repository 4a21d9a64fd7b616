// `onewait trace export`: each format says what the trace does, whatever is in it, and is what its definition asks for.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { all, readable, run, sleep, spawn, tcp } from '../src/index.ts';
import { type ExportFormat, exportTrace } from '../src/trace/export.ts';
import { ProtobufWriter } from '../src/trace/protobuf.ts';
import { readTrace } from '../src/trace/reader.ts';
import { EndKind, HEADER_BYTES, Kind, OpenKind, RECORD_BYTES, TextKind, WaitKind } from '../src/trace/record.ts';
import { Child, cli, folder, needs, onewait, script } from './processes.ts';
import {
  packetsOf,
  timelineOf,
  timelineOfChrome,
  timelineOfPerfetto,
  withoutNames,
  withoutTimes,
} from './trace-exports.ts';
import { TraceFile } from './trace-file.ts';
import { until } from './until.ts';

function exported(path: string, format: ExportFormat): Buffer {
  return Buffer.concat([...exportTrace(path, format)]);
}

function lines(path: string): Array<Record<string, unknown>> {
  return exported(path, 'jsonl')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** A trace of real work in several tasks, one of which waits for two things at once, and one of which fails. */
async function recordOne(path: string): Promise<void> {
  await run(
    async () => {
      const listener = await tcp.listen();
      const serve = spawn(
        async () => {
          for (;;) {
            const conn = await listener.accept();
            spawn(
              async () => {
                for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) await conn.write(chunk);
                await conn.close();
              },
              { name: 'echo' },
            );
          }
        },
        { name: 'serve "all" of them, ü 漢 🙂' },
      );
      const clients = [1, 2, 3].map((n) =>
        spawn(
          function* () {
            const conn = yield* tcp.connect({ port: listener.address.port });
            for (let i = 0; i < 5; i++) {
              yield* conn.write(`${n}: message ${i}`);
              yield* all([sleep(1), readable(conn.fd)]);
              yield* conn.read();
            }
            yield* conn.close();
          },
          { name: 'client' },
        ),
      );
      for (const client of clients) await client;
      const fails = spawn(
        async () => {
          throw new Error('for the trace');
        },
        { name: 'fails' },
      );
      await fails.then(undefined, () => {});
      serve.cancel();
      listener.close();
    },
    { trace: path },
  );
}

describe('a real trace', () => {
  const path = join(tmpdir(), `onewait-export-${process.pid}`);
  beforeAll(() => recordOne(path));
  afterAll(() => {
    execFileSync('rm', ['-f', path]);
  });

  test('shows the same spans, marks and arrows in Chrome’s format', () => {
    const original = timelineOf(path);
    const { events, ...timeline } = timelineOfChrome(exported(path, 'chrome').toString());
    expect(timeline).toEqual(withoutTimes(original));
    expect(original.flows.length).toBeGreaterThan(10);
    // Who awaits a descriptor has rows of its own, beside those of its system calls.
    const rows = new Map(events.flatMap(({ name, tid, args }) => (name === 'thread_name' ? [[tid, args!.name]] : [])));
    for (const { ph, cat, tid } of events)
      if (ph === 'X') expect(/ awaited( \(\d+\))?$/.test(String(rows.get(tid)))).toBe(cat === 'awaited');
    expect(events.find(({ name }) => name === 'process_name')).toMatchObject({ ph: 'M', pid: process.pid });
  });

  test('shows the same spans, marks and arrows in Perfetto’s format, with its clock', () => {
    const original = timelineOf(path);
    const { packets, ...timeline } = timelineOfPerfetto(exported(path, 'perfetto'));
    expect(withoutNames(timeline)).toEqual(withoutNames(original));
    expect(timeline.spans).toContainEqual(expect.stringMatching(/^\["fd \d+ tcp 127.0.0.1:\d+","syscall","recvfrom"/));
    expect(timeline.spans).toContainEqual(expect.stringMatching(/^\["fd \d+ tcp 127.0.0.1:\d+","awaited","echo#/));
    const { header } = readTrace(path);
    expect(packets[0]).toMatchObject({
      firstPacketOnSequence: true,
      tracePacketDefaults: { timestampClockId: 64 },
      clockSnapshot: {
        primaryTraceClock: 3,
        clocks: [
          { clockId: 64 },
          { clockId: 3, timestamp: Number(header.monotonicNs) },
          { clockId: 1, timestamp: header.wallClockMs * 1e6 },
        ],
      },
    });
    expect(packets[1]!.trackDescriptor).toMatchObject({ process: { pid: process.pid } });
  });

  test('is a line of JSON per record', () => {
    const objects = lines(path);
    const records = [...readTrace(path).records].filter(({ kind }) => kind !== Kind.text && kind !== Kind.thread);
    expect(objects).toHaveLength(records.length);
    expect(objects.map(({ t }) => t)).toEqual(records.map(({ t }) => Math.round(t)));
    const one = (kind: string, fields: object = {}): unknown =>
      objects.find((object) => object.kind === kind && expect.objectContaining(fields).asymmetricMatch(object));
    const integer = expect.any(Number);
    expect(one('wait', { timeoutNs: expect.any(Number), result: 1 })).toEqual({
      t: integer,
      kind: 'wait',
      thread: 0,
      syscall: expect.stringMatching(/^epoll_p?wait2?$/),
      timeoutNs: integer,
      result: 1,
      blockedNs: integer,
    });
    expect(one('ctl', { op: 'ADD', generation: 1 })).toEqual({
      t: integer,
      kind: 'ctl',
      thread: 0,
      syscall: 'epoll_ctl',
      op: 'ADD',
      fd: integer,
      generation: 1,
      mask: integer,
      result: 0,
      durationNs: integer,
      task: integer,
    });
    expect(one('ready', { mask: 1 })).toEqual({
      t: integer,
      kind: 'ready',
      thread: 0,
      fd: integer,
      generation: integer,
      mask: 1,
    });
    expect(one('syscall', { syscall: 'recvfrom', result: 12 })).toEqual({
      t: integer,
      kind: 'syscall',
      thread: 0,
      syscall: 'recvfrom',
      fd: integer,
      generation: integer,
      asked: integer,
      result: 12,
      durationNs: integer,
      task: integer,
    });
    expect(one('syscall', { syscall: 'accept4', result: -11 })).toMatchObject({ error: 'EAGAIN' });
    const spawned = one('spawn', { name: expect.stringMatching(/^serve/) }) as { task: number };
    expect(spawned).toEqual({
      t: integer,
      kind: 'spawn',
      thread: 0,
      task: spawned.task,
      name: `serve "all" of them, ü 漢 🙂#${spawned.task}`,
      parent: integer,
    });
    expect(one('suspend', { on: expect.stringMatching(/^fd \d+ IN$/) })).toMatchObject({
      mask: 1,
      fd: integer,
      wait: integer,
    });
    expect(one('resume', { task: spawned.task, fd: expect.any(Number) })).toMatchObject({ runnableNs: integer });
    // A resume has the number of the suspend that it ends, and each suspend has its own.
    const suspends = objects.filter(({ kind }) => kind === 'suspend').map(({ wait, task }) => `${wait} ${task}`);
    const resumes = objects.filter(({ kind, wait }) => kind === 'resume' && wait !== undefined);
    expect(new Set(suspends).size).toBe(suspends.length);
    expect(suspends).toEqual(expect.arrayContaining(resumes.map(({ wait, task }) => `${wait} ${task}`)));
    expect(one('end', { how: 'failed' })).toMatchObject({
      error: 'Error: for the trace',
      name: expect.stringMatching(/^fails#/),
    });
    expect(one('end', { how: 'cancelled' })).toMatchObject({ task: spawned.task });
    expect(one('end', { how: 'done' })).toBeDefined();
    expect(one('open', { how: 'accepted' })).toMatchObject({
      name: expect.stringMatching(/^tcp 127\.0\.0\.1:\d+$/),
      localAddress: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    });
    expect(one('open', { how: 'listening' })).toMatchObject({ name: expect.stringContaining('listening on') });
    expect(one('close')).toMatchObject({ fd: integer });
    expect(one('timer')).toMatchObject({ lateNs: integer });
  });
});

test('several threads each have their rows, in one process', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { Worker } from 'node:worker_threads';
    const code = ${JSON.stringify(`import(${JSON.stringify(join(cli, '../../index.js'))}).then(({ run, sleep }) => run(() => sleep(1), { name: 'in a worker' }))`)};
    await run(async () => {
      const workers = [1, 2].map(() => new Worker(code, { eval: true }));
      await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
    });`,
    { env: { ONEWAIT_TRACE: path } },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const original = timelineOf(path);
  expect(timelineOfChrome(exported(path, 'chrome').toString())).toMatchObject(withoutTimes(original));
  const { packets, ...timeline } = timelineOfPerfetto(exported(path, 'perfetto'));
  expect(withoutNames(timeline)).toEqual(withoutNames(original));
  const process = packets.find(({ trackDescriptor: track }) => track?.process !== undefined)!.trackDescriptor!.uuid;
  const threads = packets.flatMap(({ trackDescriptor: track }) => (track?.parentUuid === process ? [track.name] : []));
  expect(threads.sort()).toEqual(['main', 'worker 1', 'worker 2']);
  expect(new Set(lines(path).map(({ thread }) => thread))).toEqual(new Set([0, 1, 2]));
});

test('names are told of what they name, and of nothing that comes after', () => {
  const path = join(folder(), 'trace');
  const file = new TraceFile(path);
  const call = { kind: Kind.syscall, code: 5, fd: 9, result: 3, duration: 1, arg: 10 };
  file.text({ t: 0, code: TextKind.descriptorName, fd: 9 }, 'file /etc/passwd');
  file.text({ t: 0, code: TextKind.localAddress, fd: 9 }, '127.0.0.1:80');
  file.record({ t: 0.4, kind: Kind.open, fd: 9, code: OpenKind.found });
  file.text({ t: 1, code: TextKind.payload }, 'a\n\x7f');
  file.record({ t: 1.6, ...call });
  file.record({ t: 3, ...call });
  file.record({ t: 4, kind: Kind.close, fd: 9 });
  file.record({ t: 5, kind: Kind.open, fd: 9, code: OpenKind.connected });
  file.record({ t: 6, kind: Kind.thread, fd: 2, arg: 77 });
  file.record({ t: 1, kind: Kind.close, fd: 9 });
  file.record({ t: 2, kind: Kind.lost, result: 12 });
  file.record({ t: 3, kind: Kind.host });
  file.close();
  const read = { kind: 'syscall', thread: 0, syscall: 'read', fd: 9, asked: 10, result: 3, durationNs: 1 };
  expect(lines(path)).toEqual([
    { t: 0, kind: 'open', thread: 0, fd: 9, name: 'file /etc/passwd', localAddress: '127.0.0.1:80', how: 'found' },
    { t: 2, ...read, payload: 'a\n\x7f' },
    { t: 3, ...read },
    { t: 4, kind: 'close', thread: 0, fd: 9, name: 'file /etc/passwd' },
    { t: 5, kind: 'open', thread: 0, fd: 9, name: '?', how: 'connected' },
    { t: 1, kind: 'close', thread: 2, fd: 9, name: '?' },
    { t: 2, kind: 'lost', thread: 2, result: 12 },
    { t: 3, kind: 'host', thread: 2 },
  ]);
  // Bytes that a terminal would take as commands are not put out as they are.
  for (const format of ['jsonl', 'chrome'] as const) {
    expect(exported(path, format).toString()).toContain('"payload":"a\\n\\u007f"');
    expect(exported(path, format).toString()).not.toMatch(/[\x7f-\x9f]/);
  }
});

test('any trace, also one that makes no sense, shows the same spans, marks and arrows in both formats', () => {
  const path = join(folder(), 'trace');
  const record = fc.record({
    kind: fc.oneof(
      fc.constantFrom(...Object.values(Kind).filter((kind) => kind !== Kind.text)),
      fc.constantFrom(Kind.suspend, Kind.ready, Kind.resume),
    ),
    after: fc.oneof(fc.nat(50), fc.nat(100_000), fc.double({ min: -2000, max: 2000, noNaN: true })),
    code: fc.oneof(fc.nat(5), fc.constant(WaitKind.descriptor)),
    mask: fc.oneof(fc.nat(3), fc.constant(1)),
    fd: fc.oneof(fc.integer({ min: -1, max: 3 }), fc.constant(0)),
    task: fc.oneof(fc.nat(3), fc.constant(1)),
    result: fc.oneof(fc.integer(), fc.constant(-11), fc.constant(1), fc.constant(1)),
    duration: fc.oneof(fc.nat(100), fc.double({ min: 0, max: 100_000, noNaN: true })),
    arg: fc.oneof(fc.nat(1000), fc.integer(), fc.maxSafeInteger()),
    text: fc.option(fc.string({ unit: 'grapheme', maxLength: 40 })),
  });
  let arrows = 0;
  fc.assert(
    fc.property(fc.array(record, { maxLength: 120, size: 'max' }), (records) => {
      const file = new TraceFile(path);
      let t = 1000;
      for (const { after, text, ...fields } of records) {
        t = Math.max(0, t + after);
        const which = fields.kind === Kind.thread ? { fd: Math.abs(fields.fd) } : {};
        // Parentheses and such at the end of a name are for rows.
        if (text !== null) file.text({ t, code: 1 + (fields.code % 4), fd: fields.fd, task: fields.task }, `${text}.`);
        file.record({ ...fields, t, ...which });
      }
      file.close();
      const original = timelineOf(path);
      const { events, ...chrome } = timelineOfChrome(exported(path, 'chrome').toString());
      expect(chrome).toEqual(withoutTimes(original));
      const { packets, ...perfetto } = timelineOfPerfetto(exported(path, 'perfetto'));
      expect(withoutNames(perfetto)).toEqual(withoutNames(original));
      expect(packets.length).toBeGreaterThanOrEqual(2);
      expect(events.length).toBeGreaterThanOrEqual(1);
      const told = records.filter(({ kind }) => kind !== Kind.thread);
      const halves = told.filter(({ kind, mask }) => kind === Kind.syscall && mask !== 0).length;
      if (told.length > 0) expect(lines(path)).toHaveLength(told.length + halves);
      arrows += original.flows.length;
    }),
    { numRuns: 300 },
  );
  expect(arrows).toBeGreaterThan(20);
});

test('more spans at once than rows have room for are cut short, and still nest', () => {
  const path = join(folder(), 'trace');
  const file = new TraceFile(path);
  for (let i = 0; i < 3000; i++) file.record({ t: 10_000 - i, kind: Kind.wait, code: 1, duration: 5000 });
  file.close();
  expect(timelineOfChrome(exported(path, 'chrome').toString()).spans).toHaveLength(3000);
  expect(timelineOfPerfetto(exported(path, 'perfetto')).spans).toHaveLength(3000);
});

test('numbers of any size are written as Protocol Buffers have them', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.string(), (number, big, text) => {
      const long = text.repeat(40);
      const out = new ProtobufWriter();
      const packet = out.begin(1);
      const event = out.begin(11);
      const annotation = out.begin(4);
      out.integer(4, number);
      out.end(annotation);
      out.fixed64(47, Math.abs(number));
      out.string(23, long);
      out.end(event);
      const snapshot = out.begin(12);
      out.end(snapshot);
      out.bigInteger(8, big);
      out.end(packet);
      expect(packetsOf(out.take())).toEqual([
        {
          timestamp: String(big),
          trackEvent: {
            debugAnnotations: [{ intValue: String(number) }],
            flowIds: [String(Math.abs(number))],
            name: Buffer.from(long).toString(),
          },
          internedData: {},
        },
      ]);
    }),
  );
});

describe('onewait trace export', () => {
  /** A trace of `turns` turns in which a task reads. */
  function big(path: string, turns: number): void {
    const file = new TraceFile(path);
    file.text({ t: 0, code: TextKind.taskName, task: 1 }, 'reader');
    file.record({ t: 0, kind: Kind.spawn, task: 1 });
    file.record({ t: 1, kind: Kind.resume, task: 1 });
    file.text({ t: 2, code: TextKind.descriptorName, fd: 9 }, 'tcp 127.0.0.1:40000');
    file.record({ t: 2, kind: Kind.open, fd: 9, code: OpenKind.accepted, task: 1 });
    for (let i = 0; i < turns; i++) {
      const t = 10 + i * 1000;
      const wait = { fd: 9, generation: 1, mask: 1, task: 1, code: WaitKind.descriptor };
      file.record({ t, kind: Kind.suspend, ...wait });
      file.record({ t: t + 10, kind: Kind.wait, code: 1, result: 1, duration: 500, arg: -1 });
      file.record({
        t: t + 520,
        kind: Kind.syscall,
        code: 7,
        fd: 9,
        generation: 1,
        mask: 1,
        task: 1,
        result: 64,
        duration: 10,
        arg: 65536,
      });
      file.record({ t: t + 600, kind: Kind.resume, ...wait, arg: 60 });
    }
    file.record({ t: 20 + turns * 1000, kind: Kind.end, code: EndKind.done, task: 1 });
    file.close();
  }

  test('writes to standard output, or to a file of its owner’s alone', async () => {
    const path = join(folder(), 'trace');
    big(path, 10);
    for (const format of ['jsonl', 'chrome', 'perfetto'] as const) {
      const out = `${path}.${format}`;
      const bytes = exported(path, format);
      expect(execFileSync(process.execPath, [cli, 'trace', 'export', path, '--to', format]).equals(bytes)).toBe(true);
      writeFileSync(out, 'something longer than nothing, that was there before'.repeat(10_000));
      const link = `${out}.link`;
      symlinkSync(out, link);
      expect(await onewait(['trace', 'export', path, '--to', format, '-o', link]).end()).toMatchObject({
        code: 0,
        stdout: '',
        stderr: '',
      });
      expect(readFileSync(out).equals(bytes)).toBe(true);
      expect(statSync(out).mode & 0o777).toBe(0o600);
    }
    expect(readdirSync(join(path, '..'))).toHaveLength(7);
  });

  test('takes no more memory for a long trace, and waits for a reader that is slow', async () => {
    needs('bash');
    const path = join(folder(), 'trace');
    big(path, 150_000);
    for (const [format, pattern] of [
      ['jsonl', /^750004\n$/],
      ['chrome', /^\d{7}\n$/],
      ['perfetto', /^\d+\n$/],
    ] as const) {
      const node = `${process.execPath} --max-old-space-size=48 ${cli}`;
      // The pipe is full long before anybody reads on.
      const child = new Child(
        'bash',
        ['-c', `set -o pipefail; ${node} trace export ${path} --to ${format} | { head -c 1; read -u 3; cat; } | wc -l`],
        { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] },
      );
      (child.process.stdio[3] as NodeJS.WritableStream).write('go on\n');
      expect(await child.end(60_000)).toMatchObject({ code: 0, stdout: expect.stringMatching(pattern), stderr: '' });
    }
  });

  test('says nothing when its reader has gone', async () => {
    needs('bash');
    const path = join(folder(), 'trace');
    big(path, 20_000);
    for (const format of ['jsonl', 'chrome', 'perfetto']) {
      const command = `${process.execPath} ${cli} trace export ${path} --to ${format} | head -c 100 | wc -c; echo \${PIPESTATUS[0]}`;
      expect(await new Child('bash', ['-c', command]).end()).toMatchObject({ stdout: '100\n0\n', stderr: '' });
    }
  });

  test.each(['jsonl', 'chrome', 'perfetto'] as const)(
    'exports what comes before a damage, says where that is, and fails (%s)',
    async (format) => {
      const path = join(folder(), 'trace');
      big(path, 5000);
      const at = HEADER_BYTES + 10_000 * RECORD_BYTES;
      const bytes = readFileSync(path);
      bytes[at + 8] = 200;
      writeFileSync(path, bytes);
      const whole = join(folder(), 'whole');
      writeFileSync(whole, bytes.subarray(0, at));
      const expected = exported(whole, format);
      const parse = {
        jsonl: () => lines(whole),
        chrome: timelineOfChrome,
        perfetto: timelineOfPerfetto,
        withoutNames,
        withoutTimes,
      }[format];
      parse(expected as never);
      const said = {
        code: 1,
        stderr: expect.stringMatching(new RegExp(`^onewait: [^\n]*damaged at offset ${at}: [^\n]*\n$`)),
      };
      const out = `${path}.out`;
      const { stdout, ...ended } = await onewait(['trace', 'export', path, '--to', format]).end();
      expect(ended).toMatchObject(said);
      if (format !== 'perfetto') expect(stdout === expected.toString()).toBe(true);
      expect(await onewait(['trace', 'export', path, '--to', format, '-o', out]).end()).toMatchObject({
        ...said,
        stdout: '',
      });
      expect(readFileSync(out).equals(expected)).toBe(true);
      expect(readdirSync(join(path, '..'))).toHaveLength(2);
    },
  );

  test('leaves what was there alone when there is no trace to export, or no room for the result', async () => {
    const path = join(folder(), 'trace');
    const out = `${path}.out`;
    writeFileSync(path, 'no trace, though it is as long as one might be');
    writeFileSync(out, 'as it was');
    expect(await onewait(['trace', 'export', path, '--to', 'chrome', '-o', out]).end()).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^onewait: [^\n]*is no trace of onewait[^\n]*\n$/),
    });
    big(path, 5000);
    const limited = ['-c', 'ulimit -f 100; trap "" XFSZ; exec "$@"', 'bash', process.execPath, cli];
    expect(
      await new Child('bash', [...limited, 'trace', 'export', path, '--to', 'chrome', '-o', out]).end(),
    ).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^onewait: EFBIG[^\n]*\n$/),
    });
    expect(readFileSync(out, 'utf8')).toBe('as it was');
    expect(readdirSync(join(path, '..'))).toHaveLength(2);
  });

  test('leaves nothing behind when it is interrupted', async () => {
    const path = join(folder(), 'trace');
    big(path, 200_000);
    const target = folder();
    const child = onewait(['trace', 'export', path, '--to', 'chrome', '-o', join(target, 'out.json')]);
    await until('it writes', () => readdirSync(target).length > 0);
    child.process.kill('SIGINT');
    expect(await child.end()).toMatchObject({ code: 130, stdout: '', stderr: '' });
    expect(readdirSync(target)).toEqual([]);
  });

  test('says in one line where it cannot write', async () => {
    const path = join(folder(), 'trace');
    big(path, 100);
    mkdirSync(`${path}.folder`);
    for (const [out, message] of [
      [`${path}.folder`, 'EISDIR'],
      [join(`${path}.missing`, 'out'), 'ENOENT'],
      ['/dev/full', 'ENOSPC'],
    ] as const) {
      const { code, stderr } = await onewait(['trace', 'export', path, '--to', 'jsonl', '-o', out]).end();
      expect(stderr).toMatch(/^onewait: [^\n]*\n$/);
      expect(stderr).toContain(message);
      expect(code).toBe(1);
    }
    expect(statSync('/dev/full').isCharacterDevice()).toBe(true);
    expect(await onewait(['trace', 'export', path, '--to', 'jsonl', '-o', '/dev/null']).end()).toMatchObject({
      code: 0,
    });
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test('refuses a terminal for what is binary, the trace itself as its result, and what it does not know', async () => {
    needs('python3');
    const path = join(folder(), 'trace');
    big(path, 10);
    const before = readFileSync(path);
    const link = `${path}.link`;
    symlinkSync(path, link);
    for (const [args, message] of [
      [[path, '--to', 'jsonl', '-o', path], 'is the trace itself'],
      [[path, '--to', 'chrome', '-o', link], 'is the trace itself'],
      [[path, '--to', 'xml'], 'Allowed choices are jsonl, chrome, perfetto'],
      [[path], "'--to <format>' not specified"],
      [['--to', 'jsonl'], "missing required argument 'file'"],
    ] as const) {
      const { code, stdout, stderr } = await onewait(['trace', 'export', ...args]).end();
      expect(stderr).toMatch(/^error: [^\n]*\n$/);
      expect(stderr).toContain(message);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    }
    expect(readFileSync(path)).toEqual(before);
    const terminal = `import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))`;
    const export_ = [process.execPath, cli, 'trace', 'export', path, '--to', 'perfetto'];
    const { code, stdout } = await new Child('python3', ['-c', terminal, ...export_]).end();
    expect(stdout).toMatch(/^error: perfetto's format is binary[^\n]*add '-o FILE'\r\n$/);
    expect(code).toBe(2);
  });
});
