// From records to spans: the states of a task follow each other without gap or overlap, only one task of a thread runs at a time, and what woke whom.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { all, type Main, run, scope, sleep, spawn, tcp, yieldNow } from '../src/index.ts';
import { readTrace } from '../src/trace/reader.ts';
import { type Flow, type Mark, type Span, Spans, type Track } from '../src/trace/spans.ts';
import { folder, script } from './processes.ts';

interface Found {
  tracks: Track[];
  spans: Span[];
  marks: Mark[];
  flows: Flow[];
}

function found(path: string): Found {
  const result: Found = { tracks: [], spans: [], marks: [], flows: [] };
  const spans = new Spans({
    track: (track) => result.tracks.push(track),
    span: (span) => result.spans.push(span),
    mark: (mark) => result.marks.push(mark),
    flow: (flow) => result.flows.push(flow),
  });
  for (const record of readTrace(path).records) spans.push(record);
  spans.finish();
  result.tracks = [...new Set(result.tracks)];
  return result;
}

async function recorded(main: Main<unknown>): Promise<Found> {
  const path = join(folder(), 'trace');
  await run(main, { trace: path, name: 'main' });
  return found(path);
}

const STATES = ['suspended', 'runnable', 'running'];
const end = (span: Span): number => span.begin + span.duration;
const ofTask = ({ spans }: Found, name: string): Span[] =>
  spans
    .filter(({ track, kind }) => STATES.includes(kind) && track.name.startsWith(`${name}#`))
    .sort((a, b) => a.begin - b.begin);

/** Keeps the processor for a while. */
function spin(ms: number): void {
  for (const start = performance.now(); performance.now() - start < ms; );
}

const STYLES: Array<[string, (name: string) => void]> = [
  [
    'yield',
    (name) => {
      spawn(
        function* () {
          spin(2);
          yield* sleep(1);
          spin(3);
          yield* sleep(2);
        },
        { name },
      );
    },
  ],
  [
    'await',
    (name) => {
      spawn(
        async () => {
          spin(2);
          await sleep(1);
          spin(3);
          await sleep(2);
        },
        { name },
      );
    },
  ],
];

describe.each(STYLES)('a task (%s)', (_, start) => {
  test('is runnable, running, suspended, and so on to its end, without a gap', async () => {
    const trace = await recorded(async () => {
      start('one');
      await sleep(20);
    });
    const spans = ofTask(trace, 'one');
    expect(spans.map(({ kind, name }) => (kind === 'suspended' ? name : kind))).toEqual([
      'runnable',
      'running',
      '1 ms',
      'runnable',
      'running',
      '2 ms',
      'runnable',
      'running',
    ]);
    for (const [i, span] of spans.slice(1).entries()) expect(span.begin).toBeCloseTo(end(spans[i]!), 0);
    expect(spans[1]!.duration).toBeGreaterThanOrEqual(2e6);
    expect(spans[4]!.duration).toBeGreaterThanOrEqual(3e6);
    expect(spans[2]!.duration).toBeGreaterThan(0.9e6);
    expect(trace.marks.filter(({ track, kind }) => track === spans[0]!.track && kind === 'end')).toHaveLength(1);
  });

  test('does not run while another one does', async () => {
    const trace = await recorded(async () => {
      for (let i = 0; i < 4; i++) start('many');
      await sleep(40);
    });
    const running = trace.spans.filter(({ kind }) => kind === 'running').sort((a, b) => a.begin - b.begin);
    for (const [i, span] of running.slice(1).entries()) expect(span.begin).toBeGreaterThanOrEqual(end(running[i]!) - 1);
    // Each of them spun for 5 ms, and is charged with what was its own.
    for (const track of new Set(ofTask(trace, 'many').map((span) => span.track))) {
      const own = running.filter((span) => span.track === track).reduce((sum, span) => sum + span.duration, 0);
      expect(own).toBeGreaterThanOrEqual(5e6);
      // Until its turn it is runnable: nothing is left out, and who waited for others is not shown as if it had run at once.
      const states = ofTask(trace, 'many').filter((span) => span.track === track);
      for (const [i, span] of states.slice(1).entries()) expect(span.begin).toBeCloseTo(end(states[i]!), 0);
    }
  });
});

