// Recording from within a program, by its environment, by several threads, and the flight recorder.

import { existsSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readTrace, type TraceRecord } from '../src/trace/reader.ts';
import { Kind, SYSCALLS, TextKind } from '../src/trace/record.ts';
import { recordFlight } from '../src/trace/recorder.ts';
import { TraceFormatter } from '../src/trace/show.ts';
import { folder, needs, script } from './processes.ts';

const records = (path: string): TraceRecord[] => [...readTrace(path).records];

function show(path: string): string {
  const formatter = new TraceFormatter();
  return [...records(path).flatMap((record) => formatter.push(record)), ...formatter.end()].join('\n');
}

const count = (path: string, kind: number): number => records(path).filter((record) => record.kind === kind).length;

/** Sleeps twice, in a task of its own. */
const NAPS = `await run(async () => { await spawn(async () => { await sleep(1); await sleep(1); }, { name: 'nap' }); });`;

test('ONEWAIT_TRACE records any program, without a change to it', async () => {
  const path = join(folder(), 'trace');
  const { code, stderr } = await script(NAPS, { env: { ONEWAIT_TRACE: path } }).end();
  expect([code, stderr]).toEqual([0, '']);
  expect(show(path)).toMatch(/nap#\d+ suspends on 1 ms/);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('ONEWAIT_TRACE records a program that uses nothing but a selector', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { EpollSelector, EVENT_READ } from '${new URL('../dist/src/selectors.js', import.meta.url)}';
    const selector = new EpollSelector();
    selector.register(0, EVENT_READ);
    selector.select(0);`,
    { env: { ONEWAIT_TRACE: path } },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  expect(count(path, Kind.wait)).toBe(1);
  expect(count(path, Kind.control)).toBe(1);
});

test('start and stop record what happens between them, and name the tasks that were there before', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { start, stop } from 'onewait/trace';
    await run(async () => {
      const early = spawn(async () => { await sleep(1); await sleep(5); await sleep(1); }, { name: 'early' });
      await sleep(3);
      start(process.argv[1]);
      await early;
      stop();
      await spawn(async () => { await sleep(1); }, { name: 'late' });
    });`,
    { args: [path] },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const lines = show(path);
  expect(lines).toMatch(/early#\d+ done/);
  expect(lines).not.toMatch(/late#/);
});

test('a second recording of a thread is refused, and says what to do', async () => {
  const [first, second] = [join(folder(), 'first'), join(folder(), 'second')];
  const child = script(
    `import { start, stop } from 'onewait/trace';
    start(process.argv[1]);
    try { start(process.argv[2]); } catch (error) { console.log(error.code, error.message); }
    stop();
    start(process.argv[2]);`,
    { args: [first, second] },
  );
  const { stdout } = await child.end();
  expect(stdout).toMatch(/^ERR_RECORDING .*stop that first\n$/);
  expect(existsSync(second)).toBe(true);
});

test.each([
  ['start(5)', 'TypeError'],
  ["start('')", 'TypeError'],
  ["start('/tmp/x', { payload: -1 })", 'RangeError'],
  ["start('/tmp/x', { payload: 1.5 })", 'RangeError'],
  ["start('/tmp/x', { payload: 4097 })", 'RangeError'],
  ["startFlightRecorder('/tmp/x', { bytes: 10 })", 'RangeError'],
  ["startFlightRecorder('/tmp/x', { bytes: NaN })", 'RangeError'],
  ["startFlightRecorder('/tmp/x', { slowTurnMs: -1 })", 'RangeError'],
  ['dump()', 'OnewaitError'],
])('%s is a %s', async (call, name) => {
  const child = script(
    `import { dump, start, startFlightRecorder } from 'onewait/trace';
    try { ${call}; } catch (error) { console.log(error.name); }`,
  );
  expect((await child.end()).stdout).toBe(`${name}\n`);
});

test.each([
  [{ ONEWAIT_TRACE_RING: '16 elephants' }, /RangeError: ONEWAIT_TRACE_RING must be a size such as 16MiB/],
  [{ ONEWAIT_TRACE_RING: '1KiB' }, /RangeError: a flight recorder keeps between/],
  [
    { ONEWAIT_TRACE_RING: '64K', ONEWAIT_TRACE_SLOW: 'soon' },
    /RangeError: ONEWAIT_TRACE_SLOW must be a number, 0 or more, and is 'soon'/,
  ],
  [
    { ONEWAIT_TRACE: '/nonexistent/trace', ONEWAIT_TRACE_PAYLOAD: 'all' },
    /RangeError: ONEWAIT_TRACE_PAYLOAD must be a number, 0 or more, and is 'all'/,
  ],
  [
    { ONEWAIT_TRACE: '/nonexistent/trace' },
    /cannot record a trace in \/nonexistent\/trace: open ENOENT, its folder does not exist/,
  ],
])('an environment of %j fails with one clear error', async (env, message) => {
  const { code, stderr } = await script(NAPS, { env }).end();
  expect(code).toBe(1);
  expect(stderr).toMatch(message);
});

test('threads that name the same file share it, and each record says whose it is', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { Worker } from 'node:worker_threads';
    const code = \`import('\${process.argv[2]}').then(({ run, sleep }) => run(async () => { for (let i = 0; i < 30; i++) await sleep(1); }, { name: 'worker' }));\`;
    await run(async () => {
      const workers = [1, 2, 3].map(() => new Worker(code, { eval: true }));
      await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
    });`,
    { args: [path, new URL('../dist/src/index.js', import.meta.url).href], env: { ONEWAIT_TRACE: path } },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const all = records(path);
  expect(new Set(all.map((record) => record.thread))).toEqual(new Set([0, 1, 2, 3]));
  for (const thread of [1, 2, 3]) {
    const own = all.filter((record) => record.thread === thread);
    expect(own.filter((record) => record.kind === Kind.timer)).toHaveLength(30);
    // One clock for all, and in order within a thread.
    const times = own.filter(({ kind }) => kind === Kind.timer || kind === Kind.end).map(({ t }) => t);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  }
  const ends = all.filter((record) => record.kind === Kind.end);
  expect(ends.findLast((record) => record.thread === 0)!.t).toBeGreaterThan(
    ends.find((record) => record.thread === 1)!.t,
  );
});

test('a file that another process is writing is left alone: a program that inherited its name takes another', async () => {
  const path = join(folder(), 'trace');
  const first = script(`await run(async () => { console.log('recording'); await sleep(60_000); });`, {
    env: { ONEWAIT_TRACE: path },
  });
  await first.says(/recording/);
  const second = script(NAPS, { env: { ONEWAIT_TRACE: path } });
  expect(await second.end()).toMatchObject({ code: 0, stderr: '' });
  expect(show(`${path}.${second.pid}`)).toMatch(/nap#\d+ done/);
  const told = script(`await run(async () => {}, { trace: process.argv[1] });`, { args: [path] });
  expect((await told.end()).stderr).toMatch(/cannot record a trace in .*: another process is writing it/);
  first.process.kill('SIGKILL');
  await first.end();
  // It is dead, whatever its file says.
  expect(await script(NAPS, { env: { ONEWAIT_TRACE: path } }).end()).toMatchObject({ code: 0, stderr: '' });
  expect(show(path)).toMatch(/nap#\d+ done/);
});

test('payloads are recorded only where that was asked for, and only so many bytes', async () => {
  const talk = `await run(async () => {
    const listener = await tcp.listen();
    spawn(async () => { const conn = await listener.accept(); await conn.write(await conn.read()); await conn.close(); });
    const conn = await tcp.connect({ port: listener.address.port });
    await conn.write('a secret word');
    await conn.read();
  });`;
  const [without, with8] = [join(folder(), 'without'), join(folder(), 'with')];
  await script(talk, { env: { ONEWAIT_TRACE: without } }).end();
  await script(talk, { env: { ONEWAIT_TRACE: with8, ONEWAIT_TRACE_PAYLOAD: '8' } }).end();
  expect(records(without).filter(({ kind, code }) => kind === Kind.text && code === TextKind.payload)).toEqual([]);
  const all = records(with8);
  const payloads = all.filter(({ kind, code }) => kind === Kind.text && code === TextKind.payload);
  expect(payloads.map(({ text }) => text)).toEqual(Array(4).fill('a secret'));
  // Each comes right before its system call.
  for (const payload of payloads) {
    const call = all.slice(all.indexOf(payload) + 1).find(({ kind }) => kind === Kind.syscall)!;
    expect(SYSCALLS[call.code]).toMatch(/recvfrom|sendto/);
  }
});

test('descriptors are named by kind and address, also those that somebody else opened', async () => {
  const path = join(folder(), 'trace');
  const file = join(folder(), 'some file');
  writeFileSync(file, 'x');
  const child = script(
    `import { openSync } from 'node:fs';
    await run(async () => {
      await readable(openSync(process.argv[1]));
      await readable(openSync('/dev/null'));
      await readable(0);
      const listener = await tcp.listen();
      const conn = await tcp.connect({ port: listener.address.port });
    });`,
    { args: [file], env: { ONEWAIT_TRACE: path } },
  );
  child.process.stdin!.end();
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const names = records(path)
    .filter(({ kind, code }) => kind === Kind.text && code === TextKind.descriptorName)
    .map(({ text }) => text);
  expect(names).toEqual([
    'libuv',
    `file ${file}`,
    '/dev/null',
    expect.stringMatching(/^stdin \((socket|pipe)\)$/),
    expect.stringMatching(/^tcp listening on 127\.0\.0\.1:\d+$/),
    expect.stringMatching(/^tcp 127\.0\.0\.1:\d+$/),
  ]);
});

test('a trace of an earlier run is overwritten, whatever is left of it', async () => {
  const path = join(folder(), 'trace');
  await script(NAPS, { env: { ONEWAIT_TRACE: path } }).end();
  const size = statSync(path).size;
  await script(NAPS, { env: { ONEWAIT_TRACE: path } }).end();
  expect(statSync(path).size).toBeLessThan(2 * size);
});

test('a program that exits while it is recorded says that records are missing', async () => {
  needs('bash');
  const path = join(folder(), 'trace');
  // A file may have 100 KiB, and no more; without the signal that comes with it.
  const child = script(`await run(async () => { for (let i = 0; i < 20_000; i++) await yieldNow(); });`, {
    wrap: ['bash', '-c', `trap '' XFSZ; ulimit -f 100; exec "$@"`, '-'],
    env: { ONEWAIT_TRACE: path },
  });
  const { code, stderr } = await child.end();
  expect(code).toBe(0);
  expect(stderr).toMatch(/^onewait: the trace \S+ is not complete: \d+ records are missing, for want of .*\n$/);
});

// --- the flight recorder ------------------------------------------------------------------------------------------------------

const flight = (path: string, more: Record<string, string> = {}) => ({
  env: { ONEWAIT_TRACE: path, ONEWAIT_TRACE_RING: '64KiB', ...more },
});

test('the flight recorder writes nothing while nothing happens, and a threshold that is empty is none', async () => {
  const path = join(folder(), 'trace');
  expect(await script(NAPS, flight(path, { ONEWAIT_TRACE_SLOW: '' })).end()).toMatchObject({ code: 0, stderr: '' });
  expect(existsSync(path)).toBe(false);
});

test('SIGUSR2 has the flight recorder write out the last moments, again and again, with the names of what is alive', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `await run(async () => {
      const old = spawn(async () => { await sleep(60_000); }, { name: 'old-one' });
      // Far more than the ring holds.
      for (let i = 0; i < 5_000; i++) await yieldNow();
      spawn(async () => { await sleep(60_000); }, { name: 'young' });
      console.log('busy no more');
      await old;
    });`,
    flight(path),
  );
  await child.says(/busy no more/);
  child.process.kill('SIGUSR2');
  await child.says(/the last moments before SIGUSR2 are in \S+trace\n/, 'stderr');
  child.process.kill('SIGUSR2');
  await child.says(/the last moments before SIGUSR2 are in \S+trace\.2\n/, 'stderr');
  const all = records(path);
  expect(all.length).toBeLessThan((64 * 1024) / 48);
  expect(all.length).toBeGreaterThan(900);
  const names = all
    .filter(({ kind, code }) => kind === Kind.text && code === TextKind.taskName)
    .map(({ text }) => text);
  expect(names).toEqual(expect.arrayContaining(['old-one', 'young']));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(count(`${path}.2`, Kind.wait)).toBeGreaterThan(0);
});

test.each([
  ['an uncaught error', `setTimeout(() => { throw new Error('out'); }, 5); await sleep(60_000);`],
  [
    'the failure of a task',
    `spawn(async () => { await sleep(1); throw new Error('out'); }, { name: 'bad' }); await sleep(20);`,
  ],
])('%s has the flight recorder write out what led to it', async (cause, body) => {
  const path = join(folder(), 'trace');
  const { stderr } = await script(`await run(async () => { ${body} });`, flight(path)).end();
  expect(stderr).toContain(`the last moments before ${cause} are in ${path}\n`);
  expect(count(path, Kind.suspend)).toBeGreaterThan(0);
});

test('a turn that took too long has the flight recorder write it out, with the step that held the loop', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `await run(async () => {
      await sleep(1);
      for (const start = performance.now(); performance.now() - start < 60; );
      await sleep(1);
      await sleep(1);
    });`,
    flight(path, { ONEWAIT_TRACE_SLOW: '50' }),
  );
  expect((await child.end()).stderr).toMatch(/the last moments before a turn of \d+ ms are in /);
  const all = records(path);
  const steps = all.flatMap((record, i) => {
    const next = all.slice(i).find(({ kind }) => kind === Kind.suspend);
    return record.kind === Kind.resume && next !== undefined ? [next.t - record.t] : [];
  });
  expect(Math.max(...steps)).toBeGreaterThan(50e6);
});

