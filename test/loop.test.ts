// The loop: readiness to the right waiter, once, and fairly.

import { writeSync } from 'node:fs';
import { setImmediate as immediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Coroutine,
  readable,
  run,
  runBlocking,
  sleep,
  spawn,
  type Task,
  writable,
  yieldNow,
} from '../src/index.ts';
import { Descriptor, type Loop } from '../src/loop.ts';
import { EVENT_READ, EVENT_WRITE } from '../src/selectors.ts';
import { open, openDescriptors, Pipe, pipe, sockets, thrown } from './helpers.ts';
import { type SimulatedDriver, simulate } from './simulated-driver.ts';
import { both, everywhere, on } from './styles.ts';

type Handler = Partial<Pick<Descriptor, 'onReadable' | 'onWritable' | 'onRead' | 'onUnwritten'>>;

/** What notes what it is told. */
function handler(log: unknown[], name: string, more: Handler = {}): Handler {
  return {
    onReadable: () => log.push(`${name} readable`) > 0,
    onWritable: () => log.push(`${name} writable`) > 0,
    onRead: (result) => void log.push(`${name} read ${result}`),
    onUnwritten: () => void log.push(`${name} unwritten`),
    ...more,
  };
}

class Owned extends Descriptor {
  override get owned(): boolean {
    return true;
  }
}

function attach(loop: Loop, fd: number, told: Handler): Descriptor {
  const descriptor = Object.assign(new Owned(fd), told);
  loop.attach(descriptor);
  return descriptor;
}

function loopOf(task: Task<unknown>): Loop {
  return task.loop;
}

/** The loop of the simulation, from inside a coroutine. */
function* theLoop(): Coroutine<Loop> {
  const task = spawn(function* () {});
  yield* task;
  return loopOf(task as Task<unknown>);
}

describe('readiness', () => {
  everywhere('wakes who waits for it', function* (style) {
    const ends = pipe();
    const reader = style.spawn(function* () {
      yield* on(readable(ends.reader));
      return ends.read();
    });
    yield* on(writable(ends.writer));
    ends.write('hello');
    expect(yield* on(reader)).toBe('hello');
  });

  everywhere('one event wakes one waiter, first in first out', function* (style) {
    const ends = pipe();
    const order: number[] = [];
    const tasks = [0, 1, 2, 3].map((i) =>
      style.spawn(function* () {
        yield* on(readable(ends.reader));
        order.push(i);
        expect(ends.read(1)).toBe(`${i}`);
      }),
    );
    yield* on(yieldNow());
    for (let i = 0; i < 4; i++) {
      ends.write(`${i}`);
      yield* on(tasks[i]!);
      expect(order).toEqual(Array.from({ length: i + 1 }, (_, j) => j));
      if (i < 3) expect(tasks[i + 1]!.state).toBe('suspended');
    }
  });

  everywhere('that the first waiter leaves unconsumed wakes the next', function* (style) {
    const ends = pipe();
    const tasks = [0, 1, 2].map(() => style.spawn(() => on(readable(ends.reader))));
    ends.write();
    for (const task of tasks) yield* on(task);
  });

  everywhere('readers and writers of one descriptor do not disturb each other', function* (style) {
    const ends = sockets();
    const reader = style.spawn(() => on(readable(ends.near)));
    yield* on(writable(ends.near));
    yield* on(writable(ends.near));
    expect(reader.state).toBe('suspended');
    ends.send(ends.far, 'x');
    yield* on(reader);
  });

  everywhere('is at once for a file that cannot be polled', function* () {
    const fd = open('/dev/null');
    yield* on(readable(fd));
    yield* on(writable(fd));
  });

  test('that nobody waits for is taken back lazily: one extra turn, then none', () =>
    simulate(function* (driver) {
      const file = driver.open(EVENT_READ);
      yield* readable(file.fd);
      expect(driver.registered).toEqual(new Map([[file.fd, EVENT_READ]]));
      const before = driver.turns;
      yield* sleep(1000);
      expect(driver.registered.size).toBe(0);
      expect(driver.turns - before).toBeLessThanOrEqual(3);
    }));
});

