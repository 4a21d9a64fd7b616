// The benchmark's arithmetic, its rule of what counts, what it plans and what it reports. No figure here was measured.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type IdleSample, inTheMiddle } from '../bench/idle.ts';
import { writeReport } from '../bench/output.ts';
import { makePlan, type Plan, planSeconds } from '../bench/plan.ts';
import { formatPage } from '../bench/report.ts';
import { makeReport, type Report } from '../bench/results.ts';
import { emptyRun, type Run } from '../bench/runner.ts';
import { exceedsGenerator, judge, type Sample, type Window } from '../bench/sample.ts';
import { shapeOf, titleOf } from '../bench/shape.ts';
import { latencyMicros, median, mergeCounts, pairedRatios, spread } from '../bench/stats.ts';
import { SUITES } from '../bench/suite.ts';
import { formatTable } from '../bench/table.ts';
import { MACHINE } from './bench-machine.ts';
import { fileFolder } from './bench-programs.ts';
import { WISHES } from './bench-wishes.ts';

const folder = fileFolder();

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
  const titles = (plan: Plan) => plan.stages.map(({ shapes }) => shapes.map(titleOf).join(' and '));

  test.each(SUITES.map((suite) => [suite.name, suite] as const))(
    'of %s is longer the more effort is asked for',
    (_name, suite) => {
      const seconds = (['quick', 'standard', 'full'] as const).map((effort) =>
        planSeconds(makePlan({ ...WISHES, suite, effort }), 5),
      );
      expect(seconds[0]).toBeGreaterThan(0);
      expect(seconds[1]).toBeGreaterThanOrEqual(seconds[0]!);
      expect(seconds[2]).toBeGreaterThanOrEqual(seconds[1]!);
    },
  );

  test('has what is wished for in place of what the suite has, each once', () => {
    expect(titles(makePlan({ ...WISHES, connections: [64, 5, 5], messageBytes: 2 ** 14, rounds: 3 }))).toEqual([
      '5 connections, 16 KiB, 1 in flight',
      '64 connections, 16 KiB, 1 in flight',
    ]);
  });

  test('of a number of connections that the suite has itself still has each of its other shapes', () => {
    const sizes = SUITES.find(({ name }) => name === 'sizes')!;
    expect(titles(makePlan({ ...WISHES, suite: sizes, connections: [64] }))).toEqual([
      '64 connections, 1 KiB, 1 in flight',
      '64 connections, 16 KiB, 1 in flight',
      '64 connections, 1 MiB, 1 in flight',
    ]);
  });

  test('of a suite that measures memory only has the numbers of connections that are wished for', () => {
    const connections = [200, 100, 100];
    const memory = SUITES.find(({ name }) => name === 'memory')!;
    expect(makePlan({ ...WISHES, suite: memory, connections }).idleConnections).toEqual([100, 200]);
    expect(makePlan({ ...WISHES, connections }).idleConnections).toEqual([5_000, 19_000]);
  });

  test('measures no shape that would hold more than 256 MiB in flight', () => {
    const sizes = SUITES.find(({ name }) => name === 'sizes')!;
    const shapes = makePlan({ ...WISHES, suite: sizes, effort: 'full' }).stages.flatMap((stage) => stage.shapes);
    expect(shapes).toContainEqual(shapeOf({ connections: 256, messageBytes: 2 ** 20 }));
    expect(shapes).not.toContainEqual(shapeOf({ connections: 1000, messageBytes: 2 ** 20 }));
  });

  test('of idle connections has all their numbers in one stage, so that they are compared within a round', () => {
    const idle = SUITES.find(({ name }) => name === 'idle')!;
    expect(titles(makePlan({ ...WISHES, suite: idle, effort: 'quick' }))).toEqual([
      '64 connections, 64 bytes, 1 in flight and 64 connections, 900 idle, 64 bytes, 1 in flight and 64 connections, 4,000 idle, 64 bytes, 1 in flight',
    ]);
  });
});

describe('report', () => {
  const plan = makePlan({
    ...WISHES,
    effort: 'quick',
    connections: [1, 64],
    seconds: 1,
    rounds: 2,
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
    const json = join(folder, 'that-has-gone', 'report.json');
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
    const into = mkdtempSync(join(folder, 'kept-'));
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
    const into = mkdtempSync(join(folder, 'stale-'));
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
