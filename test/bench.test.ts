// The benchmark's arithmetic, its rule of what counts, and how it ends. No figure that it measures decides anything here.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Children } from '../bench/children.ts';
import { carryOut } from '../bench/commands.ts';
import { type IdleSample, inTheMiddle } from '../bench/idle.ts';
import { freePort } from '../bench/lab.ts';
import { describeMachine, mostConnections } from '../bench/machine.ts';
import { writeReport } from '../bench/output.ts';
import { makePlan, type Plan, planSeconds } from '../bench/plan.ts';
import { Progress } from '../bench/progress.ts';
import { formatPage } from '../bench/report.ts';
import { makeReport, type Report } from '../bench/results.ts';
import { emptyRun, type Run, Runner } from '../bench/runner.ts';
import { exceedsGenerator, judge, type Sample, type Window } from '../bench/sample.ts';
import { type Server as BenchServer, RATES } from '../bench/servers.ts';
import { shapeOf, titleOf } from '../bench/shape.ts';
import { latencyMicros, median, mergeCounts, pairedRatios, spread } from '../bench/stats.ts';
import { SUITES } from '../bench/suite.ts';
import { formatTable } from '../bench/table.ts';
import { runWrk } from '../bench/wrk.ts';
import { MACHINE } from './bench-machine.ts';
import { needs } from './processes.ts';
import { until } from './until.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const main = join(root, 'dist/bench/main.js');
const programs = mkdtempSync(join(tmpdir(), 'onewait-bench-'));
const compiler = process.env.CXX ?? 'c++';

function compile(name: string, source: string): void {
  execFileSync(compiler, [
    '-std=c++20',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-pthread',
    source,
    '-o',
    join(programs, name),
  ]);
}

beforeAll(() => {
  compile('loadgen', join(root, 'bench/loadgen/loadgen.cc'));
  compile('raw-epoll', join(root, 'bench/servers/raw_epoll.cc'));
  compile('thread-per-connection', join(root, 'bench/servers/thread_per_connection.cc'));
}, 120_000);

