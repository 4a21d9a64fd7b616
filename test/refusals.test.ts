// What the system may refuse: a registration, a descriptor, a thread, a connection. It costs the operation that needs it, with an error that says so, and
// nobody else; when there is room again everything goes on.

import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tcp } from '../src/index.ts';
import { type Child, folder, needs, root, script } from './processes.ts';
import { injecting } from './strace.ts';
import { everywhere, on, text, thrownBy } from './styles.ts';

const place = mkdtempSync(join(tmpdir(), 'onewait-refuse-'));
const shim = join(place, 'refuse.so');
beforeAll(() => {
  needs('cc', 'prlimit');
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', shim, join(root, 'test/refuse.c'), '-ldl']);
});
afterAll(() => {
  rmSync(place, { recursive: true });
});

const HELPERS = `
  import { closeSync, existsSync, openSync, readdirSync, unlinkSync, writeFileSync } from 'node:fs';
  const uncaught = [];
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  const refuseEpoll = (fd, errno) => writeFileSync(process.env.REFUSE_EPOLL, fd + ' ' + errno);
  const allowEpoll = () => unlinkSync(process.env.REFUSE_EPOLL);
  const ENOMEM = 12, ENOSPC = 28;
  /** Takes all descriptors but one. */
  const grab = (left = 1) => {
    const taken = [];
    try { for (;;) taken.push(openSync('/dev/null')); } catch {}
    for (let i = 0; i < left; i++) closeSync(taken.pop());
    return taken;
  };
  const letGo = (taken) => { for (const fd of taken.splice(0)) closeSync(fd); };
  const codeOf = async (start) => { try { return await start(); } catch (error) { return error.code; } };
  function* code(make) { try { return yield* make(); } catch (error) { return error.code; } }
  const done = (result) => { process.stdout.write(JSON.stringify({ ...result, uncaught })); process.exit(); };
`;

