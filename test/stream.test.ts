import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type Stream, type Task, tcp } from '../src/index.ts';
import { descriptors, needs, residentBytes, script } from './processes.ts';
import { isStuck, KIB, pattern, settle, stuckWriter, withPeer } from './streams.ts';
import { both, everywhere, on, pair, readAll, type Scenario, text, thrownBy } from './styles.ts';
import { until, within } from './until.ts';

describe('shutdown', () => {
  everywhere('ends our direction only', function* () {
    const [conn, peer] = yield* withPeer();
    yield* on(conn.write('question'));
    yield* on(conn.shutdown());
    yield* on(conn.shutdown());
    const heard: Buffer[] = [];
    peer.on('data', (data) => heard.push(data));
    yield* on(new Promise((resolve) => peer.once('end', resolve)));
    expect(Buffer.concat(heard).toString()).toBe('question');
    peer.write('answer');
    expect(text(yield* on(conn.read()))).toBe('answer');
    peer.end('!');
    expect(String(yield* readAll(conn))).toBe('!');
    yield* on(conn.close());
  });

  everywhere('comes after what was written, however much', function* (style) {
    const [client, server] = yield* pair();
    const received = style.spawn(() => readAll(server));
    const sent = pattern(5_000_000);
    const writer = style.spawn(() => on(client.write(sent)));
    yield* settle();
    yield* on(client.shutdown());
    yield* on(writer);
    expect((yield* on(received)).equals(sent)).toBe(true);
    client.destroy();
    server.destroy();
  });

  both('of the peer leaves our direction open', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end();
    expect(yield* on(conn.read())).toBeNull();
    const heard = new Promise((resolve) => peer.once('data', resolve));
    yield* on(conn.write('still heard'));
    expect(String(yield* on(heard))).toBe('still heard');
    conn.destroy();
  });
});

