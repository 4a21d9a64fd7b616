// Scopes: nothing that was started in one outlives it, and no failure in one is lost.

import { describe, expect, test } from 'vitest';
import {
  Cancelled,
  type Coroutine,
  readable,
  run,
  type Scope,
  scope,
  shield,
  sleep,
  spawn,
  type Task,
  TimeoutError,
  timeout,
} from '../src/index.ts';
import { pipe, suspended, thrown, turnsUntil } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, on, type Scenario, type Style, thrownBy } from './styles.ts';

/** A task that notes how it goes. */
function worker(
  style: Style,
  log: string[],
  name: string,
  ms: number,
  outcome?: unknown,
): () => PromiseLike<string> | Coroutine<string> {
  return style.main(function* (): Scenario<string> {
    try {
      yield* on(sleep(ms));
    } catch (error) {
      log.push(`${name} ${error instanceof Cancelled ? 'cancelled' : 'failed'}`);
      throw error;
    }
    log.push(`${name} done`);
    if (outcome !== undefined) throw outcome;
    return name;
  });
}

describe('a scope', () => {
  both('gives what its body returns, when its children have ended', function* (style) {
    const log: string[] = [];
    const value = yield* on(
      scope((s) => {
        s.spawn(worker(style, log, 'a', 2));
        s.spawn(worker(style, log, 'b', 1));
        return style.main(function* () {
          log.push('body');
          return 'value';
        })();
      }),
    );
    expect(value).toBe('value');
    // Which of them is first is the machine's to say: between two spawns there may be more than a millisecond.
    expect(log.sort()).toEqual(['a done', 'b done', 'body']);
  });

  both('waits for children that are spawned by children', function* (style) {
    const log: string[] = [];
    yield* on(
      scope((s) => {
        s.spawn(
          style.main(function* () {
            yield* on(sleep(1));
            s.spawn(worker(style, log, 'late', 1));
          }),
        );
        return sleep(0);
      }),
    );
    expect(log).toEqual(['late done']);
  });

  both(
    'is left with the error of a child that fails, after its siblings were cancelled and have ended',
    function* (style) {
      const log: string[] = [];
      const error = new Error('expected');
      const operation = scope((s) => {
        s.spawn(worker(style, log, 'sibling', 1e6));
        s.spawn(worker(style, log, 'failing', 1, error));
        return worker(style, log, 'body', 1e6)() as PromiseLike<string>;
      });
      expect(yield* thrownBy(() => operation)).toBe(error);
      expect(log[0]).toBe('failing done');
      expect(log.slice(1).sort()).toEqual(['body cancelled', 'sibling cancelled']);
    },
  );

  both('is left with the error of its body', function* (style) {
    const log: string[] = [];
    const error = new Error('expected');
    const operation = scope((s) => {
      s.spawn(worker(style, log, 'child', 1e6));
      return worker(style, log, 'body', 1, error)() as PromiseLike<string>;
    });
    expect(yield* thrownBy(() => operation)).toBe(error);
    expect(log).toEqual(['body done', 'child cancelled']);
  });

  both('with several failures throws all of them in an AggregateError', function* (style) {
    const second = new Error('in clean-up');
    const operation = scope((s) => {
      s.spawn(
        style.main(function* () {
          yield* thrownBy(() => sleep(1e6));
          throw second;
        }),
      );
      s.spawn(worker(style, [], 'failing', 1, 'first'));
      return sleep(1e6);
    });
    const error = yield* thrownBy(() => operation);
    expect(error).toBeInstanceOf(AggregateError);
    expect((error as AggregateError).errors).toEqual(['first', second]);
  });

  both('in which a task joins one that fails has one failure, not two', function* (style) {
    const error = new Error('expected');
    const operation = scope((s) => {
      const failing = s.spawn(worker(style, [], 'failing', 1, error));
      return style.main(() => on(failing))();
    });
    expect(yield* thrownBy(() => operation)).toBe(error);
  });

  both('that throws at once is left at once', function* () {
    expect(
      yield* thrownBy(() =>
        scope(() => {
          throw new Error('at once');
        }),
      ),
    ).toMatchObject({ message: 'at once' });
  });

  both('whose children fail, although nobody joined them, reports nothing twice', function* (style) {
    const error = yield* thrownBy(() =>
      scope((s) => {
        const failing = s.spawn(worker(style, [], 'failing', 0, 'expected'));
        return style.main(function* () {
          // Caught by the body, and still the scope's.
          yield* thrownBy(() => failing);
        })();
      }),
    );
    expect(error).toBe('expected');
  });

  both('cancelled from inside ends its tasks, and is left with undefined', function* (style) {
    const log: string[] = [];
    const value = yield* on(
      scope((s) => {
        s.spawn(worker(style, log, 'child', 1e6));
        return style.main(function* () {
          yield* on(sleep(1));
          s.cancel('enough');
          expect(s.cancelled).toBe(true);
          log.push('still here');
          yield* on(sleep(1));
          log.push('not reached');
        })();
      }),
    );
    expect(value).toBeUndefined();
    expect(log).toEqual(['still here', 'child cancelled']);
  });

  both('cancelled by a child ends its tasks', function* (style) {
    const log: string[] = [];
    yield* on(
      scope((s) => {
        s.spawn(
          style.main(function* () {
            yield* on(sleep(1));
            s.cancel();
          }),
        );
        return worker(style, log, 'body', 1e6)() as PromiseLike<string>;
      }),
    );
    expect(log).toEqual(['body cancelled']);
  });

  both('whose body is done before it is cancelled keeps its value', function* () {
    const value = yield* on(
      scope((s) => {
        s.spawn(async () => {
          await sleep(1);
          s.cancel();
          await sleep(1e6);
        });
        return Promise.resolve('kept');
      }),
    );
    expect(value).toBe('kept');
  });

  both('that is cancelled already cancels what is spawned in it before that starts', function* (style) {
    let started = false;
    let late: Task<void> | null = null;
    yield* on(
      scope((s) => {
        s.cancel();
        late = s.spawn(
          style.main(function* () {
            started = true;
          }),
        );
        return sleep(0);
      }),
    );
    expect(late!.state).toBe('cancelled');
    expect(started).toBe(false);
  });

  both('that was left takes no more tasks', function* () {
    let left: Scope | null = null;
    yield* on(
      scope((s) => {
        left = s;
        return sleep(0);
      }),
    );
    const error = thrown(() => left!.spawn(() => sleep(1)));
    expect(error).toMatchObject({ code: 'ERR_SCOPE_ENDED' });
    // A deadline changes nothing any more, and holds nothing.
    left!.deadline = performance.now() + 1e6;
    expect(left!.deadline).toBe(Number.POSITIVE_INFINITY);
  });

  both('checks its arguments when it is made', function* (style) {
    for (const body of [undefined, null, 5, sleep(0), Promise.resolve()]) {
      expect(() => scope(body as never)).toThrow(TypeError);
      expect(() => shield(body as never)).toThrow(TypeError);
    }
    yield* on(
      scope((s) => {
        for (const main of [undefined, 5, {}, Promise.resolve()])
          expect(() => s.spawn(main as never)).toThrow(TypeError);
        return sleep(0);
      }),
    );
    expect(style.name).toBeTruthy();
  });

  both('names its children after their functions, or as it is told', function* () {
    yield* on(
      scope((s) => {
        expect(s.spawn(function* named() {}).name).toBe('named');
        expect(s.spawn(function* named() {}, { name: 'told' }).name).toBe('told');
        return sleep(0);
      }),
    );
  });
});

