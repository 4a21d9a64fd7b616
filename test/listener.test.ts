// Listeners: many acceptors, cancellation, closing, and what happens when there is no descriptor left for a connection.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as netConnect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { all, run, type Stream, sleep, spawn, tcp, timeout } from '../src/index.ts';
import { type Child, descriptors, needs, script, socketCount } from './processes.ts';
import { both, everywhere, on, text, thrownBy } from './styles.ts';
import { until, within } from './until.ts';

describe('accept', () => {
  everywhere('serves those who wait in order, one connection each', function* (style) {
    const listener = yield* on(tcp.listen());
    const order: number[] = [];
    const tasks = Array.from({ length: 20 }, (_, i) =>
      style.spawn(function* () {
        const conn = yield* on(listener.accept());
        order.push(i);
        yield* on(conn.write(String(i)));
        yield* on(conn.close());
      }),
    );
    yield* on(new Promise((resolve) => setImmediate(resolve)));
    const answers = new Set<string | null>();
    for (let i = 0; i < tasks.length; i++) {
      const client = yield* on(tcp.connect({ port: listener.address.port }));
      answers.add(text(yield* on(client.read())));
      client.destroy();
    }
    for (const task of tasks) yield* on(task);
    expect(order).toEqual(tasks.map((_, i) => i));
    expect(answers.size).toBe(tasks.length);
    listener.close();
  });

  everywhere('has a connection for the next who comes, when who was to have it has not got it', function* () {
    const listener = yield* on(tcp.listen());
    const client = yield* on(tcp.connect({ port: listener.address.port }));
    yield* on(client.write('hello'));
    expect(yield* thrownBy(() => timeout(2, all<unknown>([listener.accept(), sleep(1e6)])))).toMatchObject({
      code: 'ERR_TIMEOUT',
    });
    const server = yield* on(listener.accept());
    expect(text(yield* on(server.read()))).toBe('hello');
    expect(
      yield* thrownBy(() =>
        timeout(2, all<unknown>([listener.accept(), tcp.connect({ port: listener.address.port }), sleep(1e6)])),
      ),
    ).toMatchObject({ code: 'ERR_TIMEOUT' });
    // Its peer was hung up, and nobody asks for it any more.
    const before = descriptors().size;
    listener.close();
    expect(descriptors().size).toBe(before - 3);
    for (const stream of [client, server]) stream.destroy();
  });

  everywhere('takes a whole burst of connections', function* () {
    const listener = yield* on(tcp.listen());
    const clients: Stream[] = [];
    for (let i = 0; i < 200; i++) clients.push(yield* on(tcp.connect({ port: listener.address.port })));
    const servers: Stream[] = [];
    for (let i = 0; i < 200; i++) servers.push(yield* on(listener.accept()));
    const ports = new Set(servers.map((server) => server.remoteAddress?.port));
    expect(ports).toEqual(new Set(clients.map((client) => client.localAddress?.port)));
    for (const stream of [...clients, ...servers]) stream.destroy();
    listener.close();
  });

  both('iterates, until the listener is closed', function* (style) {
    const listener = yield* on(tcp.listen());
    const seen: Array<string | null> = [];
    const server = style.spawn(function* () {
      const connections = listener[Symbol.asyncIterator]();
      for (;;) {
        const { value: conn, done } = yield* on(connections.next());
        if (done) return;
        seen.push(text(yield* on(conn.read())));
        yield* on(conn.close());
      }
    });
    for (const word of ['one', 'two']) {
      const client = yield* on(tcp.connect({ port: listener.address.port }));
      yield* on(client.write(word));
      expect(yield* on(client.read())).toBeNull();
      client.destroy();
    }
    listener.close();
    expect(yield* thrownBy(() => server)).toMatchObject({ code: 'ERR_CLOSED' });
    expect(seen).toEqual(['one', 'two']);
  });

  test('works with for await', () =>
    run(async () => {
      const listener = await tcp.listen();
      const server = spawn(async () => {
        for await (const conn of listener) {
          await conn.write('hello');
          await conn.close();
          return;
        }
      });
      const client = await tcp.connect({ port: listener.address.port });
      expect(text(await client.read())).toBe('hello');
      await server;
      client.destroy();
      listener.close();
    }));

  everywhere('that is aborted loses no connection', function* () {
    const listener = yield* on(tcp.listen());
    const aborted = new AbortController();
    const reason = new Error('enough');
    setImmediate(() => aborted.abort(reason));
    expect(yield* thrownBy(() => listener.accept({ signal: aborted.signal }))).toBe(reason);
    expect(yield* thrownBy(() => listener.accept({ signal: aborted.signal }))).toBe(reason);
    const client = yield* on(tcp.connect({ port: listener.address.port }));
    const server = yield* on(listener.accept());
    expect(server.remoteAddress).toEqual(client.localAddress);
    client.destroy();
    server.destroy();
    listener.close();
  });

  everywhere('of a cancelled task passes the connection on to the next in line', function* (style) {
    const listener = yield* on(tcp.listen());
    const first = style.spawn(() => on(listener.accept()));
    const second = style.spawn(() => on(listener.accept()));
    yield* on(new Promise((resolve) => setImmediate(resolve)));
    first.cancel();
    const client = yield* on(tcp.connect({ port: listener.address.port }));
    const server = yield* on(second);
    expect(server.remoteAddress).toEqual(client.localAddress);
    expect(first.state).toBe('cancelled');
    client.destroy();
    server.destroy();
    listener.close();
  });

  both('ends with a timeout, and works again afterwards', function* () {
    const listener = yield* on(tcp.listen());
    const error = yield* thrownBy(() => timeout(5, listener.accept()));
    expect(error).toMatchObject({ code: 'ERR_TIMEOUT' });
    const client = yield* on(tcp.connect({ port: listener.address.port }));
    (yield* on(listener.accept())).destroy();
    client.destroy();
    listener.close();
  });
});

