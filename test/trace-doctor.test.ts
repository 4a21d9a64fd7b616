// `onewait trace doctor`: it finds what programs were made to have, shows the lines, and finds nothing in an echo server that is well.

import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Doctor } from '../src/trace/doctor.ts';
import { readTrace } from '../src/trace/reader.ts';
import { EndKind, Kind } from '../src/trace/record.ts';
import { Child, cli, folder, onewait, root, script } from './processes.ts';
import { header, record } from './trace-file.ts';
import { until } from './until.ts';

const native = JSON.stringify(join(root, 'dist/src/native.js'));
const spin = 'const spin = (ms) => { for (const s = performance.now(); performance.now() - s < ms; ); };';

/** Has a program recorded that fills in `run(function* () { ... })`, and examined. */
async function examined(body: string, options: string[] = [], before = ''): Promise<string> {
  const path = join(folder(), 'trace');
  const child = script(
    `import { native } from ${native};
    ${spin}
    ${before}
    await run(function* () { ${body} }, { trace: process.argv[1], name: 'main' });`,
    { args: [path] },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const { code, stdout, stderr } = await onewait(['trace', 'doctor', ...options, path]).end();
  expect(stderr).toBe('');
  expect(code).toBe(stdout.startsWith('Nothing found') ? 0 : 1);
  return stdout;
}

describe('onewait trace doctor finds', () => {
  test('a step that held the loop, and the descriptors that it starved', async () => {
    const report = await examined(`
      const listener = yield* tcp.listen();
      const pairs = [];
      for (let i = 0; i < 5; i++) {
        const near = yield* tcp.connect({ port: listener.address.port });
        pairs.push([near, yield* listener.accept()]);
      }
      const readers = pairs.map(([, far]) => spawn(function* reader() { yield* far.read(); yield* far.close(); }));
      yield* sleep(5);
      yield* spawn(function* glutton() {
        for (const [near] of pairs) native.send(near.fd, Buffer.from('x'), 0, 1);
        spin(60);
      });
      for (const reader of readers) yield* reader;
      for (const [near] of pairs) yield* near.close();
      listener.close();`);
    expect(report).toMatch(
      /glutton#7 held the loop for \d+\.\d+ ms without a wait, and starved 5 descriptors that were ready: fd \d+, fd \d+, fd \d+ and 2 more\./,
    );
    expect(report).toMatch(
      /glutton#7 starts\n.*glutton#7 done\n.*wait\(timeout=.*= \d ready .*\n.*fd \d+ tcp \S+ {2}IN\n/,
    );
  });

  test('a step that held the loop while others of its batch were ready', async () => {
    const report = await examined(`
      const listener = yield* tcp.listen();
      const pairs = [];
      for (let i = 0; i < 3; i++) {
        const near = yield* tcp.connect({ port: listener.address.port });
        pairs.push([near, yield* listener.accept()]);
      }
      const readers = pairs.map(([, far], i) => spawn(function* () {
        yield* far.read();
        if (i === 0) spin(60);
        yield* far.close();
      }, { name: 'reader' }));
      yield* sleep(5);
      for (const [near] of pairs) native.send(near.fd, Buffer.from('x'), 0, 1);
      for (const reader of readers) yield* reader;
      for (const [near] of pairs) yield* near.close();
      listener.close();`);
    expect(report).toMatch(/reader#2 held the loop for .* and starved 2 descriptors that were ready/);
  });

  test("a callback of Node's own that held the loop", async () => {
    const report = await examined('setTimeout(() => spin(60), 5); yield* sleep(30); yield* sleep(1);', [
      '--held',
      '40',
    ]);
    expect(report).toMatch(/Code that is no coroutine held the loop for \d+\.\d+ ms.*\n.*\n.*wait\(/);
  });

  test("a coroutine that held the loop after a promise of Node's own, of which the trace knows nothing", async () => {
    const report = await examined(
      `yield* spawn(async () => {
        await sleep(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
        spin(60);
        await sleep(1);
      }, { name: 'fetching' }).join();`,
      ['--held', '40'],
    );
    expect(report).toMatch(
      /^Code that Node called held the loop for \d+\.\d+ ms: a callback of its own, or fetching#\d+ when it went on after a promise that is not onewait's\.\n.*wait\(.*\n.*fetching#\d+ suspends on 1 ms\n/,
    );
  });

  test('tasks that failed, as one when they failed alike', async () => {
    const report = await examined(`
      for (let i = 0; i < 3; i++) {
        const task = spawn(function* child() { yield* sleep(1); throw new TypeError('no such thing'); });
        try { yield* task; } catch {}
      }`);
    expect(report).toMatch(/^child failed: TypeError: no such thing, 3 times\.\n/m);
    expect(report).toMatch(/1 ms {2}=> resume child#2 .*\n.*child#2 failed: TypeError: no such thing\n/);
  });

  test('a loop that spins', async () => {
    const report = await examined('for (let i = 0; i < 5000; i++) yield* yieldNow();', ['--held', '10000']);
    expect(report).toMatch(/The loop span: [45],\d{3} turns in a row did nothing/);
    expect(report).toContain('wait(timeout=0 ms) = 0 ready');
  });

  test('libuv at work all the time', async () => {
    const report = await examined(
      'yield* done;',
      ['--held', '10000'],
      `import net from 'node:net';
      const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const done = { *[Symbol.iterator]() { yield* scopeOf(); } };
      function* scopeOf() {
        let left = 3000;
        const socket = net.connect(server.address().port, '127.0.0.1', () => socket.write('x'));
        socket.on('data', () => { if (--left > 0) socket.write('x'); else { socket.destroy(); server.close(); } });
        while (left > 0) yield* sleep(20);
      }`,
    );
    expect(report).toMatch(/libuv had something to do in [\d,]+ of [\d,]+ turns/);
    expect(report).toMatch(/turn of libuv/);
  });

  test('a descriptor that was waited for and never became ready', async () => {
    const report = await examined(
      `const listener = yield* tcp.listen();
      const near = yield* tcp.connect({ port: listener.address.port });
      const far = yield* listener.accept();
      const reader = spawn(function* reader() { yield* far.read(); });
      yield* sleep(60);
      reader.cancel();
      try { yield* reader; } catch {}
      yield* far.close();
      yield* near.close();
      listener.close();`,
      ['--idle', '20', '--held', '10000'],
    );
    expect(report).toMatch(/^fd \d+ tcp 127\.0\.0\.1:\d+ was waited for and never became ready, in \d+\.\d+ ms\.$/m);
    expect(report).toMatch(/fd \d+ opened: tcp 127\.0\.0\.1:\d+ accepted by main#1 at \S+\n.*epoll_ctl\(ADD, /);
    expect(report).toContain('1 finding in');
  });

  test('a descriptor that was ready and had nothing', async () => {
    const report = await examined(
      `const first = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
      const second = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
      const writer = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
      const tasks = [first, second].map((fd) => spawn(function* () {
        yield* readable(fd);
        native.read(fd, new Uint8Array(100), 0, 100);
      }, { name: 'reader' }));
      yield* sleep(5);
      writeSync(writer, 'x');
      for (const task of tasks) yield* task;`,
      ['--held', '10000'],
      `import { constants, openSync, writeSync } from 'node:fs';
      import { execFileSync } from 'node:child_process';
      const fifo = process.argv[1] + '.fifo';
      execFileSync('mkfifo', [fifo]);`,
    );
    expect(report).toMatch(/^fd \d+ \S+.* was reported ready once and had nothing \(EAGAIN\)/m);
    expect(report).toMatch(/fd \d+ \S+.* {2}IN\n.*read\(\d+, 100\) = -1 EAGAIN .*reader#\d\n/);
    expect(report).toContain('1 finding in');
  });

  test('a descriptor that was never closed though its task ended', async () => {
    const report = await examined(
      `const listener = yield* tcp.listen();
      const server = spawn(function* forgetful() {
        const conn = yield* listener.accept();
        yield* conn.read();
      });
      const near = yield* tcp.connect({ port: listener.address.port });
      yield* near.write('x');
      yield* server;
      yield* near.close();
      listener.close();`,
      ['--held', '10000'],
    );
    expect(report).toMatch(/^fd \d+ tcp 127\.0\.0\.1:\d+ was never closed, though the task that used it has ended\.$/m);
    expect(report).toMatch(/fd \d+ opened: tcp 127\.0\.0\.1:\d+ accepted by forgetful#2 at \S+\n.*forgetful#2 done\n/);
    expect(report).toContain('1 finding in');
  });

  test('lost records', () => {
    const path = join(folder(), 'trace');
    writeFileSync(
      path,
      Buffer.concat([header(), record({ kind: Kind.host }), record({ kind: Kind.lost, result: 1234 })]),
    );
    const findings = examine(path);
    expect(findings.map(({ sentence }) => sentence)).toEqual([
      '1,234 records were lost: what is said here may be wrong for want of them.',
    ]);
    expect(findings[0]!.lines).toEqual(['    0.000000  ... 1234 records lost: the ring or the disk was full']);
  });

  test('of many alike five, and counts the others', () => {
    const path = join(folder(), 'trace');
    const ends = Array.from({ length: 5000 }, (_, i) =>
      record({ kind: Kind.end, code: EndKind.failed, task: i + 1, t: i }),
    );
    writeFileSync(path, Buffer.concat([header(), ...ends]));
    expect(examine(path).map(({ sentence }) => sentence)).toEqual(['task failed: ?, 5,000 times.']);
  });
});

function examine(path: string): ReturnType<Doctor['finish']> {
  const doctor = new Doctor({ heldNs: 1e7, idleNs: 5e9 });
  for (const one of readTrace(path).records) doctor.push(one);
  return doctor.finish();
}

describe.each(['yield', 'await'])('onewait trace doctor', (style) => {
  test(`finds nothing in an echo server that is well (${style})`, async () => {
    const path = join(folder(), 'trace');
    const child = new Child(process.execPath, [cli, 'echo', '--port', '0', '--style', style, '--trace', path]);
    const port = Number((await child.says(/:(\d+)$/m))[1]);
    const open: Socket[] = [];
    onTestFinished(() => {
      for (const socket of open) socket.destroy();
    });
    const dial = async (): Promise<Socket> => {
      const socket = connect({ port, host: '127.0.0.1' });
      open.push(socket);
      socket.on('error', () => {}).on('data', () => {});
      await new Promise((resolve) => socket.once('connect', resolve));
      return socket;
    };
    const ask = async (socket: Socket, bytes: number): Promise<void> => {
      const start = socket.bytesRead;
      socket.write(Buffer.alloc(bytes));
      await until('the echo comes back', () => socket.bytesRead - start >= bytes);
    };
    const sockets = await Promise.all(Array.from({ length: 20 }, dial));
    for (const bytes of [1, 100, 65_536, 65_537]) await Promise.all(sockets.map((socket) => ask(socket, bytes)));
    await ask(sockets[0]!, 8_000_000);
    // One closes its half and gets the rest, one resets, one goes away at once, others are still there at the end.
    sockets[1]!.end(Buffer.alloc(300_000));
    await until('it is closed from the other side', () => sockets[1]!.readableEnded);
    expect(sockets[1]!.bytesRead).toBe(1 + 100 + 65_536 + 65_537 + 300_000);
    sockets[2]!.resetAndDestroy();
    (await dial()).destroy();
    await ask(sockets[3]!, 1000);
    child.process.kill('SIGINT');
    expect((await child.end()).code).toBe(130);
    // The machine may take the processor away for a while, which would be a step that held the loop.
    const { code, stdout, stderr } = await onewait(['trace', 'doctor', '--held', '60000', path]).end();
    expect({ code, stderr, stdout }).toEqual({
      code: 0,
      stderr: '',
      stdout: expect.stringMatching(/^Nothing found in [\d,]+ records\.\n$/),
    });
  });
});
