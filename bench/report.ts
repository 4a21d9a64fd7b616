// The report as one HTML page that needs nothing else: charts as inline SVG, light or dark as the reader's system is, and
// every figure in tables as well.

import { gainCaption, latencyCaption, memoryCaption, ratioCaption, throughputCaption } from './captions.ts';
import { latencyChart, memoryChart, ratioChart, throughputChart } from './charts.ts';
import { connectionsOf, mebibytes, orDash, percent, whole } from './format.ts';
import type { IdleSample } from './idle.ts';
import type { Report, Result, SuiteReport } from './results.ts';
import { escapeText, marker, svg } from './svg.ts';

/** Distinguishable with the common colour blindnesses (after Okabe and Ito), with at least 3:1 against either background. */
const COLOURS = [
  ['#5b6470', '#a9b4c2'],
  ['#c24e00', '#ff8a4a'],
  ['#00875f', '#35c79c'],
  ['#0072b2', '#55aef0'],
  ['#a8448a', '#e59acb'],
  ['#8a6d00', '#e0b83c'],
  ['#2e7fae', '#8fd0f5'],
  ['#8b3a3a', '#e08a8a'],
] as const;

const colourRules = (side: 0 | 1) => COLOURS.map((pair, i) => `.s${i}{--c:${pair[side]}}`).join('');

const STYLE = `
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d8dee4;--page:#fff}
${colourRules(0)}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--line:#343b44;--page:#0f1318}${colourRules(1)}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:40px 0 4px}
p{margin:4px 0 12px;max-width:76ch}.soft{color:var(--soft)}
.warning{border:1px solid #b35900;border-radius:6px;padding:8px 12px}
svg{display:block;width:100%;max-width:760px;height:auto}
svg text{font:12.5px system-ui,sans-serif;fill:var(--ink)}svg .tick,svg .axis{fill:var(--soft);font-size:12px}
svg .group{font-weight:600}.grid{stroke:var(--line)}.reference{stroke:var(--ink);stroke-dasharray:3 3}
.curve{fill:none;stroke:var(--c);stroke-width:2}.leader{stroke:var(--c);opacity:.6}
.marker{fill:var(--c);stroke:var(--c);stroke-width:1.5}.marker.hollow{fill:var(--page)}
.bar{fill:var(--c)}.bar.stack{opacity:.5}.whisker{stroke:var(--ink);stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:16px 0 0;padding:0;list-style:none}
.legend li{display:flex;align-items:center;gap:6px}.legend svg{width:14px;height:14px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:12.5px}
th,td{padding:4px 7px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px}dt{color:var(--soft)}dd{margin:0}
`;

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    row.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join('');
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('');
  return `<div class="scroll"><table><thead><tr>${cells('th', header)}</tr></thead><tbody>${body}</tbody></table></div>`;
}

const twoDigits = (value: number) => value.toFixed(2);

function resultRow(result: Result, ratios: SuiteReport['ratios']): string[] {
  const range = result.spread.roundTripsPerSecond;
  return [
    result.server,
    whole(result.connections),
    orDash(result.roundTripsPerSecond, whole),
    range === null ? '–' : `${whole(range.min)}–${whole(range.max)}`,
    orDash(result.serverCpuMicrosPerRoundTrip, twoDigits),
    orDash(result.serverBusy, percent),
    orDash(result.latencyMicros?.p50, whole),
    orDash(result.latencyMicros?.p99, whole),
    orDash(result.latencyMicros?.p999, whole),
    orDash(result.latencyMicros?.max, whole),
    orDash(result.threads, whole),
    orDash(result.rssBytes, mebibytes),
    ...ratios.map(({ field }) => orDash(result[field], twoDigits)),
    `${result.samples} (${result.invalidSamples})`,
    result.valid ? (result.ranked ? 'yes' : 'yes, unranked') : 'no',
  ];
}

const RESULT_HEADER = [
  'server',
  'connections',
  'rt/s',
  'min–max',
  'CPU µs/rt',
  'busy',
  'p50 µs',
  'p99',
  'p99.9',
  'max',
  'threads',
  'MiB',
];

function idleRow(sample: IdleSample): string[] {
  return [
    sample.server,
    whole(sample.established),
    whole(sample.rssBytesPerConnection),
    whole(sample.kernelStackBytesPerConnection),
    whole(sample.threads),
    percent(sample.cpuShareWhileIdle),
  ];
}

const IDLE_HEADER = ['server', 'idle connections', 'user bytes each', 'kernel stack each', 'threads', 'CPU while idle'];

const figure = (title: string, caption: string, chart: string) =>
  `<section><h2>${escapeText(title)}</h2><p>${escapeText(caption)}</p>${chart}</section>`;