test('an async function that waits for two things at once has both waits, each until it is over', async () => {
  const trace = await recorded(async () => {
    await Promise.all([sleep(5).then(() => {}), sleep(15).then(() => {})]);
  });
  const waits = ofTask(trace, 'main').filter(({ kind }) => kind === 'suspended');
  expect(waits.map(({ name }) => name)).toEqual(['5 ms', '15 ms']);
  // However late the loop is, and be it for both at once.
  expect(waits[0]!.duration).toBeGreaterThan(4.5e6);
  expect(waits[1]!.duration).toBeGreaterThan(14.5e6);
  expect(waits[0]!.begin + waits[0]!.duration).toBeLessThanOrEqual(waits[1]!.begin + waits[1]!.duration);
});

test('a task that reads has a wait on its descriptor, the descriptor one by the task, and an arrow leads from readiness to resume', async () => {
  const trace = await recorded(async () => {
    const listener = await tcp.listen();
    const reader = spawn(
      async () => {
        const conn = await listener.accept();
        for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) await conn.write(chunk);
        await conn.close();
      },
      { name: 'reader' },
    );
    const conn = await tcp.connect({ port: listener.address.port });
    for (let i = 0; i < 3; i++) {
      await conn.write('x');
      await conn.read();
    }
    await conn.close();
    await reader;
    listener.close();
  });
  const accepted = trace.tracks.filter(({ kind, fd }) => kind === 'fd' && fd >= 0);
  expect(accepted.map(({ name }) => name.replace(/\d+/g, 'N')).sort()).toEqual([
    'fd N libuv',
    'fd N tcp N.N.N.N:N',
    'fd N tcp N.N.N.N:N',
    'fd N tcp listening on N.N.N.N:N',
  ]);
  const reader = trace.tracks.find(({ name }) => name.startsWith('reader#'))!;
  const arrows = trace.flows.filter(({ to }) => to === reader);
  expect(arrows.length).toBeGreaterThanOrEqual(4);
  for (const { from, fromT, toT } of arrows) {
    expect(from.kind).toBe('fd');
    expect(toT).toBeGreaterThanOrEqual(fromT);
  }
  const waits = trace.spans.filter(
    ({ track, kind, other }) => track === reader && kind === 'suspended' && other !== null,
  );
  for (const wait of waits) {
    const twin = trace.spans.find(
      (span) => span.kind === 'awaited' && span.track === wait.other && span.begin === wait.begin,
    );
    expect(twin).toMatchObject({ duration: wait.duration, other: reader });
  }
  const calls = trace.spans.filter(({ kind, other }) => kind === 'syscall' && other === reader).map(({ name }) => name);
  expect(calls.filter((name) => name === 'recvfrom')).toHaveLength(4);
});

test.each<[string, Main<void>]>([
  [
    'yield',
    function* () {
      for (let i = 0; i < 3; i++) {
        spin(3);
        yield* yieldNow();
      }
    },
  ],
  [
    'await',
    async () => {
      for (let i = 0; i < 3; i++) {
        spin(3);
        await yieldNow();
      }
    },
  ],
])('a task that gives way to others without waiting for anything runs in each of its turns (%s)', async (_, main) => {
  const spans = ofTask(await recorded(main), 'main');
  const running = spans.filter(({ kind }) => kind === 'running');
  expect(running).toHaveLength(4);
  for (const { duration } of running.slice(0, 3)) expect(duration).toBeGreaterThanOrEqual(3e6);
  expect(spans.filter(({ kind }) => kind === 'suspended').map(({ name }) => name)).toEqual(Array(3).fill('its turn'));
});