describe('close', () => {
  everywhere('hands over what was written first', function* (style) {
    const [conn, peer] = yield* withPeer({ highWaterMark: 8 * 1024 * KIB });
    yield* on(conn.write(pattern(6_000_000)));
    const closer = style.spawn(() => on(conn.close()));
    yield* settle();
    expect(closer.state).toBe('suspended');
    expect(conn.fd).toBeGreaterThan(2);
    const heard: Buffer[] = [];
    peer.on('data', (data) => heard.push(data));
    yield* on(new Promise((resolve) => peer.once('end', resolve)));
    yield* on(closer);
    expect(conn.fd).toBe(-1);
    expect(Buffer.concat(heard).equals(pattern(6_000_000))).toBe(true);
    peer.destroy();
  });

  everywhere('can be called twice, also at the same time, and destroyed after', function* (style) {
    const before = descriptors().size;
    const [client, server, listener] = yield* pair();
    yield* on(client.write('x'));
    const first = style.spawn(() => on(client.close()));
    const second = style.spawn(() => on(client.close()));
    yield* on(first);
    yield* on(second);
    yield* on(client.close());
    client.destroy();
    expect(client.fd).toBe(-1);
    server.destroy();
    server.destroy();
    yield* on(server.close());
    listener.close();
    expect(descriptors().size).toBe(before);
  });

  both('twice never closes a number that belongs to somebody else by then', function* () {
    const [client, server, listener] = yield* pair();
    const number = client.fd;
    client.destroy();
    const again = yield* on(tcp.connect({ port: listener.address.port }));
    expect(again.fd).toBe(number);
    client.destroy();
    yield* on(client.close());
    client[Symbol.dispose]();
    expect(descriptors().get(number)).toMatch(/^socket:/);
    again.destroy();
    server.destroy();
    listener.close();
  });

  for (const how of ['close', 'destroy'] as const) {
    both(`(${how}) wakes whoever waits on the stream`, function* (style) {
      const [conn, peer] = yield* withPeer();
      const reader = style.spawn(() => thrownBy(() => conn.read()));
      const writer = yield* stuckWriter(style, conn, 1_000_000);
      const flusher = style.spawn(() => thrownBy(() => conn.flush()));
      yield* settle();
      const before = descriptors().size;
      if (how === 'destroy') conn.destroy();
      else {
        const closer = style.spawn(() => on(conn.close()));
        // The peer does not read: what is queued cannot leave, and closing waits for that. Those who wait are told at once.
        expect(yield* on(reader)).toMatchObject({ code: 'ERR_CLOSED' });
        expect(yield* on(writer)).toMatchObject({ code: 'ERR_CLOSED' });
        peer.resume();
        yield* on(closer);
      }
      expect(yield* on(reader)).toMatchObject({ code: 'ERR_CLOSED', name: 'ClosedError' });
      expect(yield* on(writer)).toMatchObject({ code: 'ERR_CLOSED' });
      const flushed = yield* on(
        within(
          'the flush',
          flusher.then(undefined, (error: unknown) => error),
        ),
      );
      if (how === 'destroy') expect(flushed).toMatchObject({ code: 'ERR_CLOSED' });
      expect(descriptors().size).toBe(before - 1);
      peer.destroy();
    });
  }

  both('of a cancelled task closes at once', function* (style) {
    const [conn, peer] = yield* withPeer({ highWaterMark: 32 * 1024 * KIB });
    yield* on(conn.write(Buffer.alloc(20_000_000)));
    expect(conn.backlogLength).toBeGreaterThan(0);
    const task = style.spawn(function* () {
      try {
        yield* on(conn.read());
      } finally {
        yield* on(conn.close());
      }
    });
    yield* settle();
    task.cancel();
    expect(yield* thrownBy(() => task)).toMatchObject({ code: 'ERR_CANCELLED' });
    expect(conn.fd).toBe(-1);
    peer.destroy();
  });

  both('whose signal is aborted closes at once', function* () {
    const [conn, peer] = yield* withPeer({ highWaterMark: 32 * 1024 * KIB });
    yield* on(conn.write(Buffer.alloc(20_000_000)));
    const controller = new AbortController();
    const reason = new Error('now');
    setImmediate(() => controller.abort(reason));
    expect(yield* thrownBy(() => conn.close({ signal: controller.signal }))).toBe(reason);
    expect(conn.fd).toBe(-1);
    peer.destroy();
  });

  both('makes every later operation a ClosedError', function* () {
    const [conn, peer] = yield* withPeer();
    yield* on(conn.close());
    for (const operation of [
      () => conn.read(),
      () => conn.readInto(new Uint8Array(1)),
      () => conn.readExactly(1),
      () => conn.readUntil('\n'),
      () => conn.lines().next(),
      () => conn.write('x'),
      () => conn.write(Buffer.alloc(100_000)),
    ]) {
      expect(yield* thrownBy(operation)).toMatchObject({ code: 'ERR_CLOSED', name: 'ClosedError' });
    }
    yield* on(conn.flush());
    yield* on(conn.shutdown());
    peer.destroy();
  });

  both('drops an event of the same batch for the stream that it closes', function* (style) {
    // Both are ready in one wait, and whoever is resumed first destroys the other and puts a new connection under its number.
    for (let i = 0; i < 20; i++) {
      const [first, firstPeer] = yield* withPeer();
      const [second, secondPeer] = yield* withPeer();
      const streams = [first, second];
      const outcomes = streams.map((conn, at) =>
        style.spawn(function* (): Scenario<unknown> {
          try {
            const chunk = yield* on(conn.read());
            streams[1 - at]!.destroy();
            return text(chunk);
          } catch (error) {
            return (error as { code: string }).code;
          }
        }),
      );
      yield* settle();
      firstPeer.write('a');
      secondPeer.write('b');
      const seen = [yield* on(outcomes[0]!), yield* on(outcomes[1]!)];
      expect(seen.filter((outcome) => outcome === 'a' || outcome === 'b').length).toBeGreaterThan(0);
      const [fresh, freshPeer] = yield* withPeer();
      freshPeer.write('fresh');
      expect(text(yield* on(fresh.read()))).toBe('fresh');
      for (const end of [firstPeer, secondPeer, freshPeer, fresh, ...streams]) end.destroy();
    }
  });
});

