// Reading from a stream: chunks, into memory, up to a length or a delimiter, lines.

import { connect as netConnect, type Socket } from 'node:net';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { all, race, run, type Stream, sleep, spawn, type Task, tcp, timeout, yieldNow } from '../src/index.ts';
import type { Discardable, Operation, Trap } from '../src/operation.ts';
import { KIB, pattern, settle, withPeer } from './streams.ts';
import { both, everywhere, on, pair, readAll, STYLES, text, thrownBy } from './styles.ts';
import { until } from './until.ts';

/** What an operation of an async function fails with. */
async function thrown(operation: PromiseLike<unknown>): Promise<unknown> {
  try {
    await operation;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

/** Those of the test, from now on. */
function unhandledRejections(): unknown[] {
  const rejections: unknown[] = [];
  const note = (error: unknown): void => void rejections.push(error);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  return rejections;
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
    /** Looks until its promise is resolved, which nobody awaits. */
    const isThere = (operation: Operation<unknown>): Promise<unknown> =>
      until('it is there', () => (operation as unknown as { value: unknown }).value);

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
        await isThere(first);
        const done = spawn(function* () {
          return 'first';
        });
        await done;
        expect(await race<unknown>([done, first])).toBe('first');
        expect(await thrown(race([first]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
        expect(await thrown(first)).toMatchObject({ code: 'ERR_OPERATION_USED' });
        expect(textOf(await of(conn))).toBe('for the next');
      }));

    test('that loses race after race with its chunk there is never given more than one outcome', () =>
      withBoth(async (conn, peer) => {
        const rejections = unhandledRejections();
        const done = spawn(function* () {
          return 'first';
        });
        await done;
        const loseWithAChunk = async (): Promise<void> => {
          const first = of(conn);
          await peer.write('chunk');
          await isThere(first);
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

    test('that a race or a timeout has used is an error for who awaits it afterwards, and does not keep them waiting', () =>
      withBoth(async (conn, peer) => {
        const used = { code: 'ERR_OPERATION_USED' };
        const lost = of(conn);
        await race<unknown>([lost, sleep(1)]);
        expect(await thrown(lost)).toMatchObject(used);
        expect(await thrown(Promise.all([lost]))).toMatchObject(used);
        const promise = lost as unknown as Promise<unknown>;
        expect(await promise.catch((error) => error)).toMatchObject(used);
        expect(await thrown(promise.finally(() => {}))).toMatchObject(used);
        for (const milliseconds of [1, 0]) {
          const late = of(conn);
          expect(await thrown(timeout(milliseconds, late))).toMatchObject({
            code: 'ERR_TIMEOUT',
          });
          expect(await thrown(late)).toMatchObject(used);
        }
        const won = of(conn);
        const outcome = race<unknown>([won, sleep(1000)]).then(textOf);
        await peer.write('won');
        expect(await outcome).toBe('won');
        expect(await thrown(won)).toMatchObject(used);
      }));

    test('that somebody awaits when a race takes it has one outcome, for the race and for them', () =>
      withBoth(async (conn, peer) => {
        const used = { code: 'ERR_OPERATION_USED' };
        const won = of(conn);
        const awaiter = spawn(async () => won);
        await yieldNow();
        const outcome = race<unknown>([won, sleep(1000)]).then(textOf);
        await peer.write('for both');
        expect(await outcome).toBe('for both');
        expect(textOf(await awaiter)).toBe('for both');

        const takers = [
          (operation: Operation<unknown>) => race<unknown>([operation, sleep(1)]),
          (operation: Operation<unknown>) => timeout(1, operation),
          (operation: Operation<unknown>) => timeout(0, operation),
          (operation: Operation<unknown>) => all([() => Promise.reject(new Error('before the others')), operation]),
        ];
        for (const take of takers) {
          const lost = of(conn);
          const disappointed = spawn(() => thrown(lost));
          await yieldNow();
          await take(lost).then(undefined, () => {});
          expect(await disappointed).toMatchObject(used);
          expect(await thrown(lost)).toMatchObject(used);
        }
        await peer.write('for the next');
        expect(textOf(await of(conn))).toBe('for the next');

        const failed = of(conn);
        const other = spawn(() => thrown(failed));
        await yieldNow();
        const error = thrown(race<unknown>([failed, sleep(1000)]));
        conn.destroy();
        expect(await error).toMatchObject({ code: 'ERR_CLOSED' });
        expect(await other).toBe(await error);
      }));

    test('that somebody is given by another promise has an outcome for them, too, when a race takes it', () =>
      withBoth(async (conn, peer) => {
        const givers = [
          (operation: Operation<unknown>) => (async () => operation)(),
          (operation: Operation<unknown>) => new Promise((resolve) => resolve(operation)),
        ];
        for (const give of givers) {
          const won = of(conn);
          const winner = give(won);
          const outcome = race<unknown>([won, sleep(1000)]).then(textOf);
          await peer.write('for both');
          expect(await outcome).toBe('for both');
          expect(textOf(await winner)).toBe('for both');
          const done = spawn(function* () {});
          await done;
          for (const take of [() => sleep(1), () => done]) {
            const lost = of(conn);
            const loser = give(lost);
            await race<unknown>([take(), lost]);
            expect(await thrown(loser)).toMatchObject({ code: 'ERR_OPERATION_USED' });
          }
        }
      }));

    test('that has won one race is no good for another, nor for a timeout', () =>
      withBoth(async (conn, peer) => {
        const used = { code: 'ERR_OPERATION_USED' };
        const won = of(conn);
        const outcome = race<unknown>([won, sleep(1000)]).then(textOf);
        await peer.write('once');
        expect(await outcome).toBe('once');
        expect(await thrown(race<unknown>([won, sleep(1)]))).toMatchObject(used);
        expect(await thrown(timeout(1000, won))).toMatchObject(used);
        expect(await thrown(all([won]))).toMatchObject(used);
      }));

    test('that fails at once, or before what it is a part of begins, fails that, and is no unhandled rejection', () =>
      withBoth(async (conn, peer) => {
        const rejections = unhandledRejections();
        const uses = [
          (operation: Operation<unknown>) => timeout(1000, operation),
          (operation: Operation<unknown>) => all([operation]),
          (operation: Operation<unknown>) => race<unknown>([operation, sleep(1000)]),
          (operation: Operation<unknown>) => timeout(1000, all([operation])),
          (operation: Operation<unknown>) => timeout(1000, race<unknown>([operation, sleep(1000)])),
        ];
        const waiting = of(conn);
        for (const use of uses) expect(await thrown(use(of(conn)))).toMatchObject({ code: 'ERR_BUSY' });
        await peer.write('for who waits');
        await waiting;
        const turns = async (): Promise<void> => {
          for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
        };
        const reason = new Error('aborted');
        for (const use of uses) {
          const abort = new AbortController();
          const part = conn.read(1, { signal: abort.signal });
          const whole = use(part);
          abort.abort(reason);
          await turns();
          expect(await thrown(whole)).toBe(reason);
        }
        const nothing = new AbortController();
        const aborted = thrown(race<unknown>([conn.read(1, { signal: nothing.signal }), sleep(1000)]));
        nothing.abort(null);
        expect(await aborted).toBeNull();
        conn.destroy();
        for (const use of uses) expect(await thrown(use(of(conn)))).toMatchObject({ code: 'ERR_CLOSED' });
        await turns();
        expect(rejections).toEqual([]);
      }));

    test('that somebody has had, or is about to have, keeps its chunk when it loses a race: no byte comes twice', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        const first = of(conn);
        await peer.write('1');
        expect(textOf(await first)).toBe('1');
        await race<unknown>([done, first]);
        expect(textOf(await first)).toBe('1');
        await peer.write('2');
        expect(textOf(await of(conn))).toBe('2');

        await peer.write('34');
        expect(text(await conn.readExactly(1))).toBe('3');
        const fourth = of(conn); // over at once, and told in its turn
        const heard = (fourth as unknown as Promise<unknown>).then(textOf);
        await race<unknown>([done, fourth]);
        expect(await heard).toBe('4');
        await peer.write('5');
        expect(textOf(await of(conn))).toBe('5');
      }));

    test('that has its outcome keeps it for who awaits it, whatever it is used for afterwards', () =>
      withBoth(async (conn, peer) => {
        const rejections = unhandledRejections();
        const done = spawn(function* () {});
        await done;
        const uses = [
          (operation: Operation<unknown>) => all([operation]),
          (operation: Operation<unknown>) => race<unknown>([done, operation]),
          (operation: Operation<unknown>) => timeout(0, operation),
        ];
        const waiting = of(conn);
        const busy = of(conn);
        expect(await thrown(busy)).toMatchObject({ code: 'ERR_BUSY' });
        for (const use of uses) {
          await use(busy).then(undefined, () => {});
          expect(await thrown(busy)).toMatchObject({ code: 'ERR_BUSY' });
        }
        // It is rejected, and who asks for it comes before Node calls that unhandled.
        const early = of(conn);
        await yieldNow();
        expect(await thrown(race([early, sleep(1)]))).toMatchObject({ code: 'ERR_BUSY' });
        expect(await thrown(early)).toMatchObject({ code: 'ERR_BUSY' });
        await peer.close();
        expect(chunk(await waiting)).toEqual(chunk(await of(conn)));
        const end = of(conn);
        const outcome = await end;
        for (const use of uses) {
          await use(end).then(undefined, () => {});
          expect(await end).toBe(outcome);
        }
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
        expect(rejections).toEqual([]);
      }));

    test('that somebody has taken over is not taken from them by a race', () =>
      withBoth(async (conn, peer) => {
        const first = of(conn);
        const taker = spawn(() => all([first]));
        await sleep(1);
        const done = spawn(function* () {});
        await done;
        await race<unknown>([done, first]);
        await peer.write('for the taker');
        expect((await taker).map(textOf)).toEqual(['for the taker']);
      }));

    test('that was over, and whose chunk a compound has had, gives it back to nobody', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        for (const compound of [timeout, race] as const) {
          const first = of(conn);
          await peer.write('first');
          await isThere(first);
          const taken = compound === timeout ? await timeout(1e6, first) : await race([first, sleep(1e6) as never]);
          expect(textOf(taken)).toBe('first');
          await race<unknown>([done, first]);
          await peer.write('next');
          expect(text(await conn.readExactly(4))).toBe('next');
        }
      }));

    test('that was over at once and lost a race has nothing to do with what is read after it', () =>
      withBoth(async (conn, peer) => {
        const done = spawn(function* () {});
        await done;
        const first = of(conn);
        await peer.write('first');
        await isThere(first);
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
        await isThere(first);
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
    // Node 20 makes a copy, later ones refuse; `transfer`, which Node 22 has, takes it, and Node 24 refuses that, too.
    for (const [take, refusal] of [
      [() => structuredClone(memory, { transfer: [memory] }), 'DataCloneError'],
      [() => memory.transfer?.(), 'TypeError'],
    ] as const) {
      expect(text(neighbour)).toBe('neighbour');
      try {
        take();
      } catch (error) {
        expect((error as Error).name).toBe(refusal);
      }
    }
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
