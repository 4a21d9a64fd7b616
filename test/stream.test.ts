// Streams: the whole contract of reading, writing and closing, and every way in which a peer can spoil it.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect as netConnect, type Socket } from 'node:net';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { all, race, run, type Stream, sleep, spawn, type Task, tcp, timeout, yieldNow } from '../src/index.ts';
import { native } from '../src/native.ts';
import type { Discardable, Operation, Trap } from '../src/operation.ts';
import { descriptors, needs, residentBytes, script } from './processes.ts';
import { both, everywhere, on, pair, readAll, type Scenario, STYLES, type Style, text, thrownBy } from './styles.ts';
import { until, within } from './until.ts';

const KIB = 1024;

/** A stream of ours and a socket of Node's, connected to each other. */
function* withPeer(options: { highWaterMark?: number } = {}): Scenario<[Stream, Socket]> {
  const listener = yield* on(tcp.listen(options));
  const peer = netConnect({ port: listener.address.port, allowHalfOpen: true, noDelay: true });
  peer.on('error', () => {});
  const conn = yield* on(listener.accept());
  listener.close();
  if (peer.connecting) yield* on(new Promise((resolve) => peer.once('connect', resolve)));
  return [conn, peer];
}

/** Lets everything that is ready happen, in our loop and in Node's. */
function* settle(): Scenario<void> {
  for (let i = 0; i < 3; i++) yield* on(new Promise((resolve) => setImmediate(resolve)));
}

function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}

