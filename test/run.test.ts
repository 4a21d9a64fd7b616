// Who drives the loop: Node, or the call itself.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { currentTask } from '../src/current.ts';
import {
  type Coroutine,
  type Main,
  type RunOptions,
  readable,
  run,
  runBlocking,
  scope,
  sleep,
  spawn,
  type Task,
  tcp,
  timeout,
  yieldNow,
} from '../src/index.ts';
import { readTrace } from '../src/trace/reader.ts';
import { Kind } from '../src/trace/record.ts';
import { open, openDescriptors, pipe, recorded, thrown } from './helpers.ts';
import { folder, script } from './processes.ts';

const POLLERS = ['epoll', 'poll', 'select'] as const;

function* slept<T>(ms: number, value: T): Coroutine<T> {
  yield* sleep(ms);
  return value;
}

/** How `main` does in each of the two. */
const DRIVERS: Record<string, <T>(main: Main<T>, options?: RunOptions) => Promise<T>> = {
  run,
  runBlocking: async (main, options) => runBlocking(main as never, options),
};

describe.each(Object.entries(DRIVERS))('%s', (_name, drive) => {
  test.each(POLLERS)('gives what main returns, on %s', async (poller) => {
    expect(await drive(() => slept(0.1, 'value'), { poller })).toBe('value');
    expect(await drive(slept(0.1, 'value'), { poller })).toBe('value');
    const ends = pipe();
    const echo = function* (): Coroutine<string> {
      const reader = spawn(function* () {
        yield* readable(ends.reader);
        return ends.read();
      });
      yield* sleep(1);
      ends.write('hello');
      return yield* reader;
    };
    expect(await drive(echo, { poller })).toBe('hello');
  });

  test('throws what main throws', async () => {
    const error = Object.freeze(new Error('expected'));
    for (const main of [
      () => {
        throw error;
      },
      function* (): Coroutine<void> {
        yield* sleep(0);
        throw error;
      },
    ]) {
      await expect(drive(main)).rejects.toBe(error);
    }
    await expect(
      drive(() => {
        throw undefined;
      }),
    ).rejects.toBeUndefined();
  });

  test('names the main task', async () => {
    expect(await drive(() => spawn(() => sleep(0)).join())).toBeUndefined();
    let name = '';
    const main = function* (): Coroutine<void> {
      yield* sleep(0);
      name = currentTask().name;
    };
    await drive(main);
    expect(name).toBe('main');
    await drive(main, { name: 'told' });
    expect(name).toBe('told');
  });

  test('refuses what cannot be run', async () => {
    for (const main of [undefined, null, 5, 'x', {}, Promise.resolve(), (async function* () {})()]) {
      await expect(drive(main as never)).rejects.toThrow(TypeError);
    }
    await expect(drive(async function* () {} as never)).rejects.toThrow('async generator');
    for (const poller of ['kqueue', 5, null])
      await expect(drive(() => slept(0, 0), { poller: poller as never })).rejects.toThrow(RangeError);
    await expect(drive(() => slept(0, 0), { trace: '/nonexistent/trace' })).rejects.toMatchObject({ code: 'ENOENT' });
    // And works all the same afterwards.
    expect(await drive(() => slept(0, 'fine'))).toBe('fine');
  });

  test('cancels what main leaves behind, and lets it clean up', async () => {
    const log: string[] = [];
    let left: Task<void> | null = null;
    await drive(function* () {
      left = spawn(function* () {
        try {
          yield* sleep(1e6);
        } finally {
          log.push('cleaned up');
        }
      });
      yield* sleep(0);
    });
    expect(left!.state).toBe('cancelled');
    expect(log).toEqual(['cleaned up']);
  });

  test('spawns nothing once main has ended', async () => {
    let error: unknown;
    await drive(function* () {
      spawn(function* () {
        try {
          yield* sleep(1e6);
        } finally {
          error = thrown(() => spawn(() => sleep(1)));
        }
      });
      yield* sleep(0);
    });
    expect(error).toMatchObject({ code: 'ERR_RUN_ENDED' });
  });

  test('may be called again and again, and leaves no descriptor', async () => {
    await drive(() => slept(0, 0));
    const before = openDescriptors();
    for (let i = 0; i < 50; i++) expect(await drive(() => slept(0, i))).toBe(i);
    expect(openDescriptors()).toBe(before);
  });

  test('inside runBlocking is ERR_LOOP_RUNNING, and the outer goes on', async () => {
    const errors: unknown[] = [];
    const value = runBlocking(function* () {
      errors.push(
        yield* (function* (): Coroutine<unknown> {
          let caught: unknown;
          drive(() => slept(0, 0)).catch((error) => {
            caught = error;
          });
          yield* sleep(0);
          return caught;
        })(),
      );
      return yield* slept(1, 'outer');
    });
    expect(value).toBe('outer');
  });
});