test('from readiness to resume it takes as long as those take that run before, in both styles', async () => {
  for (const style of ['yield', 'await']) {
    const path = join(folder(), 'trace');
    await run(
      async () => {
        const listener = await tcp.listen();
        const { port } = listener.address;
        const peers = [await tcp.connect({ port }), await tcp.connect({ port })];
        const readers = [await listener.accept(), await listener.accept()].map((conn) =>
          spawn(
            style === 'await'
              ? async () => {
                  await conn.read();
                  spin(5);
                  await conn.close();
                }
              : function* () {
                  yield* conn.read();
                  spin(5);
                  yield* conn.close();
                },
            { name: 'reader' },
          ),
        );
        await sleep(1);
        for (const peer of peers) await peer.write('x');
        await Promise.all(readers.map((reader) => reader.join()));
        for (const peer of peers) await peer.close();
        listener.close();
      },
      { trace: path },
    );
    const latencies: number[] = [];
    const spans = new Spans({ woke: (from, latency) => void (from.name.includes('tcp') && latencies.push(latency)) });
    for (const record of readTrace(path).records) spans.push(record);
    spans.finish();
    // Of the two that were ready in one batch the second waits for the first, which spins for 5 ms.
    expect(Math.max(...latencies)).toBeGreaterThanOrEqual(5e6);
  }
});

test('a number that is used again is another track', async () => {
  const trace = await recorded(async () => {
    const listener = await tcp.listen();
    for (let i = 0; i < 2; i++) {
      const conn = await tcp.connect({ port: listener.address.port });
      const accepted = await listener.accept();
      conn.destroy();
      accepted.destroy();
    }
    listener.close();
  });
  const numbers = trace.tracks.filter(({ kind }) => kind === 'fd').map(({ fd }) => fd);
  // Twice two ends, the listener and libuv.
  expect(numbers).toHaveLength(6);
  expect(new Set(numbers).size).toBe(4);
});

test('tasks of scopes, of all() and of another thread have tracks of their own', async () => {
  const trace = await recorded(async () => {
    await scope(function* (inner) {
      inner.spawn(function* () {
        yield* sleep(1);
      });
      yield* all([sleep(1), sleep(2)]);
    });
  });
  expect(trace.tracks.filter(({ kind }) => kind === 'task').length).toBeGreaterThanOrEqual(3);

  const path = join(folder(), 'trace');
  await script(
    `import { Worker } from 'node:worker_threads';
    const worker = new Worker(\`import('\${process.argv[1]}').then(({ run, sleep }) => run(async () => { await sleep(1); }, { name: 'inside' }));\`, { eval: true });
    await run(async () => { await sleep(1); });`,
    { args: [new URL('../dist/src/index.js', import.meta.url).href], env: { ONEWAIT_TRACE: path } },
  ).end();
  const names = found(path).tracks.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['wait', 'worker 1: wait', 'worker 1: inside#1']));
});

test('what a worker waits for ends with the worker, and what the main thread waits for with the trace', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `import { Worker } from 'node:worker_threads';
    const code = \`import('\${process.argv[1]}').then(({ run, sleep }) => run(async () => { sleep(60_000).then(() => {}); await sleep(5); process.exit(); }));\`;
    await run(async () => {
      const worker = new Worker(code, { eval: true });
      await new Promise((resolve) => worker.once('exit', resolve));
      sleep(60_000).then(() => {});
      await sleep(100);
      process.exit();
    });`,
    { args: [new URL('../dist/src/index.js', import.meta.url).href], env: { ONEWAIT_TRACE: path } },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const { spans } = found(path);
  const [worker, main] = [1, 0].map(
    (thread) => spans.find(({ track, name }) => track.thread === thread && name === '60000 ms')!,
  );
  const lastOfWorker = Math.max(...spans.filter(({ track }) => track.thread === 1).map(end));
  expect(main!.duration).toBeGreaterThanOrEqual(100e6);
  expect(end(worker!)).toBeLessThan(main!.begin);
  expect(end(worker!)).toBe(lastOfWorker);
});

test('a trace that ends early shows what goes on at its end', async () => {
  const path = join(folder(), 'trace');
  const child = script(
    `await run(async () => { spawn(async () => { await sleep(60_000); }, { name: 'sleeper' }); await sleep(5); process.exit(0); });`,
    { env: { ONEWAIT_TRACE: path } },
  );
  await child.end();
  const sleeper = ofTask(found(path), 'sleeper').at(-1)!;
  expect([sleeper.kind, sleeper.record]).toEqual(['suspended', null]);
});
