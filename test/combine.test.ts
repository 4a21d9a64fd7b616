// Several at once: all of them, or the first and none of the others.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  all,
  Cancelled,
  type Coroutine,
  type Operation,
  race,
  readable,
  run,
  sleep,
  spawn,
  type Task,
  timeout,
  yieldNow,
} from '../src/index.ts';
import { Trap } from '../src/operation.ts';
import { pipe, suspended } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, on, type Style, thrownBy } from './styles.ts';

function later<T>(style: Style, ms: number, value: T): () => Coroutine<T> | PromiseLike<T> {
  return style.main(function* () {
    yield* on(sleep(ms));
    return value;
  });
}

describe('all', () => {
  both('gives the values in the order of what was given, whatever ends first', function* (style) {
    const generator = (function* (): Coroutine<string> {
      yield* sleep(1);
      return 'generator';
    })();
    const task = spawn(later(style, 1, 'task'));
    expect(
      yield* on(all<unknown>([later(style, 3, 'slow'), sleep(0), generator, task, later(style, 0, 'quick')])),
    ).toEqual(['slow', undefined, 'generator', 'task', 'quick']);
  });

  both('of nothing is nothing', function* () {
    expect(yield* on(all([]))).toEqual([]);
  });

  both('runs them at the same time', function* () {
    const ends = [pipe(), pipe()] as const;
    // Each needs the other to have begun.
    const first = function* (): Coroutine<void> {
      ends[0].write();
      yield* readable(ends[1].reader);
    };
    const second = function* (): Coroutine<void> {
      ends[1].write();
      yield* readable(ends[0].reader);
    };
    yield* on(all([first, second]));
  });

  both('fails with the first failure, as it is, and cancels the others', function* (style) {
    const error = new Error('expected');
    let seen: unknown;
    const operation = all([
      style.main(function* () {
        seen = yield* thrownBy(() => sleep(1e6));
        throw seen;
      }),
      style.main(function* () {
        yield* on(sleep(1));
        throw error;
      }),
      sleep(1e6),
    ]);
    expect(yield* thrownBy(() => operation)).toBe(error);
    expect(seen).toBeInstanceOf(Cancelled);
  });

  both('fails with the very error of the one it was waiting for', function* (style) {
    const error = new Error('expected');
    const failing = style.main(function* () {
      yield* on(sleep(1));
      throw error;
    });
    expect(yield* thrownBy(() => all([failing, sleep(1e6)]))).toBe(error);
    expect(yield* thrownBy(() => all([sleep(1e6), failing]))).toBe(error);
  });

  both('cancelled from outside cancels them all', function* (style) {
    const ends = pipe();
    const task = style.spawn(() => on(all([sleep(1e6), readable(ends.reader)])));
    yield* suspended(task);
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
  });

  both('takes no operation twice', function* () {
    const operation = sleep(0);
    expect(yield* thrownBy(() => all([operation, operation]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
  });
});

describe('race', () => {
  both('gives the value of the first to be done', function* (style) {
    expect(yield* on(race([later(style, 20, 'slow'), later(style, 1, 'quick'), sleep(1e6) as Operation<never>]))).toBe(
      'quick',
    );
  });

  both('gives the error of the first to be done, if it fails', function* (style) {
    const error = new Error('expected');
    const failing = style.main(function* () {
      yield* on(sleep(1));
      throw error;
    });
    expect(yield* thrownBy(() => race([sleep(1e6), failing]))).toBe(error);
  });

  both('of what is ready at once takes the first in order', function* (style) {
    expect(yield* on(race([later(style, 1, 'no'), spawn(later(style, 20, 'no either'))]))).toBe('no');
    const done = spawn(later(style, 0, 'first'));
    yield* on(done);
    expect(yield* on(race([done.join(), sleep(0) as Operation<never>]))).toBe('first');
  });

  test('takes back a contender whose start lets another win', async () => {
    class Wait extends Trap<string> {
      undone = 0;
      readonly onBegin: () => void;
      constructor(onBegin: () => void) {
        super();
        this.onBegin = onBegin;
      }
      protected override begin(): void {
        this.onBegin();
      }
      protected override undo(): void {
        this.undone++;
      }
      override describe(): string {
        return 'a test';
      }
    }
    await run(function* () {
      const first = new Wait(() => {});
      const second = new Wait(() => first.succeed('first'));
      expect(yield* race([first, second])).toBe('first');
      expect([first.undone, second.undone, second.pending]).toEqual([0, 1, false]);
    });
  });

  both('returns when the losers have been cancelled and have ended', function* (style) {
    const log: string[] = [];
    const loser = style.main(function* () {
      log.push(String(yield* thrownBy(() => sleep(1e6))));
      throw 'ignored';
    });
    yield* on(race([loser, sleep(1)]));
    expect(log).toEqual([expect.stringContaining('another was first')]);
  });

  both('cancels tasks that lose', function* () {
    const task = spawn(() => sleep(1e6));
    yield* on(race([task, sleep(1)]));
    expect(yield* thrownBy(() => task)).toMatchObject({ cause: 'another was first' });
    expect(task.state).toBe('cancelled');
  });

  both('a plain wait that loses did not happen: its event is somebody else’s', function* (style) {
    const ends = [pipe(), pipe()] as const;
    ends[0].write();
    ends[1].write();
    yield* on(race([readable(ends[0].reader), readable(ends[1].reader)]));
    // Both are still readable, and nobody is in the way.
    for (const { reader } of ends) {
      const task = style.spawn(() => on(readable(reader)));
      yield* on(task);
    }
  });

  both('leaves no one waiting for what was given twice, or used before', function* (style) {
    const used = sleep(0);
    yield* on(used);
    const ends = pipe();
    expect(yield* thrownBy(() => race([readable(ends.reader), used]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
    const twice = readable(ends.reader);
    expect(yield* thrownBy(() => race([twice, twice]))).toMatchObject({ code: 'ERR_OPERATION_USED' });
    const next = style.spawn(() => on(readable(ends.reader)));
    yield* suspended(next);
    expect(next.loop.timers.size).toBeLessThanOrEqual(1);
    ends.write();
    yield* on(next);
  });

  both('disposes of what a loser still returned', function* (style) {
    let disposed = 0;
    const stubborn = style.main(function* () {
      yield* thrownBy(() => sleep(1e6));
      return { [Symbol.dispose]: () => disposed++ };
    });
    yield* on(race<unknown>([stubborn, sleep(1)]));
    expect(disposed).toBe(1);
  });

  both('cancelled from outside takes all waits back', function* (style) {
    const ends = pipe();
    const task = style.spawn(() => on(race([readable(ends.reader), sleep(1e6)])));
    yield* suspended(task);
    task.cancel('why');
    expect(yield* thrownBy(() => task)).toMatchObject({ cause: 'why' });
    const next = style.spawn(() => on(readable(ends.reader)));
    ends.write();
    yield* on(next);
  });

  both('leaves alone what a task has returned that loses: who joined it has it', function* (style) {
    let disposed = 0;
    const returned = { [Symbol.dispose]: () => void disposed++ };
    const done = style.spawn(function* () {
      yield* on(yieldNow());
      return returned;
    });
    const other = style.spawn(() => on(yieldNow()));
    expect(yield* on(done)).toBe(returned);
    yield* on(other);
    yield* on(race<unknown>([other, done]));
    expect(disposed).toBe(0);
  });

  both('cancelled from outside cancels a task that is raced, wherever it stands', function* (style) {
    for (const first of [true, false]) {
      const raced = style.spawn(() => on(sleep(1e6)), 'raced');
      const racer = style.spawn(() => on(race<unknown>(first ? [raced, sleep(1e6)] : [sleep(1e6), raced])));
      yield* suspended(racer);
      racer.cancel();
      expect(yield* thrownBy(() => racer)).toBeInstanceOf(Cancelled);
      expect(yield* thrownBy(() => raced)).toBeInstanceOf(Cancelled);
    }
  });

  both('says what it waits for', function* (style) {
    const ends = pipe();
    const task = style.spawn(() => on(race([readable(ends.reader), sleep(1e6)])));
    yield* suspended(task);
    expect(task.waitingFor).toContain(`fd ${ends.reader} IN`);
    task.cancel();
    yield* thrownBy(() => task);
  });

  both('inside a timeout, and a timeout inside a race, know which of them was late', function* () {
    expect(yield* thrownBy(() => timeout(1, race([sleep(1e6), sleep(1e7)])))).toMatchObject({
      code: 'ERR_TIMEOUT',
      ms: 1,
    });
    expect(yield* thrownBy(() => race([timeout(1, sleep(1e6)), sleep(1e6)]))).toMatchObject({
      code: 'ERR_TIMEOUT',
      ms: 1,
    });
  });
});

describe('both', () => {
  both('check their arguments when they are called', function* (style) {
    for (const make of [all, race]) {
      for (const items of [undefined, null, 5, 'ab', {}, new Set()])
        expect(() => make(items as never)).toThrow(TypeError);
      for (const item of [undefined, 5, 'x', {}, Promise.resolve()])
        expect(() => make([item] as never)).toThrow(TypeError);
    }
    expect(() => race([])).toThrow(RangeError);
    yield* on(yieldNow());
    expect(style.name).toBeTruthy();
  });

  test('whatever is raced, exactly one wins, at its time, and nothing is left', async () => {
    const contender = fc.record({
      kind: fc.constantFrom('sleep', 'generator', 'async', 'task', 'timeout', 'failing'),
      ms: fc.integer({ min: 0, max: 20 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(contender, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        async (contenders, awaiting) => {
          await simulate(function* (driver): Coroutine<void> {
            const begun = new Set<number>();
            const ended = new Set<number>();
            const slow = function* (i: number, ms: number): Coroutine<number> {
              begun.add(i);
              try {
                yield* sleep(ms);
                return i;
              } finally {
                ended.add(i);
              }
            };
            const start = driver.now();
            let outcome: unknown;
            const tasks: Task<unknown>[] = [];
            const make = (): Operation<unknown> =>
              race<unknown>(
                contenders.map(({ kind, ms }, i) => {
                  if (kind === 'sleep') return sleep(ms);
                  if (kind === 'generator') return slow(i, ms);
                  if (kind === 'timeout') return timeout(1e6, () => slow(i, ms));
                  if (kind === 'task') {
                    const task = spawn(() => slow(i, ms));
                    task.adopt();
                    tasks.push(task as Task<unknown>);
                    return task;
                  }
                  if (kind === 'async') return async () => void (await sleep(ms));
                  return function* (): Coroutine<never> {
                    yield* sleep(ms);
                    throw new Error('failing');
                  };
                }),
              );
            const racer = awaiting
              ? spawn(async () => {
                  outcome = await Promise.resolve(make()).catch((error: Error) => error.message);
                })
              : spawn(function* () {
                  try {
                    outcome = yield* make();
                  } catch (error) {
                    outcome = (error as Error).message;
                  }
                });
            yield* racer;
            expect(driver.now() - start).toBe(Math.min(...contenders.map(({ ms }) => ms)));
            if (typeof outcome === 'number') expect(contenders[outcome]!.ms).toBe(driver.now() - start);
            yield* yieldNow();
            yield* yieldNow();
            expect(ended).toEqual(begun);
            expect(racer.loop.timers.size).toBe(0);
            for (const task of tasks) expect(task.ended).toBe(true);
          });
        },
      ),
      { numRuns: 200 },
    );
  });
});
