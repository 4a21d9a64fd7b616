// A summary for people: tables in columns, and bars.

import type { FdSummary, SummaryReport, TaskSummary, Times } from './summary.ts';

/** The longest bar of the histogram. */
const BAR = 50;
const MAX_NAME = 40;
const UNITS: ReadonlyArray<[number, string]> = [
  [1e9, 's'],
  [1e6, 'ms'],
  [1e3, 'us'],
];

export function summaryText(report: SummaryReport): string {
  const { threads, turns, blocked, messages, callsPerMessage, lostRecords, readyToResume } = report;
  const totals = [
    `${number(report.records)} records, ${duration(report.durationNs)}${threads > 1 ? `, ${threads} threads` : ''}`,
    `${number(turns)} turns; ${percent(report.blockedShare)} of the time blocked in the wait (p50 ${duration(blocked.p50Ns)}, p99 ${duration(blocked.p99Ns)}, max ${duration(blocked.maxNs)}); ${number(report.libuvTurns)} turns of libuv`,
    `${number(report.syscalls)} system calls with the waits, ${number(messages)} messages${callsPerMessage === null ? '' : `: ${ratio(callsPerMessage)} calls to each`}`,
    `${number(report.fdsOpened)} descriptors opened, ${number(report.tasksSpawned)} tasks spawned, ${number(report.tasksFailed)} failed`,
  ];
  if (lostRecords > 0) totals.push(`${number(lostRecords)} records lost: the numbers are too small by what they told`);
  const parts = [totals.join('\n')];
  if (report.fds.length > 0) parts.push(fdTable(report.fds));
  if (report.tasks.length > 0) parts.push(taskTable(report.tasks));
  if (readyToResume.count > 0) {
    const { p50Ns, p99Ns, maxNs } = readyToResume;
    const heading = `From ready to resume: p50 ${duration(p50Ns)}, p99 ${duration(p99Ns)}, max ${duration(maxNs)}`;
    parts.push(`${heading}\n${bars(readyToResume.histogram)}`);
  }
  return `${parts.join('\n\n')}\n`;
}

function fdTable(fds: readonly FdSummary[]): string {
  const head = ['descriptor', 'calls', 'in', 'out', 'EAGAIN', 'calls/msg', 'awaited', 'p50', 'p99', 'max'];
  return table([head, ...fds.map((fd) => [named(fd.name, fd.fds), ...traffic(fd), ...four(fd.awaited)])]);
}

function taskTable(tasks: readonly TaskSummary[]): string {
  const times = (name: string) => [name, 'p50', 'p99', 'max'];
  return table([
    ['task', 'calls', 'in', 'out', ...times('suspended'), ...times('runnable'), ...times('running')],
    ...tasks.map((task) => [
      named(task.name, task.tasks),
      ...traffic(task).slice(0, 3),
      ...four(task.suspended),
      ...four(task.runnable),
      ...four(task.running),
    ]),
  ]);
}

function named(name: string, members: number): string {
  const cut = name.length > MAX_NAME ? `${name.slice(0, MAX_NAME - 3)}...` : name;
  return members === 1 ? cut : `${cut} x ${number(members)}`;
}

function traffic({ calls, bytesIn, bytesOut, eagainRate, callsPerMessage }: FdSummary | TaskSummary): string[] {
  return [
    number(calls),
    number(bytesIn),
    number(bytesOut),
    percent(eagainRate),
    callsPerMessage === null ? '-' : ratio(callsPerMessage),
  ];
}

function four({ count, totalNs, p50Ns, p99Ns, maxNs }: Times): string[] {
  return count === 0 ? ['-', '', '', ''] : [totalNs, p50Ns, p99Ns, maxNs].map(duration);
}

/** The first column is text, the others are numbers. */
function table(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (row: string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}

function bars(histogram: SummaryReport['readyToResume']['histogram']): string {
  const most = Math.max(...histogram.map(({ count }) => count));
  return histogram
    .map(({ fromNs, count }) => {
      const range = `${duration(fromNs).padStart(8)} - ${duration(Math.max(2, fromNs * 2)).padStart(8)}`;
      const bar = '#'.repeat(count === 0 ? 0 : Math.max(1, Math.round((count / most) * BAR)));
      return `${range}  ${bar.padEnd(BAR)}  ${number(count)}`;
    })
    .join('\n');
}

/** Three digits: '1.23 ms'. */
function duration(ns: number): string {
  const [size, unit] = UNITS.find(([least]) => ns >= least) ?? [1, 'ns'];
  const value = ns / size;
  return `${value >= 1e6 ? number(Math.round(value)) : value >= 100 || size === 1 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
}

function number(value: number): string {
  return value.toLocaleString('en');
}

function percent(part: number): string {
  return `${(part * 100).toFixed(1)} %`;
}

function ratio(value: number): string {
  return value.toFixed(2);
}