describe('close', () => {
  everywhere('wakes whoever accepts, and can be called twice', function* (style) {
    const before = descriptors().size;
    const listener = yield* on(tcp.listen());
    const { port } = listener.address;
    expect(descriptors().get(listener.fd)).toMatch(/^socket:/);
    const tasks = [1, 2, 3].map(() => style.spawn(() => thrownBy(() => listener.accept())));
    yield* on(new Promise((resolve) => setImmediate(resolve)));
    listener.close();
    expect(listener.fd).toBe(-1);
    listener.close();
    listener[Symbol.dispose]();
    for (const task of tasks) expect(yield* on(task)).toMatchObject({ code: 'ERR_CLOSED', name: 'ClosedError' });
    expect(yield* thrownBy(() => listener.accept())).toMatchObject({ code: 'ERR_CLOSED' });
    expect(yield* thrownBy(() => tcp.connect({ port }))).toMatchObject({ code: 'ECONNREFUSED' });
    expect(descriptors().size).toBe(before);
  });

  everywhere('leaves the connections that were accepted alone', function* () {
    const listener = yield* on(tcp.listen());
    const client = yield* on(tcp.connect({ port: listener.address.port }));
    const server = yield* on(listener.accept());
    listener.close();
    yield* on(client.write('still here'));
    expect(text(yield* on(server.read()))).toBe('still here');
    client.destroy();
    server.destroy();
  });

  both('frees the port at once', function* () {
    const listener = yield* on(tcp.listen());
    const { port } = listener.address;
    const client = yield* on(tcp.connect({ port }));
    const server = yield* on(listener.accept());
    // The server's end goes into TIME_WAIT, which must not keep the port.
    yield* on(server.close());
    expect(yield* on(client.read())).toBeNull();
    yield* on(client.close());
    listener.close();
    const again = yield* on(tcp.listen({ port }));
    expect(again.address.port).toBe(port);
    again.close();
  });
});

both('reusePort lets several listeners share a port', function* (style) {
  const first = yield* on(tcp.listen({ reusePort: true }));
  const { port } = first.address;
  const second = yield* on(tcp.listen({ port, reusePort: true }));
  expect(yield* thrownBy(() => tcp.listen({ port }))).toMatchObject({ code: 'EADDRINUSE' });
  const accepted = [0, 0];
  const servers = [first, second].map((listener, i) =>
    style.spawn(function* () {
      for (;;) {
        (yield* on(listener.accept())).destroy();
        accepted[i]!++;
      }
    }),
  );
  // The kernel shares by a hash of the addresses: 64 connections that all go to one would be a chance of 2^-63.
  for (let i = 0; i < 64; i++) {
    const client = yield* on(tcp.connect({ port }));
    yield* thrownBy(() => client.readExactly(1));
    client.destroy();
  }
  expect(accepted[0]! + accepted[1]!).toBe(64);
  expect(accepted[0]! * accepted[1]!).toBeGreaterThan(0);
  for (const server of servers) server.cancel();
  first.close();
  second.close();
});

