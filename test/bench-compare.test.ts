// What two reports of the benchmark say differently: the rank test, and the sentences that are made of it. No figure here was measured.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatComparison } from '../bench/compare.ts';
import { type Comparison, compareReports } from '../bench/comparison.ts';
import { makePlan } from '../bench/plan.ts';
import { leastP, rankTest } from '../bench/rank-test.ts';
import { readReport } from '../bench/report-file.ts';
import { makeReport, type Report } from '../bench/results.ts';
import { emptyRun } from '../bench/runner.ts';
import type { Sample } from '../bench/sample.ts';
import { shapeOf, titleOf } from '../bench/shape.ts';
import { SUITES } from '../bench/suite.ts';
import { MACHINE } from './bench-machine.ts';
import { main } from './bench-programs.ts';
import { WISHES } from './bench-wishes.ts';
import { folder } from './processes.ts';

/** Numbers from 0 to 1 that are the same in every run: xorshift32. */
function random(seed: number): () => number {
  let state = seed * 2_654_435_761 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** About normal, mean 0, deviation 1. */
const noise = (next: () => number) => Array.from({ length: 12 }, next).reduce((sum, value) => sum + value, -6);

describe('the rank test', () => {
  test('counts the ways to choose: three of six that all lie below the others are two of twenty', () => {
    expect(rankTest([1, 2, 3], [4, 5, 6])).toEqual({ p: 0.1, isExact: true });
    expect(rankTest([4, 5, 6], [1, 2, 3]).p).toBe(0.1);
    expect(leastP(3, 3)).toBe(0.1);
  });

  // From the table of U in Mann and Whitney (1947) for 5 and 5: one tail at U = 2 is 0.016, and at U = 5 0.075.
  test('agrees with the published table', () => {
    expect(rankTest([1, 2, 3, 4, 7], [5, 6, 8, 9, 10]).p).toBeCloseTo(2 * (4 / 252), 10);
    expect(rankTest([1, 2, 3, 4, 10], [5, 6, 7, 8, 9]).p).toBeCloseTo(2 * (19 / 252), 10);
  });

  test('with equal values it still counts the ways to choose', () => {
    // Half of the choices hold the 2, and all are equally far from the mean.
    expect(rankTest([1, 1], [1, 2]).p).toBe(1);
    // One choice in 35 has no 2 among its four; those that have all three are less far from the mean.
    expect(rankTest([1, 1, 1, 1], [2, 2, 2]).p).toBeCloseTo(1 / 35, 10);
    expect(rankTest([5, 5, 5], [5, 5, 5, 5]).p).toBe(1);
  });

  const values = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 2, maxLength: 12 });

  test('is the same whichever group is first, and whatever the unit is', () => {
    fc.assert(
      fc.property(values, values, (a, b) => {
        const { p } = rankTest(a, b);
        expect(rankTest(b, a).p).toBeCloseTo(p, 10);
        const inOtherUnit = (group: readonly number[]) => group.map((value) => value ** 3 + 7);
        expect(rankTest(inOtherUnit(a), inOtherUnit(b)).p).toBeCloseTo(p, 10);
        expect(p).toBeGreaterThan(0);
        expect(p).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('gives about as many small values of p for groups of the same kind as p says', () => {
    const next = random(1);
    const group = (size: number) => Array.from({ length: size }, next);
    const small = Array.from({ length: 2000 }, () => rankTest(group(9), group(11)).p).filter((p) => p < 0.05);
    expect(small.length).toBeGreaterThan(60);
    expect(small.length).toBeLessThan(130);
  });

  test('beyond a hundred values is approximate, and next to what counting gives', () => {
    const next = random(2);
    // Tenths, so that many are equal.
    const group = (size: number, shift: number) =>
      Array.from({ length: size }, () => Math.round((noise(next) + shift) * 10));
    const [a, b] = [group(50, 0), group(50, 0.45)];
    const exact = rankTest(a, b);
    const more = rankTest([...a, 0], b);
    expect([exact.isExact, more.isExact]).toEqual([true, false]);
    expect(Math.abs(Math.log(more.p / exact.p))).toBeLessThan(0.3);
  });
});

interface Made {
  readonly suite?: string;
  readonly seed: number;
  /** By server: its ratio to raw-epoll. */
  readonly servers: Readonly<Record<string, number>>;
  readonly rounds?: number;
  /** As a share, of each ratio. */
  readonly noise?: number;
  readonly seconds?: number;
  readonly connections?: number;
  readonly bytesPerConnection?: number;
  readonly machine?: Partial<typeof MACHINE>;
  readonly difference?: (sample: Sample) => Partial<Sample>;
}

/** A report of a machine that is as fast as `seed` and the round will have it: ratios hold, rates do not. */
function made(wanted: Made): Report {
  const { seed, servers, rounds = 21, seconds = 0.5, connections = 64 } = wanted;
  const next = random(seed);
  const suite = SUITES.find(({ name }) => name === (wanted.suite ?? 'echo'))!;
  const shape = shapeOf({ connections });
  const run = emptyRun();
  run.shapes.push(shape);
  const names = ['raw-epoll', ...Object.keys(servers)];
  for (let round = 0; round < rounds; round++) {
    const phase = 100_000 * (0.7 + 0.6 * next());
    for (const server of names) {
      const rate = phase * (servers[server] ?? 1) * (1 + (wanted.noise ?? 0.02) * noise(next));
      const sample: Sample = {
        server,
        shape,
        round,
        valid: true,
        whyInvalid: null,
        repeat: false,
        established: connections,
        connectionErrors: 0,
        firstConnectionError: null,
        roundTrips: Math.round(rate * seconds),
        seconds,
        roundTripsPerSecond: rate,
        serverCpuSeconds: seconds,
        serverCpuMicrosPerRoundTrip: 1e6 / rate,
        serverBusy: 1,
        generatorBusy: 0.5,
        otherCoreBusy: 0.5,
        rssBytes: 2 ** 26,
        threads: 1,
        latencyCounts: [[Math.round((connections * 1e9) / rate), 1000]],
        pacing: null,
        floodBytesPerSecond: null,
      };
      run.samples.push({ ...sample, ...wanted.difference?.(sample) });
    }
  }
  for (const server of names) {
    run.idle.push({
      server,
      connections: 5000,
      established: 5000,
      rssBytesPerConnection: wanted.bytesPerConnection ?? 1000,
      rssSamples: [990, 1000, 1010].map((bytes) => (bytes * (wanted.bytesPerConnection ?? 1000)) / 1000),
      kernelStackBytesPerConnection: 0,
      threads: 1,
      cpuShareWhileIdle: 0,
      whyIncomplete: null,
    });
  }
  const plan = makePlan({ ...WISHES, suite, mostConnections: 1000 });
  return makeReport({ ...MACHINE, ...wanted.machine }, [{ plan, servers: names, run }], {
    interrupted: false,
    skipped: [],
  });
}

const textOf = (comparison: Comparison) => formatComparison(comparison, 'a.json', 'b.json');

const figuresOf = (comparison: Comparison) => comparison.changes.map(({ figure }) => figure);

describe('two reports', () => {
  const servers = { 'onewait-await': 0.96, 'node-net': 0.6 };

  test('of the same servers show no change, however fast the machine was', () => {
    const falsely = Array.from({ length: 30 }, (_, i) =>
      compareReports(made({ seed: 2 * i + 1, servers }), made({ seed: 2 * i + 2, servers })),
    ).flatMap(({ changes }) => changes);
    // Of 180 that were tested 1.8 are to be expected.
    expect(falsely.length).toBeLessThan(8);
    const comparison = compareReports(made({ seed: 1, servers }), made({ seed: 2, servers }));
    expect(comparison.changes).toEqual([]);
    expect(textOf(comparison)).toContain(
      'No change beyond noise\n  echo: 6 figures of onewait-await, node-net\n  echo: bytes per idle connection of raw-epoll, onewait-await, node-net\n',
    );
  });

  test('show a change of three per cent among noise of two, in plain words, and better or worse', () => {
    const before = made({ seed: 3, servers });
    const after = made({ seed: 4, servers: { ...servers, 'onewait-await': 0.99 } });
    const better = compareReports(before, after);
    expect(figuresOf(better)).toEqual(['', 'CPU per round trip', 'p99 latency']);
    expect(better.changes.map(({ server, isWorse }) => [server, isWorse])).toEqual(
      Array(3).fill(['onewait-await', false]),
    );
    expect(textOf(better)).toMatch(
      /^Better\n {2}echo: onewait-await, 64 connections, 64 bytes, 1 in flight: 0\.9\d -> (0\.9\d|1\.0\d) of raw-epoll \(\+\d\.\d %\), p [<=] 0\.00\d, 21 and 21 samples\n/,
    );
    const worse = compareReports(after, before);
    expect(worse.changes.map(({ isWorse }) => isWorse)).toEqual([true, true, true]);
    expect(textOf(worse)).toMatch(/^Worse\n/);
  });

  test('a change of less than one per cent is none, however sure it is', () => {
    const quiet = { noise: 0.0005 };
    const before = made({ seed: 5, servers, ...quiet });
    const after = made({ seed: 6, servers: { ...servers, 'onewait-await': 0.965 }, ...quiet });
    expect(compareReports(before, after).changes).toEqual([]);
  });

  test('with too few samples say so instead of that nothing changed', () => {
    const before = made({ seed: 7, servers, rounds: 4 });
    const after = made({ seed: 8, servers: { ...servers, 'onewait-await': 0.5 }, rounds: 4 });
    const comparison = compareReports(before, after);
    expect([comparison.changes, comparison.unchanged]).toEqual([[], []]);
    expect(textOf(comparison)).toContain(
      'Too few samples that count to tell\n  echo: 6 figures of onewait-await, node-net; 4 and 4 samples beside raw-epoll for onewait-await',
    );
    expect(textOf(comparison)).toContain('No ratio could be tested.');
  });

  test('samples that do not count, and rounds in which the reference has none, are left out', () => {
    const before = made({ seed: 9, servers });
    const after = made({
      seed: 10,
      servers,
      difference: ({ server, round }) =>
        server === 'raw-epoll' && round < 5
          ? { valid: false, whyInvalid: 'waiting' }
          : server === 'onewait-await' && round > 15
            ? { valid: false, whyInvalid: 'waiting', roundTripsPerSecond: 1 }
            : server === 'onewait-await'
              ? { roundTripsPerSecond: 1 }
              : {},
    });
    expect(compareReports(before, after).changes).toMatchObject([
      { server: 'onewait-await', samplesBefore: 21, samplesAfter: 11, isWorse: true },
    ]);
  });

  test('where the CPU time is not known it is not compared', () => {
    const unknown = { difference: () => ({ serverCpuSeconds: null, serverCpuMicrosPerRoundTrip: null }) };
    const comparison = compareReports(made({ seed: 11, servers, ...unknown }), made({ seed: 12, servers, ...unknown }));
    expect(comparison.unchanged.map(({ figure }) => figure)).toEqual(['', 'p99 latency', '', 'p99 latency']);
    expect(comparison.tooFew).toEqual([]);
  });

  test('of a suite that measures p99 less is better', () => {
    const before = made({ seed: 13, suite: 'latency', servers });
    const after = made({ seed: 14, suite: 'latency', servers: { ...servers, 'onewait-await': 1.2 } });
    const [first] = compareReports(before, after).changes;
    expect(first).toMatchObject({ suite: 'latency', figure: 'p99 latency', isWorse: false });
    expect(first!.after).toBeLessThan(first!.before);
  });

  test('memory is a change when it is more than runs of the same server differ by', () => {
    const before = made({ seed: 1, servers, bytesPerConnection: 1000 });
    const slightly = compareReports(before, made({ seed: 2, servers, bytesPerConnection: 1150 }));
    expect(slightly.memory.every(({ isWorse }) => isWorse === null)).toBe(true);
    const much = compareReports(before, made({ seed: 2, servers, bytesPerConnection: 2500 }));
    expect(much.memory.every(({ isWorse }) => isWorse === true)).toBe(true);
    expect(textOf(much)).toContain(
      'Worse\n  echo: raw-epoll, 5,000 connections, idle: 1,000 -> 2,500 bytes each (+150.0 %), 3 and 3 samples\n',
    );
    const perhaps = made({ seed: 2, servers, bytesPerConnection: 2500 });
    const idle = perhaps.idle.map((sample) => ({ ...sample, rssSamples: [1005, 2500, 2600] }));
    expect(compareReports(before, { ...perhaps, idle }).memory.every(({ isWorse }) => isWorse === null)).toBe(true);
    const once = made({ seed: 2, servers, bytesPerConnection: 1700 });
    expect(compareReports(before, once).memory.every(({ isWorse }) => isWorse === true)).toBe(true);
    const single = once.idle.map((sample) => ({ ...sample, rssSamples: [1700] }));
    expect(compareReports(before, { ...once, idle: single }).memory.every(({ isWorse }) => isWorse === null)).toBe(
      true,
    );
  });

  test('what makes a comparison doubtful is a warning each', () => {
    const before = made({ seed: 1, servers });
    const after = made({ seed: 2, servers, seconds: 2, machine: { kernel: '7.0', node: 'v26', memoryBytes: 2 ** 35 } });
    expect(compareReports(before, { ...after, complete: false }).warnings).toEqual([
      'different kernels: 6.1 | 7.0',
      'different versions of Node: v20 | v26',
      'different sizes of memory: 16 GiB | 32 GiB',
      'the second run is not complete: it was interrupted, or a server failed',
      'echo: windows of different lengths, 0.50 s and 2.00 s at 64 connections, 64 bytes, 1 in flight',
    ]);
    expect(compareReports(before, before).warnings).toEqual([]);
  });

  test('what only one of them has is named', () => {
    const before = made({ seed: 1, servers: { ...servers, go: 0.8 } });
    const after = made({ seed: 2, servers });
    const here = `echo, ${titleOf(shapeOf())}: go`;
    expect(compareReports(before, after)).toMatchObject({ onlyBefore: [here], onlyAfter: [] });
    expect(compareReports(after, before)).toMatchObject({ onlyBefore: [], onlyAfter: [here] });
    const other = compareReports(before, made({ seed: 3, suite: 'latency', servers }));
    expect(other).toMatchObject({ onlyBefore: ['the suite echo'], onlyAfter: ['the suite latency'] });
    expect(textOf(other)).toMatch(/There is nothing to compare: .*$/);
  });
});

describe('bench compare', () => {
  const run = (...args: readonly string[]) =>
    spawnSync(process.execPath, [main, 'compare', ...args], { encoding: 'utf8' });

  function write(into: string, name: string, content: unknown): string {
    const file = join(into, name);
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  }

  test('exits with 1 if something got worse, else with 0', () => {
    const into = folder();
    const fast = write(into, 'fast.json', made({ seed: 1, servers: { 'onewait-await': 0.96 } }));
    const slow = write(into, 'slow.json', made({ seed: 2, servers: { 'onewait-await': 0.8 } }));
    expect(run(fast, slow)).toMatchObject({ status: 1, stderr: '', stdout: expect.stringMatching(/^Worse\n/) });
    expect(run(slow, fast)).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/^Better\n/) });
    expect(run(fast, fast)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^No change beyond noise\n/) });
  });

  test('exits with 1 if the second run is not complete, and with 2 if there is nothing to compare', () => {
    const into = folder();
    const report = made({ seed: 1, servers: { 'onewait-await': 0.96 } });
    const whole = write(into, 'whole.json', report);
    const broken = write(into, 'broken.json', { ...report, complete: false });
    const other = write(into, 'other.json', made({ seed: 3, suite: 'latency', servers: {} }));
    expect(run(whole, broken)).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('the second run is not complete'),
    });
    expect(run(broken, whole)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('the first run is not complete'),
    });
    expect(run(whole, other)).toMatchObject({ status: 2, stdout: expect.stringContaining('nothing to compare') });
  });

  test('a file that is not there, is damaged, or is something else is one line and exit code 2', () => {
    const into = folder();
    const report = made({ seed: 1, servers: {} });
    const good = write(into, 'good.json', report);
    const cut = JSON.stringify(report).slice(0, -1000);
    const sample = report.samples[0]!;
    const bad: ReadonlyArray<readonly [string, RegExp]> = [
      [join(into, 'none.json'), /none\.json cannot be read: ENOENT/],
      [into, /cannot be read: EISDIR/],
      [write(into, 'cut.json', cut), /cut\.json is not JSON, or not all of it/],
      [write(into, 'null.json', 'null'), /null\.json is not a report of this version of the benchmark/],
      [write(into, 'list.json', []), /not a report of this version/],
      [write(into, 'other.json', { name: 'onewait', version: '1' }), /not a report of this version/],
      [write(into, 'samples.json', { ...report, samples: [{ ...sample, round: '1' }] }), /its 'samples' is missing/],
      [write(into, 'suites.json', { ...report, suites: [{ name: 'echo' }] }), /its 'suites' is missing/],
    ];
    for (const [file, complaint] of bad) {
      const ended = run(good, file);
      expect([ended.status, ended.stdout]).toEqual([2, '']);
      expect(ended.stderr).toMatch(complaint);
      expect(ended.stderr).toMatch(/^onewait bench: [^\n]*\n$/);
    }
  });

  test('whatever part of a report is replaced, it is refused or compared, and nothing is thrown', () => {
    const into = folder();
    const report = made({ seed: 1, servers: { 'onewait-await': 0.9 }, rounds: 2 });
    const fields = Object.keys(report) as Array<keyof Report>;
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) => {
        const file = write(into, 'odd.json', { ...report, [field]: value });
        let odd: Report;
        try {
          odd = readReport(file);
        } catch (error) {
          expect((error as Error).name).toBe('Unreadable');
          return;
        }
        textOf(compareReports(report, odd));
        textOf(compareReports(odd, report));
      }),
      { numRuns: 500 },
    );
  });

  test('wrong usage is one line and exit code 2, and --help says what is compared', () => {
    for (const args of [[], ['a.json'], ['a.json', 'b.json', 'c.json'], ['--nonsense']]) {
      const ended = run(...args);
      expect([ended.status, ended.stdout]).toEqual([2, '']);
      expect(ended.stderr).toMatch(/^onewait bench: [^\n]*\n$/);
    }
    expect(run('--help')).toMatchObject({ status: 0, stdout: expect.stringContaining('a rank test') });
  });
});