afterAll(() => rmSync(programs, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function collect(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
}

/** Runs the generator against a server of this process. */
async function generate(onConnection: (socket: Socket) => void, args: readonly string[]): Promise<Ended> {
  const server: Server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const ended = await collect(spawn(join(programs, 'loadgen'), ['--port', `${port}`, ...args]));
  server.close();
  return ended;
}

const events = (stdout: string): Array<Record<string, unknown>> =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('memory that is measured several times', () => {
  const sample = (rssBytesPerConnection: number, whyIncomplete: string | null = null): IdleSample => ({
    server: 'onewait-yield',
    connections: 10,
    established: 10,
    rssBytesPerConnection,
    rssSamples: [rssBytesPerConnection],
    kernelStackBytesPerConnection: 0,
    threads: 1,
    cpuShareWhileIdle: 0,
    whyIncomplete,
  });

  test('is the sample in the middle, which knows all of them', () => {
    expect(inTheMiddle([sample(30), sample(10), sample(20)])).toEqual({ ...sample(20), rssSamples: [10, 20, 30] });
    expect(inTheMiddle([sample(7)])).toEqual(sample(7));
    expect(inTheMiddle([sample(7), sample(10)])).toMatchObject({ rssBytesPerConnection: 9, rssSamples: [7, 10] });
  });

  test('is not complete if one of them is not', () => {
    expect(inTheMiddle([sample(30), sample(10, 'refused'), sample(20)])).toEqual(sample(10, 'refused'));
  });
});

describe('histogram', () => {
  const driver = `
    #include <cstdio>
    #include <iostream>
    #include "${join(root, 'bench/loadgen/histogram.h')}"
    int main() {
      Histogram histogram;
      for (uint64_t value; std::cin >> value;) histogram.record(value);
      std::printf("[%llu,%llu,%llu,%llu,[", (unsigned long long)histogram.total(), (unsigned long long)histogram.max(),
                  (unsigned long long)histogram.at(0.5), (unsigned long long)histogram.at(0.99));
      const char* comma = "";
      histogram.each([&](uint64_t value, uint64_t count) {
        std::printf("%s[%llu,%llu]", comma, (unsigned long long)value, (unsigned long long)count);
        comma = ",";
      });
      std::printf("]]");
    }`;

  type Summary = [total: number, max: number, p50: number, p99: number, counts: Array<[number, number]>];

  function summarize(values: readonly number[]): Summary {
    return JSON.parse(execFileSync(join(programs, 'histogram'), { input: values.join('\n'), encoding: 'utf8' }));
  }

  beforeAll(() => {
    writeFileSync(join(programs, 'histogram.cc'), driver);
    compile('histogram', join(programs, 'histogram.cc'));
  }, 60_000);

  test('keeps small values exactly', () => {
    const values = Array.from({ length: 2048 }, (_, i) => i);
    const [total, max, p50, , counts] = summarize(values);
    expect([total, max, p50]).toEqual([2048, 2047, 1023]);
    expect(counts).toEqual(values.map((value) => [value, 1]));
  });

  test('is never off by more than a 1024th, from nanoseconds to hours', () => {
    for (let value = 2048; value < 2 ** 44; value = Math.floor(value * 1.37)) {
      const [, , , , counts] = summarize([value, 2 ** 45]);
      const rounded = counts[0]![0];
      expect(rounded).toBeGreaterThanOrEqual(value);
      expect(rounded - value).toBeLessThanOrEqual(value / 1024);
    }
  });

  test('agrees with sorting on percentiles, and knows the maximum exactly', () => {
    const values = Array.from({ length: 5000 }, (_, i) => ((i * 7919) % 5000) ** 2 + 17);
    const sorted = [...values].sort((a, b) => a - b);
    const [total, max, p50, p99] = summarize(values);
    expect([total, max]).toEqual([5000, sorted.at(-1)]);
    expect(p50 / sorted[2499]!).toBeCloseTo(1, 2);
    expect(p99 / sorted[4949]!).toBeCloseTo(1, 2);
  });

  test('has the same counts when two of them are merged as when all was recorded into one', () => {
    const values = Array.from({ length: 3000 }, (_, i) => 1000 + i * i);
    // The highest bucket ends at the maximum, which is the same in all three.
    const [top] = values.slice(-1);
    const counts = (part: readonly number[]) => summarize(part)[4];
    const merged = mergeCounts([counts([...values.slice(0, 1000), top!]), counts(values.slice(1000))]);
    expect(merged).toEqual(counts([...values, top!]));
  });
});

describe('statistics', () => {
  test('the median is the middle value, or the mean of the two middle ones', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNull();
  });

  test('the spread runs from the least to the greatest', () => {
    expect(spread([2, 9, 4])).toEqual({ min: 2, max: 9 });
    expect(spread([])).toBeNull();
  });

  test('a ratio is taken within a round, and only where both have one', () => {
    const server = new Map([
      [0, 90],
      [1, 50],
      [3, 80],
    ]);
    const floor = new Map([
      [0, 100],
      [1, 200],
      [2, 100],
    ]);
    expect(pairedRatios(server, floor)).toEqual([0.9, 0.25]);
  });

  test('percentiles of several windows come from their counts together', () => {
    const quiet = [[1000, 99] as const];
    const busy = [[1000, 1] as const, [9000, 1] as const];
    expect(latencyMicros(mergeCounts([quiet, busy]))).toEqual({ p50: 1, p90: 1, p99: 1, p999: 9, max: 9 });
    expect(latencyMicros([])).toBeNull();
  });
});

const window: Window = {
  established: 64,
  connectionErrors: 0,
  firstConnectionError: null,
  roundTrips: 1000,
  seconds: 1,
  roundTripsPerSecond: 1000,
  serverCpuSeconds: 0.99,
  serverBusy: 0.99,
  generatorBusy: 0.5,
  otherCoreBusy: 1,
  rssBytes: 50 * 2 ** 20,
  threads: 11,
  latencyCounts: [[200_000, 1000] as const],
  pacing: null,
  floodBytesPerSecond: null,
};
const pacing = { intendedRate: 1000, achievedRate: 1000, lateMicrosP99: 5, unsent: 0, unanswered: 0 };

describe('what counts', () => {
  test('a sample of a busy server counts', () => {
    expect(judge(window, shapeOf(), true)).toEqual({ valid: true, whyInvalid: null, repeat: false });
  });

  test('a sample of a waiting server does not count, says whose fault it was, and is repeated', () => {
    const slowMachine = judge({ ...window, serverBusy: 0.949 }, shapeOf(), true);
    expect(slowMachine).toMatchObject({ valid: false, repeat: true });
    expect(slowMachine.whyInvalid).toContain('the machine was the limit');
    const slowGenerator = judge({ ...window, serverBusy: 0.9, generatorBusy: 0.99 }, shapeOf(), true);
    expect(slowGenerator.whyInvalid).toContain('the generator was the limit');
  });

  test('with one connection a server may wait', () => {
    expect(judge({ ...window, serverBusy: 0.3 }, shapeOf({ connections: 1 }), true).valid).toBe(true);
  });

  test('a sample without all its connections does not count and is not repeated', () => {
    const short = { ...window, established: 60, connectionErrors: 4, firstConnectionError: 'the server closed it' };
    const verdict = judge(short, shapeOf(), true);
    expect(verdict).toMatchObject({ valid: false, repeat: false });
    expect(verdict.whyInvalid).toBe('reached 60 of 64 connections: the server closed it');
  });

  test('a rate is more than the generator can make when it was the limit with most servers, each time', () => {
    const take = (server: string, difference: object, paced: object = {}) => {
      const open = { ...window, ...difference, pacing: { ...pacing, ...paced } };
      return { server, ...judge(open, shapeOf(), true, 'on-time') };
    };
    const servers = ['a', 'b', 'c'];
    const busy = { generatorBusy: 0.99 };
    const late = { lateMicrosP99: 200 };
    const missed = { ...late, achievedRate: 900 };
    expect(exceedsGenerator([take('a', busy), take('b', {}, late), take('c', {})], servers)).toBe(true);
    expect(exceedsGenerator([take('a', busy), take('b', {}, missed), take('c', {}, missed)], servers)).toBe(false);
    expect(exceedsGenerator([take('a', busy), take('b', {}), take('c', {})], servers)).toBe(false);
    const oncePossible = [take('a', busy), take('a', {}), take('b', busy), take('c', {})];
    expect(exceedsGenerator(oncePossible, servers)).toBe(false);
    const closedLoop = { ...window, serverBusy: 0.9, generatorBusy: 0.99 };
    const taken = servers.map((server) => ({ server, ...judge(closedLoop, shapeOf(), true) }));
    expect(exceedsGenerator(taken, servers)).toBe(false);
  });

  test('where waiting is what is compared, a server may wait, unless the other core is why', () => {
    const waiting = { ...window, serverBusy: 0.1, otherCoreBusy: 0.4 };
    expect(judge(waiting, shapeOf(), true, 'waits').valid).toBe(true);
    const starved = judge({ ...waiting, otherCoreBusy: 0.99 }, shapeOf(), true, 'waits');
    expect(starved).toMatchObject({ valid: false, repeat: true });
    expect(starved.whyInvalid).toContain('it was the limit');
  });

  test('where CPU time is what is compared, the generator may be the limit', () => {
    const starved = { ...window, serverBusy: 0.1, otherCoreBusy: 0.99, generatorBusy: 0.99 };
    expect(judge(starved, shapeOf({ churn: true }), true, 'any').valid).toBe(true);
  });

  test('in an open loop the server may be idle, but must answer what it is asked', () => {
    const open = shapeOf({ rate: 1000 });
    const idle = { ...window, serverBusy: 0.2 };
    expect(judge({ ...idle, pacing }, open, true, 'on-time').valid).toBe(true);
    const missed = judge({ ...idle, pacing: { ...pacing, achievedRate: 980 } }, open, true, 'on-time');
    expect(missed).toMatchObject({ valid: false, whyInvalid: expect.stringContaining('missed the rate') });
  });

  test('what a server can do is known when it was busy, also where open loops are to follow', () => {
    expect(judge({ ...window, serverBusy: 0.2 }, shapeOf(), true, 'on-time').valid).toBe(false);
    expect(judge(window, shapeOf(), true, 'on-time').valid).toBe(true);
  });

  test('in an open loop no more than a tenth of the messages may have met a hiccup of the machine', () => {
    const open = shapeOf({ rate: 1000 });
    const disturbed = (messages: number) =>
      judge({ ...window, serverBusy: 0.2, pacing: { ...pacing, disturbed: messages } }, open, true, 'on-time');
    expect(disturbed(window.roundTrips / 10).valid).toBe(true);
    expect(disturbed(window.roundTrips / 10 + 1)).toMatchObject({
      valid: false,
      repeat: true,
      whyInvalid: expect.stringContaining('the machine took the cores away'),
    });
  });

  test('in an open loop the generator must have been on time itself', () => {
    const late = judge(
      { ...window, pacing: { ...pacing, lateMicrosP99: 900 } },
      shapeOf({ rate: 1000 }),
      true,
      'on-time',
    );
    expect(late).toMatchObject({ valid: false, whyInvalid: expect.stringContaining('900 µs late') });
    const busy = judge({ ...window, generatorBusy: 0.99, pacing }, shapeOf({ rate: 1000 }), true, 'on-time');
    expect(busy.whyInvalid).toContain('the generator had no time to spare');
  });

  test('an unpinned sample does not count', () => {
    expect(judge(window, shapeOf(), false).whyInvalid).toContain('not pinned');
  });
});

describe('plan', () => {
  const wishes = {
    suite: SUITES[0]!,
    effort: 'standard',
    connections: null,
    messageBytes: null,
    inFlight: null,
    seconds: null,
    rounds: null,
    settleSeconds: 20,
    mostConnections: 19_000,
  } as const;
  const titles = (plan: Plan) => plan.stages.map(({ shapes }) => shapes.map(titleOf).join(' and '));

  test.each(SUITES.map((suite) => [suite.name, suite] as const))(
    'of %s is longer the more effort is asked for',
    (_name, suite) => {
      const seconds = (['quick', 'standard', 'full'] as const).map((effort) =>
        planSeconds(makePlan({ ...wishes, suite, effort }), 5),
      );
      expect(seconds[0]).toBeGreaterThan(0);
      expect(seconds[1]).toBeGreaterThanOrEqual(seconds[0]!);
      expect(seconds[2]).toBeGreaterThanOrEqual(seconds[1]!);
    },
  );

  test('has what is wished for in place of what the suite has, each once', () => {
    expect(titles(makePlan({ ...wishes, connections: [64, 5, 5], messageBytes: 2 ** 14, rounds: 3 }))).toEqual([
      '5 connections, 16 KiB, 1 in flight',
      '64 connections, 16 KiB, 1 in flight',
    ]);
  });

  test('of a number of connections that the suite has itself still has each of its other shapes', () => {
    const sizes = SUITES.find(({ name }) => name === 'sizes')!;
    expect(titles(makePlan({ ...wishes, suite: sizes, connections: [64] }))).toEqual([
      '64 connections, 1 KiB, 1 in flight',
      '64 connections, 16 KiB, 1 in flight',
      '64 connections, 1 MiB, 1 in flight',
    ]);
  });

  test('of a suite that measures memory only has the numbers of connections that are wished for', () => {
    const connections = [200, 100, 100];
    const memory = SUITES.find(({ name }) => name === 'memory')!;
    expect(makePlan({ ...wishes, suite: memory, connections }).idleConnections).toEqual([100, 200]);
    expect(makePlan({ ...wishes, connections }).idleConnections).toEqual([5_000, 19_000]);
  });

  test('measures no shape that would hold more than 256 MiB in flight', () => {
    const sizes = SUITES.find(({ name }) => name === 'sizes')!;
    const shapes = makePlan({ ...wishes, suite: sizes, effort: 'full' }).stages.flatMap((stage) => stage.shapes);
    expect(shapes).toContainEqual(shapeOf({ connections: 256, messageBytes: 2 ** 20 }));
    expect(shapes).not.toContainEqual(shapeOf({ connections: 1000, messageBytes: 2 ** 20 }));
  });

  test('of idle connections has all their numbers in one stage, so that they are compared within a round', () => {
    const idle = SUITES.find(({ name }) => name === 'idle')!;
    expect(titles(makePlan({ ...wishes, suite: idle, effort: 'quick' }))).toEqual([
      '64 connections, 64 bytes, 1 in flight and 64 connections, 900 idle, 64 bytes, 1 in flight and 64 connections, 4,000 idle, 64 bytes, 1 in flight',
    ]);
  });
});

describe('a port', () => {
  test('that another run has chosen is left to it, also before anybody listens', async () => {
    const port = await freePort();
    const claim = createServer().listen(`\0onewait-bench-port-${port + 1}`);
    await new Promise((resolve) => claim.once('listening', resolve));
    expect(await freePort()).toBeGreaterThan(port + 1);
    claim.close();
  });
});

describe('compiling', () => {
  test('ends when the run is interrupted, with all that the compiler has started', async () => {
    const interruption = new AbortController();
    const mark = `600.${process.pid}`;
    const sleepers = () => spawnSync('pgrep', ['-f', `^sleep ${mark}`], { encoding: 'utf8' }).stdout;
    const outcome = carryOut('compiling nothing', ['sh', '-c', `sleep ${mark} & wait`], {
      signal: interruption.signal,
    });
    await until('the compiler has started another', () => sleepers() !== '');
    interruption.abort();
    expect(await outcome).toEqual({ ok: false, output: '' });
    await until('that one has ended, too', () => sleepers() === '');
  });
});

describe('a stage', () => {
  test('has each server started three times, and each process serve its share of the rounds', async () => {
    const starts = join(programs, 'starts');
    const table = SUITES[0]!.servers(programs, 0).find(({ name }) => name === 'raw-epoll')!;
    const server: BenchServer = {
      ...table,
      command: 'sh',
      args: (at) => ['-c', 'echo >> "$0"; exec "$@"', starts, table.command, ...table.args(at)],
    };
    const plan = makePlan({
      suite: SUITES[0]!,
      effort: 'quick',
      connections: [4],
      messageBytes: null,
      inFlight: null,
      seconds: 0.1,
      rounds: 5,
      settleSeconds: 1,
      mostConnections: 64,
    });
    const children = new Children();
    const lab = { children, pinning: null, programs, talk: null, signal: new AbortController().signal };
    const progress = new Progress(process.stderr, planSeconds(plan, 1));
    const { samples } = await new Runner(lab, { ...plan, idleConnections: [] }, [server], progress).measureAll();
    expect(new Set(samples.map(({ round }) => round))).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(readFileSync(starts, 'utf8')).toBe('\n\n\n');
  });
});

describe('report', () => {
  const plan = makePlan({
    suite: SUITES[0]!,
    effort: 'quick',
    connections: [1, 64],
    messageBytes: null,
    inFlight: null,
    seconds: 1,
    rounds: 2,
    settleSeconds: 20,
    mostConnections: 1000,
  });
  const sample = (server: string, connections: number, round: number, rate: number, valid = true): Sample => ({
    ...window,
    server,
    shape: shapeOf({ connections }),
    round,
    roundTripsPerSecond: rate,
    serverCpuMicrosPerRoundTrip: 1e6 / rate,
    valid,
    whyInvalid: valid ? null : 'the server was only 50 % busy',
    repeat: !valid,
  });
  const run: Run = {
    ...emptyRun(),
    shapes: plan.stages.flatMap(({ shapes }) => shapes),
    samples: [
      sample('raw-epoll', 1, 0, 40),
      sample('raw-epoll', 64, 0, 200),
      sample('raw-epoll', 64, 1, 100),
      sample('node-net', 64, 0, 5, false),
      sample('node-net', 64, 0, 100),
      sample('node-net', 64, 1, 90),
      sample('thread-per-connection', 64, 0, 50, false),
    ],
    idle: [
      {
        server: 'node-net',
        connections: 1000,
        established: 1000,
        rssBytesPerConnection: 5000,
        rssSamples: [5000],
        kernelStackBytesPerConnection: 0,
        threads: 11,
        cpuShareWhileIdle: 0,
        whyIncomplete: null,
      },
    ],
  };
  const servers = ['raw-epoll', 'thread-per-connection', 'node-net'];
  const report: Report = makeReport(MACHINE, [{ plan, servers, run }], { interrupted: false, skipped: [] });
  const find = (server: string, connections: number) =>
    report.results.find((result) => result.server === server && result.connections === connections)!;

  test('that cannot be written after all goes elsewhere, and says so', () => {
    const json = join(programs, 'a-folder-that-has-gone', 'report.json');
    const notes: string[] = [];
    expect(writeReport(report, { json, out: null }, false, (message) => notes.push(message))).toBe(false);
    expect(notes).toEqual([
      expect.stringMatching(/^cannot write the results where they were to go: ENOENT.*; they are in \/[^ ]*$/),
    ]);
    const [refuge] = /[^ ]*$/.exec(notes[0]!)!;
    expect(JSON.parse(readFileSync(refuge, 'utf8'))).toEqual(JSON.parse(JSON.stringify(report)));
    rmSync(refuge);
  });

  test('of an interrupted run replaces none', () => {
    const into = mkdtempSync(join(programs, 'kept-'));
    const places = { json: join(into, 'report.json'), out: into };
    const files = [places.json, join(into, 'report.html')];
    const notes: string[] = [];
    const note = (message: string) => void notes.push(message);
    for (const file of files) writeFileSync(file, 'earlier');
    expect(writeReport(report, places, true, note)).toBe(true);
    expect(notes).toEqual(files.map((file) => `left ${file} as it was`));
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(['earlier', 'earlier']);
    for (const file of files) rmSync(file);
    writeReport(report, { ...places, out: null }, true, note);
    expect(JSON.parse(readFileSync(places.json, 'utf8'))).toEqual(JSON.parse(JSON.stringify(report)));
    expect(readdirSync(into)).toEqual(['report.json']);
  });

  test('that has no main chart leaves none of an earlier one beside it', () => {
    const into = mkdtempSync(join(programs, 'stale-'));
    for (const name of ['headline.svg', 'headline.png']) writeFileSync(join(into, name), 'earlier');
    const alone = { ...run, samples: run.samples.filter(({ server }) => server === 'raw-epoll') };
    const single = makeReport(MACHINE, [{ plan, servers: ['raw-epoll'], run: alone }], {
      interrupted: false,
      skipped: [],
    });
    writeReport(single, { json: null, out: into }, false, () => {});
    expect(readdirSync(into)).toEqual(['report.html']);
  });

  test('has one result per server and shape that was measured, with the documented fields', () => {
    expect(report.results.map(({ server, shape }) => `${server}: ${shape}`)).toEqual([
      'raw-epoll: 1 connection, 64 bytes, 1 in flight',
      'raw-epoll: 64 connections, 64 bytes, 1 in flight',
      'thread-per-connection: 64 connections, 64 bytes, 1 in flight',
      'node-net: 64 connections, 64 bytes, 1 in flight',
    ]);
    expect(find('node-net', 64)).toMatchObject({
      server: 'node-net',
      connections: 64,
      messageBytes: 64,
      inFlight: 1,
      roundTripsPerSecond: 95,
      serverCpuMicrosPerRoundTrip: expect.any(Number),
      serverBusy: 0.99,
      rssBytes: 50 * 2 ** 20,
      threads: 11,
      latencyMicros: { p50: 200, p99: 200, p999: 200, max: 200 },
      rssBytesPerConnection: 5000,
      ratioToRawEpoll: 0.7,
      ratioToThreads: null,
      valid: true,
      whyInvalid: null,
      samples: 2,
      invalidSamples: 1,
    });
    expect(JSON.parse(JSON.stringify(report))).toMatchObject({ complete: true, machine: { cores: 2 }, method: {} });
  });

  test('says how much faster the generator could have been than the best server, where servers must be busy', () => {
    const [check, ...others] = report.selfChecks;
    expect(others).toEqual([]);
    expect(check).toMatchObject({ suite: 'echo', server: 'raw-epoll', headroom: 2, enough: true });
    const sizes = { ...plan, suite: SUITES.find(({ name }) => name === 'sizes')! };
    const byCpuTime = makeReport(MACHINE, [{ plan: sizes, servers, run }], { interrupted: false, skipped: [] });
    expect(byCpuTime.selfChecks).toEqual([]);
  });

  test('marks what has no sample that counts, and says why', () => {
    expect(find('thread-per-connection', 64)).toMatchObject({
      valid: false,
      whyInvalid: 'the server was only 50 % busy',
      roundTripsPerSecond: 50,
      ratioToRawEpoll: null,
    });
  });

  test('does not rank by one connection', () => {
    expect(find('raw-epoll', 1)).toMatchObject({ valid: true, ranked: false });
    expect(formatTable(report)).toContain('not for ranking');
  });

  test('of an interrupted run has nothing valid', () => {
    const partial = makeReport(MACHINE, [{ plan, servers, run }], { interrupted: true, skipped: [] });
    expect(partial.complete).toBe(false);
    for (const result of partial.results) expect(result).toMatchObject({ valid: false, whyInvalid: 'interrupted' });
    expect(formatPage(partial)).toContain('There is no valid figure to show here');
  });
});

describe('load generator', () => {
  const short = ['--connections', '5', '--size', '100', '--in-flight', '3', '--warmup', '0.02', '--seconds', '0.1'];

  test('counts, verifies and reports what an echo server returns', async () => {
    const ended = await generate((socket) => socket.pipe(socket), short);
    expect(ended.stderr).toBe('');
    expect(ended.code).toBe(0);
    const reported = events(ended.stdout);
    expect(reported.map((event) => event.event)).toEqual(['connected', 'begin', 'end', 'result']);
    const result = reported.at(-1) as { roundTrips: number; latencyCounts: Array<[number, number]> };
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(result.latencyCounts.reduce((sum, [, count]) => sum + count, 0)).toBe(result.roundTrips);
  });

  test('verifies messages that are longer than any buffer', async () => {
    const large = ['--connections', '2', '--size', '1000003', '--in-flight', '2', '--warmup', '0', '--seconds', '0.2'];
    const ended = await generate((socket) => socket.pipe(socket), large);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });

  test('says which byte was corrupted', async () => {
    let received = 0;
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => {
          const at = 1000 - received;
          if (at >= 0 && at < chunk.length) chunk[at]! ^= 1;
          received += chunk.length;
          socket.write(chunk);
        });
      },
      ['--connections', '1', '--size', '100', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
    expect(ended.stderr).toMatch(/^loadgen: connection 1: byte 1000 came back as 0x.., not as 0x..\n$/);
  });

  test('notices two connections that are mixed up', async () => {
    const sockets: Socket[] = [];
    const ended = await generate(
      (socket) => {
        sockets.push(socket);
        socket.on('data', (chunk) => sockets.at(-1)!.write(chunk));
      },
      ['--connections', '2', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
  });

  test('notices bytes that nobody sent', async () => {
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => socket.write(Buffer.concat([chunk, chunk])));
      },
      ['--connections', '1', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain('more bytes than it was given');
  });

  test('gives up on a server that closes its connections', async () => {
    let echoes = 0;
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => (++echoes > 50 ? socket.destroy() : socket.write(chunk)));
      },
      ['--connections', '1', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(4);
    expect(ended.stderr).toContain('connection 1 of 1 ended after');
  });

  test('counts connections that fail before their first echo, and goes on with the others', async () => {
    let accepted = 0;
    const ended = await generate(
      (socket) => {
        if (++accepted % 2 === 0) socket.destroy();
        else socket.pipe(socket);
      },
      ['--connections', '10', '--warmup', '0', '--seconds', '0.3'],
    );
    expect(ended.code).toBe(0);
    expect(events(ended.stdout)[0]).toMatchObject({ established: 5, connectionErrors: 5 });
  });

  test('says so when nobody listens', async () => {
    const ended = await collect(spawn(join(programs, 'loadgen'), ['--port', '1', '--connections', '3']));
    expect(ended.code).toBe(5);
    expect(ended.stderr).toContain('Connection refused');
  });
});