describe('without a descriptor left', () => {
  const server = `
    await run(function* () {
      const listener = yield* tcp.listen();
      console.log('port', listener.address.port);
      for (;;) {
        const conn = yield* listener.accept();
        spawn(function* echo() {
          for (let chunk = yield* conn.read(); chunk !== null; chunk = yield* conn.read()) yield* conn.write(chunk);
          yield* conn.close();
        });
      }
    }, { poller: process.argv[1] });
  `;

  async function dial(port: number): Promise<Socket> {
    const socket = netConnect(port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  /** Whether the server answers; false when it ends the connection instead. */
  function echoes(socket: Socket): Promise<boolean> {
    if (socket.destroyed) return Promise.resolve(false);
    const answer = new Promise<boolean>((resolve) => {
      socket.once('data', (data) => resolve(String(data) === 'hello'));
      socket.once('close', () => resolve(false));
    });
    socket.write('hello');
    return within('an answer, or the end', answer);
  }

  /** Clock ticks of processor time that a process has used. */
  function ticks(child: Child): number {
    const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }

  test.each(['epoll', 'poll', 'select'])(
    'a server on %s sheds, warns once, serves the others, does not spin, and recovers',
    async (poller) => {
      needs('bash');
      const child = script(server, { wrap: ['bash', '-c', 'ulimit -n 64; exec "$@"', 'bash'], args: [poller] });
      const port = Number((await child.says(/^port (\d+)$/m))[1]);
      const before = socketCount(child.pid);
      const first = await dial(port);
      expect(await echoes(first)).toBe(true);

      const clients: Socket[] = [];
      for (let i = 0; i < 100; i++) clients.push(await dial(port));
      const outcomes = await Promise.all(clients.map(echoes));
      const served = outcomes.filter(Boolean).length;
      expect(served).toBeGreaterThan(10);
      // Whoever was not served was told so: its connection has ended, and did not hang.
      expect(outcomes.length - served).toBeGreaterThan(30);
      expect(await echoes(first)).toBe(true);
      expect(child.stderr.match(/ONEWAIT_ACCEPT_EXHAUSTED/g)).toHaveLength(1);
      expect(child.stderr).toContain('EMFILE');

      // More of them, shed as long as nothing gets free.
      const used = ticks(child);
      for (let i = 0; i < 20; i++) expect(await echoes(await dial(port))).toBe(false);
      expect(ticks(child) - used).toBeLessThan(100);
      expect(child.stderr.match(/ONEWAIT_ACCEPT_EXHAUSTED/g)).toHaveLength(1);

      for (const client of clients) client.destroy();
      await until('the connections are gone', () => socketCount(child.pid) <= before + 1);
      for (let i = 0; i < 20; i++) {
        const client = await dial(port);
        expect(await echoes(client)).toBe(true);
        client.destroy();
      }
      expect(await echoes(first)).toBe(true);
      first.destroy();
      child.process.kill();
      expect((await child.end()).signal).toBe('SIGTERM');
    },
  );

  test('a listener that is closed while it pauses lets the process end', async () => {
    needs('bash');
    const child = script(
      `
      import { closeSync, openSync } from 'node:fs';
      await run(function* () {
        const listener = yield* tcp.listen();
        const server = spawn(function* () {
          for (;;) yield* listener.accept();
        });
        const client = yield* tcp.connect({ port: listener.address.port });
        const taken = [];
        try {
          for (;;) taken.push(openSync('/dev/null'));
        } catch {}
        closeSync(taken.pop());
        // A client of ours takes the last descriptor; its other end cannot have one.
        const another = yield* tcp.connect({ port: listener.address.port });
        try {
          yield* another.readExactly(1);
        } catch (error) {
          console.log(error.code);
        }
        listener.close();
        try {
          yield* server;
        } catch (error) {
          console.log(error.code);
        }
      });
      console.log('over');
    `,
      { wrap: ['bash', '-c', 'ulimit -n 64; exec "$@"', 'bash'] },
    );
    const { code, stdout } = await child.end();
    expect(stdout).toMatch(/^(ERR_UNEXPECTED_END|ECONNRESET)\nERR_CLOSED\nover\n$/);
    expect(code).toBe(0);
  });
});

both('a listener without anybody who accepts costs nothing, and keeps its connections for later', function* () {
  const listener = yield* on(tcp.listen());
  const client = yield* on(tcp.connect({ port: listener.address.port }));
  yield* on(sleep(1));
  const server = yield* on(listener.accept());
  yield* on(client.close());
  expect(yield* on(server.read())).toBeNull();
  server.destroy();
  listener.close();
});