/** What an operation of an async function fails with. */
async function thrown(operation: PromiseLike<unknown>): Promise<unknown> {
  try {
    await operation;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

/** Whether a write waits for the peer to read, and not only for the end of the turn. */
function isStuck({ outgoing }: Stream): boolean {
  return outgoing?.writer?.queued === false;
}

/** Starts a writer that gets stuck because nobody reads. */
function* stuckWriter(style: Style, conn: Stream, chunk: number): Scenario<Task<unknown>> {
  const writer = style.spawn(function* (): Scenario<unknown> {
    try {
      for (;;) yield* on(conn.write(Buffer.alloc(chunk)));
    } catch (error) {
      return error;
    }
  }, 'writer');
  yield* on(until('the writer is stuck', () => isStuck(conn)));
  expect(writer.waitingFor).toBe(`fd ${conn.fd} OUT`);
  return writer;
}

describe('read', () => {
  everywhere('returns what is there, at most max bytes, and null at the end for ever', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end('abcdefgh');
    expect(text(yield* on(conn.readExactly(1)))).toBe('a');
    expect(text(yield* on(conn.read(3)))).toBe('bcd');
    expect(text(yield* on(conn.read()))).toBe('efgh');
    expect(yield* on(conn.read())).toBeNull();
    expect(yield* on(conn.read(1))).toBeNull();
    expect(yield* on(conn.readInto(new Uint8Array(1)))).toBe(0);
    yield* on(conn.close());
  });

  test('by a generator, chunk after chunk, is one operation again and again, if each is over before the next', async () => {
    /** Whether it is `other`, and no longer to be waited for. (expect() would iterate over what it compares.) */
    const isUnused = (operation: Operation<unknown>, other: Operation<unknown>): boolean => {
      (operation as Operation<unknown> & Discardable).discard();
      return operation === other;
    };
    await run(function* () {
      const listener = yield* tcp.listen();
      const peer = yield* tcp.connect({ port: listener.address.port });
      const conn = yield* listener.accept();
      const first = conn.read();
      expect(isUnused(conn.read(), first)).toBe(false); // which has not begun
      const one = conn.read();
      yield* peer.write('ab');
      expect(text(yield* one)).toBe('ab');
      expect((one as unknown as { value: unknown }).value).toBeUndefined(); // it does not hold the chunk's memory
      expect(isUnused(conn.read(10), one)).toBe(false);
      expect(isUnused(conn.read(undefined, { signal: new AbortController().signal }), one)).toBe(false);
      const two = conn.read();
      expect(two === one).toBe(true);
      expect(isUnused(conn.read(), two)).toBe(false); // which has not begun
      const reader = spawn(() => two);
      yield* yieldNow();
      expect(reader.waitingFor).toBe(`fd ${conn.fd} IN`);
      expect(() => one[Symbol.iterator]()).toThrow('already waited for');
      reader.cancel();
      yield* yieldNow();
      expect(isUnused(conn.read(), two)).toBe(false); // which did not end well
      isUnused(first, first);
    });
  });

  test('by a generator, which has not begun when the stream is closed, says so', async () => {
    await run(function* () {
      const listener = yield* tcp.listen();
      for (const close of [(conn: Stream) => conn.destroy(), (conn: Stream) => void spawn(() => conn.close())]) {
        const peer = yield* tcp.connect({ port: listener.address.port });
        const conn = yield* listener.accept();
        yield* peer.write('a');
        yield* conn.read();
        const operation = conn.read();
        close(conn);
        yield* yieldNow();
        let error: unknown;
        try {
          yield* operation;
        } catch (thrown) {
          error = thrown;
        }
        expect(error).toMatchObject({ code: 'ERR_CLOSED' });
      }
    });
  });

  test('by generators, in one that is a part of another operation, is nobody else’s', async () => {
    await run(function* () {
      const listener = yield* tcp.listen();
      const peer = yield* tcp.connect({ port: listener.address.port });
      const conn = yield* listener.accept();
      let isOver = false;
      const first = spawn(function* () {
        yield* all<unknown>([
          conn.read(),
          function* () {
            while (!isOver) yield* yieldNow();
          },
        ]);
      });
      while (conn.actingFor === null) yield* yieldNow();
      yield* peer.write('a');
      while (conn.actingFor !== null) yield* yieldNow();
      yield* yieldNow();
      yield* peer.write('b');
      const operation = conn.read();
      isOver = true;
      yield* first;
      expect(text(yield* operation)).toBe('b');
    });
  });

  everywhere('leaves what exceeds max to the next', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end('0123456789');
    const pieces: Array<string | null> = [];
    for (let chunk = yield* on(conn.read(3)); chunk !== null; chunk = yield* on(conn.read(3))) pieces.push(text(chunk));
    expect(pieces).toEqual(['012', '345', '678', '9']);
    conn.destroy();
  });

  both('gives chunks that stay as they are, whatever is read later', function* () {
    const [conn, peer] = yield* withPeer();
    const kept: Uint8Array[] = [];
    for (let i = 0; i < 2000; i++) {
      peer.write(String(i).padStart(8, '0'));
      kept.push(yield* on(conn.readExactly(4)));
      const rest = yield* on(conn.read(4));
      kept.push(rest!);
    }
    expect(Buffer.concat(kept).toString()).toBe(
      Array.from({ length: 2000 }, (_, i) => String(i).padStart(8, '0')).join(''),
    );
    peer.destroy();
    conn.destroy();
  });

  // A read that fills what it was given may have left more behind, and edge-triggered nobody would tell. So: exactly full, more or less than full.
  for (const size of [64 * KIB, 128 * KIB, 256 * KIB, 64 * KIB - 1, 64 * KIB + 1, 4096, 4095]) {
    everywhere(`gets ${size} bytes and the end, however they come`, function* () {
      const [client, server] = yield* pair();
      const sent = pattern(size);
      yield* on(client.write(sent));
      yield* on(client.close());
      expect((yield* readAll(server)).equals(sent)).toBe(true);
      server.destroy();
    });
  }

  everywhere('gets data and the end that come in one packet', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(() => readAll(conn));
    yield* settle();
    peer.cork();
    peer.write('with ');
    peer.end('the end');
    expect(String(yield* on(reader))).toBe('with the end');
    conn.destroy();
  });

  everywhere('gets what comes while it reads again and again', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(() => readAll(conn));
    const sent: string[] = [];
    for (let i = 0; i < 300; i++) {
      sent.push(`message ${i};`);
      peer.write(sent.at(-1)!);
      if (i % 7 === 0) yield* settle();
    }
    peer.end();
    expect(String(yield* on(reader))).toBe(sent.join(''));
    conn.destroy();
  });

  test('with random pieces and random ways of reading, nothing is lost or doubled', async () => {
    const piece = fc.integer({ min: 1, max: 200_000 });
    const step = fc.oneof(
      fc.record({ how: fc.constant('read' as const), n: fc.integer({ min: 1, max: 70_000 }) }),
      fc.record({ how: fc.constant('readInto' as const), n: fc.integer({ min: 1, max: 70_000 }) }),
      fc.record({ how: fc.constant('readExactly' as const), n: fc.integer({ min: 1, max: 5000 }) }),
      fc.record({ how: fc.constant('abort' as const), n: fc.constant(1) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { minLength: 1, maxLength: 8 }),
        fc.array(step, { minLength: 1, maxLength: 20 }),
        fc.constantFrom(...STYLES),
        fc.boolean(),
        async (pieces, steps, style, split) => {
          const total = pieces.reduce((sum, size) => sum + size, 0);
          const sent = pattern(total);
          await style.run(function* () {
            const [client, server] = yield* pair();
            const writer = style.spawn(function* () {
              let at = 0;
              for (const size of pieces) {
                yield* on(client.write(sent.subarray(at, at + size)));
                at += size;
                if (split) yield* on(sleep(0));
              }
              yield* on(client.close());
            });
            const received: Uint8Array[] = [];
            for (let i = 0, ended = false; !ended; i++) {
              const { how, n } = steps[i % steps.length]!;
              if (i === 300) {
                // Enough of tiny steps.
                received.push(yield* readAll(server));
                ended = true;
              } else if (how === 'read') {
                const chunk = yield* on(server.read(n));
                if (chunk === null) ended = true;
                else received.push(chunk);
              } else if (how === 'readInto') {
                const target = new Uint8Array(n);
                const count = yield* on(server.readInto(target));
                if (count === 0) ended = true;
                received.push(target.subarray(0, count));
              } else if (how === 'readExactly') {
                try {
                  received.push(yield* on(server.readExactly(n)));
                } catch (error) {
                  expect(error).toMatchObject({ code: 'ERR_UNEXPECTED_END' });
                  received.push(yield* readAll(server));
                  ended = true;
                }
              } else {
                const controller = new AbortController();
                const reader = style.spawn(function* () {
                  try {
                    return yield* on(server.read(undefined, { signal: controller.signal }));
                  } catch {
                    return new Uint8Array(0);
                  }
                });
                yield* on(sleep(0));
                controller.abort();
                const chunk = yield* on(reader);
                if (chunk === null) ended = true;
                else received.push(chunk);
              }
            }
            expect(Buffer.concat(received).equals(sent)).toBe(true);
            yield* on(writer);
            server.destroy();
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  everywhere('that is aborted loses no byte', function* () {
    const [conn, peer] = yield* withPeer();
    const received: Uint8Array[] = [];
    let aborts = 0;
    for (let i = 0; i < 40; i++) {
      const controller = new AbortController();
      const reason = new Error('not now');
      // Before, while and after the data comes.
      if (i % 4 !== 0) peer.write(`${i};`);
      if (i % 4 === 1) yield* settle();
      if (i % 4 < 2) setImmediate(() => controller.abort(reason));
      else setTimeout(() => controller.abort(reason), i / 10);
      if (i % 4 === 0) peer.write(`${i};`);
      try {
        received.push((yield* on(conn.read(undefined, { signal: controller.signal })))!);
      } catch (error) {
        expect(error).toBe(reason);
        aborts++;
      }
    }
    peer.end();
    received.push(yield* readAll(conn));
    expect(Buffer.concat(received).toString()).toBe(Array.from({ length: 40 }, (_, i) => `${i};`).join(''));
    const controller = new AbortController();
    const reason = new Error('not now');
    setImmediate(() => controller.abort(reason));
    const [other, otherPeer] = yield* withPeer();
    expect(yield* thrownBy(() => other.read(undefined, { signal: controller.signal }))).toBe(reason);
    expect(yield* thrownBy(() => other.read(undefined, { signal: controller.signal }))).toBe(reason);
    expect(aborts).toBeLessThan(40);
    other.destroy();
    otherPeer.destroy();
    conn.destroy();
  });

  everywhere('cancelled in the batch that brings its data loses no byte', function* (style) {
    // Two connections are ready in one wait; the task that is resumed first cancels the other, whose bytes have been read by then.
    const [first, firstPeer] = yield* withPeer();
    const [second, secondPeer] = yield* withPeer();
    for (let i = 0; i < 30; i++) {
      const readers: Array<Task<Uint8Array | null>> = [];
      for (const [conn, other] of [
        [first, 1],
        [second, 0],
      ] as const) {
        readers.push(
          style.spawn(function* () {
            const chunk = yield* on(conn.read());
            readers[other]!.cancel();
            return chunk;
          }),
        );
      }
      yield* settle();
      firstPeer.write(`a${i};`);
      secondPeer.write(`b${i};`);
      let alive = 0;
      for (const [at, reader] of readers.entries()) {
        const [name, conn] = at === 0 ? (['a', first] as const) : (['b', second] as const);
        let chunk: Uint8Array | null;
        try {
          chunk = yield* on(reader);
          alive++;
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_CANCELLED' });
          chunk = yield* on(conn.read());
        }
        expect(text(chunk)).toBe(`${name}${i};`);
      }
      expect(alive).toBeGreaterThan(0);
    }
    for (const end of [firstPeer, secondPeer, first, second]) end.destroy();
  });

  both('that loses a race did not happen', function* () {
    const [conn, peer] = yield* withPeer();
    expect(yield* on(race<unknown>([conn.read(), sleep(1)]))).toBeUndefined();
    peer.write('for the next');
    expect(text(yield* on(conn.read()))).toBe('for the next');
    expect(yield* thrownBy(() => timeout(1, conn.read()))).toMatchObject({ code: 'ERR_TIMEOUT' });
    peer.write('again');
    expect(text(yield* on(conn.read()))).toBe('again');
    expect(yield* thrownBy(() => timeout(1, () => conn.read()))).toMatchObject({ code: 'ERR_TIMEOUT' });
    peer.write('and again');
    expect(text(yield* on(conn.read()))).toBe('and again');
    peer.destroy();
    conn.destroy();
  });

  describe.each([
    { what: 'read()', of: (conn: Stream) => conn.read() as Operation<unknown>, chunk: (outcome: unknown) => outcome },
    {
      what: 'next()',
      of: (conn: Stream) => conn.next() as Operation<unknown>,
      chunk: (outcome: unknown) => (outcome as IteratorResult<Uint8Array>).value,
    },
  ])('of an async function, by $what,', ({ of, chunk }) => {
    const trapOf = (operation: Operation<unknown>): unknown => (operation as unknown as { trap: unknown }).trap;
    const signal = (): [Promise<void>, () => void] => {
      let give!: () => void;
      return [new Promise((resolve) => (give = resolve)), () => give()];
    };
    const textOf = (outcome: unknown): string | null => text(chunk(outcome) as Uint8Array);

    const withBoth = async (body: (conn: Stream, peer: Stream) => Promise<void>): Promise<void> =>
      run(async () => {
        const listener = await tcp.listen();
        const peer = await tcp.connect({ port: listener.address.port });
        const conn = await listener.accept();
        await body(conn, peer);
        for (const end of [listener, conn, peer]) await end.close();
      });

    test('chunk after chunk, waits with one trap again and again, if each is over before the next', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        expect(await thrown(of(conn))).toMatchObject({ code: 'ERR_BUSY' });
        await peer.write('1');
        expect(textOf(await first)).toBe('1');
        const second = of(conn);
        expect(trapOf(second) === trapOf(first)).toBe(true);
        await peer.write('2');
        expect(textOf(await second)).toBe('2');
        expect(textOf(await first)).toBe('1');
      }));

    test('that was over before its trap waited for the next chunk has its own outcome for whoever asks', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        await peer.write('1');
        await first;
        const second = of(conn);
        expect(trapOf(second) === trapOf(first)).toBe(true);
        expect(textOf(await race([first, sleep(1000)]))).toBe('1');
        expect((await all([first, first])).map(textOf)).toEqual(['1', '1']);
        expect(textOf(await spawn(() => first))).toBe('1');
        await peer.write('2');
        expect(textOf(await race([second, sleep(1000)]))).toBe('2');
      }));

    test('that was over, and then loses a race, leaves its chunk to the next; there is none for who comes back to it', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        await peer.write('for the next');
        await first;
        const done = spawn(function* () {
          return 'first';
        });
        await done;
        expect(await race<unknown>([done, first])).toBe('first');
        expect(await thrown(race([first]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
        expect(textOf(await of(conn))).toBe('for the next');
      }));

    test('that loses race after race with its chunk there is never given more than one outcome', () =>
      withBoth(async (conn, peer) => {
        const rejections: unknown[] = [];
        const note = (error: unknown): void => void rejections.push(error);
        process.on('unhandledRejection', note);
        const done = spawn(function* () {
          return 'first';
        });
        await done;
        const loseWithAChunk = async (): Promise<void> => {
          const first = of(conn);
          await peer.write('chunk');
          await first;
          for (const contender of [() => first, () => of(conn), () => of(conn)])
            expect(await race<unknown>([done, contender()])).toBe('first');
        };
        await loseWithAChunk();
        expect(textOf(await of(conn))).toBe('chunk');
        await loseWithAChunk();
        // All at once: while its outcome is on its way it is taken back, what it gave back is taken by another, and it waits anew.
        race<unknown>([done, of(conn)]).then(() => {});
        const taken = conn.readExactly(5).then((bytes) => text(bytes));
        const last = of(conn);
        expect(await taken).toBe('chunk');
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
        await peer.write('the next');
        expect(textOf(await last)).toBe('the next');
        process.off('unhandledRejection', note);
        expect(rejections).toEqual([]);
      }));

    test('that loses a race while it waits is no good for another', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        expect(await race<unknown>([first, sleep(1)])).toBeUndefined();
        expect(await thrown(race([first]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
        await peer.write('for the next');
        const second = of(conn);
        expect(trapOf(second) === trapOf(first)).toBe(false);
        expect(textOf(await second)).toBe('for the next');
      }));

    test('that was over at once and lost a race has nothing to do with what is read after it', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        const first = of(conn);
        await peer.write('first');
        await first;
        await race([done, first]);
        const second = of(conn); // has its chunk, which nobody has been told of
        await race([done, second]);
        expect(text(await conn.readExactly(5))).toBe('first');
        const third = of(conn);
        await race([done, second]);
        expect(await thrown(race([second]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
        await peer.write('third');
        expect(textOf(await third)).toBe('third');
      }));

    test('that lost a race on its way does not wake a generator that reads after it', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        const first = of(conn);
        await peer.write('A');
        await first;
        await race([done, first]);
        let go = false;
        const reader = spawn(function* () {
          while (!go) yield* yieldNow();
          for (let i = 0; i < 127; i++) yield* peer.write('x'); // all that it may do in a row, but one
          yield* of(conn);
          yield* sleep(1);
          return 'slept';
        });
        await sleep(1);
        await new Promise(setImmediate);
        race([done, of(conn)]).then(() => {});
        go = true;
        expect(await reader).toBe('slept');
      }));

    test('goes on when what a generator had read with before loses a race', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        await peer.write('1');
        const [mayEnd, end] = signal();
        const [isOver, over] = signal();
        const reader = spawn(function* () {
          const before = of(conn);
          yield* before;
          over();
          yield* spawn(() => mayEnd);
          expect(trapOf(first) === before).toBe(true);
          yield* race<unknown>([done, before]);
        });
        await isOver;
        const first = of(conn);
        end();
        await reader;
        await peer.write('2');
        expect(textOf(await first)).toBe('2');
      }));

    test('retains neither its task nor its chunk when it is over', () =>
      withBoth(async (conn, peer) => {
        for (const style of STYLES) {
          const [isOver, over] = signal();
          const [mayEnd, end] = signal();
          const reader = spawn(
            style.main(function* () {
              yield* on(Promise.resolve());
              yield* on(of(conn));
              over();
              yield* on(mayEnd);
            }),
          );
          await peer.write('chunk');
          await isOver;
          const { reader: kept } = conn as unknown as { reader: Trap };
          expect(Object.values(kept).filter((value) => typeof value === 'function')).toEqual([]);
          expect(kept.value).toBeUndefined();
          end();
          await reader;
          expect((conn as unknown as { reader: unknown }).reader).toBeNull();
        }
      }));

    test('that was over, and loses a race while the next waits, keeps its chunk', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        const first = of(conn);
        await peer.write('1');
        await first;
        const second = of(conn);
        await race([done, first]);
        await peer.write('2');
        expect(textOf(await second)).toBe('2');
        expect(textOf(await race([first, sleep(1000)]))).toBe('1');
      }));

    test('that was given to what ends before it begins is taken back', () =>
      withBoth(async (conn, peer) => {
        expect(await thrown(timeout(0, of(conn)))).toMatchObject({ code: 'ERR_TIMEOUT' });
        const failing = (): never => {
          throw new Error('before the others');
        };
        expect(await thrown(all<unknown>([failing, of(conn)]))).toMatchObject({ message: 'before the others' });
        await peer.write('for the next');
        expect(textOf(await of(conn))).toBe('for the next');
      }));

    test('twice in a race is refused, and no byte is doubled or lost', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        expect(await thrown(race([first, first]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
        await peer.write('for the next');
        expect(textOf(await of(conn))).toBe('for the next');
      }));

    test('that failed is not made anew', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        const task = spawn(async () => first);
        conn.destroy();
        expect(await thrown(task)).toMatchObject({ code: 'ERR_CLOSED' });
        expect(await thrown(of(conn))).toMatchObject({ code: 'ERR_CLOSED' });
        peer.destroy();
      }));
  });

  both('of a second task is refused with the names of both, and the first notices nothing', function* (style) {
    const [conn, peer] = yield* withPeer();
    const first = style.spawn(() => on(conn.read()), 'first');
    yield* settle();
    const second = style.spawn(() => thrownBy(() => conn.read()), 'second');
    const error = (yield* on(second)) as Error;
    expect(error).toMatchObject({ name: 'BusyError', code: 'ERR_BUSY' });
    expect(error.message).toContain(`first#${first.id}`);
    expect(error.message).toContain(`second#${second.id}`);
    expect(error.message).toContain(`fd ${conn.fd}`);
    for (const other of [
      () => conn.readInto(new Uint8Array(1)),
      () => conn.readExactly(1),
      () => conn.readUntil('\n'),
      () => conn.lines().next(),
    ]) {
      expect(yield* thrownBy(other)).toMatchObject({ code: 'ERR_BUSY' });
    }
    peer.write('for the first');
    expect(text(yield* on(first))).toBe('for the first');
    peer.destroy();
    conn.destroy();
  });

  both('goes on when somebody takes the memory of a chunk away, and so do its neighbours', function* () {
    const [conn, peer] = yield* withPeer();
    const [other, otherPeer] = yield* withPeer();
    peer.write('one');
    const chunk = (yield* on(conn.read()))!;
    otherPeer.write('neighbour');
    const neighbour = (yield* on(other.read()))!;
    const memory = chunk.buffer as ArrayBuffer & { transfer?(): ArrayBuffer };
    expect(text(new Uint8Array(structuredClone(chunk, { transfer: [memory] })))).toBe('one');
    expect(text(neighbour)).toBe('neighbour');
    memory.transfer?.();
    peer.write('two');
    expect(text(yield* on(conn.read()))).toBe('two');
    for (const closed of [peer, conn, otherPeer, other]) closed.destroy();
  });

  both('and write do not get into each other’s way', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(() => on(conn.read()));
    yield* settle();
    const heard = new Promise((resolve) => peer.once('data', resolve));
    yield* on(conn.write('while a reader waits'));
    expect(String(yield* on(heard))).toBe('while a reader waits');
    peer.write('answer');
    expect(text(yield* on(reader))).toBe('answer');
    peer.destroy();
    conn.destroy();
  });

  test.each([
    ['max 0', (conn: Stream) => conn.read(0), RangeError],
    ['max 1.5', (conn: Stream) => conn.read(1.5), RangeError],
    ['max NaN', (conn: Stream) => conn.read(Number.NaN), RangeError],
    ["max '1'", (conn: Stream) => conn.read('1' as never), TypeError],
    ['a signal that is none', (conn: Stream) => conn.read(1, { signal: 1 as never }), TypeError],
    ['an array', (conn: Stream) => conn.readInto([] as never), TypeError],
    ['offset -1', (conn: Stream) => conn.readInto(new Uint8Array(4), -1), RangeError],
    ['offset 5 of 4', (conn: Stream) => conn.readInto(new Uint8Array(4), 5), RangeError],
    ['length 5 of 4', (conn: Stream) => conn.readInto(new Uint8Array(4), 0, 5), RangeError],
    ['offset 3 and length 2 of 4', (conn: Stream) => conn.readInto(new Uint8Array(4), 3, 2), RangeError],
    ['shared memory', (conn: Stream) => conn.readInto(new Uint8Array(new SharedArrayBuffer(4))), TypeError],
    [
      'memory shared by another realm',
      (conn: Stream) => conn.readInto(new Uint8Array(runInNewContext('new SharedArrayBuffer(4)'))),
      TypeError,
    ],
    ['shared memory in a DataView', (conn: Stream) => conn.readInto(new DataView(new SharedArrayBuffer(4))), TypeError],
    ['n -1', (conn: Stream) => conn.readExactly(-1), RangeError],
    ['n 2^32', (conn: Stream) => conn.readExactly(2 ** 32), RangeError],
    ['an empty delimiter', (conn: Stream) => conn.readUntil(''), RangeError],
    ['a limit below the delimiter', (conn: Stream) => conn.readUntil('ab', 1), RangeError],
    ['a delimiter that is none', (conn: Stream) => conn.readUntil(10 as never), TypeError],
    ['limit 0', (conn: Stream) => conn.lines({ limit: 0 }), RangeError],
    ['a number to write', (conn: Stream) => conn.write(5 as never), TypeError],
    ['null to write', (conn: Stream) => conn.write(null as never), TypeError],
    ['an object to write', (conn: Stream) => conn.write({ length: 3 } as never), TypeError],
    ['shared memory to write', (conn: Stream) => conn.write(new DataView(new SharedArrayBuffer(4))), TypeError],
    ['a SharedArrayBuffer to write', (conn: Stream) => conn.write(new SharedArrayBuffer(4) as never), TypeError],
  ] as const)('refuses wrong arguments when it is called: %s', (_, call, error) =>
    STYLES[0]!.run(function* () {
      const [conn, peer] = yield* withPeer();
      expect(() => call(conn)).toThrow(error);
      peer.write('unharmed');
      expect(text(yield* on(conn.read()))).toBe('unharmed');
      peer.destroy();
      conn.destroy();
    }),
  );
});

