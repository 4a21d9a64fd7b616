// The watchdog: who holds up the loop is named while it does so, by a thread of its own. So the programs here are processes that may never end by themselves.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type RunOptions, run, runBlocking } from '../src/index.ts';
import { folder, script } from './processes.ts';

/** Enough for a program that is not held up never to be reported, however busy the machine is. */
const PATIENT = 5000;

describe.each([
  ['a generator', 'function* endless() { yield* sleep(1); spin(); }'],
  ['an async function', 'async function endless() { await sleep(1); spin(); }'],
  [
    'an async function, by what it calls after a promise',
    'async function endless() { await Promise.resolve(); await sleep(1); spin(); }',
  ],
  [
    'a generator in a scope',
    'function* outer() { yield* scope((s) => { s.spawn(endless); return sleep(1000); }); } function* endless() { yield* sleep(1); spin(); }',
    'outer',
  ],
])('%s that never waits', (_, source, main = 'endless') => {
  test('is named with where it is, once, while it goes on', async () => {
    const child = script(`
      function spin() { for (let i = 0; ; i++); }
      ${source}
      run(function* main() { yield* spawn(${main}); }, { watchdog: 100 });
    `);
    const [report, ms] = await child.says(
      /^onewait: endless#\d+ has held up the loop for (\d+) ms, and nobody else goes on meanwhile\. It is\n {4}at spin \(file:.*:\d+:\d+\)\n {4}at endless \(/m,
      'stderr',
    );
    expect(Number(ms)).toBeGreaterThanOrEqual(100);
    child.kill();
    const { stderr } = await child.end();
    expect(stderr.match(/held up/g)).toHaveLength(1);
    expect(report).not.toContain('undefined');
  });
});

