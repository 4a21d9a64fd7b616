// The report as text, for the terminal.

import { mebibytes, orDash, percent, whole } from './format.ts';
import type { Report, Result, SelfCheck, SuiteReport } from './results.ts';
import { type Spread, spread } from './stats.ts';

/** First column to the left, the others to the right. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
}

/** A column of the table: its title, and its cell of a result. A column that is empty in all rows is left out. */
interface Column {
  readonly title: string;
  readonly cell: (result: Result) => string;
}

const NOTHING = '–';

function ratio(result: Result, value: number | null, range: Spread | null): string {
  if (value === null || range === null) return NOTHING;
  const text = `${value.toFixed(2)} [${range.min.toFixed(2)}-${range.max.toFixed(2)}]`;
  return result.ranked ? text : `(${value.toFixed(2)})`;
}

const range = (of: Spread | null, format: (value: number) => string) =>
  of === null ? NOTHING : `${format(of.min)}-${format(of.max)}`;

const COLUMNS: readonly Column[] = [
  { title: 'rt/s', cell: ({ roundTripsPerSecond }) => orDash(roundTripsPerSecond, whole) },
  { title: 'min-max', cell: ({ spread }) => range(spread.roundTripsPerSecond, whole) },
  {
    title: 'MB/s of the flood',
    cell: ({ floodBytesPerSecond }) => orDash(floodBytesPerSecond, (bytes) => whole(bytes / 1e6)),
  },
  { title: 'CPU us/rt', cell: (result) => orDash(result.serverCpuMicrosPerRoundTrip, (micros) => micros.toFixed(2)) },
  { title: 'busy', cell: ({ serverBusy }) => orDash(serverBusy, percent) },
  { title: 'p50 us', cell: ({ latencyMicros }) => orDash(latencyMicros?.p50, whole) },
  { title: 'p99', cell: ({ latencyMicros }) => orDash(latencyMicros?.p99, whole) },
  { title: 'p99.9', cell: ({ latencyMicros }) => orDash(latencyMicros?.p999, whole) },
  { title: 'max', cell: ({ latencyMicros }) => orDash(latencyMicros?.max, whole) },
  { title: 'hiccups', cell: ({ disturbedShare }) => orDash(disturbedShare, percent) },
  { title: 'threads', cell: ({ threads }) => orDash(threads, whole) },
  { title: 'MiB', cell: ({ rssBytes }) => orDash(rssBytes, mebibytes) },
];

/** The figures of one shape: a header, and a row for each server. */
export function shapeTable(results: readonly Result[], suite: SuiteReport): string[][] {
  const columns = [
    ...COLUMNS,
    ...suite.ratios.map(({ field, label }) => ({
      title: suite.measure === 'p99' ? `p99 ${label}` : label,
      cell: (result: Result) => ratio(result, result[field], result.spread[field]),
    })),
    { title: 'n', cell: (result: Result) => (result.valid ? `${result.samples}` : '0') },
    { title: 'dropped', cell: (result: Result) => `${result.invalidSamples}` },
  ].filter(({ cell }) => results.some((result) => cell(result) !== NOTHING));
  const rows = results.map((result) => [
    result.server + (result.valid ? '' : ' *'),
    ...columns.map(({ cell }) => cell(result)),
  ]);
  return [['server', ...columns.map(({ title }) => title)], ...rows];
}

function stageLines(results: readonly Result[], suite: SuiteReport): string[] {
  const { shape, ranked } = results[0]!;
  return [
    shape + (ranked ? '' : ' (measures wakeups: not for ranking)'),
    ...align(shapeTable(results, suite)).map((line) => `  ${line}`),
    ...results.filter((result) => !result.valid).map((result) => `  * ${result.server}: ${result.whyInvalid}`),
    '',
  ];
}

/** A header, and a row for each server and number of connections. */
export function memoryTable(idle: Report['idle']): string[][] {
  const header = [
    'server',
    'idle connections',
    'user bytes each',
    'min-max',
    'kernel stack each',
    'threads',
    'CPU while idle',
    'n',
  ];
  const rows = idle.map((sample) => [
    sample.server,
    whole(sample.established),
    whole(sample.rssBytesPerConnection),
    range(spread(sample.rssSamples), whole),
    whole(sample.kernelStackBytesPerConnection),
    whole(sample.threads),
    percent(sample.cpuShareWhileIdle),
    whole(sample.rssSamples.length),
  ]);
  return [header, ...rows];
}

function memoryLines(idle: Report['idle']): string[] {
  if (idle.length === 0) return [];
  const problems = idle.filter((sample) => sample.whyIncomplete !== null);
  return [
    'Memory per idle connection, after one echo on each',
    ...align(memoryTable(idle)).map((line) => `  ${line}`),
    ...problems.map((sample) => `  * ${sample.server}: ${sample.whyIncomplete}`),
    '',
  ];
}

function checkLines(checks: readonly SelfCheck[]): string[] {
  const slow = checks.filter(({ enough }) => !enough);
  if (checks.length === 0) return [];
  const least = Math.min(...checks.map(({ headroom }) => headroom));
  if (slow.length === 0)
    return [`The generator could have done ${least.toFixed(2)} times what the best server did, or more.`, ''];
  return slow
    .map(
      ({ shape, server, headroom }) =>
        `The generator could have done no more than ${headroom.toFixed(2)} times what ${server} did with ${shape}.`,
    )
    .concat('');
}

function suiteLines(report: Report, suite: SuiteReport): string[] {
  const results = report.results.filter((result) => result.suite === suite.name);
  const shapes = [...new Set(results.map((result) => result.shape))];
  return [
    ...(report.suites.length > 1 ? [suite.title, '='.repeat(suite.title.length)] : []),
    ...shapes.flatMap((shape) =>
      stageLines(
        results.filter((result) => result.shape === shape),
        suite,
      ),
    ),
    ...memoryLines(report.idle.filter((sample) => sample.suite === suite.name)),
    ...checkLines(report.selfChecks.filter((check) => check.suite === suite.name)),
  ];
}

export function formatTable(report: Report): string {
  const { machine } = report;
  return [
    `${machine.cpuModel}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}`,
    `${report.method.cores}; medians; a ratio is to a sample of the same round`,
    '',
    ...report.suites.flatMap((suite) => suiteLines(report, suite)),
  ].join('\n');
}