describe('a stale event', () => {
  test('for a handler that is detached in the same batch is dropped', () =>
    simulate(function* (driver) {
      const loop = yield* theLoop();
      const log: unknown[] = [];
      const a = driver.open();
      const b = driver.open();
      const descriptorB = attach(loop, b.fd, handler(log, 'b'));
      const descriptorA = attach(
        loop,
        a.fd,
        handler(log, 'a', {
          onReadable: () => {
            log.push('a closes b');
            loop.detach(descriptorB);
            driver.close(b);
            loop.narrow(descriptorA, 0);
            return true;
          },
        }),
      );
      loop.watch(descriptorA, EVENT_READ);
      loop.watch(descriptorB, EVENT_READ | EVENT_WRITE);
      a.ready = b.ready = EVENT_READ | EVENT_WRITE;
      yield* sleep(1);
      expect(log).toEqual(['a closes b']);
    }));

  test('for a number that was closed and used again in the same batch does not reach the new one', () =>
    simulate(function* (driver) {
      const loop = yield* theLoop();
      const log: unknown[] = [];
      const a = driver.open();
      const b = driver.open();
      const descriptorB = attach(loop, b.fd, handler(log, 'old b'));
      const descriptorA = attach(
        loop,
        a.fd,
        handler(log, 'a', {
          onReadable: () => {
            loop.detach(descriptorB);
            driver.close(b);
            const reused = driver.open();
            expect(reused.fd).toBe(b.fd);
            loop.watch(attach(loop, reused.fd, handler(log, 'new b')), EVENT_READ);
            loop.narrow(descriptorA, 0);
            return true;
          },
        }),
      );
      loop.watch(descriptorA, EVENT_READ);
      loop.watch(descriptorB, EVENT_READ);
      a.ready = b.ready = EVENT_READ;
      yield* sleep(1);
      expect(log).toEqual([]);
    }));

  test('of a read that was armed before the number was used again does not reach the new one', () =>
    simulate(function* (driver) {
      const loop = yield* theLoop();
      const log: unknown[] = [];
      const a = driver.open();
      const b = driver.open();
      const task = spawn(function* () {}) as Task<unknown>;
      const descriptorB = attach(loop, b.fd, handler(log, 'old b'));
      const descriptorA = attach(
        loop,
        a.fd,
        handler(log, 'a', {
          onReadable: () => {
            loop.detach(descriptorB);
            driver.close(b);
            const descriptor = attach(loop, driver.open().fd, handler(log, 'new b'));
            loop.submitRead(descriptor, 10, task);
            loop.narrow(descriptorA, 0);
            return true;
          },
        }),
      );
      loop.watch(descriptorA, EVENT_READ);
      loop.submitRead(descriptorB, 10, task);
      a.ready = EVENT_READ;
      b.input.push('old');
      yield* sleep(1);
      expect(log).toEqual([]);
    }));
});

