// The waits that everything is made of: lazy, single-use, settled once, taken back without a trace.

import diagnostics from 'node:diagnostics_channel';
import { getEventListeners } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  all,
  type Coroutine,
  type Operation,
  race,
  readable,
  run,
  runBlocking,
  scope,
  sleep,
  spawn,
  tcp,
  timeout,
  writable,
  yieldNow,
} from '../src/index.ts';
import { EVENT_READ, EVENT_WRITE } from '../src/selectors.ts';
import { Channel } from '../src/sync/index.ts';
import { Kind } from '../src/trace/record.ts';
import { open, pipe, recorded, suspended, thrown } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, on, thrownBy } from './styles.ts';
import { until } from './until.ts';

/** Every kind of operation, made anew. */
const OPERATIONS: Record<string, () => Operation<unknown>> = {
  'sleep(0)': () => sleep(0),
  'yieldNow()': () => yieldNow(),
  'readable(fd)': () => readable(devNull()),
  'writable(fd)': () => writable(devNull()),
  'task.join()': () => spawn(function* () {}).join(),
  'all([])': () => all([]),
  'race([task])': () => race([spawn(function* () {})]),
  'scope(body)': () => scope(function* () {}),
  'timeout(ms, body)': () => timeout(1000, function* () {}),
  'tcp.listen()': () => tcp.listen(),
};

function devNull(): number {
  return open('/dev/null');
}

