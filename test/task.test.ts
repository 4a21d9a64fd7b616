// A task: who it is, what it waits for, how it ends, and who hears of that.

import { readFile } from 'node:fs/promises';
import { setImmediate as immediate } from 'node:timers/promises';
import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { currentTask } from '../src/current.ts';
import {
  all,
  Cancelled,
  type Coroutine,
  type RunOptions,
  readable,
  run,
  runBlocking,
  scope,
  shield,
  sleep,
  spawn,
  type Task,
  yieldNow,
} from '../src/index.ts';
import { Channel, Event, Semaphore } from '../src/sync/index.ts';
import { pipe, suspended, thrown } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, on, pair, type Scenario, type Style, thrownBy } from './styles.ts';

/** What is written to standard error until the test is finished. */
function standardError(): string[] {
  const { write } = process.stderr;
  const lines: string[] = [];
  process.stderr.write = ((text: string) => lines.push(text) > 0) as typeof write;
  onTestFinished(() => {
    process.stderr.write = write;
  });
  return lines;
}

describe('names', () => {
  both('are what spawn was given, or the function’s, and a number tells tasks apart', function* (style) {
    const named = spawn(function* () {}, { name: 'echo' });
    const byFunction = spawn(function* worker() {});
    const nameless = spawn((() => (function* (): Coroutine<void> {})())());
    expect([named.name, byFunction.name, nameless.name]).toEqual(['echo', 'worker', 'task']);
    expect(String(named)).toBe(`echo#${named.id}`);
    expect(new Set([named.id, byFunction.id, nameless.id]).size).toBe(3);
    for (const task of [named, byFunction, nameless]) yield* on(task);
    expect(style.name).toBeTruthy();
  });
});

