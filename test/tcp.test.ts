// tcp.listen and tcp.connect: addresses, names, options, and the errors of the system as Node's users know them.

import { spawnSync } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { run, runBlocking, type Stream, tcp } from '../src/index.ts';
import { descriptors, folder, needs, script } from './processes.ts';
import { both, everywhere, on, pair, type Scenario, STYLES, text, thrownBy } from './styles.ts';

/** A port of the loopback on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('a connection', () => {
  everywhere('carries bytes both ways', function* () {
    const [client, server] = yield* pair();
    yield* on(client.write('ping'));
    expect(text(yield* on(server.read()))).toBe('ping');
    yield* on(server.write('pong'));
    expect(text(yield* on(client.read()))).toBe('pong');
    yield* on(client.close());
    expect(yield* on(server.read())).toBeNull();
    yield* on(server.close());
  });

  everywhere('carries 10 MiB both ways at once, byte by byte the same', function* (style) {
    const [client, server] = yield* pair();
    const size = 10 * 1024 * 1024;
    const sent = Buffer.alloc(size);
    for (let i = 0; i < size; i += 4) sent.writeUInt32LE(i, i);
    const echo = style.spawn(function* () {
      for (let chunk = yield* on(server.read()); chunk !== null; chunk = yield* on(server.read()))
        yield* on(server.write(chunk));
      yield* on(server.close());
    });
    const writer = style.spawn(function* () {
      yield* on(client.write(sent));
      yield* on(client.shutdown());
    });
    const received = Buffer.alloc(size);
    let length = 0;
    for (let chunk = yield* on(client.read()); chunk !== null; chunk = yield* on(client.read())) {
      received.set(chunk, length);
      length += chunk.length;
    }
    expect(length).toBe(size);
    expect(received.equals(sent)).toBe(true);
    yield* on(writer);
    yield* on(echo);
    client.destroy();
  });

  both('knows both of its ends', function* () {
    const [client, server, listener] = yield* pair();
    expect(listener.address).toEqual({ address: '127.0.0.1', family: 'IPv4', port: expect.any(Number) });
    expect(client.remoteAddress).toEqual(listener.address);
    expect(server.localAddress).toEqual(listener.address);
    expect(server.remoteAddress).toEqual(client.localAddress);
    client.destroy();
    server.destroy();
    expect(client.remoteAddress).toEqual(listener.address);
  });

  both('works over IPv6', function* () {
    const [client, server, listener] = yield* pair({ host: '::1' });
    expect(listener.address).toEqual({ address: '::1', family: 'IPv6', port: expect.any(Number) });
    expect(client.remoteAddress).toEqual(listener.address);
    expect(server.remoteAddress?.family).toBe('IPv6');
    yield* on(server.write('six'));
    expect(text(yield* on(client.read()))).toBe('six');
    client.destroy();
    server.destroy();
    listener.close();
  });

  both("finds 'localhost' as everybody else does", function* () {
    const first = yield* on(lookup('localhost'));
    const [client, server, listener] = yield* pair({ host: 'localhost' });
    expect(listener.address.address).toBe(first.address);
    yield* on(client.write('x'));
    expect(text(yield* on(server.read()))).toBe('x');
    client.destroy();
    server.destroy();
    listener.close();
  });

  both("tries every address of a name: 'localhost' reaches a server that listens on one of them only", function* () {
    const addresses = yield* on(lookup('localhost', { all: true }));
    for (const { address } of addresses) {
      const listener = yield* on(tcp.listen({ host: address }));
      const stream = yield* on(tcp.connect({ host: 'localhost', port: listener.address.port }));
      expect(stream.remoteAddress?.address).toBe(address);
      stream.destroy();
      listener.close();
    }
  });

  both('leaves no descriptor behind', function* () {
    const before = descriptors().size;
    for (let i = 0; i < 50; i++) {
      const [client, server, listener] = yield* pair();
      yield* on(client.write('x'));
      yield* on(server.read());
      if (i % 2 === 0) yield* on(client.close());
      else client.destroy();
      expect(yield* on(server.read())).toBeNull();
      yield* on(server.close());
      listener.close();
    }
    expect(descriptors().size).toBe(before);
  });

  both('closes its descriptor when its scope is left, by using and by await using', function* () {
    const before = descriptors().size;
    let kept: Stream;
    {
      const [client, server, listener] = yield* pair();
      using _client = client;
      using _server = server;
      using _listener = listener;
      kept = client;
      expect(descriptors().size).toBeGreaterThan(before);
    }
    expect(kept.fd).toBe(-1);
    expect(descriptors().size).toBe(before);
    const listener = yield* on(tcp.listen());
    const port = listener.address.port;
    const received = (async () => {
      await using conn = await tcp.connect({ port });
      await conn.write('last words');
    })();
    const server = yield* on(listener.accept());
    yield* on(received);
    // Disposing is closing: what was written arrives before the end.
    expect(text(yield* on(server.read()))).toBe('last words');
    expect(yield* on(server.read())).toBeNull();
    server.destroy();
    listener.close();
    expect(descriptors().size).toBe(before);
  });

  test('works inside runBlocking, with an address', () => {
    const answer = runBlocking(function* () {
      const listener = yield* tcp.listen();
      const client = yield* tcp.connect({ port: listener.address.port });
      const server = yield* listener.accept();
      yield* client.write('blocking');
      const chunk = yield* server.read();
      yield* client.close();
      yield* server.close();
      listener.close();
      return text(chunk);
    });
    expect(answer).toBe('blocking');
  });

  test('inside runBlocking says why a name cannot be looked up', () => {
    expect(() =>
      runBlocking(function* () {
        yield* tcp.connect({ host: 'localhost', port: 1 });
      }),
    ).toThrow(expect.objectContaining({ code: 'ERR_LOOP_BLOCKING' }));
  });
});

describe('an error of the system', () => {
  test.skipIf(spawnSync('unshare', ['-n', 'true']).status !== 0)(
    'is ENETUNREACH where no way leads, and ETIMEDOUT where nobody answers',
    async () => {
      needs('ip');
      const child = script(
        `import { execFileSync } from 'node:child_process';
        import { writeFileSync } from 'node:fs';
        const outcome = function* (connecting) {
          try { yield* connecting; return 'connected'; } catch ({ syscall, code, address, port }) { return [syscall, code, address, port].join(' '); }
        };
        await run(function* () {
          console.log(yield* outcome(tcp.connect({ host: '192.0.2.1', port: 9 })));
          execFileSync('ip', ['link', 'set', 'lo', 'up']);
          writeFileSync('/proc/sys/net/ipv4/tcp_syn_retries', '1');
          // One may wait to be accepted, and the kernel drops what the others send.
          const { address: { port } } = yield* tcp.listen({ backlog: 0, port: 7000 });
          const outcomes = yield* all(Array.from({ length: 4 }, () => outcome(tcp.connect({ port }))));
          console.log([...new Set(outcomes)].sort().join(', '));
        });`,
        { wrap: ['unshare', '-n'] },
      );
      expect(await child.end()).toMatchObject({
        code: 0,
        stdout: 'connect ENETUNREACH 192.0.2.1 9\nconnect ETIMEDOUT 127.0.0.1 7000, connected\n',
        stderr: '',
      });
    },
  );

  both('is ECONNREFUSED where nobody listens', function* () {
    const port = yield* on(closedPort());
    const before = descriptors().size;
    const error = yield* thrownBy(() => tcp.connect({ port }));
    expect(error).toMatchObject({ code: 'ECONNREFUSED', errno: -111, syscall: 'connect', address: '127.0.0.1', port });
    expect((error as Error).message).toBe(`connect ECONNREFUSED 127.0.0.1:${port}`);
    expect(error).toBeInstanceOf(Error);
    expect(descriptors().size).toBe(before);
  });

  both('is EADDRINUSE where somebody listens', function* () {
    const listener = yield* on(tcp.listen());
    const { port } = listener.address;
    const before = descriptors().size;
    const error = yield* thrownBy(() => tcp.listen({ port }));
    expect(error).toMatchObject({ code: 'EADDRINUSE', errno: -98, syscall: 'listen', address: '127.0.0.1', port });
    expect(descriptors().size).toBe(before);
    listener.close();
  });

  both('is EADDRNOTAVAIL for an address of another machine', function* () {
    const error = yield* thrownBy(() => tcp.listen({ host: '192.0.2.1', port: 9 }));
    expect(error).toMatchObject({ code: 'EADDRNOTAVAIL', errno: -99, address: '192.0.2.1', port: 9 });
  });

  both('is ENOTFOUND for a name that nobody has', function* () {
    const error = yield* thrownBy(() => tcp.connect({ host: 'nobody.invalid', port: 1 }));
    expect((error as { code: string }).code).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/);
    expect(error).toMatchObject({ syscall: 'getaddrinfo', hostname: 'nobody.invalid' });
  });

  both('shows where the coroutine waited', function* () {
    const port = yield* on(closedPort());
    const error = yield* thrownBy(() => tcp.connect({ port }));
    expect((error as Error).stack).toContain('connect ECONNREFUSED');
  });
});

describe('an argument', () => {
  const wrong: Array<[string, () => unknown, typeof TypeError]> = [
    ['port 65536', () => tcp.listen({ port: 65_536 }), RangeError],
    ['port -1', () => tcp.listen({ port: -1 }), RangeError],
    ['port 1.5', () => tcp.listen({ port: 1.5 }), RangeError],
    ['port NaN', () => tcp.listen({ port: Number.NaN }), RangeError],
    ['port 2^32 + 80', () => tcp.listen({ port: 2 ** 32 + 80 }), RangeError],
    ["port '80'", () => tcp.listen({ port: '80' as unknown as number }), TypeError],
    ['port 0 to connect to', () => tcp.connect({ port: 0 }), RangeError],
    ['no port to connect to', () => tcp.connect({} as { port: number }), TypeError],
    ['an empty host', () => tcp.listen({ host: '' }), TypeError],
    ['a host that is a number', () => tcp.connect({ host: 1 as unknown as string, port: 1 }), TypeError],
    ['backlog -1', () => tcp.listen({ backlog: -1 }), RangeError],
    ['high-water mark 0', () => tcp.listen({ highWaterMark: 0 }), RangeError],
    ['a signal that is none', () => tcp.connect({ port: 1, signal: {} as AbortSignal }), TypeError],
  ];
  test.each(wrong)('that is wrong is refused when the method is called: %s', async (_, call, error) => {
    let sockets = 0;
    await run(async () => {
      const before = descriptors().size;
      expect(call).toThrow(error);
      sockets = descriptors().size - before;
    });
    expect(sockets).toBe(0);
  });
});

describe('connecting', () => {
  both('ends when its signal is aborted, with the reason, and leaves no descriptor', function* (style) {
    const before = descriptors().size;
    const aborted = new AbortController();
    const reason = new Error('no longer wanted');
    aborted.abort(reason);
    expect(yield* thrownBy(() => tcp.connect({ port: 1, signal: aborted.signal }))).toBe(reason);
    expect(yield* thrownBy(() => tcp.connect({ host: 'localhost', port: 1, signal: aborted.signal }))).toBe(reason);

    // Once a backlog is full the kernel answers nobody any more, and connecting waits.
    const listener = yield* on(tcp.listen({ backlog: 0 }));
    const { port } = listener.address;
    const late = new AbortController();
    const attempts = Array.from({ length: 10 }, () =>
      style.spawn(function* (): Scenario<unknown> {
        try {
          return yield* on(tcp.connect({ port, signal: late.signal }));
        } catch (error) {
          return error;
        }
      }),
    );
    for (let i = 0; i < 10; i++) yield* on(new Promise((resolve) => setImmediate(resolve)));
    late.abort(reason);
    let pending = 0;
    for (const attempt of attempts) {
      const outcome = yield* on(attempt);
      if (outcome === reason) pending++;
      else (outcome as Stream).destroy();
    }
    expect(pending).toBeGreaterThan(5);
    listener.close();
    expect(descriptors().size).toBe(before);
  });

  both('ends when its task is cancelled while the name is being looked up', function* (style) {
    const before = descriptors().size;
    const attempt = style.spawn(function* () {
      yield* on(tcp.connect({ host: 'localhost', port: 9 }));
    });
    // In the same turn, before the resolver's thread can have answered.
    style.spawn(function* () {
      attempt.cancel();
    });
    expect(yield* thrownBy(() => attempt)).toMatchObject({ code: 'ERR_CANCELLED' });
    expect(descriptors().size).toBe(before);
  });

  test.each(STYLES)('to a backlog that overflows does not hold up anybody else ($name)', (style) =>
    style.run(function* () {
      const listener = yield* on(tcp.listen({ backlog: 1 }));
      const { port } = listener.address;
      const tasks = Array.from({ length: 20 }, () => style.spawn(() => on(tcp.connect({ port }))));
      const [client, server] = yield* pair();
      yield* on(client.write('still alive'));
      expect(text(yield* on(server.read()))).toBe('still alive');
      for (const task of tasks) task.cancel();
      for (const task of tasks) {
        try {
          (yield* on(task)).destroy();
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_CANCELLED' });
        }
      }
      client.destroy();
      server.destroy();
      listener.close();
    }),
  );
});

test('tcp outside of a run says that no loop runs', () => {
  expect(() => tcp.listen()).toThrow(expect.objectContaining({ code: 'ERR_NO_LOOP' }));
});

test('a child process inherits no descriptor of ours', async () => {
  needs('bash');
  const trace = join(folder(), 'trace');
  const child = script(
    `
    import { execFileSync } from 'node:child_process';
    const inherited = () => execFileSync('bash', ['-c', 'ls /proc/$$/fd']).toString();
    const before = inherited();
    await run(function* () {
      const listener = yield* tcp.listen();
      const client = yield* tcp.connect({ port: listener.address.port });
      const server = yield* listener.accept();
      yield* client.write('x');
      yield* server.read();
      console.log(inherited() === before, server.fd > 2);
    }, { trace: process.argv[1] });
    process.exit();
  `,
    { args: [trace] },
  );
  expect(await child.end()).toMatchObject({ code: 0, stdout: 'true true\n', stderr: '' });
});
