// Something that happens once, and whom it concerns.

import { describe, expect, test } from 'vitest';
import { type Coroutine, race, run, runBlocking, sleep, spawn, yieldNow } from '../src/index.ts';
import { Event } from '../src/sync/index.ts';
import { givenUp, suspended, thrown } from './helpers.ts';
import { both, on } from './styles.ts';

describe('an event', () => {
  both('wakes all who wait for it, in the order in which they came', function* (style) {
    const event = new Event();
    const woken: number[] = [];
    const tasks = [0, 1, 2].map((i) =>
      style.spawn(function* () {
        yield* on(event.wait());
        woken.push(i);
      }),
    );
    for (const task of tasks) yield* suspended(task);
    expect(event.isSet).toBe(false);
    event.set();
    expect(event.isSet).toBe(true);
    expect(woken).toEqual([]);
    for (const task of tasks) yield* on(task);
    expect(woken).toEqual([0, 1, 2]);
  });

  both('that has happened is waited for no longer, however often it is set', function* () {
    const event = new Event();
    event.set();
    event.set();
    yield* on(event.wait());
    yield* on(event.wait());
    expect(event.isSet).toBe(true);
  });

  both("can be set by a callback of Node's own", function* () {
    const event = new Event();
    setImmediate(() => event.set());
    yield* on(event.wait());
  });

  both('forgets who is cancelled, is late or gives up', function* (style) {
    const event = new Event();
    const woken: string[] = [];
    const patient = style.spawn(function* () {
      yield* on(event.wait());
      woken.push('patient');
    });
    yield* suspended(patient);
    yield* givenUp(style, (options) => event.wait(options));
    expect([woken, event.waiting]).toEqual([[], 1]);
    event.set();
    expect(event.waiting).toBe(0);
    yield* on(patient);
    expect(woken).toEqual(['patient']);
  });

  both('can be raced, also against itself', function* (style) {
    const event = new Event();
    const racer = style.spawn(() => on(race([event.wait(), event.wait(), sleep(1e6)])));
    const loser = style.spawn(() => on(race([event.wait(), sleep(0)])));
    yield* on(loser);
    event.set();
    yield* on(racer);
  });

  both('tells what is waited for, by its name', function* (style) {
    const nameless = style.spawn(() => on(new Event().wait()));
    const named = style.spawn(() => on(new Event({ name: 'all connected' }).wait()));
    yield* suspended(nameless);
    yield* suspended(named);
    expect(nameless.waitingFor).toBe('event');
    expect(named.waitingFor).toBe("event 'all connected'");
    expect(nameless.state).toBe('suspended');
  });

  test('lets a hundred thousand go who are cancelled, in any order', async () => {
    await run(function* (): Coroutine<void> {
      const event = new Event();
      const controllers = Array.from({ length: 100_000 }, () => new AbortController());
      const outcomes = controllers.map(async ({ signal }, i) => {
        try {
          await event.wait({ signal });
          return i;
        } catch {
          return null;
        }
      });
      for (let i = controllers.length - 1; i >= 0; i -= 2) controllers[i]!.abort();
      event.set();
      let woken = 0;
      const counted = new Event();
      void Promise.all(outcomes).then((all) => {
        woken = all.filter((outcome) => outcome !== null).length;
        counted.set();
      });
      yield* counted.wait();
      expect(woken).toBe(50_000);
    });
  });

  test('that nobody can set any more is a deadlock, and runBlocking() says which', () => {
    const error = thrown(() =>
      runBlocking(function* lonely(): Coroutine<void> {
        yield* new Event({ name: 'never' }).wait();
      }),
    );
    expect(error).toMatchObject({ code: 'ERR_DEADLOCK' });
    expect((error as Error).message).toContain("main#1 on event 'never'");
  });

  test('is waited for in runBlocking(), too', () => {
    const order: string[] = [];
    runBlocking(function* (): Coroutine<void> {
      const event = new Event();
      const child = spawn(function* () {
        yield* event.wait();
        order.push('child');
      });
      yield* yieldNow();
      order.push('set');
      event.set();
      yield* child;
    });
    expect(order).toEqual(['set', 'child']);
  });
});