describe.each(Object.entries(OPERATIONS))('%s', (name, make) => {
  both('is good for one wait, and says so when it is waited for again', function* () {
    const operation = make();
    close(yield* on(operation));
    expect(yield* thrownBy(() => operation)).toMatchObject({
      name: 'OnewaitError',
      code: 'ERR_OPERATION_USED',
      message: expect.stringContaining('call the method again'),
    });
  });

  // Listening at an address waits for nothing.
  if (name !== 'tcp.listen()') {
    both('throws Cancelled in a task that was cancelled', function* (style) {
      let error: unknown;
      const task = style.spawn(function* () {
        task.cancel('enough');
        error = yield* thrownBy(make);
        yield* on(yieldNow());
      });
      expect(yield* thrownBy(() => task)).toMatchObject({ name: 'Cancelled', code: 'ERR_CANCELLED', cause: 'enough' });
      expect(error).toMatchObject({ name: 'Cancelled', code: 'ERR_CANCELLED', cause: 'enough' });
    });
  }

  test('that is never waited for is warned of', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    await run(async () => {
      await spawn(
        function* () {
          make();
        },
        { name: 'forgetful' },
      );
    });
    await until('the warning', () => warnings.length > 0);
    expect(warnings.map((warning) => [(warning as Error & { code: string }).code, warning.message])).toEqual([
      ['ONEWAIT_UNUSED_OPERATION', expect.stringMatching(/^forgetful#\d+ made .* 'yield\*' or 'await'$/)],
    ]);
  });
});

function close(value: unknown): void {
  (value as Partial<Disposable> | undefined)?.[Symbol.dispose]?.();
}

describe('laziness', () => {
  test('making an operation registers nothing and sets no timer', () =>
    simulate(function* (driver) {
      const file = driver.open(EVENT_READ);
      const made = [readable(file.fd), writable(file.fd), sleep(1)];
      yield* yieldNow();
      expect(driver.registered.size).toBe(0);
      driver.at(50, () => {
        file.ready |= EVENT_WRITE;
      });
      const start = driver.now();
      yield* made[2]!;
      expect(driver.now() - start).toBe(1);
      yield* made[0]!;
      yield* made[1]!;
    }));

  test('a task that fails or is cancelled before it waits is not warned', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    await run(async () => {
      const task = spawn(() => {
        sleep(1);
        throw new Error('expected');
      });
      await expect(task.join()).rejects.toThrow('expected');
      // Nor is one whose operations were handed over, and were not needed in the end.
      await race([yieldNow(), sleep(1000), timeout(1000, sleep(1000))]);
      const failing = function* (): Coroutine<void> {
        yield* yieldNow();
        throw new Error('first');
      };
      await expect(Promise.resolve(all([failing, sleep(1000)]))).rejects.toThrow('first');
      const broken = (): never => {
        throw new Error('at once');
      };
      await expect(Promise.resolve(all([broken, sleep(1000), timeout(1000, () => sleep(1))]))).rejects.toThrow(
        'at once',
      );
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).toEqual([]);
  });
});

describe('arguments', () => {
  both('are checked when the method is called', function* () {
    for (const ms of [Number.NaN, -1, -0.001, Number.NEGATIVE_INFINITY]) expect(() => sleep(ms)).toThrow(RangeError);
    for (const ms of ['1', null, undefined, {}, 1n]) expect(() => sleep(ms as number)).toThrow(TypeError);
    for (const make of [readable, writable]) {
      for (const fd of [-1, Number.NaN, 1.5, 2 ** 31, 2 ** 32 + 5]) expect(() => make(fd)).toThrow(RangeError);
      for (const fd of ['3', null, undefined, {}, 3n]) expect(() => make(fd as number)).toThrow(TypeError);
    }
    const task = spawn(function* () {});
    for (const signal of ['x', {}, null, new EventTarget()]) {
      const options = { signal: signal as AbortSignal };
      for (const call of [
        () => sleep(1, options),
        () => readable(0, options),
        () => writable(0, options),
        () => task.join(options),
      ]) {
        expect(call).toThrow(TypeError);
      }
    }
    yield* on(task);
  });

  both('of a descriptor that is not open are EBADF when it is waited for', function* () {
    const ends = pipe();
    ends.close();
    const error = yield* thrownBy(() => readable(ends.reader));
    expect(error).toMatchObject({
      code: 'EBADF',
      errno: -9,
      fd: ends.reader,
      message: expect.stringContaining(`fd ${ends.reader}`),
    });
  });
});

describe('sleep', () => {
  both('is never early', function* () {
    for (const ms of [0, 0.01, 0.5, 1, 2.7, 5]) {
      const start = performance.now();
      yield* on(sleep(ms));
      expect(performance.now() - start).toBeGreaterThanOrEqual(ms);
    }
  });

  test('resumes in the order of deadlines, first in first out among equals', () =>
    simulate(async (driver) => {
      const order: string[] = [];
      const sleeper = (name: string, ms: number) => async () => {
        await sleep(ms);
        order.push(`${name} at ${driver.now()}`);
      };
      const tasks = [sleeper('c', 30), sleeper('a', 10), sleeper('b1', 20), sleeper('b2', 20), sleeper('z', 0)].map(
        (main) => spawn(main),
      );
      for (const task of tasks) await task;
      expect(order).toEqual(['z at 0', 'a at 10', 'b1 at 20', 'b2 at 20', 'c at 30']);
    }));

  test('takes fractions, and more than 2^31 ms', () =>
    simulate(function* (driver) {
      for (const ms of [0.25, 2 ** 31, 2 ** 31 + 0.5, 2 ** 40, 1e15]) {
        const start = driver.now();
        yield* sleep(ms);
        expect(driver.now() - start).toBeCloseTo(ms, 0);
      }
    }));

  both('of 2^31 ms and more does not end at once, and costs no turns', function* (style) {
    const long = [2 ** 31, 2 ** 32 + 5, Number.MAX_VALUE, Number.POSITIVE_INFINITY].map((ms) =>
      style.spawn(() => on(sleep(ms))),
    );
    yield* on(sleep(5));
    for (const task of long) {
      expect(task.state).toBe('suspended');
      task.cancel();
    }
  });

  test('the clock only moves forward, and costs one turn per deadline', () =>
    simulate(function* (driver) {
      let before = driver.now();
      const turns = driver.turns;
      for (let i = 0; i < 100; i++) {
        yield* sleep(i % 7);
        expect(driver.now()).toBeGreaterThanOrEqual(before);
        before = driver.now();
      }
      expect(driver.turns - turns).toBeLessThanOrEqual(101);
    }));

  test('of nanoseconds reaches the kernel as nanoseconds', () => {
    const asked = recorded(() =>
      runBlocking(function* () {
        yield* sleep(0.9);
      }),
    )
      .filter(({ kind }) => kind === Kind.wait)
      .map(({ arg }) => arg);
    const waits = asked.filter((ns) => ns > 0);
    expect(waits.length).toBeGreaterThan(0);
    expect(waits[0]).toBeLessThanOrEqual(900_000);
    expect(waits[0]! % 1_000_000).not.toBe(0);
  });

  test('a hundred thousand, cancelled, leave nothing behind', () =>
    simulate(async (driver) => {
      const tasks = Array.from({ length: 100_000 }, () => spawn(() => sleep(1e9)));
      await sleep(1);
      const { timers } = tasks[0]!.loop;
      expect(timers.size).toBe(100_000);
      for (const task of tasks) task.cancel();
      expect(timers.size).toBe(0);
      await sleep(1);
      expect(driver.now()).toBe(2);
    }));
});

describe('a signal', () => {
  const WAITS: Record<string, (signal: AbortSignal, fd: number) => Operation<unknown>> = {
    sleep: (signal) => sleep(1e9, { signal }),
    readable: (signal, fd) => readable(fd, { signal }),
    writable: (signal, fd) => writable(fd, { signal }),
    join: (signal) => {
      const task = spawn(() => sleep(1e9));
      task.adopt();
      return task.join({ signal });
    },
  };

  test('is let go also when who looks on settles the wait while it begins', () =>
    run(function* () {
      const channel = new Channel<string>();
      const { signal } = new AbortController();
      const suspends = diagnostics.channel('onewait:task:suspend');
      const lookOn = (): void => void channel.trySend('at once');
      suspends.subscribe(lookOn);
      onTestFinished(() => void suspends.unsubscribe(lookOn));
      yield* yieldNow();
      expect(yield* channel.receive({ signal })).toBe('at once');
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    }));

  describe.each(Object.entries(WAITS))('of %s', (name, make) => {
    /** The end of a pipe that is not ready for it. */
    const idle = (): number => {
      const ends = pipe();
      if (name === 'writable') ends.fill();
      return name === 'writable' ? ends.writer : ends.reader;
    };

    both('that is aborted already rejects with its reason, and nothing is registered', function* () {
      const reason = { any: 'reason' };
      expect(yield* thrownBy(() => make(AbortSignal.abort(reason), idle()))).toBe(reason);
    });

    both('that is aborted while waiting rejects with its reason', function* (style) {
      const controller = new AbortController();
      const fd = idle();
      const task = style.spawn(() => on(make(controller.signal, fd)));
      yield* suspended(task);
      expect(task.state).toBe('suspended');
      controller.abort(new Error('because'));
      expect(yield* thrownBy(() => task)).toMatchObject({ message: 'because' });
      expect(task.state).toBe('failed');
    });

    both('with no reason rejects with AbortError', function* (style) {
      const controller = new AbortController();
      const fd = idle();
      const task = style.spawn(() => on(make(controller.signal, fd)));
      yield* suspended(task);
      controller.abort();
      expect(yield* thrownBy(() => task)).toMatchObject({ name: 'AbortError' });
    });
  });

  both('that is aborted after the event changes nothing', function* (style) {
    const controller = new AbortController();
    const ends = pipe();
    const task = style.spawn(function* () {
      yield* on(readable(ends.reader, { signal: controller.signal }));
      return ends.read();
    });
    yield* on(yieldNow());
    ends.write('x');
    yield* on(task);
    controller.abort();
    expect(task.state).toBe('done');
  });

  test('aborted in the turn of the event: the event came first, and the wait has one outcome', () =>
    simulate(function* (driver) {
      const file = driver.open();
      const controller = new AbortController();
      const task = spawn(() => readable(file.fd, { signal: controller.signal }));
      yield* sleep(1);
      driver.at(5, () => {
        file.ready = EVENT_READ;
      });
      // Expires in the turn that brings the event, after it.
      yield* sleep(4);
      controller.abort();
      yield* task;
      expect(task.state).toBe('done');
    }));

  both('holds no listener once the wait is over', function* () {
    const controller = new AbortController();
    let listeners = 0;
    const { signal } = controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    };
    for (let i = 0; i < 100; i++) yield* on(sleep(0.01, { signal }));
    expect(listeners).toBe(0);
  });
});