/** The results that the sentences are about: 64 connections if measured, else the most that may be ranked. */
function headlineOf(results: readonly Result[]): readonly Result[] {
  const counts = results.filter((result) => result.ranked).map((result) => result.connections);
  const count = counts.includes(64) ? 64 : (counts.at(-1) ?? results[0]?.connections);
  return results.filter((result) => result.connections === count);
}

function figures(suite: SuiteReport, results: readonly Result[], samples: readonly IdleSample[]): string[] {
  const servers = serversOf(results, samples);
  const headline = headlineOf(results);
  const count = connectionsOf(headline[0]?.connections ?? 0);
  const { field, server: reference } = suite.ratios[0]!;
  const isFloor = field === 'ratioToRawEpoll';
  const withRatio = results.filter((result) => result.valid && result.ranked && result[field] !== null);
  const most = Math.max(0, ...samples.map((sample) => sample.connections));
  const idle = samples.filter((sample) => sample.connections === most && sample.whyIncomplete === null);
  const measured = results.some((result) => result.roundTripsPerSecond !== null);
  const latencies = headline.some((result) => result.latencyMicros !== null);
  const ofResults = [
    figure(
      'Throughput by number of connections',
      throughputCaption(headline),
      measured ? throughputChart(results, servers) : '',
    ),
    figure(
      isFloor ? 'Ratio to the floor' : `Ratio to ${reference ?? 'itself'}`,
      isFloor ? ratioCaption(headline) : gainCaption(headline, field, reference ?? 'itself'),
      withRatio.length > 0
        ? ratioChart(withRatio, servers, field, isFloor ? 'the floor' : (reference ?? 'itself'))
        : '',
    ),
    figure(
      `Latency by percentile, ${count}`,
      latencyCaption(headline),
      latencies ? latencyChart(headline, servers) : '',
    ),
  ];
  return [
    ...(results.length === 0 ? [] : ofResults),
    ...(samples.length === 0
      ? []
      : [figure('Memory per idle connection', memoryCaption(idle), idle.length > 0 ? memoryChart(idle, servers) : '')]),
  ];
}

const serversOf = (results: readonly Result[], samples: readonly IdleSample[]): string[] => [
  ...new Set([...results, ...samples].map(({ server }) => server)),
];

function section(report: Report, suite: SuiteReport): string {
  const results = report.results.filter((result) => result.suite === suite.name);
  const samples = report.idle.filter((sample) => sample.suite === suite.name);
  const header = [...RESULT_HEADER, ...suite.ratios.map(({ label }) => label), 'samples (dropped)', 'valid'];
  const rows = results.map((result) => resultRow(result, suite.ratios));
  const legend = serversOf(results, samples).map(
    (server, i) => `<li>${svg(14, 14, '', marker(7, 7, i, false, server))}${escapeText(server)}</li>`,
  );
  return `<h1>${escapeText(suite.title)}</h1>
<ul class="legend">${legend.join('')}</ul>
${figures(suite, results, samples).join('\n')}
<h2>All figures</h2>
${table(header, rows)}
${samples.length === 0 ? '' : `<h2>Idle connections</h2>${table(IDLE_HEADER, samples.map(idleRow))}`}
<h2>Method</h2>
${definitions(suite.method)}`;
}

const definitions = (entries: Readonly<Record<string, string>>): string =>
  `<dl>${Object.entries(entries)
    .map(([name, value]) => `<dt>${escapeText(name)}</dt><dd>${escapeText(value)}</dd>`)
    .join('')}</dl>`;

function notes(report: Report): string {
  const lines = [
    ...report.results
      .filter((result) => !result.valid)
      .map((result) => `${result.server}, ${connectionsOf(result.connections)}: ${result.whyInvalid}`),
    ...report.idle
      .filter((sample) => sample.whyIncomplete !== null)
      .map((sample) => `${sample.server}, idle: ${sample.whyIncomplete}`),
    ...report.skipped,
  ];
  if (lines.length === 0) return '';
  return `<h2>What is not valid or missing</h2><ul>${lines.map((note) => `<li>${escapeText(note)}</li>`).join('')}</ul>`;
}

export function formatPage(report: Report): string {
  const { machine, suites } = report;
  const gibibytes = (machine.memoryBytes / 2 ** 30).toFixed(0);
  const subject = `${machine.cpuModel}, ${machine.cores} cores, ${gibibytes} GiB, Linux ${machine.kernel}, Node ${machine.node}, ${machine.date}`;
  const warning = '<p class="warning">This run is not complete: it was interrupted, or a server failed.</p>';
  const title = suites.map((suite) => suite.title).join(', ');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>onewait: ${escapeText(title)}</title><style>${STYLE}</style></head><body><main>
<p class="soft">${escapeText(subject)}</p>
${report.complete ? '' : warning}
${suites.map((suite) => section(report, suite)).join('\n')}
${notes(report)}
<h2>Method</h2>
${definitions(report.method)}
<p class="soft">${escapeText(machine.commandLine)}</p>
</main></body></html>
`;
}