test('a turn that took too long is written out also when the wait after it brings nothing', async () => {
  const child = script(
    `await run(function* () {
      yield* sleep(1);
      for (const start = performance.now(); performance.now() - start < 60; );
      yield* sleep(20);
      yield* sleep(1);
    });`,
    flight(join(folder(), 'trace'), { ONEWAIT_TRACE_SLOW: '50' }),
  );
  expect((await child.end()).stderr).toMatch(/^onewait: the last moments before a turn of \d+ ms are in .*\n$/);
});

test('a turn is not slow for what the flight recorder writes in it', () => {
  const path = join(folder(), 'trace');
  const recording = recordFlight(path, { slowTurnMs: 100 });
  const flight = recording.flight!;
  try {
    flight.snapshot = () => {
      for (const start = performance.now(); performance.now() - start < 30; );
    };
    flight.dump();
    flight.turned(120e6);
    expect(existsSync(`${path}.2`)).toBe(false);
    flight.turned(120e6);
    expect(existsSync(`${path}.2`)).toBe(true);
  } finally {
    recording.stop();
  }
});

test('dump() writes the last moments where it is told to', async () => {
  const [path, other] = [join(folder(), 'trace'), join(folder(), 'other')];
  const child = script(
    `import { dump, startFlightRecorder } from 'onewait/trace';
    startFlightRecorder(process.argv[1], { bytes: 65536 });
    await run(async () => { await sleep(1); console.log(dump()); console.log(dump(process.argv[2])); });`,
    { args: [path, other] },
  );
  expect((await child.end()).stdout).toBe(`${path}\n${other}\n`);
  expect(show(path)).toMatch(/suspends on 1 ms/);
  expect(show(other)).toMatch(/suspends on 1 ms/);
});