describe('cancellation from outside', () => {
  both('goes down through all scopes, and each is left in turn', function* (style) {
    const log: string[] = [];
    const children: Task<unknown>[] = [];
    const task = style.spawn(function* () {
      yield* on(
        scope((outer) => {
          children.push(outer.spawn(worker(style, log, 'outer child', 1e6)));
          return style.main(function* () {
            try {
              yield* on(
                scope((inner) => {
                  children.push(inner.spawn(worker(style, log, 'inner child', 1e6)));
                  return sleep(1e6);
                }),
              );
            } finally {
              log.push('inner left');
            }
          })();
        }),
      );
      log.push('not reached');
    });
    yield* turnsUntil(() => children.length === 2 && children.every(({ waitingFor }) => waitingFor !== null));
    task.cancel('from outside');
    expect(yield* thrownBy(() => task)).toMatchObject({ name: 'Cancelled', cause: 'from outside' });
    expect(task.state).toBe('cancelled');
    expect([...log].sort()).toEqual(['inner child cancelled', 'inner left', 'outer child cancelled']);
    expect(log.indexOf('inner child cancelled')).toBeLessThan(log.indexOf('inner left'));
  });

  both('does not get through a shield, and is delivered after it', function* (style) {
    const log: string[] = [];
    const task = style.spawn(function* () {
      const value = yield* on(shield(worker(style, log, 'shielded', 2)));
      log.push(`got ${value}`);
      yield* on(sleep(0));
      log.push('not reached');
    });
    yield* suspended(task);
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    expect(log).toEqual(['shielded done', 'got shielded']);
  });

  both('with a child that fails in clean-up: the failure wins', function* (style) {
    let child: Task<unknown> | null = null;
    const task = style.spawn(function* () {
      yield* on(
        scope((s) => {
          child = s.spawn(
            style.main(function* () {
              yield* thrownBy(() => sleep(1e6));
              throw new Error('in clean-up');
            }),
          );
          return sleep(1e6);
        }),
      );
    });
    yield* turnsUntil(() => child?.waitingFor != null);
    task.cancel();
    expect(yield* thrownBy(() => task)).toMatchObject({ message: 'in clean-up' });
  });

  both('before a scope begins: it does not', function* (style) {
    let began = false;
    const task: Task<void> = style.spawn(function* () {
      task.cancel();
      yield* on(
        scope(() => {
          began = true;
          return sleep(0);
        }),
      );
    });
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    expect(began).toBe(false);
  });
});