describe('run', () => {
  test('runs async functions', async () => {
    expect(
      await run(async () => {
        await sleep(0.1);
        await pause(1);
        return 'value';
      }),
    ).toBe('value');
  });

  test('may be called while it runs: they share the loop, and end each for itself', async () => {
    const log: string[] = [];
    const runs = [30, 1, 10].map((ms) => run(() => slept(ms, ms)).then((value) => void log.push(`${value}`)));
    await Promise.all(runs);
    expect(log).toEqual(['1', '10', '30']);
  });

  test.each(['yield', 'await'])('ends when its main does, whatever another run waits for (%s)', async (style) => {
    let stop = (): void => {};
    const long = run(async () => {
      const task = spawn(() => sleep(1e6));
      stop = () => task.cancel();
      await task.join().then(undefined, () => {});
    });
    const short = run(
      style === 'yield'
        ? () => slept(1, 'short')
        : async () => {
            await sleep(1);
            await null;
            return 'short';
          },
    );
    expect(await short).toBe('short');
    stop();
    await long;
  });

  test('inside run is another run on the same loop, whose tasks end with it', async () => {
    let inner: Task<void> | null = null;
    const value = await run(async () => {
      const result = await run(async () => {
        inner = spawn(() => sleep(1e6));
        await sleep(0);
        return 'inner';
      });
      expect(inner!.state).toBe('cancelled');
      await sleep(0);
      return `outer of ${result}`;
    });
    expect(value).toBe('outer of inner');
  });

  test('that fails leaves another alone', async () => {
    const good = run(() => slept(5, 'good'));
    await expect(run(() => Promise.reject(new Error('expected')))).rejects.toThrow('expected');
    expect(await good).toBe('good');
  });

  test('on another poller while one runs is ERR_LOOP_RUNNING', async () => {
    await run(async () => {
      await expect(run(() => slept(0, 0), { poller: 'poll' })).rejects.toMatchObject({ code: 'ERR_LOOP_RUNNING' });
      await sleep(0);
    });
    expect(await run(() => slept(0, 'poll'), { poller: 'poll' })).toBe('poll');
  });

  test('does not wait for a scope either in which all wait for somebody else’s promises', async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const value = await run(function* () {
      let waits = false;
      const body = (): Promise<void> => {
        waits = true;
        return gate;
      };
      spawn(() => timeout(60_000, () => scope(body)));
      while (!waits) yield* yieldNow();
      yield* yieldNow();
      return 'done';
    });
    expect(value).toBe('done');
    // Its time-out must not outlive the test.
    release();
    await run(() => slept(0, 'settled'));
  });

  test('does not wait for an async function that waits for somebody else’s promise', async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let outcome: unknown = 'nothing yet';
    await run(async () => {
      spawn(async () => {
        await gate;
        await sleep(0).then(undefined, (error: unknown) => {
          outcome = error;
        });
      });
      await sleep(0);
    });
    expect(outcome).toBe('nothing yet');
    release();
    await pause(0);
    // When it goes on it finds itself cancelled.
    expect(outcome).toMatchObject({ code: 'ERR_CANCELLED' });
  });

  test('lets Node’s own timers, promises and I/O go on', async () => {
    await run(async () => {
      const order: string[] = [];
      const busy = spawn(function* () {
        for (;;) yield* yieldNow();
      });
      setTimeout(() => order.push('timeout'), 1);
      process.nextTick(() => order.push('tick'));
      await pause(5);
      busy.cancel();
      expect(order).toEqual(['tick', 'timeout']);
    });
  });

  test('of three hundred thousand sleeping tasks keeps none of them', async () => {
    await run(async () => {
      let timers = 0;
      for (let round = 0; round < 3; round++) {
        await scope(async (s) => {
          let last: Task<void> | null = null;
          for (let i = 0; i < 100_000; i++) last = s.spawn(() => sleep(1e9));
          await sleep(0);
          timers = last!.loop.timers.size;
          s.cancel();
        });
      }
      expect(timers).toBeGreaterThanOrEqual(100_000);
      const task = spawn(function* () {});
      expect(task.loop.timers.size).toBe(0);
      await task;
    });
  });
});