/** The command lines of live processes that mention the folder of this test's programs. */
function childrenLeft(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return ''; // It ended meanwhile.
      }
    })
    .filter((line) => line.includes(programs) && !line.includes(main));
}

const bench = (...args: string[]) =>
  spawn(process.execPath, [main, '--programs', programs, '--settle', '0.1', ...args]);

describe('command', () => {
  test.each([
    [['--servers', 'nonsense'], "There is no server 'nonsense'"],
    [['--connections', '0'], 'whole number from 1'],
    [['--connections', '64,'], 'whole number from 1'],
    [['--seconds', 'soon'], 'number from'],
    [['--nonsense'], "unknown option '--nonsense'"],
    [['nonsense'], 'too many arguments'],
    [['--suite', 'echo,nonsense'], 'Choose from echo, pipelined'],
    [['--quick', '--full'], 'cannot be used with'],
    [['--suite', 'exchange', '--seconds', '0.5'], 'whole --seconds'],
    [['--suite', 'exchange', '--size', '64'], 'are for the others'],
    [['--suite', 'idle', '--connections', `${mostConnections(describeMachine(''))}`], 'others beside them'],
  ])('answers wrong usage %j with one line and exit code 2', (args, message) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test.each([
    ['a JSON file that is a directory', '--json', programs, 'it is a directory'],
    ['a JSON file without a name', '--json', '', 'its name is empty'],
    ['a JSON file in /proc', '--json', '/proc/onewait.json', 'ENOENT'],
    ['a folder in which nothing can be made', '--out', '/proc', 'ENOENT'],
  ])('refuses %s before anything is measured', (_, option, place, why) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, option, place], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^onewait bench: cannot write to [^\n]*\n$/);
    expect(stderr).toContain(why);
  });

  const short = ['--quick', '--seconds', '0.05', '--rounds', '1'];

  test.each([
    ['a rate that depends on a server', 'latency', 'raw-epoll', '64', /no rate of .* of node-net, which is not known/],
    [
      'a server that takes fewer',
      'idle',
      'onewait-epoll,onewait-select',
      '500',
      /without onewait-select, which takes [\d,]+ connections/,
    ],
  ])('says so when %s is not measured', async (_, suite, servers, connections, message) => {
    const args = ['--suite', suite, '--servers', servers, '--connections', connections];
    const ended = await collect(bench(...args, ...short));
    expect(ended.code).toBe(0);
    expect(ended.stderr).toMatch(message);
  });

  test('says so when loops that are to have several cores have one', async () => {
    const ended = await collect(bench('--suite', 'cores', '--servers', 'onewait-1', '--connections', '4', ...short));
    expect(ended.code).toBe(0);
    const alone = describeMachine('').pinning?.otherCpus.length === 1;
    expect(ended.stderr.includes('cores: all loops share one core')).toBe(alone);
  });

  test('skips a server that is not there, and says how to have it', async () => {
    const empty = join(programs, 'without-servers');
    mkdirSync(empty);
    execFileSync('cp', [join(programs, 'loadgen'), empty]);
    const ended = await collect(spawn(process.execPath, [main, '--programs', empty, '--servers', 'raw-epoll']));
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/skipped: raw-epoll is not available: build it with/);
  });

  test('writes what it measured, as a table, as JSON and as a page', async () => {
    const out = join(programs, 'report');
    const file = join(programs, 'report.json');
    const args = ['--connections', '4', '--seconds', '0.3', '--rounds', '1', '--json', file, '--out', out];
    const ended = await collect(bench('--servers', 'raw-epoll,thread-per-connection,node-net', '--quick', ...args));
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('4 connections, 64 bytes, 1 in flight');
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(true);
    expect(written.method.versions).toBe(`node-net: Node ${process.versions.node}`);
    expect(written.results.map((result) => result.server)).toEqual(['raw-epoll', 'thread-per-connection', 'node-net']);
    for (const result of written.results) expect(result.roundTripsPerSecond).toBeGreaterThan(0);
    expect(existsSync(join(out, 'report.html'))).toBe(true);
    expect(childrenLeft()).toEqual([]);
  });

  test('drives the exchange with wrk, and counts requests, CPU time, memory and threads', async () => {
    needs('wrk');
    const file = join(programs, 'exchange.json');
    const args = ['--connections', '4', '--seconds', '1', '--rounds', '1', '--json', file];
    const ended = await collect(
      bench('--suite', 'exchange', '--servers', 'exchange-hardcoded,exchange-coroutines', ...args),
    );
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('4 connections, HTTP requests, 1 in flight');
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.results.map((result) => result.server)).toEqual(['exchange-hardcoded', 'exchange-coroutines']);
    for (const {
      roundTripsPerSecond,
      serverCpuMicrosPerRoundTrip,
      rssBytes,
      threads,
      latencyMicros,
    } of written.results) {
      expect(roundTripsPerSecond).toBeGreaterThan(0);
      expect(serverCpuMicrosPerRoundTrip).toBeGreaterThan(0);
      expect(rssBytes).toBeGreaterThan(0);
      expect(threads).toBeGreaterThan(0);
      expect(latencyMicros!.max).toBeGreaterThanOrEqual(latencyMicros!.p50);
    }
    // On a busy machine a sample is taken again.
    for (const sample of written.samples) expect(sample.connectionErrors).toBe(0);
    expect(childrenLeft()).toEqual([]);
  });

  test('compares servers that record with those that do not, and leaves no trace of them', async () => {
    const file = join(programs, 'trace.json');
    const names = ['onewait-yield', 'onewait-yield-file', 'onewait-yield-flight'];
    const args = ['--connections', '4', '--seconds', '0.1', '--rounds', '1', '--json', file];
    const temporary = join(programs, 'temporary');
    mkdirSync(temporary);
    const ended = await collect(
      spawn(process.execPath, [main, '--programs', programs, '--suite', 'trace', '--servers', names.join(), ...args], {
        env: { ...process.env, TMPDIR: temporary },
      }),
    );
    expect(ended.code).toBe(0);
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.results.map((result) => result.server)).toEqual(names);
    // The writer is a thread of its own.
    const [without, toFile, inFlight] = written.results.map(({ threads }) => threads!);
    expect(toFile).toBe(without! + 1);
    expect(inFlight).toBe(without);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test('does not count a sample in which a request of wrk failed', async () => {
    needs('wrk');
    const refusal = 'HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n';
    const server = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.write(refusal)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const children = new Children();
    const own = children.start(['sleep', '60'], [], () => {});
    const lab = { children, pinning: null, programs, talk: null, signal: new AbortController().signal };
    const { port } = server.address() as { port: number };
    const window = await runWrk(lab, { server: RATES, host: '127.0.0.1', port, process: own }, '/', 2, 1);
    await children.endAll();
    server.close();
    expect(window.connectionErrors).toBe(window.roundTrips);
    expect(
      judge(
        { ...window, otherCoreBusy: 0, pacing: null, floodBytesPerSecond: null },
        shapeOf({ connections: 2 }),
        true,
        'waits',
      ),
    ).toMatchObject({
      valid: false,
      whyInvalid: expect.stringMatching(/errors of wrk: .* x status$/),
    });
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('interrupted by %s ends its children and writes what it has as invalid', async (signal, code) => {
    const file = join(programs, `${signal}.json`);
    const child = bench(
      '--servers',
      'raw-epoll',
      '--connections',
      '8',
      '--seconds',
      '60',
      '--rounds',
      '1',
      '--json',
      file,
    );
    const ended = collect(child);
    // The first progress line says that a sample is being taken; children are there from then on, or are about to be.
    child.stderr!.once('data', () => child.kill(signal));
    expect((await ended).code).toBe(code);
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(false);
    expect(written.results[0]).toMatchObject({ valid: false, whyInvalid: 'interrupted' });
    expect(childrenLeft()).toEqual([]);
  });

  test('when a server dies says so with its last words, marks its result and exits with 1', async () => {
    const broken = join(programs, 'broken');
    mkdirSync(broken);
    execFileSync('cp', [join(programs, 'loadgen'), broken]);
    const script = `#!/bin/sh\nexec ${process.execPath} -e "
      const server = require('net').createServer((s) => s.on('error', () => {}).on('data', (d) => { s.write(d); setImmediate(() => {
        console.error('my last words'); process.exit(9); }); }));
      server.listen(Number('$2'), '127.0.0.1', () => console.log('listening on 127.0.0.1:$2'));"\n`;
    writeFileSync(join(broken, 'raw-epoll'), script, { mode: 0o755 });
    const file = join(programs, 'broken.json');
    const args = ['--servers', 'raw-epoll', '--connections', '1', '--quick', '--settle', '0.1', '--json', file];
    const ended = await collect(spawn(process.execPath, [main, '--programs', broken, ...args]));
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/raw-epoll died \(exit code 9\); its stderr ends with: my last words/);
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(false);
    expect(written.results[0]).toMatchObject({ valid: false });
    expect(childrenLeft()).toEqual([]);
  });
});