describe('readInto', () => {
  everywhere('fills memory of the caller, and says how much', function* (style) {
    const [conn, peer] = yield* withPeer();
    const target = Buffer.alloc(8, '.');
    const reader = style.spawn(() => on(conn.readInto(target, 2, 4)));
    yield* settle();
    peer.write('abcdef');
    expect(yield* on(reader)).toBe(4);
    expect(target.toString()).toBe('..abcd..');
    const view = new DataView(target.buffer, target.byteOffset, 8);
    expect(yield* on(conn.readInto(view, 6))).toBe(2);
    expect(target.toString()).toBe('..abcdef');
    const doubles = new Float64Array(2);
    peer.write(Buffer.from(new Float64Array([1.5, -2]).buffer));
    for (let got = 0; got < 16; ) got += yield* on(conn.readInto(doubles, got));
    expect([...doubles]).toEqual([1.5, -2]);
    peer.end();
    expect(yield* on(conn.readInto(target))).toBe(0);
    conn.destroy();
  });

  everywhere('goes together with the other ways of reading', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end('line\nabcdefgh');
    expect(yield* on(conn.lines().next())).toEqual({ done: false, value: 'line' });
    const target = Buffer.alloc(3);
    expect(yield* on(conn.readInto(target))).toBe(3);
    expect(target.toString()).toBe('abc');
    expect(text(yield* on(conn.read(2)))).toBe('de');
    expect(yield* on(conn.readInto(target, 0, 0))).toBe(0);
    expect(String(yield* readAll(conn))).toBe('fgh');
    conn.destroy();
  });

  both('whose memory was taken away meanwhile fails, and loses no byte', function* (style) {
    for (const take of [
      (buffer: ArrayBuffer) => structuredClone(buffer, { transfer: [buffer] }),
      (buffer: ArrayBuffer) => (buffer as ArrayBuffer & { resize(length: number): void }).resize(0),
    ]) {
      const [conn, peer] = yield* withPeer();
      const buffer = new (ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer)(16, {
        maxByteLength: 32,
      });
      const reader = style.spawn(() => thrownBy(() => conn.readInto(new Uint8Array(buffer, 0, 16))));
      yield* settle();
      take(buffer);
      peer.write('not for the dead');
      expect(yield* on(reader)).toBeInstanceOf(TypeError);
      expect(text(yield* on(conn.read()))).toBe('not for the dead');
      peer.destroy();
      conn.destroy();
    }
  });
});