describe('runBlocking', () => {
  test('returns when main has ended, and blocks until then', () => {
    let other = false;
    queueMicrotask(() => {
      other = true;
    });
    expect(runBlocking(() => slept(1, 'value'))).toBe('value');
    expect(other).toBe(false);
  });

  test('serves tasks side by side', () => {
    const log: number[] = [];
    const ends = [pipe(), pipe(), pipe()];
    runBlocking(function* () {
      const tasks = ends.map(({ reader }, i) =>
        spawn(function* () {
          yield* readable(reader);
          log.push(i);
        }),
      );
      for (const i of [1, 2, 0]) {
        ends[i]!.write();
        yield* tasks[i]!;
      }
    });
    expect(log).toEqual([1, 2, 0]);
  });

  test('of an async function is a TypeError that says why, whatever that does afterwards', async () => {
    const after: unknown[] = [];
    const note = (error: unknown): void => void after.push(error);
    process.on('unhandledRejection', note);
    const mains = [
      async () => {},
      async () => {
        throw new Error('too early');
      },
      async () => {
        await sleep(1);
      },
      async () => {
        await readable(open('/dev/null'));
      },
    ];
    for (const main of mains) {
      const error = thrown(() => runBlocking(main as never, { name: 'main' }));
      expect(error).toBeInstanceOf(TypeError);
      expect((error as Error).message).toMatch(
        /^main#\d+ is an async function, and runBlocking\(\) cannot run one: .* use run\(\)$/,
      );
    }
    await pause(5);
    process.off('unhandledRejection', note);
    expect(after).toEqual([]);
  });

  test('inside run is ERR_LOOP_RUNNING, and the outer goes on', async () => {
    const value = await run(async () => {
      expect(thrown(() => runBlocking(() => slept(0, 0)))).toMatchObject({
        name: 'OnewaitError',
        code: 'ERR_LOOP_RUNNING',
      });
      return run(() => slept(0, 'outer'));
    });
    expect(value).toBe('outer');
  });

  test('inside runBlocking is ERR_LOOP_RUNNING, and the outer goes on', () => {
    const value = runBlocking(function* () {
      expect(thrown(() => runBlocking(() => slept(0, 0)))).toMatchObject({
        name: 'OnewaitError',
        code: 'ERR_LOOP_RUNNING',
      });
      return yield* slept(0, 'outer');
    });
    expect(value).toBe('outer');
  });

  test('in which nothing can ever happen any more is ERR_DEADLOCK, and says who waits for what', () => {
    const error = thrown(() =>
      runBlocking(function* () {
        const first: Task<void> = spawn(() => second.join(), { name: 'first' });
        const second: Task<void> = spawn(() => first.join(), { name: 'second' });
        yield* first;
      }),
    );
    expect(error).toMatchObject({ name: 'OnewaitError', code: 'ERR_DEADLOCK' });
    expect((error as Error).message).toMatch(
      /main#\d+ on first#\d+, first#\d+ on second#\d+, second#\d+ on first#\d+$/,
    );
    // The loop is gone, and another can begin.
    expect(runBlocking(() => slept(0, 'fine'))).toBe('fine');
  });

  test('that waits forever on a descriptor or a timer is no deadlock', () => {
    const ends = pipe();
    expect(
      thrown(() =>
        runBlocking(function* () {
          spawn(() => sleep(Number.POSITIVE_INFINITY));
          yield* timeout(1, readable(ends.reader));
        }),
      ),
    ).toMatchObject({ code: 'ERR_TIMEOUT' });
  });

  test('makes one blocking call per event, and none that returns for nothing', () => {
    const waits = recorded(() => runBlocking(() => slept(20, 0))).filter(({ kind }) => kind === Kind.wait);
    expect(waits.filter(({ arg }) => arg !== 0).length).toBeLessThanOrEqual(2);
    expect(waits.length).toBeLessThanOrEqual(6);
  });

  test('serves TCP', () => {
    const text = runBlocking(function* () {
      const listener = yield* tcp.listen();
      const server = spawn(function* () {
        const stream = yield* listener.accept();
        const chunk = yield* stream.read();
        yield* stream.write(chunk!);
        yield* stream.close();
      });
      const client = yield* tcp.connect({ port: listener.address.port });
      yield* client.write('blocking');
      const chunk = yield* client.read();
      yield* server;
      client.destroy();
      listener.close();
      return Buffer.from(chunk!).toString();
    });
    expect(text).toBe('blocking');
  });
});