describe('a timeout', () => {
  both('gives what its body returns in time', function* (style) {
    expect(yield* on(timeout(1e6, worker(style, [], 'in time', 1)))).toBe('in time');
    expect(yield* on(timeout(1e6, sleep(0)))).toBeUndefined();
  });

  both('throws TimeoutError, after what it was for was cancelled', function* (style) {
    const log: string[] = [];
    const error = yield* thrownBy(() => timeout(5, worker(style, log, 'late', 1e6)));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ name: 'TimeoutError', code: 'ERR_TIMEOUT', ms: 5, message: 'not done within 5 ms' });
    expect(log).toEqual(['late cancelled']);
  });

  both('of a plain operation takes its wait back', function* (style) {
    const ends = pipe();
    expect(yield* thrownBy(() => timeout(1, readable(ends.reader)))).toBeInstanceOf(TimeoutError);
    const next = style.spawn(() => on(readable(ends.reader)));
    ends.write();
    yield* on(next);
  });

  both('of 0 ms is over at the first wait', function* () {
    expect(yield* thrownBy(() => timeout(0, sleep(1e6)))).toBeInstanceOf(TimeoutError);
  });

  both('inside another: the one that is over says so', function* () {
    expect(yield* thrownBy(() => timeout(1, () => timeout(1e6, sleep(1e6))))).toMatchObject({ ms: 1 });
    expect(yield* thrownBy(() => timeout(1e6, () => timeout(1, sleep(1e6))))).toMatchObject({ ms: 1 });
  });

  both('whose body fails throws that', function* () {
    const failing = (): never => {
      throw new Error('expected');
    };
    expect(yield* thrownBy(() => timeout(1e6, failing))).toMatchObject({ message: 'expected' });
  });

  both('whose body makes it after all keeps the value', function* (style) {
    const value = yield* on(
      timeout(
        1,
        style.main(function* () {
          yield* thrownBy(() => sleep(1e6));
          return 'late, but there';
        }),
      ),
    );
    expect(value).toBe('late, but there');
  });

  both('refuses what is no duration', function* (style) {
    for (const ms of [Number.NaN, -1]) expect(() => timeout(ms, () => sleep(0))).toThrow(RangeError);
    for (const ms of ['1', undefined, null]) expect(() => timeout(ms as never, () => sleep(0))).toThrow(TypeError);
    yield* on(sleep(0));
    expect(style.name).toBeTruthy();
  });

  test('is over at its time, exactly, and leaves no timer behind', () =>
    simulate(function* (driver) {
      const start = driver.now();
      try {
        yield* timeout(25, sleep(1e6));
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(TimeoutError);
      }
      expect(driver.now() - start).toBe(25);
      yield* timeout(1e9, sleep(1));
      const task = spawn(function* () {});
      yield* task;
      expect(task.loop.timers.size).toBe(0);
    }));
});

describe('a deadline', () => {
  test('can be moved while the scope runs', () =>
    simulate(function* (driver) {
      const start = driver.now();
      const left: number[] = [];
      const tryIt = (first: number, move: (s: Scope) => void): Coroutine<void> =>
        (function* () {
          const begin = driver.now();
          yield* scope(function* (s) {
            s.deadline = begin + first;
            yield* sleep(5);
            move(s);
            yield* sleep(1000);
          });
          left.push(driver.now() - begin);
        })();
      yield* tryIt(10, () => {});
      yield* tryIt(10, (s) => {
        s.deadline += 10;
      });
      yield* tryIt(100, (s) => {
        s.deadline = driver.now() + 1;
      });
      yield* tryIt(100, (s) => {
        s.deadline = 0;
      });
      yield* tryIt(10, (s) => {
        s.deadline = Number.POSITIVE_INFINITY;
      });
      expect(left).toEqual([10, 20, 6, 5, 1005]);
      expect(driver.now() - start).toBe(1046);
    }));

  test('of a timeout can be moved as well', () =>
    simulate(function* (driver) {
      const value = yield* timeout(10, function* (s) {
        yield* sleep(5);
        s.deadline = driver.now() + 100;
        yield* sleep(50);
        return 'in time';
      });
      expect(value).toBe('in time');
    }));

  test('refuses what is no time, and reads as infinite when there is none', () =>
    simulate(function* () {
      yield* scope(function* (s) {
        expect(s.deadline).toBe(Number.POSITIVE_INFINITY);
        expect(() => {
          s.deadline = Number.NaN;
        }).toThrow(RangeError);
        expect(() => {
          s.deadline = 'soon' as unknown as number;
        }).toThrow(TypeError);
        expect(s.deadline).toBe(Number.POSITIVE_INFINITY);
        yield* sleep(1);
      });
    }));
});

test('ten thousand children end with their scope', async () => {
  let ended = 0;
  await run(async () => {
    await scope(async (s) => {
      for (let i = 0; i < 10_000; i++) {
        s.spawn(function* () {
          try {
            yield* sleep(1e6);
          } finally {
            ended++;
          }
        });
      }
      await sleep(1);
      s.cancel();
    });
  });
  expect(ended).toBe(10_000);
});
