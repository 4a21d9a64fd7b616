// So many at a time, and no permit is ever lost.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  all,
  Cancelled,
  type Coroutine,
  type Operation,
  race,
  runBlocking,
  sleep,
  spawn,
  type Task,
  timeout,
  yieldNow,
} from '../src/index.ts';
import { type Permit, Semaphore } from '../src/sync/index.ts';
import { givenUp, suspended, thrown, turnsUntil } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, on, thrownBy } from './styles.ts';

/** That which came of acquiring, by itself or with something else. */
function permitIn(outcome: unknown): Permit | null {
  return (Array.isArray(outcome) ? outcome[0] : outcome) as Permit | null;
}

describe('a semaphore', () => {
  both('lets as many go on as it has permits, and the others in the order in which they came', function* (style) {
    const semaphore = new Semaphore(3);
    const order: number[] = [];
    let inside = 0;
    let most = 0;
    const tasks = Array.from({ length: 20 }, (_, i) =>
      style.spawn(function* () {
        const permit = yield* on(semaphore.acquire());
        order.push(i);
        most = Math.max(most, ++inside);
        yield* on(yieldNow());
        inside--;
        permit.release();
      }),
    );
    for (const task of tasks) yield* on(task);
    expect(most).toBe(3);
    expect(order).toEqual(order.map((_, i) => i));
    expect(semaphore.available).toBe(3);
  });

  both('is a lock with one permit, and nobody overtakes who waits for it', function* (style) {
    const lock = new Semaphore(1);
    const mine = yield* on(lock.acquire());
    const next = style.spawn(() => on(lock.acquire()));
    yield* suspended(next);
    expect(lock.tryAcquire()).toBeNull();
    mine.release();
    // It is the other's already, who has not gone on yet.
    expect(lock.available).toBe(0);
    expect(lock.tryAcquire()).toBeNull();
    const third = style.spawn(() => on(lock.acquire()));
    const permit = yield* on(next);
    yield* suspended(third);
    permit.release();
    (yield* on(third)).release();
    expect(lock.available).toBe(1);
  });

  both('gives a permit without waiting while there is one', function* () {
    const semaphore = new Semaphore(2);
    const permits = [semaphore.tryAcquire(), semaphore.tryAcquire()];
    expect(semaphore.tryAcquire()).toBeNull();
    for (const permit of permits) permit!.release();
    expect(semaphore.available).toBe(2);
    yield* on(yieldNow());
  });

  both('takes a permit back once, whoever gives it back', function* (style) {
    const semaphore = new Semaphore(1);
    const permit = yield* on(semaphore.acquire());
    const waiting = [0, 1].map(() => style.spawn(() => on(semaphore.acquire())));
    for (const task of waiting) yield* suspended(task);
    expect(semaphore.waiting).toBe(2);
    const other = style.spawn(function* () {
      yield* on(yieldNow());
      permit.release();
    });
    yield* on(other);
    permit.release();
    permit[Symbol.dispose]();
    expect(semaphore.waiting).toBe(1);
    for (const task of waiting) (yield* on(task))[Symbol.dispose]();
    expect([semaphore.available, semaphore.waiting]).toEqual([1, 0]);
  });

  both('has lost nothing when who waits is cancelled, late, or gives up', function* (style) {
    const semaphore = new Semaphore(1);
    const mine = yield* on(semaphore.acquire());
    yield* givenUp(style, (options) => semaphore.acquire(options));
    mine.release();
    expect(semaphore.available).toBe(1);
  });

  both('has its permit given to who was cancelled a moment later, for it has happened', function* (style) {
    const semaphore = new Semaphore(1);
    const mine = yield* on(semaphore.acquire());
    let got: Permit | null = null;
    const task = style.spawn(function* () {
      got = yield* on(semaphore.acquire());
      yield* on(sleep(1e6));
    });
    yield* suspended(task);
    mine.release();
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    got!.release();
    expect(semaphore.available).toBe(1);
  });

  both('can be raced: one that loses takes no permit', function* () {
    const [one, other] = [new Semaphore(1), new Semaphore(1)];
    const held = yield* on(one.acquire());
    const won = yield* on(race([one.acquire(), other.acquire(), one.acquire()]));
    held.release();
    expect([one.available, other.available]).toEqual([1, 0]);
    won.release();
    // A coroutine that loses with its permit in hand returns it to nobody: the race gives it back.
    const slow = function* (): Coroutine<Permit> {
      const permit = yield* one.acquire();
      try {
        yield* sleep(1e6);
      } catch {}
      return permit;
    };
    yield* on(race<unknown>([slow, sleep(1)]));
    expect(one.available).toBe(1);
  });

  both('has its permit back from a race or from all() that was cancelled when a part of it had it', function* (style) {
    const semaphore = new Semaphore(1);
    const acquire = style.main(() => on(semaphore.acquire()));
    const compounds: Array<() => Operation<unknown>> = [
      () => race<unknown>([acquire, sleep(1e6)]),
      () => race<unknown>([sleep(1e6), acquire]),
      () => race<unknown>([timeout(1e6, semaphore.acquire()), sleep(1e6)]),
      () => all<unknown>([semaphore.acquire(), sleep(1e6)]),
      () => all<unknown>([sleep(1e6), timeout(1e6, semaphore.acquire())]),
      () => all<unknown>([all([semaphore.acquire()]), sleep(1e6)]),
      () => all<unknown>([semaphore.acquire()]),
      () => all<unknown>([race([semaphore.acquire(), sleep(1e6) as never]), sleep(1e6)]),
    ];
    for (const compound of compounds) {
      for (const releasedFirst of [true, false]) {
        const held = semaphore.tryAcquire()!;
        const task = style.spawn(() => on(compound()));
        yield* turnsUntil(() => semaphore.waiting === 1);
        if (releasedFirst) held.release();
        task.cancel();
        held.release();
        expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
        expect(semaphore.available).toBe(1);
      }
    }
  });

  both('has its permits back from all() that is late for the last of them', function* () {
    const [one, other] = [new Semaphore(1), new Semaphore(1)];
    const held = other.tryAcquire()!;
    expect(yield* thrownBy(() => timeout(2, all([one.acquire(), other.acquire()])))).toMatchObject({
      code: 'ERR_TIMEOUT',
    });
    held.release();
    expect([one.available, other.available]).toEqual([1, 1]);
    for (const permit of yield* on(all([one.acquire(), other.acquire()]))) permit.release();
  });

  both('has its permit back from a coroutine that is ended from outside before it goes on with it', function* () {
    const semaphore = new Semaphore(1);
    const acquisitions = [() => semaphore.acquire(), () => race([semaphore.acquire(), sleep(1e6) as never])];
    for (const acquire of acquisitions) {
      const held = semaphore.tryAcquire()!;
      const coroutine = (function* (): Coroutine<void> {
        yield* acquire();
      })();
      const task = spawn(coroutine);
      yield* suspended(task as Task<unknown>);
      held.release();
      coroutine.return();
      yield* on(task);
      expect(semaphore.available).toBe(1);
    }
  });

  test('can be held before there is a loop, and says so', () => {
    const semaphore = new Semaphore(1);
    const permit = semaphore.tryAcquire()!;
    expect(String(semaphore)).toBe('semaphore of node');
    permit.release();
  });

  both('tells what is waited for, and who has it', function* (style) {
    const database = new Semaphore(5, { name: 'connections to "db"' });
    const holders = ['a', 'b', 'c', 'd', 'e'].map((name) =>
      style.spawn(function* () {
        const permit = yield* on(database.acquire());
        yield* on(sleep(1e6));
        permit.release();
      }, name),
    );
    for (const holder of holders) yield* suspended(holder, '1000000 ms');
    const task = style.spawn(() => on(database.acquire()));
    yield* suspended(task);
    const [a, b, c] = holders;
    expect(task.waitingFor).toBe(`semaphore 'connections to "db"' of ${a}, ${b}, ${c} and 2 more`);
    expect(String(new Semaphore(1))).toBe('semaphore');
  });

  test('checks how many permits it is to have', () => {
    for (const permits of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => new Semaphore(permits)).toThrow(RangeError);
    for (const permits of ['1', null, undefined, {}])
      expect(() => new Semaphore(permits as unknown as number)).toThrow(TypeError);
  });

  test('in a circle is a deadlock, and runBlocking() says who has what the others wait for', () => {
    const [left, right] = [new Semaphore(1, { name: 'left' }), new Semaphore(1, { name: 'right' })];
    const eat = function* (first: Semaphore, second: Semaphore): Coroutine<void> {
      yield* first.acquire();
      yield* yieldNow();
      yield* second.acquire();
    };
    const error = thrown(() =>
      runBlocking(function* (): Coroutine<void> {
        const other = spawn(eat(right, left), { name: 'other' });
        yield* eat(left, right);
        yield* other;
      }),
    );
    expect(error).toMatchObject({ code: 'ERR_DEADLOCK' });
    expect((error as Error).message).toContain(
      "main#1 on semaphore 'right' of other#2, other#2 on semaphore 'left' of main#1",
    );
  });

  test('has all its permits again when all is over, whoever was cancelled, late, raced or failed', async () => {
    const user = fc.record({
      how: fc.constantFrom('plain', 'timeout', 'race', 'nested', 'all', 'signal', 'cancelled', 'throws', 'try'),
      awaits: fc.boolean(),
      begin: fc.integer({ min: 0, max: 5 }),
      hold: fc.integer({ min: 0, max: 5 }),
      patience: fc.integer({ min: 0, max: 5 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(user, { minLength: 1, maxLength: 12 }),
        async (permits, users) => {
          await simulate(
            function* (): Coroutine<void> {
              const semaphore = new Semaphore(permits);
              let inside = 0;
              const enter = (permit: Permit): Disposable => {
                expect(++inside).toBeLessThanOrEqual(permits);
                return {
                  [Symbol.dispose]: () => {
                    inside--;
                    permit.release();
                  },
                };
              };
              const tasks: Task<unknown>[] = users.map(({ how, awaits, begin, hold, patience }) => {
                const acquire = (): Operation<unknown> => {
                  if (how === 'timeout') return timeout(patience, semaphore.acquire());
                  if (how === 'race') return race<unknown>([semaphore.acquire(), sleep(patience), semaphore.acquire()]);
                  if (how === 'nested')
                    return race<unknown>([
                      () => semaphore.acquire(),
                      sleep(patience),
                      timeout(patience, semaphore.acquire()),
                    ]);
                  if (how === 'all') return timeout(patience, all<unknown>([semaphore.acquire(), sleep(hold)]));
                  if (how !== 'signal') return semaphore.acquire();
                  const controller = new AbortController();
                  spawn(function* () {
                    yield* sleep(patience);
                    controller.abort();
                  });
                  return semaphore.acquire({ signal: controller.signal });
                };
                const task = awaits
                  ? spawn(async () => {
                      await sleep(begin);
                      const permit = permitIn(how === 'try' ? semaphore.tryAcquire() : await acquire());
                      if (!permit) return;
                      const inner = enter(permit);
                      try {
                        await sleep(hold);
                        if (how === 'throws') throw new Error('expected');
                      } finally {
                        inner[Symbol.dispose]();
                      }
                    })
                  : spawn(function* () {
                      yield* sleep(begin);
                      const permit = permitIn(how === 'try' ? semaphore.tryAcquire() : yield* acquire());
                      if (!permit) return;
                      const inner = enter(permit);
                      try {
                        yield* sleep(hold);
                        if (how === 'throws') throw new Error('expected');
                      } finally {
                        inner[Symbol.dispose]();
                      }
                    });
                if (how === 'cancelled') {
                  spawn(function* () {
                    yield* sleep(patience);
                    task.cancel();
                  });
                }
                return task as Task<unknown>;
              });
              for (const task of tasks) {
                try {
                  yield* task;
                } catch {}
              }
              expect(inside).toBe(0);
              expect(semaphore.available).toBe(permits);
            },
            { onTaskError: () => {} },
          );
        },
      ),
      { numRuns: 300 },
    );
  });
});