describe('the process', () => {
  test('ends by itself when nothing is pending', async () => {
    const child = script('await run(async () => { await sleep(1); }); console.log("over");');
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'over\n', stderr: '' });
  });

  test('stays while a timer or a descriptor is waited for, and no longer', async () => {
    const child = script('run(function* () { yield* sleep(50); console.log("slept"); }); console.log("started");');
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'started\nslept\n', stderr: '' });
  });

  test('ends with 13 when main waits for what can never happen, as Node does for any promise, and says who waits', async () => {
    const child = script('await run(async () => { await new Promise(() => {}); });');
    const { code, stdout, stderr } = await child.end();
    expect([code, stdout]).toEqual([13, '']);
    expect(stderr).toMatch(
      /^onewait: the process ends, for nothing can wake who is left: 1 task: 1 suspended\nrun\n└─ main#1 {2}suspended on a promise that is not onewait's\n/m,
    );
  });

  test('ends although tasks wait for each other, and says so once', async () => {
    const child = script(
      `process.once('beforeExit', () => setImmediate(() => {}));
      await run(function* () {
        const a = spawn(() => b.join(), { name: 'a' });
        const b = spawn(() => a.join(), { name: 'b' });
        yield* a;
      });`,
    );
    const { code, stderr } = await child.end();
    expect(code).toBe(13);
    expect(stderr.match(/onewait: the process ends/g)).toHaveLength(1);
    for (const line of ['main#1  suspended on a#2', 'a#2  suspended on b#3', 'b#3  suspended on a#2'])
      expect(stderr).toContain(line);
  });

  test.each([
    [
      'are deeper than the stack',
      'const nest = (n) => (n === 0 ? never() : scope(() => nest(n - 1))); run(() => nest(20_000));',
    ],
    [
      'are more than a call has arguments',
      'run(() => scope((s) => { for (let i = 0; i < 10; i++) s.spawn(() => scope((t) => { for (let j = 0; j < (i < 9 ? 1 : 300_000); j++) t.spawn(never); return never(); })); return never(); }));',
    ],
  ])('says who is left also where they %s', async (_what, source) => {
    const child = script(`const never = () => new Promise(() => {});\n${source}`);
    const { code, stderr } = await child.end();
    expect({ code, stderr: stderr.slice(0, 61) }).toEqual({
      code: 0,
      stderr: 'onewait: the process ends, for nothing can wake who is left: ',
    });
    expect(stderr.length).toBeLessThan(20_000);
  });

  test('says of a worker thread that it is that which ends', async () => {
    const child = script(`
      import { Worker } from 'node:worker_threads';
      new Worker(\`import('onewait').then(({ run }) => { run(() => new Promise(() => {})); })\`, { eval: true })
        .on('exit', (code) => { console.log('exit', code); });
    `);
    const { code, stdout, stderr } = await child.end();
    expect([code, stdout]).toEqual([0, 'exit 0\n']);
    expect(stderr).toMatch(
      /^onewait: worker 1 ends, for nothing can wake who is left: 1 task: 1 suspended\nrun\n└─ main#1 /,
    );
  });

  test.each([
    ['is not awaited and has ended', 'run(function* () { yield* sleep(1); });', 0],
    [
      'is ended by process.exit()',
      'await run(() => { setTimeout(() => process.exit(3), 1); return new Promise(() => {}); });',
      3,
    ],
    [
      'goes on after all, when Node has had nothing to do',
      "let wake; process.once('beforeExit', () => setTimeout(wake, 1)); await run(() => new Promise((resolve) => { wake = resolve; }));",
      0,
    ],
    [
      'waits while another part of the program ends it',
      "process.once('beforeExit', () => setTimeout(() => process.exit(3), 1)); run(() => new Promise(() => {}));",
      3,
    ],
  ])('says nothing of a run that %s', async (_what, source, code) => {
    expect(await script(source).end()).toMatchObject({ code, stdout: '', stderr: '' });
  });

  test('ends with 1 and the stack when run() fails and nobody handles it', async () => {
    const child = script('await run(async function failing() { await sleep(1); throw new Error("expected"); });');
    const { code, stderr } = await child.end();
    expect(code).toBe(1);
    expect(stderr).toContain('Error: expected');
    expect(stderr).toContain('failing');
  });

  test('is not ended by the failure of a task, which standard error tells once', async () => {
    const child = script(`
      await run(async () => {
        spawn(async () => { await sleep(1); throw new Error('expected'); }, { name: 'lonely' });
        await sleep(20);
        console.log('alive');
      });`);
    const { code, stdout, stderr } = await child.end();
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'alive\n' });
    expect(stderr.match(/onewait: task lonely#\d+ failed: Error: expected/g)?.length).toBe(1);
  });

  test('is told of an operation that nobody waits for', async () => {
    const child = script('await run(function* main() { sleep(10); }); console.log("over");');
    const { code, stdout, stderr } = await child.end();
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'over\n' });
    expect(stderr).toContain('[ONEWAIT_UNUSED_OPERATION] Warning: main#');
  });

  test.skipIf(spawnSync('unshare', ['-T', '--monotonic', '1', 'true']).status !== 0)(
    'sleeps no shorter, and no longer, on a machine that has been up for a hundred years',
    async () => {
      const child = script(
        `const slept = [];
        const nap = function* (ms) { const from = performance.now(); yield* sleep(ms); slept.push(performance.now() - from >= ms); };
        await run(function* () {
          yield* all([nap(0), nap(0.5), nap(20)]);
          try { yield* timeout(5, sleep(1e9)); } catch ({ code }) { console.log(code); }
        });
        runBlocking(() => nap(3));
        console.log(process.hrtime()[0] > 3e9, slept.join());`,
        { wrap: ['unshare', '-T', '--monotonic', `${100 * 365 * 86_400}`] },
      );
      expect(await child.end()).toMatchObject({
        code: 0,
        stdout: 'ERR_TIMEOUT\ntrue true,true,true,true\n',
        stderr: '',
      });
    },
  );

  test('does next to nothing while everything is suspended', async () => {
    const trace = join(folder(), 'trace');
    await run(() => slept(100, 0), { trace });
    const waits = [...readTrace(trace).records].filter(({ kind }) => kind === Kind.wait);
    // A loop that spins waits tens of thousands of times.
    expect(waits.length).toBeLessThan(100);
  });
});
