// Traces: what they say of whom, where they may be written, and what a reader makes of a file that is none.

import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, runBlocking, sleep, spawn, tcp } from '../src/index.ts';
import { native } from '../src/native.ts';
import { readTrace, type TraceRecord } from '../src/trace/reader.ts';
import { Kind, RECORD_BYTES } from '../src/trace/record.ts';
import { Ring } from '../src/trace/ring.ts';
import { TraceFormatter } from '../src/trace/show.ts';
import { Child, cli, echoServer, folder, needs, onewait, script } from './processes.ts';
import { until } from './until.ts';

function show(path: string): string[] {
  const formatter = new TraceFormatter();
  const lines: string[] = [];
  for (const record of readTrace(path).records) lines.push(...formatter.push(record));
  return [...lines, ...formatter.end()];
}

function records(path: string): TraceRecord[] {
  return [...readTrace(path).records];
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

/** Sends, and waits until as much has come back. */
async function ask(socket: Socket, bytes: number): Promise<void> {
  const start = socket.bytesRead;
  socket.write(Buffer.alloc(bytes));
  await until('the echo comes back', () => {
    socket.read();
    return socket.bytesRead - start >= bytes;
  });
}

describe.each(['yield', 'await'])('onewait echo --trace, shown (%s)', (style) => {
  const path = join(tmpdir(), `onewait-trace-${process.pid}-${style}`);
  let lines: string[] = [];
  let ports: number[] = [];

  beforeAll(async () => {
    const child = new Child(process.execPath, [cli, 'echo', '--port', '0', '--style', style, '--trace', path]);
    const port = Number((await child.says(/:(\d+)$/m))[1]);
    const [a, b] = [await dial(port), await dial(port)];
    ports = [a.localPort!, b.localPort!];
    for (let i = 0; i < 5; i++) {
      // While it is stopped, both become ready: one wait brings both, and the tasks of a batch must not be mixed up.
      child.process.kill('SIGSTOP');
      const echoes = Promise.all([ask(a, 100 + i), ask(b, 200 + i)]);
      child.process.kill('SIGCONT');
      await echoes;
    }
    // More than the kernel takes at once, from a client that does not read at first: the writer is suspended.
    a.pause();
    const before = a.bytesRead;
    a.write(Buffer.alloc(8_000_000));
    await until('the client cannot send any more', () => a.writableLength > 0);
    await ask(b, 300);
    a.on('data', () => {}).resume();
    await until('it has come back', () => a.bytesRead - before === 8_000_000);
    a.end();
    b.resetAndDestroy();
    await until('both are closed', () => shown(path, /closed$/) >= 2);
    child.process.kill('SIGINT');
    expect(await child.end()).toMatchObject({ code: 130, stderr: '' });
    lines = execFileSync(process.execPath, [cli, 'trace', 'show', path], { encoding: 'utf8' }).trimEnd().split('\n');
  });
  afterAll(() => {
    execFileSync('rm', ['-f', path]);
  });

  /** How many lines of a trace that is still being written say this. */
  function shown(file: string, what: RegExp): number {
    try {
      return show(file).filter((line) => what.test(line)).length;
    } catch {
      return 0; // Just cut in the middle of a record.
    }
  }

  /** descriptor -> its task, by what the accepting task did. */
  function owners(): Map<number, string> {
    const found = new Map<number, string>();
    for (const [i, line] of lines.entries()) {
      const opened = /fd (\d+) opened: tcp 127\.0\.0\.1:(\d+) accepted by accept#\d+ at \S+$/.exec(line);
      if (opened === null) continue;
      expect(ports).toContain(Number(opened[2]));
      const spawned = lines.slice(i).find((next) => next.includes('spawned by accept#'))!;
      found.set(Number(opened[1]), /(echo#\d+) spawned/.exec(spawned)![1]!);
    }
    return found;
  }

  test('names the task whose descriptor it is on every line', () => {
    const tasks = owners();
    expect(tasks.size).toBe(2);
    expect(new Set(tasks.values()).size).toBe(2);
    const seen = new Map<string, number>();
    for (const line of lines) {
      const call = /(recvfrom|sendto|close|epoll_ctl)\((?:[A-Z]+, )?(\d+)/.exec(line);
      const task = call && tasks.get(Number(call[2]));
      if (!task) continue;
      seen.set(call[1]!, (seen.get(call[1]!) ?? 0) + 1);
      expect(line).toMatch(new RegExp(`  ${task}$`));
    }
    expect([...seen.keys()].sort()).toEqual(['close', 'epoll_ctl', 'recvfrom', 'sendto']);
    expect(seen.get('close')).toBe(2);
    for (const [fd, task] of tasks) {
      for (const line of lines) {
        if (line.includes(`suspends on fd ${fd} `)) expect(line).toContain(`  ${task} suspends`);
        if (new RegExp(`fd ${fd} .*=> resume`).test(line)) expect(line).toContain(`=> resume ${task} `);
      }
    }
  });

  test('shows one wait that brought both, and each task resumed once for it', () => {
    const tasks = owners();
    const waits = lines.flatMap((line, i) => (line.includes(' wait(') ? [i] : []));
    const turns = waits.map((start, i) => lines.slice(start, waits[i + 1]));
    const turn = turns.find((some) =>
      [...tasks.keys()].every((fd) => some.some((line) => line.includes(`recvfrom(${fd}, `))),
    )!;
    // Two, or three where libuv was ready as well.
    expect(turn[0]).toMatch(/ wait\(.*\) = [23] ready/);
    for (const [fd, task] of tasks) {
      expect(turn.filter((line) => line.includes(`recvfrom(${fd}, `) && line.endsWith(task))).toHaveLength(1);
      expect(turn.filter((line) => line.includes(`=> resume ${task} `))).toHaveLength(1);
      expect(
        turn.filter((line) => line.includes(`sendto(${fd}, `) || line.includes(`${task} suspends on fd ${fd} IN`)),
      ).not.toHaveLength(0);
    }
  });

  test('merges a readiness and the wake that follows from it into one line', () => {
    const merged = lines.filter((line) =>
      /fd \d+ tcp 127\.0\.0\.1:\d+ {2}IN {2}=> resume echo#\d+ +runnable \d+\.\d{3} ms$/.test(line),
    );
    expect(merged.length).toBeGreaterThanOrEqual(10);
  });

  test('shows the life of tasks and descriptors from beginning to end', () => {
    for (const pattern of [
      /main#1 spawned by node$/,
      /accept#2 spawned by main#1$/,
      /main#1 suspends on accept#2$/,
      /socket\(\) = \d+ .*main#1$/,
      /bind\(\d+\) = 0/,
      /listen\(\d+\) = 0/,
      /fd \d+ opened: tcp listening on 127\.0\.0\.1:\d+$/,
      /accept4\(\d+\) = \d+ .*accept#2$/,
      /recvfrom\(\d+, \d+\) = 0 /,
      /recvfrom\(\d+, \d+\) = -1 ECONNRESET/,
      /echo#\d+ done$/,
      /echo#\d+ failed: Error: read ECONNRESET \(fd \d+\)$/,
      /accept#2 cancelled$/,
      /main#1 done$/,
    ]) {
      expect(
        lines.filter((line) => pattern.test(line)),
        String(pattern),
      ).not.toHaveLength(0);
    }
    expect(lines.filter((line) => / fd \d+ closed$/.test(line))).toHaveLength(3);
    const times = lines.map((line) => Number(line.slice(0, 12)));
    for (const time of times) expect(time).toBeGreaterThanOrEqual(0);
    for (const line of lines) expect(line).not.toMatch(/\?|NaN|undefined/);
  });

  test('is a file for its owner alone', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
});

describe('a trace', () => {
  test('of runBlocking, and of code that nobody accepts from, is complete as well', () => {
    const path = join(folder(), 'trace');
    runBlocking(
      function* () {
        const task = spawn(function* child() {
          yield* sleep(2);
          throw new TypeError('line one\nline two \u001b[31mred');
        });
        try {
          yield* task;
        } catch {}
      },
      { trace: path },
    );
    const lines = show(path);
    expect(
      lines.some((line) => /wait\(timeout=(0|1|2)(\.\d+)? ms\) = 0 ready +blocked \d+\.\d{3} ms$/.test(line)),
    ).toBe(true);
    expect(lines.some((line) => /timer of child#2 +late \d+\.\d{3} ms$/.test(line))).toBe(true);
    // Whatever an error says, it stays on its line and does nothing to a terminal.
    expect(lines.filter((line) => line.includes('child#2 failed: TypeError: line one?line two ?[31mred'))).toHaveLength(
      1,
    );
    expect(lines.some((line) => line.includes('child#2  => resume main#1'))).toBe(true);
  });

  test('names the task of every call in a batch of async functions, also of those that act at once', async () => {
    const path = join(folder(), 'trace');
    const owner = new Map<number, string>();
    await run(
      async () => {
        const listener = await tcp.listen();
        const tasks = Array.from({ length: 4 }, (_, i) =>
          spawn(
            async () => {
              const conn = await tcp.connect({ port: listener.address.port });
              owner.set(conn.fd, `client${i}`);
              await conn.read();
              // All four are resumed in one batch, and go on in microtasks after it: destroy() is no wait, and asks nobody.
              conn.destroy();
            },
            { name: `client${i}` },
          ),
        );
        const servers = [];
        for (let i = 0; i < 4; i++) servers.push(await listener.accept());
        await sleep(5);
        for (const server of servers) await server.write('go');
        for (const task of tasks) await task;
        for (const server of servers) server.destroy();
        listener.close();
      },
      { trace: path },
    );
    const lines = show(path);
    let closes = 0;
    for (const line of lines) {
      const call = /(close|recvfrom|epoll_ctl)\((?:[A-Z]+, )?(\d+)/.exec(line);
      const name = call && owner.get(Number(call[2]));
      if (!name) continue;
      if (call[1] === 'close') closes++;
      expect(line).toMatch(new RegExp(`${name}#\\d+$`));
    }
    expect(closes).toBe(4);
  });

  test('is complete when the process calls process.exit()', async () => {
    const path = join(folder(), 'trace');
    const child = script(
      `
      await run(function* () {
        const listener = yield* tcp.listen();
        const conn = yield* tcp.connect({ port: listener.address.port });
        for (let i = 0; i < 1000; i++) yield* conn.write('x');
        yield* conn.flush();
        yield* spawn(function* last() {});
        process.exit(3);
      }, { trace: process.argv[1] });
    `,
      { args: [path] },
    );
    expect(await child.end()).toMatchObject({ code: 3, stderr: '' });
    const lines = show(path);
    expect(lines.some((line) => line.endsWith('last#2 done'))).toBe(true);
    expect(lines.at(-1)).toMatch(/last#2 {2}=> resume main#1/);
  });

  test('is complete when a worker is terminated', async () => {
    const path = join(folder(), 'trace');
    const child = script(
      `
      import { Worker } from 'node:worker_threads';
      const source = \`
        import { parentPort, workerData } from 'node:worker_threads';
        const { run, sleep, spawn, tcp } = await import('\${process.argv[2]}');
        await run(function* () {
          yield* tcp.listen();
          spawn(function* () { parentPort.postMessage('main is suspended'); });
          yield* sleep(1e9);
        }, { trace: workerData });
      \`;
      const worker = new Worker(source, { eval: true, execArgv: ['--input-type=module'], workerData: process.argv[1] });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
    `,
      { args: [path, join(cli, '../../index.js')] },
    );
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    expect(show(path).some((line) => line.endsWith('main#1 suspends on 1000000000 ms'))).toBe(true);
  });

  test('shows the turns that libuv asked for', async () => {
    const path = join(folder(), 'trace');
    const child = script(
      `import { readFile } from 'node:fs/promises';
      await run(async () => { await readFile('/proc/self/stat'); }, { trace: process.argv[1] });`,
      { args: [path] },
    );
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    expect(show(path).some((line) => line.endsWith('turn of libuv'))).toBe(true);
  });

  test('counts what its ring had no room for, and says so', () => {
    const path = join(folder(), 'trace');
    expect(native.traceOpen(path, 1, false, 0, 0)).toBe(0);
    const ring = new Ring(native.traceMemory()!);
    const written = 200_000;
    for (let i = 0; i < written; i++) {
      ring.write(i, Kind.timer, 0, 0, -1, 0, 1, i);
      if (i % 100 === 0) native.traceTick();
    }
    const lost = native.traceClose();
    expect(lost).toBeGreaterThan(0);
    const all = records(path);
    const kept = all.filter((record) => record.kind === Kind.timer);
    const gaps = all.filter((record) => record.kind === Kind.lost);
    expect(gaps.reduce((sum, record) => sum + record.result, 0)).toBe(lost);
    expect(kept.length + lost).toBe(written);
    // In order, and each gap is where the records are missing.
    let next = 0;
    for (const record of all) {
      if (record.kind === Kind.lost) next += record.result;
      else if (record.kind === Kind.timer) expect(record.arg).toBe(next++);
    }
    expect(next).toBe(written);
    expect(show(path).some((line) => /\.\.\. \d+ records lost: the ring or the disk was full$/.test(line))).toBe(true);
  });

  test('that fills the disk costs the trace and not the server', async () => {
    needs('bash');
    const path = join(folder(), 'trace');
    // 128 blocks of 1024 bytes: what exceeds them is EFBIG, as it would be ENOSPC on a full disk. (In Node 22 incremental marking has libuv ask for hundreds
    // of turns, which fill some of it.)
    const child = new Child('bash', [
      '-c',
      `ulimit -f 128; exec ${process.execPath} ${cli} echo --port 0 --trace ${path}`,
    ]);
    const port = Number((await child.says(/:(\d+)$/m))[1]);
    const socket = await dial(port);
    const full = async (): Promise<boolean> => {
      for (let i = 0; i < 20; i++) await ask(socket, 10);
      return statSync(path).size > 128 * 1024 - RECORD_BYTES;
    };
    await until('the file is full', full, 50_000);
    for (let i = 0; i < 20; i++) await ask(socket, 10);
    socket.destroy();
    child.process.kill('SIGINT');
    const { code, stderr } = await child.end();
    expect(code).toBe(130);
    expect(stderr).toMatch(/ONEWAIT_TRACE_LOST\] Warning: the trace .* is not complete: \d+ records are missing/);
    const shown = await onewait(['trace', 'show', path]).end();
    expect(shown.stdout.split('\n').length).toBeGreaterThan(200);
    expect(shown.stdout).toMatch(/\.\.\. \d+ records lost[^\n]*\n$/);
    expect(shown).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('onewait echo --trace refuses, in one line and untouched,', () => {
  test.each<[string, (path: string) => void, string]>([
    [
      'a symbolic link',
      (path) => {
        writeFileSync(`${path}.target`, 'precious');
        symlinkSync(`${path}.target`, path);
      },
      'it is a symbolic link',
    ],
    ['a directory', (path) => mkdirSync(path), 'it is a directory'],
    ['a FIFO', (path) => execFileSync('mkfifo', [path]), 'it exists, and is no regular file'],
    ['a device', (path) => symlinkSync('/dev/full', path), 'it is a symbolic link'],
    ['a path that leads nowhere', (path) => rmFolder(path), 'ENOENT'],
  ])('%s', async (_, prepare, message) => {
    const path = join(folder(), 'trace');
    prepare(path);
    const { code, stdout, stderr } = await onewait(['echo', '--port', '0', '--trace', path]).end();
    expect(stderr).toMatch(/^onewait: cannot record a trace in [^\n]*\n$/);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(1);
    if (existsSync(`${path}.target`)) expect(readFileSync(`${path}.target`, 'utf8')).toBe('precious');
  });

  function rmFolder(path: string): void {
    execFileSync('rmdir', [join(path, '..')]);
  }

  test('/dev/full itself', async () => {
    const { code, stderr } = await onewait(['echo', '--port', '0', '--trace', '/dev/full']).end();
    expect(stderr).toBe('onewait: cannot record a trace in /dev/full: it exists, and is no regular file\n');
    expect(code).toBe(1);
  });

  test('nothing else: a file that exists is overwritten, and becomes its owner’s alone', async () => {
    const path = join(folder(), 'trace');
    writeFileSync(path, 'x'.repeat(1_000_000));
    chmodSync(path, 0o644);
    const { child } = await echoServer('--trace', path);
    child.process.kill('SIGTERM');
    expect((await child.end()).code).toBe(143);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(show(path).at(-1)).toMatch(/epoll_ctl\(DEL/);
  });
});

describe('a reader', () => {
  let good: Buffer;

  beforeAll(async () => {
    const path = join(tmpdir(), `onewait-good-${process.pid}`);
    await run(
      async () => {
        const listener = await tcp.listen();
        const client = await tcp.connect({ port: listener.address.port });
        const server = await listener.accept();
        for (let i = 0; i < 30; i++) {
          await client.write(`message ${i}`);
          await server.read();
        }
        await spawn(
          async () => {
            throw new Error('for the trace, at some length');
          },
          { name: 'failing task' },
        ).then(undefined, () => {});
        client.destroy();
        server.destroy();
        listener.close();
      },
      { trace: path },
    );
    good = readFileSync(path);
    execFileSync('rm', [path]);
  });

  /** The lines, or the one clear error; anything else fails the test. */
  function outcome(path: string, bytes: Uint8Array): string[] | string {
    writeFileSync(path, bytes);
    try {
      return show(path);
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_TRACE' });
      const { message } = error as Error;
      expect(message).toMatch(/^[^\n]+$/);
      expect(message).toContain(path);
      expect(message).toMatch(/offset \d+|is empty|newer|only onewait before/);
      return message;
    }
  }

  test('reads a trace that is whole', () => {
    const path = join(folder(), 'trace');
    expect(outcome(path, good).length).toBeGreaterThan(100);
    const { header } = readTrace(path);
    expect(header.pid).toBe(process.pid);
    expect(Math.abs(header.wallClockMs - Date.now())).toBeLessThan(600_000);
  });

  test.each<[string, (good: Buffer) => Uint8Array, RegExp]>([
    ['empty', () => new Uint8Array(0), /is empty/],
    [
      'foreign',
      () => Buffer.from('\x7fELF and so on, for many bytes, as programs are'.repeat(3)),
      /is no trace of onewait.*offset 0/,
    ],
    ['one byte long', () => Buffer.from('1'), /is no trace of onewait.*offset 0/],
    ['cut off in its header', (bytes) => bytes.subarray(0, 20), /middle of its header, at offset 20/],
    ['cut off in its first record', (bytes) => bytes.subarray(0, 60), /middle of a record, at offset 48/],
    ['cut off in its last record', (bytes) => bytes.subarray(0, bytes.length - 1), /middle of a record, at offset \d+/],
    [
      'cut off within a name',
      (bytes) => bytes.subarray(0, firstOf(bytes, 'Error: for the trace') + 48),
      /ends in the middle of a text, at offset \d+/,
    ],
    ['of a newer version', (bytes) => patched(bytes, (copy) => copy.writeUInt32LE(7, 8)), /newer onewait \(format 7/],
    ['of no version', (bytes) => patched(bytes, (copy) => copy.writeUInt32LE(0, 8)), /offset 8/],
    ['of other records', (bytes) => patched(bytes, (copy) => copy.writeUInt16LE(47, 12)), /offset 12/],
    [
      'of an unknown kind',
      (bytes) => patched(bytes, (copy) => copy.writeUInt8(200, 48 + 48 + 8)),
      /offset 96: there is no kind 200/,
    ],
    [
      'of a piece of text that is too long',
      (bytes) => patched(bytes, (copy) => copy.writeUInt16LE(25, firstOf(copy, 'main') + 10)),
      /offset \d+: a piece of 25 bytes/,
    ],
    [
      'of a text without end',
      (bytes) => {
        const piece = Buffer.alloc(48);
        piece[8] = Kind.text;
        piece.writeUInt16LE(0xc018, 10);
        const first = Buffer.from(piece);
        first.writeUInt16LE(0x8018, 10);
        return Buffer.concat([bytes, first, ...Array.from({ length: 200 }, () => piece)]);
      },
      /offset \d+: a text of more than 4096 bytes/,
    ],
    [
      'of a time that is none',
      (bytes) => patched(bytes, (copy) => copy.writeDoubleLE(Number.NaN, 96)),
      /offset 96: a record holds what is no such number/,
    ],
    [
      'of a negative time',
      (bytes) => patched(bytes, (copy) => copy.writeDoubleLE(-1, 96)),
      /offset 96: a record holds what is no such number/,
    ],
  ])('says in one line what is wrong with a file that is %s', async (_, make, message) => {
    const path = join(folder(), 'trace');
    expect(outcome(path, make(good))).toMatch(message);
    const { code, stderr } = await onewait(['trace', 'show', path]).end();
    expect(stderr).toMatch(/^onewait: [^\n]*\n$/);
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  });

  /** Where the record begins that has the first piece of a text. */
  function firstOf(bytes: Buffer, text: string): number {
    const at = bytes.indexOf(text) - 24;
    expect(bytes[at + 8]).toBe(Kind.text);
    return at;
  }

  function patched(bytes: Buffer, patch: (copy: Buffer) => void): Buffer {
    const copy = Buffer.from(bytes);
    patch(copy);
    return copy;
  }

  test('never crashes, whatever was done to the file', () => {
    const path = join(folder(), 'trace');
    const position = fc.nat();
    const mutation = fc.oneof(
      fc.record({ how: fc.constant('flip' as const), at: position, value: fc.nat(7) }),
      fc.record({ how: fc.constant('set' as const), at: position, value: fc.nat(255) }),
      fc.record({ how: fc.constant('ones' as const), at: position, value: fc.nat(16) }),
      fc.record({ how: fc.constant('cut' as const), at: position, value: fc.nat() }),
      fc.record({ how: fc.constant('drop' as const), at: position, value: fc.nat(200) }),
      fc.record({ how: fc.constant('repeat' as const), at: position, value: fc.nat(500) }),
    );
    let damaged = 0;
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 6 }), (mutations) => {
        let bytes = Buffer.from(good);
        for (const { how, at, value } of mutations) {
          if (bytes.length === 0) break;
          const where = at % bytes.length;
          if (how === 'flip') bytes[where]! ^= 1 << value;
          else if (how === 'set') bytes[where] = value;
          else if (how === 'ones') bytes.fill(255, where, Math.min(where + value, bytes.length));
          else if (how === 'cut') bytes = bytes.subarray(0, where);
          else if (how === 'drop') bytes = Buffer.concat([bytes.subarray(0, where), bytes.subarray(where + value)]);
          else
            bytes = Buffer.concat([
              bytes.subarray(0, where),
              bytes.subarray(where, where + value),
              bytes.subarray(where),
            ]);
        }
        const result = outcome(path, bytes);
        if (typeof result === 'string') damaged++;
        // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not come out
        else for (const line of result) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
      }),
      { numRuns: 1500 },
    );
    expect(damaged).toBeGreaterThan(100);
  });

  test('never crashes on records of random bytes', () => {
    const path = join(folder(), 'trace');
    const record = fc
      .tuple(fc.integer({ min: 1, max: 15 }), fc.uint8Array({ minLength: 48, maxLength: 48 }))
      .map(([kind, bytes]) => {
        bytes[8] = kind;
        if (kind === Kind.text) bytes.set([20, 0], 10);
        return bytes;
      });
    fc.assert(
      fc.property(fc.array(record, { maxLength: 50 }), (made) => {
        outcome(path, Buffer.concat([good.subarray(0, 48), ...made]));
      }),
      { numRuns: 500 },
    );
  });

  test('takes no more memory and no more time for a file of one endless turn', async () => {
    const path = join(folder(), 'trace');
    const ready = Buffer.alloc(48);
    ready[8] = Kind.ready;
    const resume = Buffer.alloc(48);
    resume[8] = Kind.resume;
    resume[9] = 1;
    resume.writeInt32LE(1, 12);
    const name = Buffer.alloc(48);
    name[8] = Kind.text;
    name[9] = 1;
    name.writeUInt16LE(24, 10);
    name.fill('x', 24);
    const pieces: Buffer[] = [good.subarray(0, 48)];
    for (let i = 0; i < 150_000; i++) {
      const task = Buffer.from(name);
      task.writeUInt32LE(i, 20);
      pieces.push(ready, resume, task);
    }
    writeFileSync(path, Buffer.concat(pieces));
    const child = new Child('bash', [
      '-c',
      `${process.execPath} --max-old-space-size=100 ${cli} trace show ${path} | wc -l`,
    ]);
    expect(await child.end()).toMatchObject({ stdout: '300000\n', stderr: '' });
  });

  test('refuses a directory and a FIFO without waiting for it, and says that a file is missing', async () => {
    const path = join(folder(), 'trace');
    execFileSync('mkfifo', [path]);
    for (const [file, message] of [
      [path, 'is no regular file'],
      [join(path, '..'), 'is no regular file'],
      ['/dev/full', 'is no regular file'],
      [`${path}.missing`, 'ENOENT'],
    ] as const) {
      const { code, stderr } = await onewait(['trace', 'show', file]).end();
      expect(stderr).toMatch(/^onewait: [^\n]*\n$/);
      expect(stderr).toContain(message);
      expect(code).toBe(1);
    }
  });
});