describe('a wait that was cancelled', () => {
  test('did not happen: the event goes to the next in line, in its own turn', () =>
    simulate(function* (driver) {
      const file = driver.open();
      const first = spawn(() => readable(file.fd));
      let woken = 0;
      const second = spawn(function* () {
        yield* readable(file.fd);
        woken = driver.turns;
      });
      yield* sleep(1);
      first.cancel();
      let happened = 0;
      driver.at(5, () => {
        file.ready = EVENT_READ;
        happened = driver.turns;
      });
      yield* second;
      expect(first.state).toBe('cancelled');
      expect(woken).toBe(happened);
    }));

  test('in the turn of its event, after the event, has happened', () =>
    simulate(function* (driver) {
      const file = driver.open();
      const log: string[] = [];
      const task = spawn(function* () {
        yield* readable(file.fd);
        log.push('readable');
        yield* sleep(1);
        log.push('not reached');
      });
      task.adopt();
      yield* sleep(1);
      driver.at(5, () => {
        file.ready = EVENT_READ;
      });
      yield* sleep(4);
      task.cancel();
      yield* sleep(10);
      // The event had been delivered; the next wait throws.
      expect(log).toEqual(['readable']);
      expect(task.state).toBe('cancelled');
    }));

  test('before its event, in the same turn, leaves the event to others', () =>
    simulate(function* (driver) {
      const first = driver.open();
      const second = driver.open();
      const log: string[] = [];
      const victim = spawn(function* () {
        yield* readable(second.fd);
        log.push('victim');
      });
      const other = spawn(function* () {
        yield* readable(second.fd);
        log.push('other');
      });
      yield* sleep(1);
      victim.cancel();
      first.ready = second.ready = EVENT_READ;
      yield* other;
      expect(log).toEqual(['other']);
    }));
});

test('an error of the system says where the coroutine waited', async () => {
  await run(function* whereItWaited() {
    // Not before: its numbers would be free for what a run opens.
    const ends = pipe();
    ends.close();
    try {
      yield* readable(ends.reader);
      expect.unreachable();
    } catch (error) {
      expect((error as Error).stack).toContain('whereItWaited');
    }
  });
});

test('a generator that is returned from outside gives up its wait', () =>
  simulate(function* (driver) {
    const file = driver.open();
    const coroutine = (function* (): Coroutine<void> {
      yield* readable(file.fd);
    })();
    const task = spawn(coroutine);
    yield* sleep(1);
    coroutine.return();
    file.ready = EVENT_READ;
    yield* task;
    expect(task.state).toBe('done');
  }));

test('nothing can be waited for without a loop', () => {
  for (const make of [
    () => sleep(1),
    () => yieldNow(),
    () => readable(0),
    () => all([]),
    () => scope(function* () {}),
  ]) {
    expect(thrown(make)).toMatchObject({ code: 'ERR_NO_LOOP', message: expect.stringContaining('run(main)') });
  }
});