describe('closing', () => {
  test('by its owner wakes who waits on the descriptor with ClosedError, and leaves nothing registered', () =>
    simulate(function* (driver) {
      const loop = yield* theLoop();
      const file = driver.open();
      const descriptor = attach(loop, file.fd, handler([], 'owner'));
      const waiters = [spawn(() => readable(file.fd)), spawn(() => writable(file.fd)), spawn(() => readable(file.fd))];
      yield* sleep(1);
      expect(driver.registered.get(file.fd)).toBe(EVENT_READ | EVENT_WRITE);
      for (const waiter of waiters) waiter.adopt();
      loop.detach(descriptor);
      for (const waiter of waiters) {
        try {
          yield* waiter;
          expect.unreachable();
        } catch (error) {
          expect(error).toMatchObject({
            name: 'ClosedError',
            code: 'ERR_CLOSED',
            message: expect.stringContaining(`fd ${file.fd}`),
          });
        }
      }
      expect(driver.registered.size).toBe(0);
    }));

  test('behind our back leaves a waiter that can be cancelled, and does not spin', () =>
    simulate(function* (driver) {
      const file = driver.open();
      const waiter = spawn(() => readable(file.fd));
      yield* sleep(1);
      driver.close(file);
      file.ready = EVENT_READ;
      const before = driver.turns;
      yield* sleep(1000);
      expect(driver.turns - before).toBeLessThanOrEqual(2);
      expect(waiter.state).toBe('suspended');
      waiter.cancel();
      yield* sleep(1);
      expect(waiter.state).toBe('cancelled');
    }));

  everywhere(
    'behind our back is found out when somebody waits again: EBADF for them, ClosedError for who waited',
    function* (style) {
      const ends = pipe();
      const before = style.spawn(() => on(readable(ends.reader)));
      yield* on(yieldNow());
      ends.close(ends.reader);
      const error = yield* caught(() => on(readable(ends.reader)));
      expect(error).toMatchObject({ code: 'EBADF', fd: ends.reader });
      expect(yield* caught(() => on(before))).toMatchObject({ code: 'ERR_CLOSED' });
    },
  );

  both(
    'behind our back, with the number in use again: who waited gets ClosedError, and the event is the new one’s',
    function* (style) {
      const old = pipe();
      const before = style.spawn(() => on(readable(old.reader)));
      yield* on(yieldNow());
      old.close();
      const reused = pipe();
      expect(reused.reader).toBe(old.reader);
      const after = style.spawn(() => on(readable(reused.reader)));
      expect(yield* caught(() => on(before))).toMatchObject({ code: 'ERR_CLOSED' });
      expect(after.state).toBe('suspended');
      reused.write();
      yield* on(after);
    },
  );

  everywhere('behind our back in the batch that brings its events harms nobody else', function* (style) {
    const ends = sockets();
    const other = pipe();
    ends.send(ends.far, 'x');
    const writer = style.spawn(() => on(writable(ends.near)));
    const reader = style.spawn(function* () {
      yield* on(readable(ends.near));
      ends.close(ends.near);
    });
    const third = style.spawn(() => on(readable(other.reader)));
    other.write();
    yield* on(writer);
    yield* on(reader);
    yield* on(third);
    expect(yield* caught(() => on(writable(ends.near)))).toMatchObject({ code: 'EBADF' });
  });

  test('by a handler of a descriptor that was closed behind our back leaves the new owner of the number alone', () =>
    simulate(function* (driver) {
      const loop = yield* theLoop();
      const log: unknown[] = [];
      const file = driver.open();
      const old = attach(loop, file.fd, handler(log, 'old'));
      loop.watch(old, EVENT_READ);
      driver.close(file);
      const reused = driver.open();
      const now = attach(loop, reused.fd, handler(log, 'new', { onReadable: () => log.push('new') < 0 }));
      loop.watch(now, EVENT_READ);
      loop.detach(old);
      reused.ready = EVENT_READ;
      yield* sleep(1);
      expect(log).toEqual(['new']);
    }));
});

describe('fairness', () => {
  everywhere('a task that is always ready starves neither descriptors, nor timers, nor other tasks', function* (style) {
    let spins = 0;
    const ends = pipe();
    const busy = style.spawn(function* () {
      for (;;) {
        yield* on(writable(ends.writer));
        spins++;
      }
    }, 'busy');
    const bystander = style.spawn(function* () {
      for (let i = 0; i < 10; i++) yield* on(yieldNow());
      yield* on(sleep(1));
    });
    const reader = style.spawn(() => on(readable(ends.reader)));
    ends.write();
    yield* on(bystander);
    yield* on(reader);
    expect(spins).toBeGreaterThan(0);
    busy.cancel();
  });

  test.each(['await', 'yield'])(
    'operations that are done at once go through the loop now and then, so that they starve nobody (%s)',
    async (style) => {
      await run(async () => {
        const done = spawn(function* () {});
        let spins = 0;
        const busy =
          style === 'await'
            ? spawn(async () => {
                for (; ; spins++) await done.join();
              })
            : spawn(function* () {
                for (; ; spins++) yield* done.join();
              });
        await sleep(1);
        await immediate();
        expect(spins).toBeGreaterThan(100);
        busy.cancel();
      });
    },
  );

  test.each(['await', 'yield'])(
    'a task that only yields its turn starves neither libuv nor its neighbours (%s)',
    async (style) => {
      await run(async () => {
        const busy =
          style === 'await'
            ? spawn(async () => {
                for (;;) await yieldNow();
              })
            : spawn(function* () {
                for (;;) yield* yieldNow();
              });
        await immediate();
        await new Promise((resolve) => setTimeout(resolve, 2));
        await sleep(2);
        busy.cancel();
      });
    },
  );

  test('a turn runs what was ready when it began, in order', () =>
    simulate(function* () {
      const log: string[] = [];
      const worker = (name: string) =>
        function* (): Coroutine<void> {
          for (let i = 0; i < 3; i++) {
            log.push(`${name}${i}`);
            yield* yieldNow();
          }
        };
      const tasks = ['a', 'b', 'c'].map((name) => spawn(worker(name)));
      for (const task of tasks) yield* task;
      expect(log).toEqual(['a0', 'b0', 'c0', 'a1', 'b1', 'c1', 'a2', 'b2', 'c2']);
    }));
});

