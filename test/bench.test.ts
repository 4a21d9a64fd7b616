// How the benchmark runs, what it writes and how it ends. No figure that it measures decides anything here.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Children } from '../bench/children.ts';
import { carryOut } from '../bench/commands.ts';
import { freePort } from '../bench/lab.ts';
import { describeMachine, mostConnections } from '../bench/machine.ts';
import { makePlan, planSeconds } from '../bench/plan.ts';
import { Progress } from '../bench/progress.ts';
import type { Report } from '../bench/results.ts';
import { Runner } from '../bench/runner.ts';
import { judge } from '../bench/sample.ts';
import { type Server as BenchServer, RATES } from '../bench/servers.ts';
import { shapeOf } from '../bench/shape.ts';
import { SUITES } from '../bench/suite.ts';
import { runWrk } from '../bench/wrk.ts';
import { compiledPrograms, main } from './bench-programs.ts';
import { Child, needs } from './processes.ts';
import { until } from './until.ts';

const programs = compiledPrograms('loadgen', 'raw-epoll', 'thread-per-connection');

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

/** The command lines of live processes that mention the folder of this test's programs. */
function childrenLeft(): Array<{ pid: number; line: string }> {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return { pid: Number(pid), line: readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') };
      } catch {
        return { pid: 0, line: '' }; // It ended meanwhile.
      }
    })
    .filter(({ line }) => line.includes(programs) && !line.includes(main));
}

const bench = (...args: string[]): Child =>
  new Child(process.execPath, [main, '--programs', programs, '--settle', '0.1', ...args]);

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
    const ended = await bench(...args, ...short).ended;
    expect(ended.code).toBe(0);
    expect(ended.stderr).toMatch(message);
  });

  test('says so when loops that are to have several cores have one', async () => {
    const ended = await bench('--suite', 'cores', '--servers', 'onewait-1', '--connections', '4', ...short).ended;
    expect(ended.code).toBe(0);
    const alone = describeMachine('').pinning?.otherCpus.length === 1;
    expect(ended.stderr.includes('cores: all loops share one core')).toBe(alone);
  });

  test('skips a server that is not there, and says how to have it', async () => {
    const empty = join(programs, 'without-servers');
    mkdirSync(empty);
    execFileSync('cp', [join(programs, 'loadgen'), empty]);
    const ended = await new Child(process.execPath, [main, '--programs', empty, '--servers', 'raw-epoll']).ended;
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/skipped: raw-epoll is not available: build it with/);
  });

  test('writes what it measured, as a table, as JSON and as a page', async () => {
    const out = join(programs, 'report');
    const file = join(programs, 'report.json');
    const args = ['--connections', '4', '--seconds', '0.3', '--rounds', '1', '--json', file, '--out', out];
    const ended = await bench('--servers', 'raw-epoll,thread-per-connection,node-net', '--quick', ...args).ended;
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
    const ended = await bench('--suite', 'exchange', '--servers', 'exchange-hardcoded,exchange-coroutines', ...args)
      .ended;
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
    const ended = await new Child(
      process.execPath,
      [main, '--programs', programs, '--suite', 'trace', '--servers', names.join(), ...args],
      {
        env: { ...process.env, TMPDIR: temporary },
      },
    ).ended;
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
    // The first progress line says that a sample is being taken; children are there from then on, or are about to be.
    child.process.stderr!.once('data', () => child.process.kill(signal));
    expect((await child.ended).code).toBe(code);
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(false);
    expect(written.results[0]).toMatchObject({ valid: false, whyInvalid: 'interrupted' });
    expect(childrenLeft()).toEqual([]);
  });

  test('when the load generator is killed says so, marks its result and exits with 1', async () => {
    const file = join(programs, 'killed.json');
    const args = ['--connections', '8', '--seconds', '60', '--rounds', '1', '--json', file];
    const child = bench('--servers', 'raw-epoll', ...args);
    const generator = await until('it generates load', () =>
      childrenLeft().find(({ line }) => line.includes('/loadgen ') && line.includes('--connections 8')),
    );
    process.kill(generator.pid, 'SIGKILL');
    const ended = await child.ended;
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain('raw-epoll: the load generator gave up (SIGKILL)');
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(false);
    expect(written.results[0]).toMatchObject({ valid: false });
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
    const ended = await new Child(process.execPath, [main, '--programs', broken, ...args]).ended;
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/raw-epoll died \(exit code 9\); its stderr ends with: my last words/);
    const written = JSON.parse(readFileSync(file, 'utf8')) as Report;
    expect(written.complete).toBe(false);
    expect(written.results[0]).toMatchObject({ valid: false });
    expect(childrenLeft()).toEqual([]);
  });
});
