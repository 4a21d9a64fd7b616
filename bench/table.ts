// The report as text, for the terminal.

import { connectionsOf, mebibytes, orDash, percent, whole } from './format.ts';
import type { Report, Result } from './results.ts';
import type { Spread } from './stats.ts';

/** First column to the left, the others to the right. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
}

function ratio(result: Result, value: number | null, range: Spread | null): string {
  if (value === null || range === null) return '–';
  const text = `${value.toFixed(2)} [${range.min.toFixed(2)}-${range.max.toFixed(2)}]`;
  return result.ranked ? text : `(${value.toFixed(2)})`;
}

function rowOf(result: Result, ratios: Report['suite']['ratios']): string[] {
  const { latencyMicros: latency, spread } = result;
  return [
    result.server + (result.valid ? '' : ' *'),
    orDash(result.roundTripsPerSecond, whole),
    spread.roundTripsPerSecond === null
      ? '–'
      : `${whole(spread.roundTripsPerSecond.min)}-${whole(spread.roundTripsPerSecond.max)}`,
    orDash(result.serverCpuMicrosPerRoundTrip, (micros) => micros.toFixed(2)),
    orDash(result.serverBusy, percent),
    orDash(latency?.p50, whole),
    orDash(latency?.p99, whole),
    orDash(latency?.p999, whole),
    orDash(latency?.max, whole),
    orDash(result.threads, whole),
    orDash(result.rssBytes, mebibytes),
    ...ratios.map(({ field }) => ratio(result, result[field], spread[field])),
    result.valid ? `${result.samples}` : '0',
    `${result.invalidSamples}`,
  ];
}

const HEADER = ['server', 'rt/s', 'min-max', 'CPU us/rt', 'busy', 'p50 us', 'p99', 'p99.9', 'max', 'threads', 'MiB'];

function stageLines(results: readonly Result[], suite: Report['suite']): string[] {
  const { connections, messageBytes, inFlight, ranked } = results[0]!;
  const message = suite.name === 'exchange' ? 'HTTP requests' : `${whole(messageBytes)} bytes`;
  const title = `${connectionsOf(connections)}, ${message}, ${inFlight} in flight`;
  const header = [...HEADER, ...suite.ratios.map(({ label }) => label), 'n', 'dropped'];
  return [
    title + (ranked ? '' : ' (measures wakeups: not for ranking)'),
    ...align([header, ...results.map((result) => rowOf(result, suite.ratios))]).map((line) => `  ${line}`),
    ...results.filter((result) => !result.valid).map((result) => `  * ${result.server}: ${result.whyInvalid}`),
    '',
  ];
}

function memoryLines(report: Report): string[] {
  if (report.idle.length === 0) return [];
  const header = ['server', 'idle connections', 'user bytes each', 'kernel stack each', 'threads', 'CPU while idle'];
  const rows = report.idle.map((sample) => [
    sample.server,
    whole(sample.established),
    whole(sample.rssBytesPerConnection),
    whole(sample.kernelStackBytesPerConnection),
    whole(sample.threads),
    percent(sample.cpuShareWhileIdle),
  ]);
  const problems = report.idle.filter((sample) => sample.whyIncomplete !== null);
  return [
    'Memory per idle connection, after one echo on each',
    ...align([header, ...rows]).map((line) => `  ${line}`),
    ...problems.map((sample) => `  * ${sample.server}: ${sample.whyIncomplete}`),
    '',
  ];
}

export function formatTable(report: Report): string {
  const { machine, suite } = report;
  const counts = [...new Set(report.results.map((result) => result.connections))];
  return [
    `${machine.cpuModel}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}`,
    `${report.method.cores}; medians; ratios are paired with ${suite.ratios.map(({ server }) => server).join(' and ')} of the same round`,
    '',
    ...counts.flatMap((count) =>
      stageLines(
        report.results.filter((result) => result.connections === count),
        suite,
      ),
    ),
    ...memoryLines(report),
  ].join('\n');
}