describe('holding the process', () => {
  test('the loop lets go of it when nothing can happen, and takes hold again', () =>
    simulate(async (driver) => {
      let wake = (): void => {};
      const stuck = new Promise<void>((resolve) => {
        wake = resolve;
      });
      await sleep(1);
      expect(driver.referenced).toBe(true);
      setImmediate(() => {
        expect(driver.referenced).toBe(false);
        wake();
      });
      await immediate();
      await immediate();
      await stuck;
      const sleeping = spawn(() => sleep(5));
      expect(driver.referenced).toBe(true);
      await sleeping;
    }));

  test('no descriptors are left by runs on any poller', async () => {
    await run(async () => {});
    const before = openDescriptors();
    for (const poller of ['epoll', 'poll', 'select', 'epoll'] as const) {
      for (let i = 0; i < 5; i++) {
        expect(runBlocking(() => sleeper(), { poller })).toBe('slept');
        await run(() => sleeper(), { poller });
      }
    }
    expect(openDescriptors()).toBe(before);
  });
});

function* sleeper(): Coroutine<string> {
  yield* sleep(0.1);
  return 'slept';
}

function* caught(scenario: () => Generator<never, unknown, unknown> | ReturnType<typeof on>): ReturnType<typeof on> {
  try {
    yield* scenario() as ReturnType<typeof on>;
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

test('any history of waits, wakes, cancellations and closes gives every wait exactly one outcome', async () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constantFrom('wait' as const, 'ready' as const, 'quiet' as const, 'close' as const),
      file: fc.nat({ max: 3 }),
      event: fc.constantFrom(EVENT_READ, EVENT_WRITE),
    }),
    fc.record({ do: fc.constant('cancel' as const), which: fc.nat({ max: 10 }) }),
    fc.record({ do: fc.constant('turn' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, awaiting) => {
      await simulate(function* (driver: SimulatedDriver): Coroutine<void> {
        const files = Array.from({ length: 4 }, () => driver.open());
        const outcomes = new Map<Task<void>, number>();
        const cancelled = new Set<Task<void>>();
        for (const step of steps) {
          if (step.do === 'wait') {
            const { fd } = files[step.file]!;
            const operation = () => (step.event === EVENT_READ ? readable(fd) : writable(fd));
            const count = (task: () => Task<void>): void => void outcomes.set(task(), outcomes.get(task())! + 1);
            const task: Task<void> = awaiting
              ? spawn(async () => {
                  try {
                    await operation();
                  } finally {
                    count(() => task);
                  }
                })
              : spawn(function* () {
                  try {
                    yield* operation();
                  } finally {
                    count(() => task);
                  }
                });
            task.adopt();
            outcomes.set(task, 0);
          } else if (step.do === 'ready') files[step.file]!.ready |= step.event;
          else if (step.do === 'quiet') files[step.file]!.ready &= ~step.event;
          else if (step.do === 'close') driver.close(files[step.file]!);
          else if (step.do === 'cancel') {
            const task = [...outcomes.keys()][step.which];
            if (task !== undefined && !task.ended) {
              task.cancel();
              cancelled.add(task);
            }
          } else yield* sleep(1);
        }
        yield* sleep(1);
        for (const task of outcomes.keys()) {
          if (!task.ended) {
            task.cancel();
            cancelled.add(task);
          }
        }
        yield* sleep(1);
        yield* sleep(1);
        for (const [task, count] of outcomes) {
          expect(task.ended).toBe(true);
          // One that was cancelled before it started never ran.
          expect(count).toBe(cancelled.has(task) ? count & 1 : 1);
          if (task.state === 'cancelled') expect(cancelled.has(task)).toBe(true);
        }
      });
    }),
    { numRuns: 200 },
  );
});

test('a thousand pipes and a thousand tasks find each other', async () => {
  await run(async () => {
    const pipes = Array.from({ length: 400 }, () => new Pipe());
    try {
      const tasks = pipes.map((ends) =>
        spawn(function* () {
          yield* readable(ends.reader);
          return ends.read();
        }),
      );
      for (const [i, { writer }] of pipes.entries()) {
        writeSync(writer, `${i}`);
        if (i % 7 === 0) await yieldNow();
      }
      for (const [i, task] of tasks.entries()) expect(await task).toBe(`${i}`);
    } finally {
      for (const ends of pipes) ends.close();
    }
  });
});

test('a loop that is not running says so', () => {
  expect(thrown(() => readable(0))).toMatchObject({ code: 'ERR_NO_LOOP' });
  expect(thrown(() => spawn(function* () {}))).toMatchObject({ code: 'ERR_NO_LOOP' });
});
