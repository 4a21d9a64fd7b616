// Writing to a stream, whatever the kernel takes of it, and flushing.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { getLoop } from '../src/current.ts';
import { all, race, run, type Stream, sleep, spawn, type Task, tcp, timeout, yieldNow } from '../src/index.ts';
import { native } from '../src/native.ts';
import type { Discardable, Operation } from '../src/operation.ts';
import { isStuck, KIB, pattern, settle, stuckWriter, withPeer } from './streams.ts';
import { both, everywhere, on, pair, readAll, type Scenario, STYLES, type Style, text, thrownBy } from './styles.ts';
import { until, within } from './until.ts';

describe('write', () => {
  test('by generators, small and one after the other, is one operation again and again, whichever their streams', async () => {
    await run(function* () {
      const listener = yield* tcp.listen();
      const { port } = listener.address;
      const [a, b] = [yield* tcp.connect({ port }), yield* tcp.connect({ port })];
      const [peerOfA, peerOfB] = [yield* listener.accept(), yield* listener.accept()];
      const one = a.write('1');
      yield* one;
      const two = b.write('2');
      expect(two === one).toBe(true);
      const three = a.write('3');
      expect(three === two).toBe(false); // which has not begun
      yield* three;
      yield* two;
      expect(() => two[Symbol.iterator]()).toThrow('already waited for');
      const stopped = a.write('4', { signal: AbortSignal.abort() }) as Operation<void> & Discardable;
      expect(stopped === two || stopped === three).toBe(false);
      stopped.discard();
      const large = a.write(pattern(5000));
      expect(large === two || large === three).toBe(false);
      const five = b.write('5');
      expect(five === two || five === three).toBe(true);
      yield* all([large, five]);
      expect(text(yield* peerOfA.readExactly(2))).toBe('13');
      expect(Buffer.from(yield* peerOfA.readExactly(5000)).equals(pattern(5000))).toBe(true);
      expect(text(yield* peerOfB.readExactly(2))).toBe('25');
      const six = a.write('6');
      expect(six === five).toBe(false); // which is `all`'s
      yield* six;
    });
  });

  test('a part of another operation, is nobody else’s', async () => {
    await run(function* () {
      const listener = yield* tcp.listen();
      const { port } = listener.address;
      const pairs: Array<[Stream, Stream]> = [];
      for (let i = 0; i < 4; i++) pairs.push([yield* tcp.connect({ port }), yield* listener.accept()]);
      const writers = pairs.map(([conn], i) =>
        spawn(function* () {
          for (let k = 0; k < 20; k++) {
            yield* timeout(5000, conn.write(`${i}${k % 10}`));
            if (i % 2 === 1) yield* yieldNow();
          }
        }),
      );
      for (const writer of writers) yield* writer;
      for (const [i, [, peer]] of pairs.entries())
        expect(text(yield* peer.readExactly(40))).toBe(Array.from({ length: 20 }, (_, k) => `${i}${k % 10}`).join(''));
    });
  });

  everywhere('keeps the order also where the queue is full and the kernel takes only a part of it', function* () {
    const [conn, peer] = yield* pair({ highWaterMark: 64 * 1024 * KIB });
    // The kernel has no room left ...
    const filled = pattern(KIB);
    let before = 0;
    for (let sent = 0; sent >= 0; sent = native.send(conn.fd, filled, 0, KIB)) before += sent;
    // ... so what leaves when the queue is full stays here, and the last writes come after it, although the kernel has room again by then.
    const data = pattern(70 * 4096);
    for (let i = 0; i < 70; i++) {
      yield* on(conn.write(data.subarray(i * 4096, (i + 1) * 4096)));
      if (i < 65) continue;
      const skipped = Buffer.alloc(64 * KIB);
      for (
        let got = 0;
        got >= 0 && before > 0;
        got = native.recv(peer.fd, skipped, 0, Math.min(before, skipped.length))
      )
        before -= got;
    }
    const closing = spawn(() => conn.close());
    while (before > 0) before -= (yield* on(peer.read(before)))!.length;
    expect(Buffer.compare(yield* readAll(peer), data)).toBe(0);
    yield* on(closing);
    peer.destroy();
  });

  both('a thousand times without having to wait lets others have their turns', function* (style) {
    const [conn, peer] = yield* withPeer();
    let turns = 0;
    const other = spawn(function* () {
      for (;;) {
        yield* yieldNow();
        turns++;
      }
    });
    yield* on(
      style.spawn(function* () {
        turns = 0;
        for (let i = 0; i < 1000; i++) yield* on(conn.write('x'));
      }),
    );
    expect(turns).toBeGreaterThan(3);
    other.cancel();
    peer.destroy();
    conn.destroy();
  });

  both('takes strings, typed arrays, views and buffers, in bytes', function* () {
    const [client, server] = yield* pair();
    const memory = new Uint8Array([9, 1, 2, 3, 4, 9]).buffer;
    yield* on(client.write('é€'));
    yield* on(client.write(new Uint8Array(memory, 1, 4)));
    yield* on(client.write(new DataView(memory, 1, 2)));
    yield* on(client.write(new Uint16Array(memory, 2, 1)));
    yield* on(client.write(new Uint8Array([7, 8]).buffer));
    yield* on(client.write(Buffer.from('buffer')));
    yield* on(client.write(new Float64Array([1])));
    yield* on(client.write(''));
    yield* on(client.write(new Uint8Array(0)));
    yield* on(client.close());
    const expected = Buffer.concat([
      Buffer.from('é€'),
      Buffer.from([1, 2, 3, 4, 1, 2, 2, 3, 7, 8]),
      Buffer.from('buffer'),
      Buffer.from(new Float64Array([1]).buffer),
    ]);
    expect((yield* readAll(server)).equals(expected)).toBe(true);
    server.destroy();
  });

  both('of shared memory is refused, or copied at once', function* () {
    const [client, server] = yield* pair();
    for (const size of [16, 100_000]) {
      const shared = new Uint8Array(new SharedArrayBuffer(size)).fill(1);
      let sent = true;
      try {
        yield* on(client.write(shared));
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        sent = false;
      }
      shared.fill(2);
      yield* on(client.write(Uint8Array.of(3)));
      const got = yield* on(server.readExactly(sent ? size + 1 : 1));
      expect([...new Set(got)]).toEqual(sent ? [1, 3] : [3]);
    }
    client.destroy();
    server.destroy();
  });

  everywhere('lets its memory be used again once it is done', function* (style) {
    const [client, server] = yield* pair();
    const received = style.spawn(() => readAll(server));
    const expected: Buffer[] = [];
    for (const size of [10, 4096, 4097, 60_000, 200_000, 3_000_000, 5]) {
      const memory = Buffer.alloc(size, size % 251);
      expected.push(Buffer.from(memory));
      yield* on(client.write(memory));
      memory.fill(0xff);
    }
    yield* on(client.close());
    expect((yield* on(received)).equals(Buffer.concat(expected))).toBe(true);
    server.destroy();
  });

  everywhere('keeps small and large pieces in order', function* (style) {
    const [client, server] = yield* pair({ highWaterMark: 10_000 });
    const sizes = Array.from({ length: 200 }, (_, i) => [1, 100, 4096, 5000, 70_000][i % 5]! + i);
    const sent = pattern(sizes.reduce((sum, size) => sum + size, 0));
    const received = style.spawn(() => readAll(server));
    let at = 0;
    for (const size of sizes) {
      yield* on(client.write(sent.subarray(at, at + size)));
      at += size;
    }
    yield* on(client.close());
    expect((yield* on(received)).equals(sent)).toBe(true);
    server.destroy();
  });

  describe('of more than a few KiB, by several tasks at once', () => {
    /** Writers that start in the same turn, on connections of their own: their writes leave together when all have run. */
    function* writers(
      style: Style,
      count: number,
      write: (client: Stream, i: number) => Scenario<unknown>,
    ): Scenario<{ clients: Stream[]; servers: Stream[]; tasks: Task<unknown>[] }> {
      const pairs: [Stream, Stream][] = [];
      for (let i = 0; i < count; i++) {
        const [client, server, listener] = yield* pair();
        listener.close();
        pairs.push([client, server]);
      }
      const tasks = pairs.map(([client], i) => afterTheFirstWait(style, () => write(client, i)));
      return { clients: pairs.map(([client]) => client), servers: pairs.map(([, server]) => server), tasks };
    }
    const LARGE = 20_000;

    /** Before its first wait nobody can tell an async function from a coroutine, and its writes begin when they are waited for. */
    function afterTheFirstWait(style: Style, scenario: () => Scenario<unknown>): Task<unknown> {
      return style.spawn(function* (): Scenario<unknown> {
        yield* on(yieldNow());
        return yield* scenario();
      });
    }

    everywhere('arrives whole and in order, among small ones', function* (style) {
      const sizes = [10, LARGE, 20, 3_000_000, 5000, 4096, 100_000, 1];
      const sent = pattern(sizes.reduce((sum, size) => sum + size, 0));
      const { servers } = yield* writers(style, 8, function* (client) {
        let at = 0;
        for (const size of sizes) {
          yield* on(client.write(sent.subarray(at, at + size)));
          at += size;
        }
        yield* on(client.close());
      });
      const readers = servers.map((server) => style.spawn(() => readAll(server), 'reader'));
      for (const reader of readers) expect((yield* on(reader)).equals(sent)).toBe(true);
      for (const server of servers) server.destroy();
    });

    everywhere('leaves before the loop waits again', function* (style) {
      const { servers, tasks } = yield* writers(style, 3, function* (client) {
        const { driver } = getLoop()!;
        const before = driver.woken;
        yield* on(client.write(Buffer.alloc(LARGE)));
        return driver.woken === before;
      });
      for (const task of tasks) expect(yield* on(task)).toBe(true);
      for (const server of servers) server.destroy();
    });

    everywhere('again and again, does not keep the loop from waiting', function* (style) {
      const { servers, tasks } = yield* writers(style, 3, function* (client) {
        const { driver } = getLoop()!;
        const writes = new Map<number, number>();
        for (let i = 0; i < 10; i++) {
          yield* on(client.write(Buffer.alloc(LARGE)));
          writes.set(driver.woken, (writes.get(driver.woken) ?? 0) + 1);
        }
        return Math.max(...writes.values());
      });
      for (const task of tasks) expect(yield* on(task)).toBeLessThanOrEqual(2);
      for (const server of servers) server.destroy();
    });

    everywhere('lets its memory be used again once it is done', function* (style) {
      const { servers } = yield* writers(style, 4, function* (client, i) {
        const memory = Buffer.alloc(LARGE, i);
        yield* on(client.write(memory));
        memory.fill(0xff);
        yield* on(client.close());
      });
      for (const [i, server] of servers.entries())
        expect((yield* on(style.spawn(() => readAll(server)))).equals(Buffer.alloc(LARGE, i))).toBe(true);
    });

    everywhere('of a coroutine did not happen when that is cancelled before it has left', function* (style) {
      const { servers, tasks } = yield* writers(style, 3, function* (client) {
        try {
          yield* on(client.write(Buffer.alloc(LARGE)));
        } finally {
          client.destroy();
        }
      });
      let waitingFor: string | null = null;
      afterTheFirstWait(style, function* () {
        waitingFor = tasks[1]!.waitingFor;
        tasks[1]!.cancel();
      });
      const lengths: number[] = [];
      for (const server of servers) lengths.push((yield* on(style.spawn(() => readAll(server)))).length);
      expect(waitingFor).toMatch(/^fd \d+ OUT$/);
      // Whether an async function waits for a write that it has started nobody knows, so the write is made before the wait is cancelled.
      expect(lengths).toEqual([LARGE, style.name === 'yield' ? 0 : LARGE, LARGE]);
    });

    everywhere('says so when its memory is gone before it has left', function* (style) {
      const memory = new Uint8Array(LARGE);
      const { servers, tasks } = yield* writers(style, 2, (client, i) =>
        i === 0 ? thrownBy(() => client.write(memory)) : on(client.write(Buffer.alloc(LARGE))),
      );
      afterTheFirstWait(style, function* () {
        structuredClone(memory.buffer, { transfer: [memory.buffer] });
      });
      const error = yield* on(tasks[0]!);
      expect(error).toBeInstanceOf(TypeError);
      expect(String(error)).toMatch(/detached/);
      expect((yield* on(servers[1]!.readExactly(LARGE))).length).toBe(LARGE);
    });

    everywhere('fails where the peer is gone, and there only', function* (style) {
      const { servers, tasks } = yield* writers(style, 2, function* (client, i): Scenario<unknown> {
        if (i === 1) return yield* on(client.write(Buffer.alloc(LARGE)));
        return yield* thrownBy(() =>
          style.spawn(function* (): Scenario<void> {
            for (;;) yield* on(client.write(Buffer.alloc(LARGE)));
          }),
        );
      });
      servers[0]!.destroy();
      expect(yield* on(tasks[0]!)).toMatchObject({ syscall: 'write', code: expect.stringMatching(/EPIPE|ECONNRESET/) });
      expect(yield* on(tasks[1]!)).toBeUndefined();
      servers[1]!.destroy();
    });

    both('leaves before the next write, the end and the close of who does not wait for it', function* () {
      const style = STYLES[1]!;
      const { servers } = yield* writers(style, 4, function* (client, i) {
        const first = client.write(Buffer.alloc(LARGE, 1));
        if (i === 1) yield* on(client.write(Buffer.alloc(LARGE, 1)));
        if (i === 2) yield* on(client.shutdown());
        if (i === 3) client.destroy();
        else yield* on(client.close());
        void first;
      });
      const lengths: number[] = [];
      for (const server of servers) lengths.push((yield* on(style.spawn(() => readAll(server)))).length);
      expect(lengths).toEqual([LARGE, 2 * LARGE, LARGE, LARGE]);
    });

    test('that is made while the stream is shut down comes before the end', () =>
      STYLES[0]!.run(function* (style) {
        const { clients, servers, tasks } = yield* writers(style, 2, function* (client, i): Scenario<void> {
          if (i === 1) return yield* on(client.write(Buffer.alloc(LARGE)));
          // Wakes the writer and who waits for the shutdown in the same turn.
          yield* on(client.write(Buffer.alloc(20_000_000)));
          yield* on(client.write(Buffer.alloc(10_000_000)));
        });
        const ending = style.spawn(function* () {
          yield* on(until('the writer waits', () => tasks[0]!.waitingFor !== null));
          yield* on(clients[0]!.shutdown());
        });
        const received = yield* on(style.spawn(() => readAll(servers[0]!)));
        expect(received.length).toBe(30_000_000);
        yield* on(ending);
        for (const server of servers) server.destroy();
      }));

    test('happens although its task, which does not wait for it, is cancelled', () => {
      const style = STYLES[1]!;
      return style.run(function* () {
        const { servers, tasks } = yield* writers(style, 2, function* (client, i): Scenario<void> {
          if (i === 1) return yield* on(client.write(Buffer.alloc(LARGE)));
          client.write(Buffer.alloc(LARGE));
          yield* on(sleep(1e6));
        });
        afterTheFirstWait(style, function* () {
          tasks[0]!.cancel();
        });
        expect((yield* on(servers[0]!.readExactly(LARGE))).length).toBe(LARGE);
        for (const server of servers) server.destroy();
      });
    });

    test('that loses a race did not happen', () =>
      STYLES[0]!.run(function* (style) {
        const { clients, servers, tasks } = yield* writers(style, 3, function* (client, i): Scenario<void> {
          if (i !== 0) return;
          // On two streams; on one; and one that the kernel takes in part.
          yield* on(race([client.write(Buffer.alloc(LARGE)), clients[1]!.write(Buffer.alloc(LARGE))]));
          yield* on(race([client.write(Buffer.alloc(LARGE)), client.write(Buffer.alloc(LARGE))]));
          yield* on(race([client.write(Buffer.alloc(LARGE)), clients[2]!.write(Buffer.alloc(50_000_000))]));
          for (const stream of clients) yield* on(stream.write('end'));
          for (const stream of clients) yield* on(stream.close());
        });
        const lengths: number[] = [];
        for (const server of servers) lengths.push((yield* on(style.spawn(() => readAll(server)))).length);
        expect(lengths).toEqual([3 * LARGE + 3, 3, 3]);
        for (const task of tasks) yield* on(task);
      }));

    everywhere('of memory shared with others is copied, and harms nobody', function* (style) {
      const shared = [
        new Uint8Array(runInNewContext(`new SharedArrayBuffer(${LARGE})`)),
        Buffer.from(new SharedArrayBuffer(LARGE)),
        new Uint8Array(new SharedArrayBuffer(LARGE)),
      ];
      const { servers } = yield* writers(style, 4, function* (client, i) {
        yield* on(client.write(shared[i] ?? Buffer.alloc(LARGE)));
        yield* on(client.close());
      });
      for (const server of servers) expect((yield* on(style.spawn(() => readAll(server)))).length).toBe(LARGE);
    });

    test('is told of an error that came before it, and that is told once', () =>
      STYLES[0]!.run(function* (style) {
        const { servers, tasks } = yield* writers(style, 2, function* (client, i): Scenario<unknown> {
          if (i === 1) return yield* on(client.write(Buffer.alloc(LARGE)));
          yield* on(client.write('unread'));
          yield* on(client.flush());
          servers[0]!.destroy();
          const errors: unknown[] = [];
          // The queue holds 64 of them: the 65th finds no room, and so out what became of the others.
          for (let n = 0; n < 65; n++) {
            try {
              yield* on(client.write(Buffer.alloc(4096)));
            } catch (error) {
              errors.push((error as { code: string }).code);
            }
          }
          yield* on(client.flush());
          return errors;
        });
        expect(yield* on(tasks[0]!)).toEqual(['ECONNRESET']);
        servers[1]!.destroy();
      }));

    test.each([
      ['is cancelled', (_: Stream, task: Task<unknown>) => task.cancel()],
      ['whose stream is destroyed', (client: Stream) => client.destroy()],
    ])('that has left is over, also of a task that %s by who looks on while others go on', (_, disturb) =>
      STYLES[1]!.run(function* (style) {
        const { clients, servers, tasks } = yield* writers(style, 3, function* (client) {
          yield* on(client.write(Buffer.alloc(LARGE)));
          return 'written';
        });
        yield* on(yieldNow());
        let told = false;
        const onlooker = (message: unknown): void => {
          const { task, on } = message as { readonly task: Task<unknown>; readonly on: string };
          if (told || task.id !== tasks[0]!.id || !on.endsWith('OUT')) return;
          told = true;
          disturb(clients[1]!, tasks[1]!);
        };
        subscribe('onewait:task:resume', onlooker);
        try {
          for (const task of tasks) expect(yield* on(task)).toBe('written');
        } finally {
          unsubscribe('onewait:task:resume', onlooker);
        }
        expect(told).toBe(true);
        expect((yield* on(servers[1]!.readExactly(LARGE))).length).toBe(LARGE);
      }),
    );

    test('is sent once, also where who looks on writes, too', () =>
      STYLES[1]!.run(function* (style) {
        const others = yield* writers(style, 6, function* () {});
        let told = 0;
        const onlooker = (): void => {
          if (++told !== 3) return;
          for (const client of others.clients) client.write(Buffer.alloc(5000));
          others.clients[0]!.write('flushes');
        };
        const { servers } = yield* writers(style, 6, function* (client) {
          yield* on(client.write(Buffer.alloc(LARGE)));
          yield* on(client.close());
        });
        yield* on(yieldNow());
        subscribe('onewait:task:resume', onlooker);
        for (const server of servers) expect((yield* on(server.readExactly(LARGE))).length).toBe(LARGE);
        for (const server of servers) expect(yield* on(server.read())).toBeNull();
        unsubscribe('onewait:task:resume', onlooker);
        expect(told).toBeGreaterThan(3);
        for (const stream of [...others.clients, ...others.servers]) stream.destroy();
      }));

    both('is waited for by flush()', function* (style) {
      const done: string[] = [];
      const { servers, tasks } = yield* writers(style, 2, function* (client) {
        const flusher = style.spawn(function* (): Scenario<void> {
          yield* on(client.flush());
          done.push(client.flushed ? 'flushed' : 'not flushed');
        });
        yield* on(client.write(Buffer.alloc(LARGE)));
        yield* on(flusher);
      });
      for (const task of tasks) yield* on(task);
      expect(done).toEqual(['flushed', 'flushed']);
      for (const server of servers) server.destroy();
    });
  });

  test('a million times one byte costs each the same', async () => {
    const count = 1_000_000;
    await STYLES[0]!.run(function* (style) {
      const [client, server] = yield* pair();
      const reader = style.spawn(function* () {
        let sum = 0;
        let length = 0;
        for (let chunk = yield* on(server.read()); chunk !== null; chunk = yield* on(server.read())) {
          for (const byte of chunk) sum += byte;
          length += chunk.length;
        }
        return { sum, length };
      });
      // A coroutine by itself, for the harness would cost more than the writes.
      const byte = Uint8Array.of(1);
      const timings = yield* on(
        spawn(function* () {
          const quarters: number[] = [];
          for (let quarter = 0; quarter < 4; quarter++) {
            const start = performance.now();
            for (let i = 0; i < count / 4; i++) {
              byte[0] = i & 0xff;
              yield* client.write(byte);
            }
            quarters.push(performance.now() - start);
          }
          yield* client.close();
          return quarters;
        }),
      );
      const { sum, length } = yield* on(reader);
      expect(length).toBe(count);
      expect(sum).toBe(4 * Array.from({ length: count / 4 }, (_, i) => i & 0xff).reduce((a, b) => a + b));
      // Were a write's cost to grow with what was written before, the last quarter would cost several times the first.
      expect(timings[3]!).toBeLessThan(20 * timings[0]! + 1000);
      server.destroy();
    });
  });

  test('a hundred thousand times one byte to a peer that does not read yet costs each the same', () =>
    STYLES[0]!.run(function* (style) {
      const [client, server] = yield* pair({ highWaterMark: 16 * 1024 * KIB });
      // Fill what the kernel takes, so that everything after is queued here.
      let filled = 0;
      for (; client.backlogLength === 0; filled += 65_536) {
        yield* on(client.write(Buffer.alloc(65_536)));
        yield* settle();
      }
      const writer = spawn(function* () {
        for (let i = 0; i < 100_000; i++) yield* client.write(Uint8Array.of(i & 0xff));
        yield* client.close();
      });
      yield* on(
        within(
          '100,000 queued writes',
          until('they are queued', () => client.backlogLength >= 100_000),
        ),
      );
      const everything = yield* readAll(server);
      expect(everything.length).toBe(filled + 100_000);
      expect(everything.subarray(filled).equals(Buffer.from(Array.from({ length: 100_000 }, (_, i) => i & 0xff)))).toBe(
        true,
      );
      yield* on(writer);
      server.destroy();
      void style;
    }));

  everywhere('suspends its task above the high-water mark, and memory stays flat', function* (style) {
    const [conn, peer] = yield* withPeer({ highWaterMark: 32 * KIB });
    const writer = yield* stuckWriter(style, conn, 8000);
    expect(conn.backlogLength).toBeLessThanOrEqual(32 * KIB);
    expect(writer.state).toBe('suspended');
    let received = 0;
    peer.on('data', (data) => {
      received += data.length;
    });
    yield* on(until('the writer goes on once the peer reads', () => received > 5_000_000));
    writer.cancel();
    expect(yield* on(writer)).toMatchObject({ code: 'ERR_CANCELLED' });
    peer.destroy();
    conn.destroy();
  });

  both('of a second task is refused while the first is suspended, and the first notices nothing', function* (style) {
    const [client, server] = yield* pair();
    const sent = pattern(8_000_000);
    const first = style.spawn(() => on(client.write(sent)), 'first');
    yield* on(until('the first is stuck', () => isStuck(client)));
    const second = style.spawn(() => thrownBy(() => client.write('me too')), 'second');
    const error = (yield* on(second)) as Error;
    expect(error).toMatchObject({ code: 'ERR_BUSY' });
    expect(error.message).toContain(`first#${first.id}`);
    expect(error.message).toContain(`second#${second.id}`);
    expect(Buffer.from(yield* on(server.readExactly(8_000_000))).equals(sent)).toBe(true);
    yield* on(first);
    client.destroy();
    server.destroy();
  });

  both('that is aborted while suspended rejects with the reason, and the stream goes on', function* (style) {
    const [conn, peer] = yield* withPeer();
    const controller = new AbortController();
    const reason = new Error('no more');
    const writer = style.spawn(() =>
      thrownBy(() => conn.write(Buffer.alloc(20_000_000), { signal: controller.signal })),
    );
    yield* on(until('it is suspended', () => writer.waitingFor !== null));
    controller.abort(reason);
    expect(yield* on(writer)).toBe(reason);
    let received = 0;
    let tail = '';
    peer.on('data', (data) => {
      received += data.length;
      tail = String(data.subarray(-4));
    });
    yield* on(conn.write('tail'));
    yield* on(conn.flush());
    yield* on(until('the tail arrives', () => tail === 'tail'));
    expect(received).toBeLessThan(20_000_000);
    peer.destroy();
    conn.destroy();
  });

  both('whose memory was taken away while it was suspended fails', function* (style) {
    const [conn, peer] = yield* withPeer();
    const memory = new Uint8Array(20_000_000);
    const writer = style.spawn(() => thrownBy(() => conn.write(memory)));
    yield* on(until('it is suspended', () => writer.waitingFor !== null));
    structuredClone(memory.buffer, { transfer: [memory.buffer] });
    peer.resume();
    expect(yield* on(writer)).toBeInstanceOf(TypeError);
    peer.destroy();
    conn.destroy();
  });

  both('after shutdown is refused', function* () {
    const [conn, peer] = yield* withPeer();
    yield* on(conn.shutdown());
    expect(yield* thrownBy(() => conn.write('too late'))).toMatchObject({ code: 'ERR_SHUT_DOWN', name: 'ClosedError' });
    peer.destroy();
    conn.destroy();
  });
});