/** What `program` says that has come of it. With `limit` it may have so many descriptors. */
async function outcomeOf(program: string, limit?: number): Promise<Record<string, unknown>> {
  const here = folder();
  const child: Child = script(HELPERS + program, {
    wrap: limit === undefined ? [] : ['prlimit', `--nofile=${limit}:${limit}`],
    env: {
      LD_PRELOAD: shim,
      REFUSE_EPOLL: join(here, 'epoll'),
      REFUSE_THREADS: join(here, 'threads'),
      REFUSE_NAMES: join(here, 'names'),
    },
  });
  const { code, stdout, stderr } = await child.end();
  expect({
    code,
    stderr: stderr.replace(/\(.*ONEWAIT_ACCEPT_EXHAUSTED[\s\S]*?where the warning was created\)\n/, ''),
  }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** Both ends of a connection, on a listener l. */
const PAIR = 'const near = yield* tcp.connect({ port: l.address.port }); const far = yield* l.accept();';

describe('a registration with epoll that the kernel refuses', () => {
  test('for what a peer does not take fails the writer, for good, and costs no other connection a byte', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        const l = yield* tcp.listen();
        const a = yield* tcp.connect({ port: l.address.port }); const pushed = yield* l.accept();
        ${PAIR}
        let received = 0, sent = 0;
        spawn(function* () { for (let chunk; (chunk = yield* far.read()) !== null; ) received += chunk.length; });
        yield* sleep(1);
        refuseEpoll(pushed.fd, ENOSPC);
        let failed;
        for (let i = 0; failed === undefined; i++) {
          yield* near.write('x'.repeat(100));
          sent += 100;
          failed = yield* code(() => pushed.write(Buffer.alloc(4000)));
          if (i % 4 === 3) yield* sleep(0);
        }
        allowEpoll();
        const again = yield* code(() => pushed.write('more'));
        const flushed = yield* code(() => pushed.flush());
        yield* near.close();
        while (!far.closed && received < sent) yield* sleep(1);
        done({ failed, again, flushed, lost: sent - received });
      });
    `);
    expect(outcome).toEqual({ failed: 'ENOSPC', again: 'ENOSPC', flushed: 'ENOSPC', lost: 0, uncaught: [] });
  });

  test('for the rest of a large write fails it, and lets nothing follow what has been sent of it', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        const l = yield* tcp.listen();
        ${PAIR}
        refuseEpoll(near.fd, ENOMEM);
        const first = yield* code(() => near.write(Buffer.alloc(16 << 20, 'A')));
        allowEpoll();
        const second = yield* code(() => near.write('B'));
        near.destroy();
        let got = 0, other = 0;
        for (let chunk; (chunk = yield* far.read()) !== null; got += chunk.length) other += chunk.filter((byte) => byte !== 65).length;
        done({ first, second, part: got < 16 << 20, other });
      });
    `);
    expect(outcome).toEqual({ first: 'ENOMEM', second: 'ENOMEM', part: true, other: 0, uncaught: [] });
  });

  test('for who accepts fails them, and the next connection is for those who come after', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        const l = yield* tcp.listen();
        refuseEpoll(l.fd, ENOSPC);
        const refused = yield* code(() => l.accept());
        allowEpoll();
        const server = spawn(function* () { yield* (yield* l.accept()).close(); });
        const client = yield* tcp.connect({ port: l.address.port });
        const end = yield* client.read();
        done({ refused, end });
      });
    `);
    expect(outcome).toEqual({ refused: 'ENOSPC', end: null, uncaught: [] });
  });

  test('for who reads fails them, and the next read has the bytes', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        const l = yield* tcp.listen();
        ${PAIR}
        refuseEpoll(far.fd, ENOSPC);
        const refused = yield* code(() => far.read());
        const into = yield* code(() => far.readInto(new Uint8Array(9)));
        const exactly = yield* code(() => far.readExactly(1));
        allowEpoll();
        yield* near.write('bytes');
        done({ refused, into, exactly, next: String(Buffer.from(yield* far.read())) });
      });
    `);
    expect(outcome).toEqual({ refused: 'ENOSPC', into: 'ENOSPC', exactly: 'ENOSPC', next: 'bytes', uncaught: [] });
  });

  test('for who connects fails them, and leaves no descriptor behind', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        const l = yield* tcp.listen();
        const before = readdirSync('/proc/self/fd').length;
        refuseEpoll(-2, ENOSPC);
        const refused = yield* code(() => tcp.connect({ port: l.address.port }));
        allowEpoll();
        done({ refused, more: readdirSync('/proc/self/fd').length - before });
      });
    `);
    expect(outcome).toEqual({ refused: 'ENOSPC', more: 0, uncaught: [] });
  });

  test('when a listener that was out of descriptors wants to go on does not end it', async () => {
    const outcome = await outcomeOf(
      `
      await run(function* () {
        const l = yield* tcp.listen();
        let served = 0;
        spawn(function* () { for (;;) { (yield* l.accept()).destroy(); served++; } });
        yield* sleep(1);
        const taken = grab();
        const shed = yield* tcp.connect({ port: l.address.port });
        const end = yield* shed.read();
        letGo(taken);
        shed.destroy();
        refuseEpoll(l.fd, ENOMEM);
        yield* sleep(250);
        allowEpoll();
        const client = yield* tcp.connect({ port: l.address.port });
        yield* client.read();
        done({ end, served });
      });
    `,
      64,
    );
    expect(outcome).toEqual({ end: null, served: 1, uncaught: [] });
  });

  test.each([
    ['a descriptor', 'const taken = grab(0);', "taken.push(openSync('/dev/null'));", 'letGo(taken);'],
    ['memory', 'refuseEpoll(l.fd, ENOSPC);', '', 'allowEpoll();'],
  ])(
    'in a set that is made anew, for want of %s, leaves the old one until there is room',
    async (_, want, reuse, room) => {
      needs('mkfifo', 'sleep');
      const outcome = await outcomeOf(
        `
      import { execFileSync, spawn as start } from 'node:child_process';
      import { writeSync } from 'node:fs';
      await run(function* () {
        const l = yield* tcp.listen();
        spawn(function* () {
          for (;;) {
            const conn = yield* l.accept();
            spawn(function* () { for (let chunk; (chunk = yield* conn.read()) !== null; ) yield* conn.write(chunk); });
          }
        });
        const idle = yield* tcp.connect({ port: l.address.port });
        yield* idle.write('a');
        yield* idle.read();
        const path = process.env.REFUSE_EPOLL + '.fifo';
        execFileSync('mkfifo', [path]);
        const fd = openSync(path, 'r+');
        const writer = openSync(path, 'w');
        // It keeps the pipe open, and so the registration of a number that is closed.
        const holder = start('sleep', ['100'], { stdio: [fd, 'ignore', 'ignore'] });
        const waiter = spawn(() => readable(fd));
        yield* sleep(1);
        ${want}
        waiter.cancel();
        yield* code(() => waiter);
        closeSync(fd);
        ${reuse}
        writeSync(writer, 'x');
        yield* sleep(100);
        ${room}
        const before = process.cpuUsage();
        yield* sleep(300);
        const { user, system } = process.cpuUsage(before);
        yield* idle.write('b');
        const there = String(Buffer.from(yield* idle.read()));
        const another = yield* tcp.connect({ port: l.address.port });
        yield* another.write('c');
        const later = String(Buffer.from(yield* another.read()));
        holder.kill();
        done({ there, later, quiet: user + system < 100_000 });
      });
    `,
        64,
      );
      expect(outcome).toEqual({ there: 'b', later: 'c', quiet: true, uncaught: [] });
    },
  );

  test('that a select loop cannot make, for its sets end at 1023, fails the writer and nobody else', async () => {
    const outcome = await outcomeOf(
      `
      await run(function* () {
        const l = yield* tcp.listen();
        ${PAIR}
        const client = yield* tcp.connect({ port: l.address.port });
        const taken = Array.from({ length: 1100 }, () => openSync('/dev/null'));
        const high = yield* l.accept();
        letGo(taken);
        let received = 0, sent = 0, failed;
        spawn(function* () { for (let chunk; (chunk = yield* far.read()) !== null; ) received += chunk.length; });
        for (let i = 0; failed === undefined; i++) {
          yield* near.write('x'.repeat(100));
          sent += 100;
          try { yield* high.write(Buffer.alloc(4000)); } catch (error) { failed = error.message; }
          if (i % 4 === 3) yield* sleep(0);
        }
        while (received < sent) yield* sleep(1);
        done({ failed });
      }, { poller: 'select' });
    `,
      4096,
    );
    expect(outcome).toEqual({
      failed: expect.stringMatching(/^select\(\) cannot watch fd \d{4}: its sets end at 1023/),
      uncaught: [],
    });
  });
});

describe('a run that cannot begin', () => {
  test.each([
    ['poll', 'epoll'],
    ['select', 'epoll'],
  ])(
    'for want of a descriptor, on %s and then on %s, leaves what there was, and begins when there is one',
    async (first, second) => {
      const outcome = await outcomeOf(
        `
      const main = function* () {
        const l = yield* tcp.listen();
        ${PAIR}
        yield* near.write('ok');
        const echo = String(Buffer.from(yield* far.read()));
        for (const end of [near, far]) yield* end.close();
        l.close();
        return echo;
      };
      const nap = (poller) => codeOf(() => run(main, { poller }));
      const results = [await nap('${first}')];
      const taken = grab(0);
      results.push(await nap('${second}'));
      results.push(await codeOf(() => runBlocking(function* () {})));
      letGo(taken);
      results.push(await nap('${first}'), await nap('${second}'));
      done({ results });
    `,
        64,
      );
      expect(outcome).toEqual({ results: ['ok', 'EMFILE', 'EMFILE', 'ok', 'ok'], uncaught: [] });
    },
  );

  test('for want of a registration begins when there is room, and so does runBlocking', async () => {
    const outcome = await outcomeOf(`
      const main = function* () { yield* sleep(1); return 'ok'; };
      refuseEpoll(-2, ENOSPC);
      const refused = await codeOf(() => run(main));
      allowEpoll();
      done({ results: [refused, runBlocking(main), await run(main), runBlocking(main)] });
    `);
    expect(outcome).toEqual({ results: ['ENOSPC', 'ok', 'ok', 'ok'], uncaught: [] });
  });

  test.each([
    ['a watchdog', 'watchdog: 5000', 'pthread_create EAGAIN'],
    ['a trace', "trace: process.env.REFUSE_EPOLL + '.trace'", 'cannot record a trace in .*EAGAIN'],
  ])(
    'for want of a thread for %s says so, leaves nothing behind, and keeps no process alive',
    async (_, options, message) => {
      const outcome = await outcomeOf(`
      const main = function* () { yield* sleep(1); return 'ok'; };
      await run(main);
      const count = () => readdirSync('/proc/self/fd').length;
      const before = count();
      writeFileSync(process.env.REFUSE_THREADS, '');
      let said;
      try { await run(main, { ${options} }); } catch (error) { said = error.message; }
      const blocking = await codeOf(() => runBlocking(main, { ${options} }));
      unlinkSync(process.env.REFUSE_THREADS);
      const results = [runBlocking(main), await run(main, { ${options} })];
      const more = count() - before;
      process.stdout.write(JSON.stringify({ said, blocking, results, more, uncaught }));
    `);
      expect(outcome).toEqual({
        said: expect.stringMatching(message),
        blocking: 'EAGAIN',
        results: ['ok', 'ok'],
        more: 0,
        uncaught: [],
      });
    },
  );
});

describe('a listener', () => {
  test('whose name cannot be had is none, and leaves no descriptor behind', async () => {
    const outcome = await outcomeOf(`
      await run(function* () {
        yield* sleep(1);
        const count = () => readdirSync('/proc/self/fd').length;
        const before = count();
        writeFileSync(process.env.REFUSE_NAMES, '');
        const refused = yield* code(() => tcp.listen());
        unlinkSync(process.env.REFUSE_NAMES);
        done({ refused, more: count() - before });
      });
    `);
    expect(outcome).toEqual({ refused: 'ENOBUFS', more: 0, uncaught: [] });
  });

  test('that could not have a descriptor in reserve has one as soon as there is room', async () => {
    const outcome = await outcomeOf(
      `
      await run(function* () {
        yield* sleep(1);
        let taken = grab();
        const l = yield* tcp.listen();
        letGo(taken);
        spawn(function* () { for (;;) (yield* l.accept()).destroy(); });
        const first = yield* tcp.connect({ port: l.address.port });
        yield* first.read();
        first.destroy();
        taken = grab();
        const shed = yield* tcp.connect({ port: l.address.port });
        done({ end: yield* shed.read() });
      });
    `,
      64,
    );
    expect(outcome).toEqual({ end: null, uncaught: [] });
  });

  describe.each(['epoll', 'poll', 'select'])('on %s', (poller) => {
    test.each([
      'ECONNABORTED',
      'EPROTO',
      'EPERM',
      'ENETDOWN',
      'EHOSTDOWN',
      'ENONET',
      'ENOPROTOOPT',
      'EOPNOTSUPP',
      'EHOSTUNREACH',
      'ENETUNREACH',
    ])('goes on to the next connection after %s, which one that came to nothing may bring', async (error) => {
      expect(await afterAccepting(poller, error)).toEqual({ echo: 'hello', stderr: '' });
    });

    test.each(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS'])(
      'pauses after %s, says so once, and goes on',
      async (error) => {
        const { echo, stderr } = await afterAccepting(poller, error);
        expect(echo).toBe('hello');
        expect(stderr.match(/ONEWAIT_ACCEPT_EXHAUSTED/g)).toHaveLength(1);
      },
    );
  });

  /** What becomes of the connection after one accept4 that fails. */
  async function afterAccepting(poller: string, error: string): Promise<{ echo: string; stderr: string }> {
    const child = script(
      `
      await run(function* () {
        const l = yield* tcp.listen();
        spawn(async () => { for await (const conn of l) { await conn.write(await conn.read()); await conn.close(); } });
        yield* sleep(1);
        // One that is shed has to come back.
        for (let echo = ''; echo === ''; ) {
          const client = yield* tcp.connect({ port: l.address.port });
          yield* client.write('hello');
          try { echo = String(Buffer.from((yield* client.read()) ?? '')); } catch {}
          process.stdout.write(echo);
          client.destroy();
        }
        process.exit();
      }, { poller: '${poller}' });
    `,
      {
        wrap: injecting(`accept4:error=${error}:when=1`),
      },
    );
    const { code, stdout, stderr } = await child.end();
    expect(code).toBe(0);
    return { echo: stdout, stderr };
  }

  test('whose every accept comes to nothing does not spin', async () => {
    const log = join(folder(), 'strace');
    const child = script(
      `
      await run(function* () {
        const l = yield* tcp.listen();
        spawn(async () => { for await (const conn of l); });
        yield* tcp.connect({ port: l.address.port });
        yield* sleep(1000);
        process.exit();
      });
    `,
      { wrap: injecting('accept4:error=ECONNABORTED', log) },
    );
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    const accepts = execFileSync('grep', ['-c', 'ECONNABORTED', log], { encoding: 'utf8' });
    expect(Number(accepts)).toBeLessThan(64 * 20);
  });
});

describe('a system call that fails', () => {
  const CONNECT = [
    'ECONNREFUSED',
    'ENETUNREACH',
    'EHOSTUNREACH',
    'ETIMEDOUT',
    'EADDRNOTAVAIL',
    'EACCES',
    'EPERM',
    'ENOBUFS',
  ];
  test.each([
    ...['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EACCES', 'EAFNOSUPPORT'].map((error) => ['socket', error, error]),
    ...['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES'].map((error) => ['bind', error, error]),
    ['listen', 'EADDRINUSE', 'EADDRINUSE'],
    ...CONNECT.map((error) => ['connect', error, error]),
    ...['ENOTCONN', 'ENOBUFS'].map((error) => ['shutdown', error, error]),
    ...['EPIPE', 'ECONNRESET', 'ENOBUFS', 'ENOMEM', 'EHOSTUNREACH'].map((error) => ['sendto', error, error]),
    ...['ECONNRESET', 'ENOMEM', 'ETIMEDOUT', 'EHOSTUNREACH'].map((error) => ['recvfrom', error, error]),
    // Which are none.
    ['sendto', 'EAGAIN', 'ok'],
    ...['sendto', 'recvfrom', 'accept4', 'epoll_wait'].map((call) => [call, 'EINTR', 'ok']),
  ] as [string, string, string][])(
    '%s with %s: who made it hears of %s, the next connection is well, and no descriptor is left',
    async (call, error, heard) => {
      const child = script(
        `
      ${HELPERS}
      const round = function* () {
        const said = [];
        let l;
        try { l = yield* tcp.listen(); } catch (error) { return error.code; }
        const server = spawn(function* () {
          const conn = yield* l.accept();
          try {
            for (let chunk; (chunk = yield* conn.read()) !== null; ) yield* conn.write(chunk);
            yield* conn.close();
          } catch (error) {
            said.push(error.code);
            conn.destroy();
          }
        });
        try {
          yield* timeout(10_000, function* () {
            const conn = yield* tcp.connect({ port: l.address.port });
            try {
              yield* conn.write('x'.repeat(100));
              yield* conn.shutdown();
              let got = 0;
              for (let chunk; (chunk = yield* conn.read()) !== null; ) got += chunk.length;
              yield* conn.close();
              if (got < 100) said.push('short');
            } finally {
              conn.destroy();
            }
          });
        } catch (error) {
          said.push(error.code);
        }
        server.cancel();
        l.close();
        return said[0] ?? 'ok';
      };
      const count = () => readdirSync('/proc/self/fd').length;
      await run(() => sleep(1));
      const before = count();
      const rounds = await run(function* () { return [yield* round(), yield* round()]; });
      const more = count() - before;
      process.stdout.write(JSON.stringify({ rounds, more, uncaught }));
    `,
        {
          wrap: injecting(`${call}:error=${error}:when=1`),
        },
      );
      const { code, stdout, stderr } = await child.end();
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(JSON.parse(stdout)).toEqual({ rounds: [heard, 'ok'], more: 0, uncaught: [] });
    },
  );
});

describe('a number that was closed behind our back, and names another connection of ours now,', () => {
  everywhere('is not its stream’s any more: who waited hears of it, and what it writes is refused', function* (style) {
    const listener = yield* on(tcp.listen());
    const { port } = listener.address;
    const first = yield* on(tcp.connect({ port }));
    const old = yield* on(listener.accept());
    const reader = style.spawn(() => thrownBy(() => old.read()));
    const second = yield* on(tcp.connect({ port }));
    yield* on(tcp.connect({ port })); // the kernel has all of them before
    const number = old.fd;
    closeSync(number);
    const now = yield* on(listener.accept());
    expect(now.fd).toBe(number);
    expect(yield* on(reader)).toMatchObject({ code: 'ERR_CLOSED' });
    expect(yield* thrownBy(() => old.write('of the first'))).toMatchObject({ code: 'ERR_CLOSED' });
    old.destroy();
    yield* on(now.write('for the second'));
    expect(text(yield* on(second.read()))).toBe('for the second');
    for (const end of [first, second, now, listener]) yield* on(Promise.resolve(end.close()));
  });

  everywhere('has nothing of what the stream before had queued', function* () {
    const listener = yield* on(tcp.listen());
    const { port } = listener.address;
    yield* on(tcp.connect({ port }));
    const old = yield* on(listener.accept());
    const second = yield* on(tcp.connect({ port }));
    const queued = old.write('of the first');
    closeSync(old.fd);
    const now = yield* on(listener.accept());
    try {
      yield* on(queued); // what is only copied is over by now, in await style
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_CLOSED' });
    }
    yield* on(now.write('for the second'));
    expect(text(yield* on(second.read()))).toBe('for the second');
    for (const end of [second, now, listener]) yield* on(Promise.resolve(end.close()));
  });

  everywhere('is not its listener’s any more: who accepts hears of it', function* (style) {
    const old = yield* on(tcp.listen());
    const acceptor = style.spawn(() => thrownBy(() => old.accept()));
    yield* on(new Promise((resolve) => setImmediate(resolve)));
    const number = old.fd;
    closeSync(number);
    const now = yield* on(tcp.listen());
    expect(now.fd).toBe(number);
    expect(yield* on(acceptor)).toMatchObject({ code: 'ERR_CLOSED' });
    old.close();
    const client = yield* on(tcp.connect({ port: now.address.port }));
    const conn = yield* on(now.accept());
    for (const end of [client, conn, now]) yield* on(Promise.resolve(end.close()));
  });
});