describe('a peer that', () => {
  everywhere('resets is ECONNRESET once, then the end', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(() => thrownBy(() => conn.read()));
    yield* settle();
    const number = conn.fd;
    peer.resetAndDestroy();
    expect(yield* on(reader)).toMatchObject({ code: 'ECONNRESET', errno: -104, syscall: 'read', fd: number });
    expect(yield* on(conn.read())).toBeNull();
    expect(yield* on(conn.read())).toBeNull();
    yield* on(conn.close());
    expect(conn.fd).toBe(-1);
  });

  everywhere('has reset before anybody reads is ECONNRESET once, then the end', function* () {
    const [conn, peer] = yield* withPeer();
    const gone = new Promise((resolve) => peer.once('close', resolve));
    peer.resetAndDestroy();
    yield* on(gone);
    expect(yield* thrownBy(() => conn.read())).toMatchObject({ code: 'ECONNRESET' });
    expect(yield* on(conn.readInto(new Uint8Array(8)))).toBe(0);
    conn.destroy();
  });

  both('resets tells every way of reading', function* (style) {
    for (const read of [
      (conn: Stream) => conn.readInto(new Uint8Array(8)),
      (conn: Stream) => conn.readExactly(8),
      (conn: Stream) => conn.readUntil('\n'),
      (conn: Stream) => conn.lines().next(),
    ]) {
      const [conn, peer] = yield* withPeer();
      const reader = style.spawn(() => thrownBy(() => read(conn)));
      yield* settle();
      peer.resetAndDestroy();
      expect(yield* on(reader)).toMatchObject({ code: 'ECONNRESET', syscall: 'read' });
      expect(yield* on(conn.read())).toBeNull();
      conn.destroy();
    }
  });

  everywhere('is gone while we write is EPIPE or ECONNRESET, and no signal', function* (style) {
    const [conn, peer] = yield* withPeer();
    const writer = yield* stuckWriter(style, conn, 100_000);
    peer.resetAndDestroy();
    expect((yield* on(writer)) as { code: string }).toMatchObject({
      code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/),
      syscall: 'write',
    });
    conn.destroy();
  });

  both('is gone before we write is told by a later write, by flush and by close', function* () {
    for (const then of [
      (conn: Stream) => conn.write('y'),
      (conn: Stream) => conn.flush(),
      (conn: Stream) => conn.shutdown(),
      (conn: Stream) => conn.close(),
      (conn: Stream) => conn.read(),
    ]) {
      const [conn, peer] = yield* withPeer();
      const gone = new Promise((resolve) => peer.once('close', resolve));
      peer.resetAndDestroy();
      yield* on(gone);
      // Small: it is queued, and nobody knows yet. A write right after it would leave together with it.
      yield* on(conn.write('x'));
      if (then.toString().includes('write')) yield* settle();
      expect(yield* thrownBy(() => then(conn))).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) });
      yield* on(conn.close());
      expect(conn.fd).toBe(-1);
    }
  });

  both('is gone before we write is told by flush also when the stream was destroyed', function* () {
    const [conn, peer] = yield* withPeer();
    const gone = new Promise((resolve) => peer.once('close', resolve));
    peer.resetAndDestroy();
    yield* on(gone);
    yield* on(conn.write('x'));
    conn.destroy();
    expect(yield* thrownBy(() => conn.flush())).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) });
    yield* on(conn.flush());
  });

  both('is gone with writes queued is told when we close, and the descriptor is closed all the same', function* () {
    const before = descriptors().size;
    const [conn, peer] = yield* withPeer({ highWaterMark: 32 * 1024 * KIB });
    yield* on(conn.write(Buffer.alloc(20_000_000)));
    setImmediate(() => peer.resetAndDestroy());
    expect(yield* thrownBy(() => conn.close())).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) });
    expect(conn.fd).toBe(-1);
    yield* on(until('the descriptors are gone', () => descriptors().size === before));
  });

  both('never reads leaves the memory of the server as it is', function* (style) {
    const streams: Array<[Stream, Socket]> = [];
    for (let i = 0; i < 100; i++) streams.push(yield* withPeer());
    const before = residentBytes();
    const chunk = Buffer.alloc(16_000);
    const writers: Array<Task<unknown>> = [];
    for (const [conn] of streams) {
      writers.push(
        style.spawn(function* (): Scenario<void> {
          for (;;) yield* on(conn.write(chunk));
        }),
      );
    }
    yield* on(until('every writer is stuck', () => streams.every(([conn]) => isStuck(conn))));
    const [client, server] = yield* pair();
    yield* on(client.write('others are served'));
    expect(text(yield* on(server.read()))).toBe('others are served');
    for (const [conn] of streams) expect(conn.backlogLength).toBeLessThanOrEqual(64 * KIB);
    // 100 times the high-water mark twice over (the queue grows by doubling), and what a heap does besides.
    expect(residentBytes() - before).toBeLessThan(100 * 128 * KIB + 100e6);
    for (const writer of writers) writer.cancel();
    for (const [conn, peer] of streams) {
      conn.destroy();
      peer.destroy();
    }
    client.destroy();
    server.destroy();
  });

  test('sends urgent data neither hangs nor spins a reader', async () => {
    needs('python3');
    const child = script(`
      import { spawn as start } from 'node:child_process';
      const received = [];
      await run(function* () {
        const listener = yield* tcp.listen();
        const program = \`
import socket, time
s = socket.create_connection(('127.0.0.1', \${listener.address.port}))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for i in range(20):
    s.send(b'before;'); s.send(b'!', socket.MSG_OOB); s.send(b'after;')
    s.recv(1)
s.close()
\`;
        start('python3', ['-c', program], { stdio: 'inherit' });
        const conn = yield* listener.accept();
        listener.close();
        for (let i = 0; i < 20; i++) {
          let heard = '';
          while (!heard.endsWith('after;')) {
            heard += Buffer.from(yield* conn.read());
            // Late enough that the rest is there before the next read asks.
            yield* sleep(1);
          }
          received.push(heard);
          yield* conn.write('.');
        }
        console.log(received.every((heard) => heard === 'before;after;'), yield* conn.read());
        yield* conn.close();
      });
    `);
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'true null\n', stderr: '' });
  });
});
