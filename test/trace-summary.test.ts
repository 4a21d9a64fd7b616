// `onewait trace summary`: its numbers are those of the trace, and thousands of alike become one row.

import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Histogram } from '../src/trace/histogram.ts';
import { readTrace } from '../src/trace/reader.ts';
import { Kind, OpenKind, SYSCALLS, TextKind, WaitKind } from '../src/trace/record.ts';
import { Summary, type SummaryReport } from '../src/trace/summary.ts';
import { Child, cli, folder, onewait } from './processes.ts';
import { type Fields, header, record, text } from './trace-file.ts';
import { until } from './until.ts';

const RECV = SYSCALLS.indexOf('recvfrom');
const SEND = SYSCALLS.indexOf('sendto');
const US = 1000;

/** A client comes, sends `messages` messages of 10 bytes, gets them back, and goes. */
function client(task: number, fd: number, start: number, messages: number): Buffer[] {
  const call = (fields: Partial<Fields>): Buffer =>
    record({ kind: Kind.syscall, fd, task, duration: 2 * US, ...fields });
  const parts = [
    text(TextKind.descriptorName, { fd }, `tcp 127.0.0.1:${40_000 + task}`),
    record({ kind: Kind.open, code: OpenKind.accepted, fd, task: 1, t: start }),
    text(TextKind.taskName, { task }, 'echo'),
    record({ kind: Kind.spawn, task, arg: 1, t: start }),
    record({ kind: Kind.resume, code: WaitKind.start, task, t: start }),
  ];
  let t = start;
  for (let i = 0; i < messages; i++) {
    t += 10 * US;
    parts.push(
      call({ code: RECV, t, arg: 65_536, result: -11 }),
      record({ kind: Kind.suspend, code: WaitKind.descriptor, task, fd, mask: 1, t: t + 5 * US, result: i }),
      record({ kind: Kind.wait, code: 1, t: t + 5 * US, arg: -1, result: 1, duration: 100 * US }),
      call({ code: RECV, mask: 1, t: t + 105 * US, arg: 65_536, result: 10 }),
      record({
        kind: Kind.resume,
        code: WaitKind.descriptor,
        task,
        fd,
        mask: 1,
        t: t + 110 * US,
        arg: 5 * US,
        result: i,
      }),
      call({ code: SEND, t: t + 112 * US, arg: 10, result: 10 }),
    );
    t += 112 * US;
  }
  parts.push(record({ kind: Kind.end, task, t: t + 10 * US }), record({ kind: Kind.close, fd, t: t + 20 * US }));
  return parts;
}

function summary(parts: Buffer[], top = 20): SummaryReport {
  const path = join(folder(), 'trace');
  writeFileSync(path, Buffer.concat([header(), ...parts]));
  const made = new Summary(top);
  for (const one of readTrace(path).records) made.push(one);
  return made.report();
}