describe('flush', () => {
  everywhere('is done when the kernel has everything', function* (style) {
    const [conn, peer] = yield* withPeer({ highWaterMark: 1024 * KIB });
    let written = 0;
    while (conn.backlogLength === 0) {
      yield* on(conn.write(Buffer.alloc(100_000)));
      written += 100_000;
    }
    const flusher = style.spawn(() => on(conn.flush()));
    const another = style.spawn(() => on(conn.flush()));
    yield* settle();
    expect(flusher.state).toBe('suspended');
    let received = 0;
    peer.on('data', (data) => {
      received += data.length;
    });
    yield* on(flusher);
    yield* on(another);
    expect(conn.backlogLength).toBe(0);
    yield* on(until('all of it arrives', () => received === written));
    yield* on(conn.flush());
    peer.destroy();
    conn.destroy();
  });

  both('waits for a write that is under way', function* (style) {
    const [conn, peer] = yield* withPeer();
    const writer = style.spawn(() => on(conn.write(Buffer.alloc(10_000_000))));
    yield* on(until('it is suspended', () => writer.waitingFor !== null));
    const flusher = style.spawn(() => on(conn.flush()));
    yield* settle();
    expect(flusher.state).toBe('suspended');
    let received = 0;
    peer.on('data', (data) => {
      received += data.length;
    });
    yield* on(flusher);
    expect(writer.state).toBe('done');
    yield* on(until('all of it arrives', () => received === 10_000_000));
    peer.destroy();
    conn.destroy();
  });

  both('can be aborted', function* (style) {
    const [conn, peer] = yield* withPeer();
    const writer = yield* stuckWriter(style, conn, 50_000);
    const controller = new AbortController();
    const reason = new Error('enough');
    const flusher = style.spawn(() => thrownBy(() => conn.flush({ signal: controller.signal })));
    yield* settle();
    controller.abort(reason);
    expect(yield* on(flusher)).toBe(reason);
    writer.cancel();
    peer.destroy();
    conn.destroy();
  });
});