test('a child that inherits the flight recorder does not overwrite what its parent wrote out, nor its parent what it did', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { spawnSync } from 'node:child_process';
    import { dump } from 'onewait/trace';
    const code = 'import { run } from "onewait"; import { dump } from "onewait/trace"; await run(function* () { console.log(process.pid, dump()); })';
    const dumped = () => spawnSync(process.execPath, ['--input-type=module', '--eval', code], { encoding: 'utf8' }).stdout;
    await run(async () => { console.log(dump()); process.stdout.write(dumped()); });
    await run(async () => { process.stdout.write(dumped()); console.log(dump(), dump()); });`,
    // Starting a process takes its time, and that is no slow turn here.
    flight(path, { ONEWAIT_TRACE_SLOW: 'Infinity' }),
  );
  const { stdout, stderr } = await child.end();
  expect(stderr).toBe('');
  const [, first, second] = /^\S+\n(\d+) .*\n(\d+) /.exec(stdout) ?? [];
  expect(stdout).toBe(`${path}\n${first} ${path}.${first}\n${second} ${path}.${second}\n${path}.2 ${path}.3\n`);
  // A later run takes the name anew; a child that was first keeps it.
  const later = script(
    `import { spawnSync } from 'node:child_process';
    import { dump } from 'onewait/trace';
    await run(async () => {
      if (process.env.CHILD === undefined)
        spawnSync(process.execPath, process.execArgv.concat(process.argv.slice(1)), { stdio: 'inherit', env: { ...process.env, CHILD: '1' } });
      console.log(process.pid, dump());
    });`,
    flight(path, { ONEWAIT_TRACE_SLOW: 'Infinity' }),
  );
  const lines = (await later.end()).stdout.trim().split('\n');
  expect(lines[0]).toMatch(new RegExp(`^\\d+ ${path}$`));
  expect(lines[1]).toBe(`${later.pid} ${path}.${later.pid}`);
});

test('a dump that cannot be written is reported, and harms nobody', async () => {
  const path = join(folder(), 'trace');
  symlinkSync('/etc/hostname', path);
  const child = script(`await run(async () => { console.log('up'); await sleep(60_000); });`, flight(path));
  await child.says(/up/);
  child.process.kill('SIGUSR2');
  await child.says(/cannot record a trace in .*: it is a symbolic link, which may lead anywhere/, 'stderr');
});

test('workers have flight recorders of their own', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { Worker } from 'node:worker_threads';
    const code = \`import('\${process.argv[1]}').then(({ run, sleep }) => run(async () => { await sleep(1); setTimeout(() => { throw new Error('out'); }); await sleep(1000); }));\`;
    const worker = new Worker(code, { eval: true });
    worker.on('error', () => {});
    await new Promise((resolve) => worker.once('exit', resolve));`,
    { args: [new URL('../dist/src/index.js', import.meta.url).href], ...flight(path) },
  );
  await child.end();
  expect(readdirSync(join(path, '..'))).toContain('trace.worker1');
  expect(records(`${path}.worker1`).every(({ thread }) => thread === 1)).toBe(true);
});
