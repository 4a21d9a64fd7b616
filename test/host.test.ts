// The host: Node goes on working while ours is the only blocking call, nothing spins, and every way to end works. Each test is a Node of its
// own that runs an ES module, for a test runner has loops and handlers of its own.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Child, echoServer, folder, library, needs, onewait, residentBytes, script } from './processes.ts';
import { until } from './until.ts';

/** An echo server in `style` on `listener`, as source text. */
const ECHO = `
  function* echo(conn) {
    for (let chunk = yield* conn.read(); chunk !== null; chunk = yield* conn.read()) yield* conn.write(chunk);
    yield* conn.close();
  }
  function* serve(listener) {
    for (;;) spawn(echo(yield* listener.accept()), { name: 'echo' });
  }
  async function echoAsync(conn) {
    for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) await conn.write(chunk);
    await conn.close();
  }
  async function serveAsync(listener) {
    for (;;) {
      const conn = await listener.accept();
      spawn(() => echoAsync(conn), { name: 'echo' });
    }
  }
`;

describe.each(['yield', 'await'])('while an echo server runs (%s)', (style) => {
  const SERVE = `${ECHO}
    const serving = (listener) => spawn(${style === 'yield' ? 'serve(listener)' : '() => serveAsync(listener)'});
  `;

  test('timers, immediates, ticks, files, http and child processes of Node work', async () => {
    const child = script(`${SERVE}
      import { execFile } from 'node:child_process';
      import fs from 'node:fs';
      import http from 'node:http';
      import net from 'node:net';
      import os from 'node:os';
      import path from 'node:path';
      import timers from 'node:timers/promises';
      import { promisify } from 'node:util';
      import zlib from 'node:zlib';

      const result = await run(async () => {
        const listener = await tcp.listen();
        const server = serving(listener);
        // A client that keeps the server busy all the time.
        let echoes = 0;
        const socket = net.connect(listener.address.port);
        socket.on('data', (data) => { echoes += data.length; socket.write(data); });
        socket.write('x'.repeat(64));
        await new Promise((resolve) => socket.once('data', resolve));

        const seen = {};
        const before = performance.now();
        await timers.setTimeout(20);
        seen.timeout = performance.now() - before >= 19;
        let intervals = 0;
        for await (const _ of timers.setInterval(1)) if (++intervals === 5) break;
        seen.interval = intervals;
        seen.immediate = await timers.setImmediate('immediate');

        await sleep(1);
        const order = [];
        setImmediate(() => order.push('immediate'));
        process.nextTick(() => order.push('tick'));
        Promise.resolve().then(() => order.push('microtask'));
        order.push('now');
        while (order.length < 4) await timers.setImmediate();
        seen.order = order.join();

        const file = path.join(os.tmpdir(), 'onewait-host-' + process.pid);
        await fs.promises.writeFile(file, 'written');
        seen.file = await fs.promises.readFile(file, 'utf8');
        await fs.promises.unlink(file);
        seen.gzip = (await promisify(zlib.gzip)('x'.repeat(1000))).length < 100;
        seen.child = (await promisify(execFile)('echo', ['from a child'])).stdout;

        const web = http.createServer((request, response) => response.end('path ' + request.url)).listen(0, '127.0.0.1');
        await new Promise((resolve) => web.once('listening', resolve));
        seen.http = await (await fetch('http://127.0.0.1:' + web.address().port + '/x')).text();
        web.closeAllConnections();
        web.close();

        const busy = echoes;
        while (echoes < busy + 64 * 100) await timers.setImmediate();
        socket.destroy();
        server.cancel();
        listener.close();
        return seen;
      });
      console.log(JSON.stringify(result));
    `);
    const { code, stdout, stderr } = await child.end();
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      timeout: true,
      interval: 5,
      immediate: 'immediate',
      order: 'now,microtask,tick,immediate',
      file: 'written',
      gzip: true,
      child: 'from a child\n',
      http: 'path /x',
    });
    expect(code).toBe(0);
  });

  test('promises resume although the module is at its top level await', async () => {
    const child = script(`${SERVE}
      const before = await Promise.resolve('promise');
      await null;
      const inside = await run(async () => {
        const listener = await tcp.listen();
        const server = serving(listener);
        const conn = await tcp.connect({ port: listener.address.port });
        const words = [];
        for (const word of ['one', 'two', 'three']) {
          await conn.write(word);
          words.push(String(Buffer.from(await conn.readExactly(word.length))));
        }
        conn.destroy();
        return words.join();
      });
      console.log(before, inside);
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'promise one,two,three\n', stderr: '' });
  });

  test('an error that a task leaves to nobody is reported once, with its task and descriptor, and harms no other', async () => {
    const child = script(`${SERVE}
      await run(async () => {
        const listener = await tcp.listen();
        serving(listener);
        const conn = await tcp.connect({ port: listener.address.port });
        const doomed = await tcp.connect({ port: listener.address.port });
        const number = doomed.fd;
        spawn(function* culprit() {
          yield* doomed.write('x');
          yield* doomed.read();
          throw new Error('my fault');
        });
        await conn.write('alive');
        console.log(String(Buffer.from(await conn.readExactly(5))));
        while (doomed.fd >= 0) await sleep(1);
        console.log('fd', number);
        conn.destroy();
      });
    `);
    const { code, stdout, stderr } = await child.end();
    const fd = /^alive\nfd (\d+)\n$/.exec(stdout)![1];
    expect(stderr).toMatch(new RegExp(`^onewait: task culprit#\\d+ failed on fd ${fd}: Error: my fault\n    at `));
    expect(stderr.match(/my fault/g)).toHaveLength(1);
    expect(code).toBe(0);
  });

  test('an exception that escapes a batch is an uncaughtException, and the server goes on', async () => {
    const child = script(`${SERVE}
      let caught = 0;
      process.on('uncaughtException', (error) => console.log(++caught, error.message));
      await run(async () => {
        const listener = await tcp.listen();
        serving(listener);
        for (const i of [1, 2]) spawn(() => { throw new Error('escapes ' + i); });
        process.nextTick(() => { throw new Error('from a tick'); });
        setTimeout(() => { throw new Error('from a timer'); });
        while (caught < 4) await sleep(1);
        const conn = await tcp.connect({ port: listener.address.port });
        await conn.write('goes on');
        console.log(String(Buffer.from(await conn.readExactly(7))));
        conn.destroy();
      }, { onTaskError(error) { throw error; } });
    `);
    const { code, stdout, stderr } = await child.end();
    expect(stderr).toBe('');
    const messages = stdout.trim().split('\n');
    expect(
      messages
        .slice(0, 4)
        .map((line) => line.slice(2))
        .sort(),
    ).toEqual(['escapes 1', 'escapes 2', 'from a tick', 'from a timer']);
    expect(messages.slice(4)).toEqual(['goes on']);
    expect(code).toBe(0);
  });

  test('an exception that escapes a batch, with nobody to catch it, ends the process with its stack', async () => {
    const child = script(`${SERVE}
      await run(async () => {
        serving(await tcp.listen());
        spawn(() => { throw new Error('nobody catches this'); });
        await sleep(Infinity);
      }, { onTaskError(error) { throw error; } });
    `);
    const { code, stderr } = await child.end();
    expect(code).toBe(1);
    expect(stderr).toContain('Error: nobody catches this');
  });

  test('a rejection that nobody handles is an unhandledRejection', async () => {
    const child = script(`${SERVE}
      process.on('unhandledRejection', (reason) => console.log('unhandled', reason.message));
      await run(async () => {
        const listener = await tcp.listen();
        serving(listener);
        Promise.reject(new Error('forgotten'));
        const conn = await tcp.connect({ port: listener.address.port });
        await conn.write('x');
        await conn.read();
        conn.destroy();
      });
      console.log('over');
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'unhandled forgotten\nover\n', stderr: '' });
  });

  test('a handler of SIGINT runs, and the server goes on', async () => {
    const child = script(`${SERVE}
      const heard = [];
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGUSR2']) process.on(signal, () => { heard.push(signal); console.log(signal); });
      await run(async () => {
        const listener = await tcp.listen();
        serving(listener);
        console.log('ready');
        while (heard.length < 3) await sleep(2);
        const conn = await tcp.connect({ port: listener.address.port });
        await conn.write('after');
        console.log(String(Buffer.from(await conn.readExactly(5))));
        conn.destroy();
      });
    `);
    await child.says(/ready/);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGUSR2'] as const) {
      child.process.kill(signal);
      await child.says(new RegExp(`^${signal}$`, 'm'));
    }
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    expect(child.stdout).toContain('after');
  });

  test('a signal without a handler ends it', async () => {
    const child = script(`${SERVE}
      await run(async () => {
        serving(await tcp.listen());
        console.log('ready');
        await sleep(Infinity);
      });
    `);
    await child.says(/ready/);
    child.process.kill('SIGINT');
    expect(await child.end()).toMatchObject({ code: null, signal: 'SIGINT' });
  });
});

describe('the process', () => {
  test('ends by itself when main has ended, whatever it left open', async () => {
    const child = script(`
      const left = await run(function* () {
        const listener = yield* tcp.listen();
        spawn(function* () { for (;;) yield* listener.accept(); });
        spawn(function* () { yield* sleep(1e9); });
        const conn = yield* tcp.connect({ port: listener.address.port });
        spawn(function* () { yield* conn.read(); });
        yield* sleep(1);
        return 'value';
      });
      console.log(left);
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'value\n', stderr: '' });
  });

  test('ends with code 13, as Node has it, when nothing can ever settle what main waits for', async () => {
    expect((await script('await run(() => new Promise(() => {}));').end()).code).toBe(13);
  });

  test('stays while a coroutine waits, and while only Node has something to do', async () => {
    const child = script(`
      const waited = await run(function* () {
        yield* sleep(50);
        return yield* spawn(() => new Promise((resolve) => setTimeout(resolve, 50, 'both')));
      });
      console.log(waited);
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'both\n' });
  });

  test('runs main again and again, with sleep between, and at the same time', async () => {
    const child = script(`
      import timers from 'node:timers/promises';
      const values = [];
      for (let i = 0; i < 5; i++) {
        values.push(await run(function* () { yield* sleep(1); return i; }));
        await timers.setTimeout(1);
      }
      values.push(...(await Promise.all([run(() => sleep(5)), run(async () => { await sleep(1); return 'x'; })])));
      console.log(JSON.stringify(values));
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: '[0,1,2,3,4,null,"x"]\n', stderr: '' });
  });

  const waits: Array<[string, string]> = [
    ['a timer of Node', 'setTimeout(() => process.exit(7), 20)'],
    ['a coroutine', 'spawn(function* () { yield* sleep(20); process.exit(7); })'],
    ['an async function', 'spawn(async () => { await sleep(20); process.exit(7); })'],
    ['an exit code and no more', 'setTimeout(() => { process.exitCode = 7; stop.abort(); }, 20)'],
  ];
  test.each(waits)('ends while it waits, by %s', async (_, exit) => {
    const child = script(
      `${ECHO}
      const stop = new AbortController();
      try {
        await run(function* () {
          const listener = yield* tcp.listen();
          spawn(serve(listener));
          const conn = yield* tcp.connect({ port: listener.address.port });
          ${exit};
          yield* conn.read(10, { signal: stop.signal });
        }, { trace: process.argv[1] });
      } catch {}
    `,
      { args: [join(folder(), 'trace')] },
    );
    expect(await child.end(10_000)).toMatchObject({ code: 7, signal: null, stderr: '' });
  });
});