describe('readExactly', () => {
  everywhere('waits for all of it', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(() => on(conn.readExactly(10)));
    for (const piece of ['abc', 'def', 'ghijklm']) {
      peer.write(piece);
      yield* settle();
    }
    expect(text(yield* on(reader))).toBe('abcdefghij');
    expect((yield* on(conn.readExactly(0))).length).toBe(0);
    expect(text(yield* on(conn.readExactly(3)))).toBe('klm');
    peer.destroy();
    conn.destroy();
  });

  both('that meets the end says how much there was, and leaves it', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end('short');
    const error = yield* thrownBy(() => conn.readExactly(10));
    expect(error).toMatchObject({ code: 'ERR_UNEXPECTED_END', name: 'ClosedError' });
    expect((error as Error).message).toContain('5 bytes');
    expect(text(yield* on(conn.read()))).toBe('short');
    expect(yield* on(conn.read())).toBeNull();
    conn.destroy();
  });

  both('takes more than any buffer', function* (style) {
    const [client, server] = yield* pair();
    const sent = pattern(3_000_001);
    const writer = style.spawn(() => on(client.write(sent)));
    expect(Buffer.from(yield* on(server.readExactly(3_000_000))).equals(sent.subarray(0, 3_000_000))).toBe(true);
    expect((yield* on(server.readExactly(1)))[0]).toBe(sent[3_000_000]);
    yield* on(writer);
    client.destroy();
    server.destroy();
  });

  both('that is aborted keeps what has come for the next', function* () {
    const [conn, peer] = yield* withPeer();
    peer.write('half');
    const controller = new AbortController();
    const attempt = thrownBy(() => conn.readExactly(8, { signal: controller.signal }));
    setTimeout(() => controller.abort(new Error('late')), 2);
    expect(yield* attempt).toMatchObject({ message: 'late' });
    peer.write(' way');
    expect(text(yield* on(conn.readExactly(8)))).toBe('half way');
    peer.destroy();
    conn.destroy();
  });
});