describe('what can be spawned', () => {
  both(
    'is a generator, a function that makes one, an async function, an operation’s maker, or a plain function',
    function* () {
      const generator = (function* (): Coroutine<string> {
        yield* sleep(0);
        return 'generator';
      })();
      expect(yield* on(spawn(generator))).toBe('generator');
      expect(
        yield* on(
          spawn(function* () {
            yield* sleep(0);
            return 'function*';
          }),
        ),
      ).toBe('function*');
      expect(
        yield* on(
          spawn(async () => {
            await sleep(0);
            return 'async';
          }),
        ),
      ).toBe('async');
      expect(yield* on(spawn(() => sleep(0)))).toBeUndefined();
      expect(yield* on(spawn(() => spawn(async () => 'task')))).toBe('task');
      expect(yield* on(spawn((() => 'plain') as unknown as () => Promise<string>))).toBe('plain');
      expect(yield* on(spawn(() => Promise.resolve('promise')))).toBe('promise');
    },
  );

  both('is nothing else', function* (style) {
    for (const main of [undefined, null, 5, 'x', {}, [], Promise.resolve(), sleep(0)]) {
      expect(() => spawn(main as never)).toThrow(TypeError);
    }
    yield* on(yieldNow());
    expect(style.name).toBeTruthy();
  });

  both('is no async generator: nobody would iterate it, and the error says so', function* () {
    const task = spawn(async function* () {} as never, { name: 'confused' });
    expect(yield* thrownBy(() => task)).toMatchObject({
      name: 'TypeError',
      message: expect.stringMatching(/^confused#\d+ is an async generator/),
    });
  });

  both('may return what throws when it is looked at', function* () {
    const hostile = new Proxy(
      {},
      {
        get() {
          throw new Error('do not touch');
        },
      },
    );
    expect(yield* thrownBy(() => spawn(() => hostile as never))).toMatchObject({ message: 'do not touch' });
  });
});

describe('a foreign yield', () => {
  test.each([
    [Promise.resolve(), 'a promise'],
    [undefined, 'Undefined'],
    [5, 'Number'],
    [{}, 'Object'],
  ])('of %s gets a TypeError that explains, and can be caught', async (value, what) => {
    await run(function* () {
      try {
        yield value as never;
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        expect((error as Error).message).toContain(what);
        expect((error as Error).message).toContain('yield* sleep(10)');
      }
      // It goes on as if nothing had happened.
      yield* sleep(0);
    });
  });

  test('that is not caught ends the task only', async () => {
    await run(function* () {
      const task = spawn(function* () {
        yield Promise.resolve() as never;
      });
      try {
        yield* task;
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
      }
    });
  });
});

describe('state', () => {
  both('tells how far a task is, and waitingFor what it waits for', function* (style) {
    const ends = pipe();
    let inside: string | undefined;
    const task: Task<void> = style.spawn(function* () {
      inside = task.state;
      yield* on(readable(ends.reader));
      yield* on(sleep(20));
    }, 'watched');
    expect([task.state, task.waitingFor]).toEqual(['ready', null]);
    yield* suspended(task);
    expect(inside).toBe('running');
    expect([task.state, task.waitingFor]).toEqual(['suspended', `fd ${ends.reader} IN`]);
    ends.write();
    yield* suspended(task, '20 ms');
    expect([task.state, task.waitingFor]).toEqual(['suspended', '20 ms']);
    const joiner = style.spawn(() => on(task));
    yield* suspended(joiner);
    expect(joiner.waitingFor).toBe(String(task));
    yield* on(joiner);
    expect([task.state, task.waitingFor]).toEqual(['done', null]);
  });

  both('of what waits for several things names them all', function* (style) {
    const ends = pipe();
    const task = spawn(async () => {
      await Promise.all([sleep(1e6), readable(ends.reader)]);
    });
    yield* suspended(task);
    expect(task.waitingFor?.split(', ').sort()).toEqual(['1000000 ms', `fd ${ends.reader} IN`]);
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    expect(style.name).toBeTruthy();
  });

  test('of an async function that waits for somebody else’s promise is suspended, on nothing of ours', async () => {
    await run(async () => {
      let release = (): void => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      const task = spawn(async () => {
        await gate;
      });
      await sleep(0);
      expect([task.state, task.waitingFor]).toEqual(['suspended', null]);
      release();
      await task;
      expect(task.state).toBe('done');
    });
  });

  both('of a task that fails or is cancelled is failed or cancelled', function* (style) {
    const failing = style.spawn(function* () {
      yield* on(sleep(0));
      throw new Error('expected');
    });
    expect(yield* thrownBy(() => failing)).toMatchObject({ message: 'expected' });
    expect(failing.state).toBe('failed');
    const cancelled = style.spawn(() => on(sleep(1e6)));
    yield* suspended(cancelled);
    cancelled.cancel();
    expect(yield* thrownBy(() => cancelled)).toBeInstanceOf(Cancelled);
    expect(cancelled.state).toBe('cancelled');
  });
});

describe('what console.log shows', () => {
  both('is what it is, and not all that it is made of', function* (style) {
    const [client, server, listener] = yield* pair();
    const task = style.spawn(() => on(server.read()), 'reader');
    yield* suspended(task);
    const { number } = server;
    const peer = `tcp 127.0.0.1:${client.localAddress!.port}`;
    expect(inspect(server)).toBe(`Stream fd ${number}, ${peer}`);
    expect(inspect(listener)).toBe(`Listener fd ${listener.fd}, tcp listening on 127.0.0.1:${listener.address.port}`);
    expect(inspect(task)).toBe(`Task ${task}, suspended on fd ${number} IN`);
    expect(inspect({ nested: [sleep(20)] })).toBe('{ nested: [ Operation 20 ms ] }');
    expect(inspect(all([]))).toBe('Operation all');
    expect(inspect([new Event(), new Semaphore(2), new Channel(0, { name: 'jobs' })])).toBe(
      "[ event, semaphore, channel 'jobs' ]",
    );
    client.destroy();
    yield* on(task);
    expect(inspect(task)).toBe(`Task ${task}, done`);
    server.destroy();
    listener.close();
    expect(inspect([server, listener])).toBe('[ Stream, closed, Listener, closed ]');
    yield* thrownBy(() => client.read());
  });
});

describe('a promise with a `then` of its own', () => {
  /** Calls back from a timer of Node's, on nobody's behalf. */
  class Later<T> extends Promise<T> {
    override then<A = T, B = never>(
      onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
      onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
    ): Promise<A | B> {
      return super.then(
        (value) => new Promise((resolve) => setTimeout(() => resolve(onFulfilled!(value)), 1)),
        (error) => new Promise((resolve) => setTimeout(() => resolve(onRejected!(error)), 1)),
      );
    }
  }

  test('ends the task that it was made for, whoever runs when it calls back', async () => {
    const outcome = await run(async () => {
      return await spawn(() => new Later<string>((resolve) => resolve('good')));
    });
    expect(outcome).toBe('good');
    const bad = run(async () => {
      await spawn(() => new Later<string>((_, reject) => reject(new Error('bad'))));
    });
    await expect(bad).rejects.toThrow('bad');
  });
});

describe('joining', () => {
  both('gives the value to any number of joiners, before and after the end', function* (style) {
    const task = style.spawn(function* () {
      yield* on(sleep(1));
      return { answer: 42 };
    });
    const joiners = [1, 2, 3].map(() => style.spawn(() => on(task)));
    const value = yield* on(task.join());
    for (const joiner of joiners) expect(yield* on(joiner)).toBe(value);
    expect(yield* on(task)).toBe(value);
  });

  both('gives the very error to any number of joiners', function* (style) {
    const error = Object.freeze(new Error('frozen'));
    const task = style.spawn(function* () {
      yield* on(sleep(0));
      throw error;
    });
    expect(yield* thrownBy(() => task)).toBe(error);
    expect(yield* thrownBy(() => task.join())).toBe(error);
  });

  both('oneself would never end, and is ERR_SELF_JOIN', function* (style) {
    const task: Task<void> = style.spawn(() => on(task));
    expect(yield* thrownBy(() => task)).toMatchObject({
      code: 'ERR_SELF_JOIN',
      message: expect.stringContaining(String(task)),
    });
  });

  both('can be given up without harm to the task', function* (style) {
    const task = style.spawn(function* () {
      yield* on(sleep(2));
      return 'unharmed';
    });
    const joiner = style.spawn(() => on(task));
    yield* suspended(joiner);
    joiner.cancel();
    expect(yield* thrownBy(() => joiner)).toBeInstanceOf(Cancelled);
    expect(yield* on(task)).toBe('unharmed');
  });

  both('keeps the stack of where it failed, also of an error of the system', function* (style) {
    const task = style.spawn(function* () {
      yield* on(sleep(0));
      throw whereItFailed();
    });
    expect(((yield* thrownBy(() => task)) as Error).stack).toContain('whereItFailed');
  });
});

function whereItFailed(): Error {
  return Object.assign(new Error('open ENOENT'), { code: 'ENOENT', errno: -2, syscall: 'open' });
}

describe('anything can be thrown', () => {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const things: Record<string, unknown> = {
    undefined: undefined,
    null: null,
    'a number': 5,
    'a symbol': Symbol('thrown'),
    'a frozen object': Object.freeze({ code: 'X' }),
    'an object without a prototype': Object.create(null),
    'a proxy that throws': new Proxy(new Error('inner'), {
      get() {
        throw new Error('get');
      },
      getPrototypeOf() {
        throw new Error('getPrototypeOf');
      },
    }),
    'a revoked proxy': revoked.proxy,
    'a frozen error of the system': Object.freeze(whereItFailed()),
    'an error with a hostile message': Object.assign(new Error(), { message: Symbol('message') }),
  };

  describe.each(Object.entries(things))('%s', (_name, thing) => {
    const failing = (style: Style): Task<void> =>
      style.spawn(function* (): Scenario<void> {
        yield* on(sleep(0));
        throw thing;
      });

    both('reaches who joins', function* (style) {
      expect(Object.is(yield* thrownBy(() => failing(style)), thing)).toBe(true);
    });

    both('is thrown by a scope, and cancels the siblings', function* (style) {
      let sibling: Task<void> | null = null;
      const operation = scope((s) => {
        sibling = s.spawn(() => sleep(1e6));
        s.spawn(
          style.main(function* () {
            yield* on(sleep(0));
            throw thing;
          }),
        );
        return sleep(1e6);
      });
      expect(Object.is(yield* thrownBy(() => operation), thing)).toBe(true);
      expect(sibling!.state).toBe('cancelled');
    });

    both('can be the reason of a cancellation', function* (style) {
      const task = style.spawn(() => on(sleep(1e6)));
      yield* suspended(task);
      task.cancel(thing);
      const error = yield* thrownBy(() => task);
      expect(error).toBeInstanceOf(Cancelled);
      if (thing !== undefined) expect(Object.is((error as Error).cause, thing)).toBe(true);
    });

    test('is reported once when nobody joins, and harms nobody', async () => {
      const lines = standardError();
      await run(function* () {
        const bystander = spawn(() => sleep(2));
        spawn(
          function* () {
            yield* sleep(0);
            throw thing;
          },
          { name: 'thrower' },
        );
        yield* bystander;
      });
      expect(lines.length).toBe(1);
      expect(lines[0]).toMatch(/^onewait: task thrower#\d+ failed/);
    });
  });
});

describe('a failure that nobody joined', () => {
  test.each(['yield', 'await'])('is reported once with name, fd and stack (%s)', async (style) => {
    const lines = standardError();
    await run(async () => {
      const error = (): Error => Object.assign(whereItFailed(), { fd: 77 });
      const task =
        style === 'yield'
          ? spawn(
              function* () {
                yield* sleep(0);
                throw error();
              },
              { name: 'lonely' },
            )
          : spawn(
              async () => {
                await sleep(0);
                throw error();
              },
              { name: 'lonely' },
            );
      await sleep(2);
      expect(lines).toEqual([
        expect.stringMatching(
          new RegExp(`^onewait: task ${task} failed on fd 77: Error: open ENOENT\n    at whereItFailed`),
        ),
      ]);
      // Joining it now still tells.
      await expect(Promise.resolve(task.join())).rejects.toThrow('ENOENT');
    });
    expect(lines.length).toBe(1);
  });

  test.each(['yield', 'await'])(
    'is reported in the turn after it, whatever else the loop waits for (%s)',
    async (style) => {
      let tell = (_task: string): void => {};
      const told = new Promise<string>((resolve) => {
        tell = resolve;
      });
      await run(
        async () => {
          const task =
            style === 'yield'
              ? spawn(function* () {
                  yield* sleep(1);
                  throw new Error('expected');
                })
              : spawn(async () => {
                  await sleep(1);
                  await null;
                  throw new Error('expected');
                });
          spawn(() => sleep(1e6));
          expect(await told).toBe(String(task));
        },
        { onTaskError: (_error, task) => tell(String(task)) },
      );
    },
  );

  test('goes to onTaskError instead, with the error and the task', async () => {
    const lines = standardError();
    const told: [unknown, string][] = [];
    const options: RunOptions = { onTaskError: (error, task) => void told.push([error, String(task)]) };
    let task: Task<void> | null = null;
    await run(function* () {
      task = spawn(
        () => {
          throw 'away';
        },
        { name: 'told' },
      );
      yield* sleep(1);
    }, options);
    expect(told).toEqual([['away', String(task)]]);
    expect(lines).toEqual([]);
  });

  test('is not reported when somebody joined in time, or it is a scope’s, or the run’s own', async () => {
    const lines = standardError();
    const fail = async (): Promise<void> => {
      await sleep(0);
      throw new Error('expected');
    };
    await run(async () => {
      await expect(Promise.resolve(spawn(fail))).rejects.toThrow('expected');
      await expect(Promise.resolve(scope((s) => s.spawn(fail)))).rejects.toThrow('expected');
    });
    await expect(run(fail)).rejects.toThrow('expected');
    expect(lines).toEqual([]);
  });

  test('of several is reported for each, although a handler throws', async () => {
    const told: unknown[] = [];
    const uncaught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => void uncaught.push(error));
    try {
      await run(
        function* () {
          for (let i = 0; i < 3; i++) {
            spawn(() => {
              throw i;
            });
          }
          yield* sleep(1);
        },
        {
          onTaskError: (error) => {
            told.push(error);
            throw new Error(`handler of ${String(error)}`);
          },
        },
      );
      await immediate();
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    expect(told).toEqual([0, 1, 2]);
    expect(uncaught.map((error) => (error as Error).message)).toEqual(['handler of 0', 'handler of 1', 'handler of 2']);
  });
});

describe('cancelling', () => {
  both('throws Cancelled where the task waits, with the reason', function* (style) {
    const reason = new Error('because');
    let seen: unknown;
    const task = style.spawn(function* () {
      seen = yield* thrownBy(() => sleep(1e6));
      throw seen;
    });
    yield* suspended(task);
    task.cancel(reason);
    const error = yield* thrownBy(() => task);
    expect(error).toBe(seen);
    expect(error).toMatchObject({
      name: 'Cancelled',
      code: 'ERR_CANCELLED',
      message: 'cancelled: because',
      cause: reason,
    });
    expect(task.state).toBe('cancelled');
  });

  both('is level-triggered: every later wait throws as well', function* (style) {
    const errors: unknown[] = [];
    const task = style.spawn(function* () {
      for (let i = 0; i < 3; i++) errors.push(yield* thrownBy(() => sleep(1e6)));
    });
    yield* suspended(task);
    task.cancel();
    yield* on(task);
    expect(errors.length).toBe(3);
    expect(new Set(errors).size).toBe(1);
    // It caught them all and ended well.
    expect(task.state).toBe('done');
  });

  both('before the start means that it never starts', function* (style) {
    let started = false;
    const task = style.spawn(function* () {
      started = true;
      yield* on(sleep(0));
    });
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    expect(started).toBe(false);
    expect(task.state).toBe('cancelled');
  });

  both('twice, or after the end, changes nothing', function* (style) {
    const task = style.spawn(() => on(sleep(1e6)));
    yield* suspended(task);
    task.cancel('first');
    task.cancel('second');
    expect(yield* thrownBy(() => task)).toMatchObject({ cause: 'first' });
    task.cancel('third');
    expect(task.state).toBe('cancelled');
    const done = style.spawn(function* () {});
    yield* on(done);
    done.cancel();
    expect(done.state).toBe('done');
  });

  both('runs clean-up, which may wait in a shield', function* (style) {
    const log: string[] = [];
    const task = style.spawn(function* () {
      try {
        yield* on(sleep(1e6));
      } finally {
        log.push('begin');
        yield* on(shield(style.main(() => on(sleep(1)))));
        log.push('end');
      }
    });
    yield* on(sleep(0));
    task.cancel();
    expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
    expect(log).toEqual(['begin', 'end']);
  });

  both('with a clean-up that throws: the new error wins', function* (style) {
    const task = style.spawn(function* () {
      const error = yield* thrownBy(() => sleep(1e6));
      throw new Error('in clean-up', { cause: error });
    });
    yield* suspended(task);
    task.cancel('why');
    expect(yield* thrownBy(() => task)).toMatchObject({ message: 'in clean-up', cause: { cause: 'why' } });
    expect(task.state).toBe('failed');
  });

  both('oneself is heard at the next wait', function* (style) {
    const log: string[] = [];
    const task: Task<void> = style.spawn(function* () {
      yield* on(sleep(0));
      task.cancel();
      log.push('still here');
      yield* on(sleep(0));
      log.push('not reached');
    });
    yield* thrownBy(() => task);
    expect(log).toEqual(['still here']);
    expect(task.state).toBe('cancelled');
  });

  test('an async function that waits for somebody else’s promise is heard at its next wait of ours', async () => {
    await run(async () => {
      let release = (): void => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      const task = spawn(async () => {
        await gate;
        await sleep(1e6);
      });
      await sleep(0);
      task.cancel();
      await sleep(1);
      expect(task.state).toBe('suspended');
      release();
      await expect(Promise.resolve(task)).rejects.toThrow('cancelled');
    });
  });

  test('at every turn of its life leaves exactly one outcome and nothing registered', async () => {
    for (let when = 0; when < 12; when++) {
      await simulate(function* (driver) {
        const file = driver.open();
        let outcomes = 0;
        const task = spawn(function* () {
          try {
            yield* yieldNow();
            yield* sleep(2);
            yield* readable(file.fd);
            yield* spawn(() => sleep(2));
          } finally {
            outcomes++;
          }
        });
        task.adopt();
        driver.at(4, () => {
          file.ready = 1;
        });
        driver.at(5, () => {
          file.ready = 0;
        });
        yield* sleep(when);
        task.cancel();
        yield* sleep(100);
        expect(outcomes).toBe(1);
        expect(['cancelled', 'done']).toContain(task.state);
        expect(driver.registered.size).toBe(0);
        expect(task.loop.timers.size).toBe(0);
      });
    }
  });
});

describe('who is running', () => {
  both('is the task, through every kind of wait', function* (style) {
    const tasks = [1, 2, 3].map((i) => {
      const task: Task<void> = style.spawn(function* () {
        for (let j = 0; j < 5; j++) {
          expect(currentTask()).toBe(task);
          yield* on(j % 2 ? sleep(0.1 * i) : yieldNow());
          expect(currentTask()).toBe(task);
          yield* on(spawn(function* () {}));
          expect(currentTask()).toBe(task);
          yield* on(scope(() => sleep(0)));
          expect(currentTask()).toBe(task);
        }
      }, `worker${i}`);
      return task;
    });
    for (const task of tasks) yield* on(task);
  });

  test('is the task also behind promises of somebody else’s, side by side', async () => {
    await run(async () => {
      const tasks = Array.from({ length: 20 }, (_, i) => {
        const task: Task<void> = spawn(
          async () => {
            for (let j = 0; j < 5; j++) {
              await readFile('/proc/self/stat');
              expect(currentTask()).toBe(task);
              await sleep(i % 3);
              expect(currentTask()).toBe(task);
              await Promise.all([immediate(), sleep(0), Promise.resolve()]);
              expect(currentTask()).toBe(task);
              await (async () => {
                await yieldNow();
                expect(currentTask()).toBe(task);
              })();
            }
          },
          { name: `reader${i}` },
        );
        return task;
      });
      for (const task of tasks) await task;
    });
  });

  test('is named by errors: the right one of two that do the same', async () => {
    await run(async () => {
      const names: string[] = [];
      const worker = async (): Promise<void> => {
        await readFile('/proc/self/stat');
        const self: Task<void> = currentTask() as unknown as Task<void>;
        try {
          await self.join();
        } catch (error) {
          names.push((error as Error).message.split(' ')[0]!);
        }
      };
      const tasks = ['a', 'b', 'c'].map((name) => spawn(worker, { name }));
      for (const task of tasks) await task;
      expect(names.sort()).toEqual(tasks.map(String).sort());
    });
  });

  test('is node’s guest in Node’s own callbacks, and nobody without a loop', async () => {
    expect(thrown(() => currentTask())).toMatchObject({ code: 'ERR_NO_LOOP' });
    await run(async () => {
      const guest = await new Promise<string>((resolve) => setTimeout(() => resolve(String(currentTask())), 0));
      expect(['node#0', String(currentTask())]).toContain(guest);
    });
    expect(
      runBlocking(function* blocking() {
        yield* sleep(0);
        return String(currentTask());
      }),
    ).toMatch(/^main#/);
  });
});