describe('a summary', () => {
  test('counts calls, bytes, EAGAIN and messages of a descriptor and of its task', () => {
    const report = summary(client(2, 9, 0, 4));
    const traffic = { calls: 12, bytesIn: 40, bytesOut: 40, eagainRate: 4 / 12, callsPerMessage: 3 };
    expect(report.fds).toMatchObject([{ name: 'fd 9 tcp 127.0.0.1:40002', fds: 1, ...traffic }]);
    expect(report.tasks.find(({ name }) => name === 'echo#2')).toMatchObject({ tasks: 1, ...traffic });
    expect(report).toMatchObject({
      turns: 4,
      messages: 4,
      syscalls: 16,
      callsPerMessage: 4,
      fdsOpened: 1,
      tasksSpawned: 1,
      lostRecords: 0,
    });
  });

  test('tells how long a task was suspended, runnable and running, and the share of the time blocked', () => {
    const report = summary(client(2, 9, 0, 4));
    const task = report.tasks.find(({ name }) => name === 'echo#2')!;
    expect(task.suspended).toMatchObject({ count: 4, totalNs: 4 * 100 * US, maxNs: 100 * US });
    expect(task.runnable).toMatchObject({ count: 4, totalNs: 4 * 5 * US, maxNs: 5 * US });
    expect(task.running.totalNs).toBe((15 + 3 * 17 + 12) * US);
    expect(report.readyToResume).toMatchObject({ count: 4, maxNs: 5 * US });
    expect(report.readyToResume.histogram).toEqual([{ fromNs: 4096, count: 4 }]);
    expect(report.blocked.totalNs).toBe(400 * US);
    expect(report.blockedShare).toBeCloseTo((400 * US) / report.durationNs, 10);
  });

  test('keeps those that did most, and adds up the others of a name', () => {
    const parts = Array.from({ length: 5000 }, (_, i) => client(i + 2, 9, i * 1e6, i === 700 ? 9 : 1)).flat();
    const report = summary(parts, 1);
    expect(report.fds.map(({ name, fds, calls }) => [name, fds, calls])).toEqual([
      ['fd 9 tcp 127.0.0.1:40702', 1, 27],
      ['tcp accepted', 4999, 4999 * 3],
    ]);
    expect(report.tasks.map(({ name, tasks, bytesIn }) => [name, tasks, bytesIn])).toContainEqual([
      'echo',
      4999,
      49_990,
    ]);
  });

  test('counts lost records, and is empty for a trace of nothing', () => {
    expect(summary([record({ kind: Kind.lost, result: 77 })]).lostRecords).toBe(77);
    expect(summary([])).toMatchObject({ records: 0, durationNs: 0, fds: [], tasks: [], blockedShare: 0 });
  });

  test('of an echo server adds up to what was sent', async () => {
    const path = join(folder(), 'trace');
    const child = new Child(process.execPath, [cli, 'echo', '--port', '0', '--trace', path]);
    const port = Number((await child.says(/:(\d+)$/m))[1]);
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('data', () => {});
    for (let sent = 100; sent <= 2000; sent += 100) {
      socket.write(Buffer.alloc(100));
      await until('it comes back', () => socket.bytesRead === sent);
    }
    socket.end();
    await until('it is closed', () => socket.closed);
    child.process.kill('SIGINT');
    expect((await child.end()).code).toBe(130);
    const json = await onewait(['trace', 'summary', '--json', path]).end();
    expect(json).toMatchObject({ code: 0, stderr: '' });
    const report = JSON.parse(json.stdout) as SummaryReport;
    const name = /^fd \d+ tcp 127\.0\.0\.1:\d+$/;
    expect(report.fds.find((fd) => name.test(fd.name))).toMatchObject({ bytesIn: 2000, bytesOut: 2000 });
    expect(report.tasks.find((task) => task.name === 'echo#3')).toMatchObject({ bytesIn: 2000, bytesOut: 2000 });
    expect(report.blockedShare).toBeGreaterThan(0);
    expect(report.blockedShare).toBeLessThanOrEqual(1);
    const shown = await onewait(['trace', 'summary', path]).end();
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    expect(shown.stdout).toMatch(/^[\d,]+ records, .*\n.*% of the time blocked in the wait/);
    expect(shown.stdout).toMatch(/^echo#3 +\d+ +2,000 +2,000 /m);
    expect(shown.stdout).toMatch(/^From ready to resume: p50 .*\n( *[\d.]+ \w+ - +[\d.]+ \w+ {2}#* +\d+\n)+$/m);
    expect(shown.stdout).not.toMatch(/NaN|undefined|Infinity/);
  });
});

test('a histogram is within 5 % of the true percentile, also when two are added up', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 1e12 }), { minLength: 1 }),
      fc.array(fc.integer({ min: 0, max: 1e5 })),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (some, others, part) => {
        const [histogram, other] = [new Histogram(), new Histogram()];
        for (const value of some) histogram.add(value);
        for (const value of others) other.add(value);
        histogram.addAll(other);
        const sorted = [...some, ...others].sort((a, b) => a - b);
        const truth = sorted[Math.ceil(sorted.length * part) - 1]!;
        expect(histogram.count).toBe(sorted.length);
        expect(histogram.max).toBe(sorted.at(-1));
        expect(Math.abs(histogram.percentile(part) - truth)).toBeLessThanOrEqual(Math.max(truth * 0.05, 1.1));
      },
    ),
  );
});