describe('readUntil', () => {
  everywhere('returns everything up to and with the delimiter, wherever the packets end', function* (style) {
    const [conn, peer] = yield* withPeer();
    const reader = style.spawn(function* () {
      const found: Array<string | null> = [];
      for (let i = 0; i < 4; i++) found.push(text(yield* on(conn.readUntil('\r\n\r\n'))));
      return found;
    });
    for (const piece of ['GET / HTTP/1.1\r\nHost: x\r', '\n', '\r', '\nsecond\r\n\r\nthird\r\n', '\r\n\r\n\r\n']) {
      peer.write(piece);
      yield* settle();
    }
    expect(yield* on(reader)).toEqual([
      'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      'second\r\n\r\n',
      'third\r\n\r\n',
      '\r\n\r\n',
    ]);
    peer.destroy();
    conn.destroy();
  });

  both('takes bytes as a delimiter, and does not depend on what the caller does with them', function* (style) {
    const [conn, peer] = yield* withPeer();
    const delimiter = Uint8Array.of(0, 255);
    const reader = style.spawn(() => on(conn.readUntil(delimiter)));
    yield* settle();
    delimiter.fill(7);
    peer.write(Buffer.from([1, 7, 7, 0, 255, 9]));
    expect([...(yield* on(reader))]).toEqual([1, 7, 7, 0, 255]);
    peer.destroy();
    conn.destroy();
  });

  both('beyond its limit fails with ERR_LIMIT, and loses nothing', function* () {
    const [conn, peer] = yield* withPeer();
    peer.end('0123456789\nrest');
    expect(yield* thrownBy(() => conn.readUntil('\n', 10))).toMatchObject({ code: 'ERR_LIMIT', name: 'RangeError' });
    // As the body of a timeout, too: whoever catches the error still has the stream.
    expect(yield* thrownBy(() => timeout(10_000, () => conn.readUntil('\n', 10)))).toMatchObject({ code: 'ERR_LIMIT' });
    expect(text(yield* on(conn.readUntil('\n', 11)))).toBe('0123456789\n');
    expect(yield* thrownBy(() => conn.readUntil('\n'))).toMatchObject({ code: 'ERR_UNEXPECTED_END' });
    expect(text(yield* on(conn.read()))).toBe('rest');
    conn.destroy();
  });

  both('keeps at most its limit and one read in memory, whatever the peer sends', function* (style) {
    const [client, server] = yield* pair();
    const writer = style.spawn(() => thrownBy(() => client.write(Buffer.alloc(20_000_000, 'x'))));
    expect(yield* thrownBy(() => server.readUntil('\n', 1000))).toMatchObject({ code: 'ERR_LIMIT' });
    expect((yield* on(server.read()))!.length).toBeLessThanOrEqual(65 * KIB);
    server.destroy();
    client.destroy();
    yield* on(writer);
  });
});