interface Wait {
  readonly call: string;
  readonly fd: number;
  readonly timeout: number;
}

/** The waits on the main thread that strace saw between two markers. */
function waitsBetween(lines: readonly string[], begin: string, end: string): Wait[] {
  const from = lines.findIndex((line) => line.includes(begin));
  const to = lines.findIndex((line) => line.includes(end));
  expect(from).toBeGreaterThanOrEqual(0);
  expect(to).toBeGreaterThan(from);
  const waits: Wait[] = [];
  for (const line of lines.slice(from, to)) {
    const plain = /^(epoll_wait|epoll_pwait)\((\d+), .*?, \d+, (-?\d+)[,)]/.exec(line);
    const exact = /^(epoll_pwait2)\((\d+), .*?, \d+, \{tv_sec=(\d+), tv_nsec=(\d+)\}/.exec(line);
    const others = /^(ppoll|pselect6)\(/.exec(line);
    if (plain) waits.push({ call: plain[1]!, fd: Number(plain[2]), timeout: Number(plain[3]) });
    else if (exact)
      waits.push({ call: exact[1]!, fd: Number(exact[2]), timeout: Number(exact[3]) * 1000 + Number(exact[4]) / 1e6 });
    else if (others) waits.push({ call: others[1]!, fd: -1, timeout: / NULL, NULL, (\d|NULL)/.test(line) ? -1 : 1 });
    else expect(line).toMatch(/access|strace|---|^\+\+\+/);
  }
  return waits;
}

describe('the kernel sees', () => {
  const MARK = `
    import { accessSync, readdirSync, readlinkSync } from 'node:fs';
    const mark = (name) => { try { accessSync('/' + name); } catch {} };
    const epolls = () => readdirSync('/proc/self/fd').filter((fd) => {
      try { return readlinkSync('/proc/self/fd/' + fd) === 'anon_inode:[eventpoll]'; } catch { return false; }
    }).map(Number);
    const libuvs = epolls();
  `;

  async function traced(source: string, args: string[] = []): Promise<{ lines: string[]; stdout: string }> {
    needs('strace');
    const path = join(folder(), 'strace');
    const calls = 'epoll_wait,epoll_pwait,epoll_pwait2,ppoll,pselect6,access,faccessat,faccessat2';
    const child = script(source, { wrap: ['strace', '-f', '-ff', '-o', path, '-e', `trace=${calls}`], args });
    const { code, stdout, stderr } = await child.end(60_000);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    // One file per thread: the main thread's is the one with the markers.
    const files = readdirSync(join(path, '..')).filter((name) => name.startsWith('strace.'));
    const main = files
      .map((name) => readFileSync(join(path, '..', name), 'utf8'))
      .find((text) => text.includes('MARK-begin'));
    return { lines: main!.split('\n').filter((line) => line !== ''), stdout };
  }

  test('that libuv never blocks, and we do', async () => {
    const { lines, stdout } = await traced(`${MARK}${ECHO}
      import http from 'node:http';
      import net from 'node:net';
      await run(function* () {
        const ours = epolls().find((fd) => !libuvs.includes(fd));
        const listener = yield* tcp.listen();
        const server = spawn(serve(listener));
        mark('MARK-begin');
        yield* spawn(async () => {
          const socket = net.connect(listener.address.port);
          for (let i = 0; i < 50; i++) {
            socket.write('x');
            await new Promise((resolve) => socket.once('data', resolve));
          }
          socket.destroy();
          const web = http.createServer((_, response) => response.end('http')).listen(0, '127.0.0.1');
          await new Promise((resolve) => web.once('listening', resolve));
          await (await fetch('http://127.0.0.1:' + web.address().port)).text();
          web.closeAllConnections();
          web.close();
          await new Promise((resolve) => setTimeout(resolve, 30));
        });
        yield* sleep(30.5);
        mark('MARK-end');
        console.log(ours);
        server.cancel();
        listener.close();
      });
    `);
    const ours = Number(stdout);
    const waits = waitsBetween(lines, 'MARK-begin', 'MARK-end');
    const libuv = waits.filter((wait) => wait.fd !== ours);
    expect(libuv.length).toBeGreaterThan(0);
    expect(new Set(libuv.map((wait) => wait.timeout))).toEqual(new Set([0]));
    const blocking = waits.filter((wait) => wait.fd === ours && wait.timeout !== 0);
    expect(blocking.length).toBeGreaterThan(50);
    // A timeout that is no whole number of milliseconds is not rounded.
    expect(blocking.some((wait) => wait.call === 'epoll_pwait2' && wait.timeout > 0)).toBe(true);
  });

  // The kernel sets up a timer for each wait that has a timeout. That of V8, which looks after its heap some seconds after the start, is not ours.
  test('no timeout of five seconds after a busy time, although the end of it is noticed', async () => {
    const { lines } = await traced(`${MARK}
      import { readFile } from 'node:fs/promises';
      await run(function* () {
        for (let i = 0; i < 200; i++) yield* yieldNow();
        mark('MARK-begin');
        yield* spawn(() => readFile('/proc/self/stat'));
        mark('MARK-end');
      });
    `);
    const timeouts = waitsBetween(lines, 'MARK-begin', 'MARK-end').map(({ timeout }) => timeout);
    expect(timeouts.some((timeout) => timeout !== 0)).toBe(true);
    expect(timeouts).not.toContain(5000);
  });

  test.each(['epoll', 'poll', 'select'])('hardly anything of an idle second on %s', async (poller) => {
    const { lines, stdout } = await traced(
      `${MARK}${ECHO}
      const used = await run(function* () {
        const listener = yield* tcp.listen();
        spawn(serve(listener));
        const streams = [];
        for (let i = 0; i < 20; i++) {
          const conn = yield* tcp.connect({ port: listener.address.port });
          yield* conn.write('x');
          yield* conn.read();
          spawn(function* () { yield* conn.read(); });
          streams.push(conn);
        }
        // The peer of this one has shut down, of that one it does not read: readiness that nobody waits for.
        yield* streams[0].shutdown();
        yield* sleep(10);
        const before = process.cpuUsage();
        mark('MARK-begin');
        yield* sleep(1000);
        mark('MARK-end');
        const { user, system } = process.cpuUsage(before);
        return user + system;
      }, { poller: process.argv[1] });
      console.log(used);
    `,
      [poller],
    );
    expect(waitsBetween(lines, 'MARK-begin', 'MARK-end').length).toBeLessThan(30);
    expect(Number(stdout)).toBeLessThan(500_000);
  });
});

describe('a wait that fails', () => {
  const CLOSE = `
    import { closeSync, readdirSync, readlinkSync } from 'node:fs';
    const epolls = () => readdirSync('/proc/self/fd').filter((fd) => {
      try { return readlinkSync('/proc/self/fd/' + fd) === 'anon_inode:[eventpoll]'; } catch { return false; }
    }).map(Number);
    const before = epolls();
    function* main() {
      setTimeout(() => { for (const fd of epolls()) if (!before.includes(fd)) closeSync(fd); }, 20);
      const listener = yield* tcp.listen();
      yield* listener.accept();
    }
  `;

  test('because our descriptor was closed behind our back ends the process with a clear error, and does not spin', async () => {
    const { code, stderr } = await script(`${CLOSE} await run(main);`).end(10_000);
    expect(stderr).toContain('onewait cannot wait any more: EBADF');
    expect(stderr.match(/cannot wait any more/g)).toHaveLength(1);
    expect(code).toBe(1);
  });

  test('is told once to a handler of uncaughtException, and Node goes on', async () => {
    const child = script(`${CLOSE}
      process.on('uncaughtException', (error) => console.log(error.code, error.errno));
      run(main);
      setTimeout(() => console.log('Node goes on', process.cpuUsage().user < 5e6), 300);
    `);
    expect(await child.end(10_000)).toMatchObject({ code: 0, stdout: 'EBADF -9\nNode goes on true\n', stderr: '' });
  });
});

describe('worker threads', () => {
  /** Source of a worker that serves; it posts its port. */
  const WORKER = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { run, spawn, tcp } from ${JSON.stringify(library)};
    ${ECHO}
    await run(workerData === 'await' ? async () => {
      const listener = await tcp.listen();
      parentPort.postMessage(listener.address.port);
      await serveAsync(listener);
    } : function* () {
      const listener = yield* tcp.listen();
      parentPort.postMessage(listener.address.port);
      yield* serve(listener);
    });
  `;
  const MAIN = `
    import { Worker } from 'node:worker_threads';
    import { once } from 'node:events';
    const source = ${JSON.stringify(WORKER)};
    const start = async (style) => {
      const worker = new Worker(source, { eval: true, execArgv: ['--input-type=module'], workerData: style });
      worker.on('error', (error) => console.log('error', error));
      const [port] = await once(worker, 'message');
      return { worker, port };
    };
    const echo = (port) => run(async () => {
      const conn = await tcp.connect({ port });
      for (let i = 0; i < 50; i++) {
        await conn.write('message ' + i);
        await conn.readExactly(('message ' + i).length);
      }
      await conn.close();
      return 'ok';
    });
  `;

  test('eight of them serve side by side, and terminate() ends each while it waits', async () => {
    const child = script(`${MAIN}
      const workers = await Promise.all(Array.from({ length: 8 }, (_, i) => start(i % 2 ? 'await' : 'yield')));
      console.log((await Promise.all(workers.map(({ port }) => echo(port)))).join());
      const before = performance.now();
      console.log((await Promise.all(workers.map(({ worker }) => worker.terminate()))).join());
      console.log(performance.now() - before < 5000);
    `);
    expect(await child.end(60_000)).toMatchObject({
      code: 0,
      signal: null,
      stdout: `${'ok,'.repeat(7)}ok\n${'1,'.repeat(7)}1\ntrue\n`,
      stderr: '',
    });
  });

  test('are terminated while they are busy, again and again, without a crash', async () => {
    const child = script(`${MAIN}
      import net from 'node:net';
      for (let i = 0; i < 6; i++) {
        const { worker, port } = await start(i % 2 ? 'await' : 'yield');
        const sockets = Array.from({ length: 8 }, () => {
          const socket = net.connect(port).on('error', () => {});
          socket.on('data', (data) => socket.write(data));
          socket.write('x'.repeat(1000));
          return socket;
        });
        await Promise.all(sockets.map((socket) => once(socket, 'data')));
        await worker.terminate();
        for (const socket of sockets) socket.destroy();
      }
      console.log('over');
    `);
    expect(await child.end(60_000)).toMatchObject({ code: 0, signal: null, stdout: 'over\n', stderr: '' });
  });

  test('end without a crash where the main thread has not loaded the addon', async () => {
    const source = `import(${JSON.stringify(library)}).then(({ run, sleep }) => run(function* () { yield* sleep(1); }))`;
    const child = new Child(process.execPath, [
      '--eval',
      `new (require('worker_threads').Worker)(${JSON.stringify(source)}, { eval: true }).on('exit', (code) => console.log('ended', code))`,
    ]);
    expect(await child.end()).toMatchObject({ code: 0, signal: null, stdout: 'ended 0\n', stderr: '' });
  });

  test('end by themselves, by process.exit and by an error, each with its code', async () => {
    const child = script(`
      import { Worker } from 'node:worker_threads';
      import { once } from 'node:events';
      const code = async (body) => {
        const source = 'import { run, sleep, spawn, tcp } from ' + JSON.stringify(${JSON.stringify(library)}) + ';' + body;
        const worker = new Worker(source, { eval: true, execArgv: ['--input-type=module'], stderr: true });
        let failed = '';
        worker.on('error', (error) => { failed = error.message; });
        const code = await new Promise((resolve) => worker.once('exit', resolve));
        return code + failed;
      };
      console.log(await code('await run(function* () { yield* tcp.listen(); yield* sleep(5); });'));
      console.log(await code('await run(function* () { spawn(function* () { yield* sleep(5); process.exit(7); }); yield* (yield* tcp.listen()).accept(); });'));
      console.log(await code('setTimeout(() => process.exit(8), 5); await run(async () => { await (await tcp.listen()).accept(); });'));
      console.log(await code('await run(async () => { await sleep(5); throw new Error(" failed"); });'));
    `);
    expect(await child.end(60_000)).toMatchObject({ code: 0, signal: null, stdout: '0\n7\n8\n1 failed\n', stderr: '' });
  });

  test('that are terminated leave no descriptor behind, so that nobody connects to them any more', async () => {
    const child = script(`${MAIN}
      import { readdirSync } from 'node:fs';
      import net from 'node:net';
      const count = () => readdirSync('/proc/self/fd').length;
      await (await start('yield')).worker.terminate();
      const before = count();
      const refused = [];
      for (let i = 0; i < 5; i++) {
        const { worker, port } = await start(i % 2 ? 'await' : 'yield');
        const socket = net.connect(port);
        socket.write('x');
        await once(socket, 'data');
        const ended = once(socket, 'close');
        await worker.terminate();
        await ended;
        refused.push(await new Promise((resolve) => net.connect(port).on('error', (error) => resolve(error.code))));
      }
      console.log(refused.join());
      console.log(count() - before);
    `);
    const expected = `${'ECONNREFUSED,'.repeat(4)}ECONNREFUSED\n0\n`;
    expect(await child.end(60_000)).toMatchObject({ code: 0, signal: null, stdout: expected, stderr: '' });
  });

  test('do not keep process.exit() of the main thread waiting', async () => {
    const child = script(`${MAIN}
      await Promise.all(Array.from({ length: 4 }, () => start('yield')));
      console.log('exit');
      process.exit(9);
    `);
    expect(await child.end(20_000)).toMatchObject({ code: 9, signal: null, stdout: 'exit\n', stderr: '' });
  });
});

test('an echo server that is idle and then flooded and then idle again uses processor time only in between', async () => {
  const { child, port } = await echoServer();
  const ticks = () => {
    const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const sockets = Array.from({ length: 50 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  let echoed = 0;
  for (const socket of sockets) {
    socket.on('data', (data) => {
      echoed += data.length;
      if (echoed < 20_000_000) socket.write(data);
    });
    socket.write(Buffer.alloc(10_000));
  }
  await until('they are echoed', () => echoed >= 20_000_000);
  // Half of them reset, half stay: what is left must be quiet.
  for (const [i, socket] of sockets.entries()) if (i % 2) socket.resetAndDestroy();
  let last = ticks();
  await until('it is quiet', async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const now = ticks();
    const quiet = now - last <= 1;
    last = now;
    return quiet;
  });
  for (const socket of sockets) socket.destroy();
  child.process.kill('SIGINT');
  expect((await child.end()).code).toBe(130);
});

test('the addon without epoll descriptors to spare says which error it was', async () => {
  needs('bash');
  const child = script(
    `
    import { closeSync, openSync } from 'node:fs';
    const taken = [];
    try { for (;;) taken.push(openSync('/dev/null')); } catch {}
    const outcome = await run(function* () {}).then(() => 'ran', (error) => error);
    for (const fd of taken) closeSync(fd);
    console.log(outcome.code, outcome.syscall);
    console.log(await run(function* () { return 'later it works'; }));
  `,
    { wrap: ['bash', '-c', 'ulimit -n 64; exec "$@"', 'bash'] },
  );
  expect(await child.end()).toMatchObject({ code: 0, stdout: 'EMFILE epoll_create1\nlater it works\n', stderr: '' });
});

test('a server whose standard output is gone goes on', async () => {
  const child = onewait(['echo', '--port', '0']);
  const [, port] = await child.says(/:(\d+)$/m);
  child.process.stdout!.destroy();
  const socket = connect(Number(port), '127.0.0.1');
  socket.write('still there');
  const data = await new Promise((resolve) => socket.once('data', resolve));
  expect(String(data)).toBe('still there');
  socket.destroy();
  child.process.kill('SIGTERM');
  expect((await child.end()).code).toBe(143);
});

describe('when nothing happens any more after a busy time', () => {
  const MIB = 1024 * 1024;
  const QUIET = `
    for (let i = 0; i < 100; i++) yield* yieldNow();
    console.log('quiet');
    yield* readable(0);
  `;

  test.each([
    [
      "V8's young generation",
      16,
      `const held = [];
       await run(function* () {
         for (let i = 0; i < 200; i++) {
           for (let j = 0; j < 1000; j++) held.push({ i, j: [j] });
           yield* yieldNow();
         }
         // It is as large as it gets: now all of it is used.
         for (let i = 0; i < 1_000_000; i++) held[i % 1000].last = { i };
         ${QUIET}
       });`,
    ],
    [
      'memory of large reads',
      24,
      `import { native } from ${JSON.stringify(library.replace('index.js', 'native.js'))};
       await run(function* () {
         for (let i = 0; i < 80; i++) new Uint8Array(native.takeSlab()).fill(1);
         ${QUIET}
       });`,
    ],
    [
      'memory between small pieces that are kept',
      24,
      `import { native } from ${JSON.stringify(library.replace('index.js', 'native.js'))};
       let pages = Array.from({ length: 1200 }, () => native.takePage());
       for (const page of pages) new Uint8Array(page).fill(1);
       const kept = pages.filter((_, i) => i % 64 === 0);
       pages = null;
       await run(function* () { ${QUIET} });
       console.log(kept.length);`,
    ],
  ])('%s is given back', async (_, least, source) => {
    // V8's memory reducer does the same, some time after V8 has collected of its own accord.
    const flags = ['sh', '-c', 'node=$1; shift; exec "$node" --no-memory-reducer "$@"', 'sh'];
    const child = script(source, { wrap: flags });
    await child.says(/^quiet$/m);
    const { pid } = child.process;
    const busy = residentBytes(pid!);
    await until('it holds less than before', () => residentBytes(pid!) < busy - least * MIB);
    child.process.stdin!.end();
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  });

  // What khugepaged makes huge pages of, it fills with zeros where there was nothing (Transparent Hugepage Support, khugepaged/max_ptes_none).
  test.skipIf(!existsSync('/sys/kernel/mm/transparent_hugepage'))(
    'the kernel is not asked for huge pages any more; and it was not, where little is read',
    async () => {
      const child = script(
        `import { readFileSync } from 'node:fs';
       import { native } from ${JSON.stringify(library.replace('index.js', 'native.js'))};
       const huge = () => /^VmFlags:.* hg( |$)/m.test(readFileSync('/proc/self/smaps', 'utf8'));
       const takePages = (mebibytes) => Array.from({ length: mebibytes * 32 }, () => native.takePage());
       await run(function* () {
         const pages = takePages(1);
         console.log('little', huge());
         pages.push(...takePages(3));
         console.log('much', huge());
         for (let i = 0; i < 100; i++) yield* yieldNow();
         yield* spawn(() => new Promise((resolve) => {
           const timer = setInterval(() => {
             if (huge()) return;
             clearInterval(timer);
             resolve();
           }, 20);
         }));
         console.log('quiet', pages.length);
       });`,
      );
      expect(await child.end()).toMatchObject({ code: 0, stdout: 'little false\nmuch true\nquiet 128\n' });
    },
  );

  // With none of them V8 would forget compiled code for next to nothing (native/quiet.h).
  test.each([
    // V8 passes over a request while it still works on one before, which a busy machine can make it do for seconds: one of several times will do.
    ['is collected where some wait, and once more, for what the first time has emptied', 20, 6, 2],
    ['is left alone where hardly any do', 10, 1, 0],
  ])('a little garbage %s', async (_, waiting, times, collections) => {
    const flags = [
      'sh',
      '-c',
      'node=$1; shift; exec "$node" --no-memory-reducer --trace-incremental-marking "$@"',
      'sh',
    ];
    const child = script(
      `import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
       import { getHeapSpaceStatistics } from 'node:v8';
       const young = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size / ${MIB};
       /** Whether it has expired and that was seen: timerfd_create(2), /proc/[pid]/fdinfo/[fd]. */
       const over = () => readdirSync('/proc/self/fd')
         .filter((fd) => { try { return readlinkSync('/proc/self/fd/' + fd) === 'anon_inode:[timerfd]'; } catch { return false; } })
         .some((fd) => /^ticks: 0$[^]*^it_value: .0, 0.$/m.test(readFileSync('/proc/self/fdinfo/' + fd, 'utf8')));
       await run(function* () {
         for (let i = 0; i < ${waiting}; i++) {
           const listener = yield* tcp.listen();
           spawn(function* () { yield* listener.accept(); });
         }
         for (let i = 0; i < ${times}; i++) {
           const held = [];
           for (let n = 0; (i > 0 && n < 50) || young() < 2; n++) {
             for (let j = 0; j < 1000; j++) held.push({ j });
             yield* yieldNow();
           }
           for (let i = 0; i < 100; i++) yield* yieldNow();
           console.log('busy', young() < 8);
           yield* spawn(() => new Promise((resolve) => {
             const timer = setInterval(() => {
               if (!over()) return;
               clearInterval(timer);
               resolve();
             }, 20);
           }));
         }
         console.log('busy true');
       });`,
      { wrap: flags },
    );
    /** Of each quiet time that is over. */
    const counts = (): number[] =>
      child.stdout
        .split('busy true\n')
        .slice(1, -1)
        .map((trace) => trace.match(/\[IncrementalMarking\] Start \(/g)?.length ?? 0);
    await until('collections', () => counts().length === times || counts().includes(collections), 50_000);
    child.process.kill('SIGKILL');
    await child.end();
    expect(Math.max(...counts())).toBe(collections);
  });
});