test('what holds up runBlocking is named, too', async () => {
  const child = script(`
    runBlocking(function* () {
      yield* spawn(function* endless() { yield* sleep(1); for (;;); });
    }, { watchdog: 100 });
  `);
  await child.says(/^onewait: endless#2 has held up the loop for/m, 'stderr');
});

test('a callback of Node’s own that does not return is no coroutine', async () => {
  const child = script(`
    run(function* main() {
      setTimeout(function callback() { for (;;); }, 1);
      yield* sleep(100_000);
    }, { watchdog: 100 });
  `);
  await child.says(
    /^onewait: code that is no coroutine has held up the loop for .*\n {4}at (Timeout\.)?callback /m,
    'stderr',
  );
});

test('says when the loop goes on, and is quiet again until it is held up once more', async () => {
  const child = script(`
    const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    await run(function* main() {
      for (const name of ['first', 'second']) {
        yield* spawn(function* () { busy(1000); }, { name });
        yield* sleep(500);
      }
    }, { watchdog: 300 });
  `);
  const { code, stderr } = await child.end();
  expect(code).toBe(0);
  const said = stderr.split('\n').filter((line) => line.startsWith('onewait:'));
  expect(said.map((line) => line.replace(/\d+ ms|\d+\.\d s/, 'T'))).toEqual([
    'onewait: first#2 has held up the loop for T, and nobody else goes on meanwhile. It is',
    'onewait: the loop goes on after T',
    'onewait: second#3 has held up the loop for T, and nobody else goes on meanwhile. It is',
    'onewait: the loop goes on after T',
  ]);
});

test('a call that blocks is reported while it does, and who made it when it has come back', async () => {
  const child = script(
    `
    import { readFileSync } from 'node:fs';
    import { execFileSync } from 'node:child_process';
    const fifo = process.argv[1] + '/fifo';
    execFileSync('mkfifo', [fifo]);
    await run(function* main() {
      yield* spawn(function* reader() { yield* sleep(1); readFileSync(fifo); for (;;); });
    }, { watchdog: 100 });
  `,
    { args: [folder()] },
  );
  await child.says(
    /^onewait: the loop has been held up for \d+ ms by a call that has not come back to JavaScript/m,
    'stderr',
  );
  expect(child.stderr).not.toContain('reader');
  const fifo = child.process.spawnargs.at(-1)!;
  const writer = script(`import { writeFileSync } from 'node:fs'; writeFileSync(process.argv[1] + '/fifo', '');`, {
    args: [fifo],
  });
  expect((await writer.end()).code).toBe(0);
  await child.says(/^onewait: reader#2 has held up the loop for/m, 'stderr');
});

test('who waits holds nobody up, however long that takes', async () => {
  const child = script(`
    await run(function* main() {
      yield* all([sleep(1500), async () => { for (let i = 0; i < 1000; i++) await yieldNow(); }]);
    }, { watchdog: 700 });
  `);
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
});

test('what goes on between two runs holds up no loop', async () => {
  const child = script(`
    const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    await run(() => sleep(1), { watchdog: 1000 });
    busy(1200);
    const second = run(() => sleep(1), { watchdog: 1000 });
    busy(100);
    await second;
    busy(1200);
    runBlocking(function* () { busy(100); }, { watchdog: 1000 });
  `);
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
});

test('ONEWAIT_WATCHDOG asks for it where the program does not', async () => {
  const program = (options: string) => `
    run(function* endless() { for (;;); }, { name: 'endless' ${options} });
  `;
  await script(program(''), { env: { ONEWAIT_WATCHDOG: '100' } }).says(/^onewait: endless#1 has held up/m, 'stderr');
  await script(program(', watchdog: 150'), { env: { ONEWAIT_WATCHDOG: '2000000' } }).says(
    /endless#1 has held up/,
    'stderr',
  );
  for (const bad of ['0', '-1', 'soon', '1.5', '1e100']) {
    const { code, stderr } = await script(program(''), { env: { ONEWAIT_WATCHDOG: bad } }).end();
    expect(code).toBe(1);
    expect(stderr).toMatch(/RangeError: ONEWAIT_WATCHDOG must be a whole number from 1 to 2147483647, and is /);
  }
});

test('of several runs at a time the one that asks for the least is heard, until it has ended', async () => {
  const child = script(`
    const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    const strict = run(function* strict() { yield* sleep(300); yield* spawn(function* first() { busy(700); }); yield* sleep(100); }, { watchdog: 300 });
    await run(function* () { yield* sleep(1); }, { watchdog: ${PATIENT} });
    const lenient = run(function* () { yield* sleep(1500); yield* spawn(function* second() { busy(700); }); }, { watchdog: ${PATIENT} });
    await strict;
    await lenient;
  `);
  const { code, stderr } = await child.end();
  expect(code).toBe(0);
  expect(stderr.match(/^onewait: .* has held up/gm)).toEqual([expect.stringMatching(/^onewait: first#\d+ has/)]);
});

test('a reader of standard error that has stopped reading does not stop the program', async () => {
  const here = folder();
  execFileSync('mkfifo', [join(here, 'pipe')]);
  const child = script(
    `
    import { writeFileSync } from 'node:fs';
    const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    await run(function* () {
      for (let i = 0; i < 3; i++) { yield* spawn(function* () { busy(200); }); yield* sleep(50); }
    }, { watchdog: 50 });
    writeFileSync(process.argv[1] + '/over', '');
    process.exit();
  `,
    {
      args: [here],
      // A pipe that is full, and that nobody reads.
      wrap: ['bash', '-c', 'exec {pipe}<>"$0/pipe"; head -c 65536 /dev/zero >&$pipe; exec "$@" 2>&$pipe', here],
    },
  );
  expect((await child.end()).code).toBe(0);
  expect(existsSync(join(here, 'over'))).toBe(true);
});

test('each worker thread has its own, and one that never waits can be terminated', async () => {
  const child = script(`
    import { Worker } from 'node:worker_threads';
    const body = "import { run, spawn, sleep } from '" + import.meta.resolve('onewait') + "';"
      + "run(function* () { yield* spawn(function* endless() { yield* sleep(1); for (;;); }); }, { watchdog: 100 });";
    const workers = Array.from({ length: 3 }, () => new Worker(new URL('data:text/javascript,' + encodeURIComponent(body))));
    await run(function* main() {
      yield* spawn(async () => { for await (const _ of process.stdin); });
      for (const worker of workers) yield* spawn(() => worker.terminate());
    }, { watchdog: ${PATIENT} });
  `);
  await child.says(/(endless#2 has held up[\s\S]*){3}/, 'stderr');
  child.process.stdin!.end();
  const { code, stderr } = await child.end();
  expect(code).toBe(0);
  expect(stderr.match(/held up/g)).toHaveLength(3);
});

test.each([
  [{ watchdog: 0 }, RangeError],
  [{ watchdog: -1 }, RangeError],
  [{ watchdog: 1.5 }, RangeError],
  [{ watchdog: Number.NaN }, RangeError],
  [{ watchdog: Number.POSITIVE_INFINITY }, RangeError],
  [{ watchdog: 2 ** 31 }, RangeError],
  [{ watchdog: '100' as unknown as number }, TypeError],
  [{ watchdog: null as unknown as number }, TypeError],
] as [RunOptions, ErrorConstructor][])('%o is refused', async (options, type) => {
  const main = function* () {
    throw new Error('must not run');
  };
  await expect(run(main, options)).rejects.toThrow(type);
  expect(() => runBlocking(main, options)).toThrow(type);
});

test('its thread ends with the run', async () => {
  const child = script(`
    import { readdirSync } from 'node:fs';
    const threads = () => readdirSync('/proc/self/task').length;
    const counts = [threads()];
    const main = function* () { yield* sleep(1); counts.push(threads()); };
    await run(main, { watchdog: ${PATIENT} });
    counts.push(threads());
    runBlocking(main, { watchdog: ${PATIENT} });
    counts.push(threads());
    console.log(counts.map((count) => count - counts[0]).join());
  `);
  expect(await child.end()).toMatchObject({ code: 0, stdout: '0,1,0,1,0\n', stderr: '' });
});