describe('lines', () => {
  everywhere('come without their ends, in both notations', function* () {
    const [conn, peer] = yield* withPeer();
    peer.write('one\ntwo\r\n\n');
    peer.write(Buffer.from('dréi €\n'));
    peer.end('and the last');
    const lines = conn.lines();
    const seen: string[] = [];
    for (let next = yield* on(lines.next()); !next.done; next = yield* on(lines.next())) seen.push(next.value);
    expect(seen).toEqual(['one', 'two', '', 'dréi €', 'and the last']);
    conn.destroy();
  });

  both('are whole characters, also when a packet ends in the middle of one', function* (style) {
    const [conn, peer] = yield* withPeer();
    const lines = style.spawn(() => on(conn.lines().next()));
    const bytes = Buffer.from('grüße €\n');
    for (const byte of bytes) {
      peer.write(Uint8Array.of(byte));
      yield* settle();
    }
    expect((yield* on(lines)).value).toBe('grüße €');
    peer.destroy();
    conn.destroy();
  });

  both('have a limit', function* () {
    const [conn, peer] = yield* withPeer();
    peer.write(`short\n${'x'.repeat(100)}\n`);
    const lines = conn.lines({ limit: 50 });
    expect((yield* on(lines.next())).value).toBe('short');
    expect(yield* thrownBy(() => lines.next())).toMatchObject({ code: 'ERR_LIMIT' });
    peer.destroy();
    conn.destroy();
  });

  both('chunks come one by one from next(), with the end marked', function* () {
    const [conn, peer] = yield* withPeer();
    peer.write('one');
    const { value, done } = yield* on(conn.next());
    expect([text(value as Uint8Array), done]).toEqual(['one', false]);
    expect(yield* on(race<unknown>([conn.next(), sleep(1)]))).toBeUndefined();
    peer.end('two');
    expect(text((yield* on(conn.next())).value as Uint8Array)).toBe('two');
    for (let i = 0; i < 2; i++) expect(yield* on(conn.next())).toEqual({ value: undefined, done: true });
    expect(conn[Symbol.asyncIterator]() === conn).toBe(true);
    yield* on(conn.close());
  });

  test('and chunks work with for await', () =>
    run(async () => {
      const [conn, peer] = await new Promise<[Stream, Socket]>((resolve) => {
        void spawn(async () => {
          const listener = await tcp.listen();
          const peer = netConnect(listener.address.port);
          resolve([await listener.accept(), peer]);
          listener.close();
        });
      });
      peer.write('a\nb\n');
      const seen: string[] = [];
      for await (const line of conn.lines()) {
        seen.push(line);
        if (seen.length === 2) break;
      }
      expect(seen).toEqual(['a', 'b']);
      peer.end('raw bytes');
      const chunks: Uint8Array[] = [];
      for await (const chunk of conn) chunks.push(chunk);
      expect(Buffer.concat(chunks).toString()).toBe('raw bytes');
      await conn.close();
    }));
});

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
