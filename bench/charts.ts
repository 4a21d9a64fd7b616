// The four charts of the report. Each takes results and gives an SVG; what a chart shows in words is in captions.ts.

import { connectionsOf, whole } from './format.ts';
import type { IdleSample } from './idle.ts';
import type { Result } from './results.ts';
import type { Spread } from './stats.ts';
import type { RatioField } from './suite.ts';
import {
  decades,
  type EndLabel,
  endLabels,
  line,
  linear,
  logarithmic,
  marker,
  path,
  rectangle,
  type Scale,
  svg,
  text,
  ticksTo,
} from './svg.ts';

const WIDTH = 760;

/** Where the plot lies in a line chart; the margin on the right is for the labels at the lines' ends. */
const PLOT = { left: 64, right: 560, top: 16, bottom: 300 };
const HEIGHT = 348;

/** Bars begin here, right of the names, and end here, left of the values. */
const BARS = { left: 180, right: 580, height: 18, step: 26 };

function horizontalGrid(ticks: readonly number[], y: Scale, format: (value: number) => string): string {
  return ticks
    .map(
      (tick) =>
        line(PLOT.left, y(tick), PLOT.right, y(tick), 'grid') +
        text(PLOT.left - 8, y(tick) + 4, format(tick), 'tick', 'end'),
    )
    .join('');
}

interface Point {
  readonly x: number;
  readonly y: number;
  readonly isHollow: boolean;
  readonly title: string;
}

function lines(points: ReadonlyMap<string, readonly Point[]>, servers: readonly string[]): string {
  const labels: EndLabel[] = [];
  const drawn = servers.map((server, series) => {
    const own = points.get(server) ?? [];
    const last = own.at(-1);
    if (last !== undefined) labels.push({ series, y: last.y, content: server });
    const curve =
      own.length > 1
        ? path(
            own.map(({ x, y }) => [x, y] as const),
            `curve s${series}`,
          )
        : '';
    return curve + own.map((point) => marker(point.x, point.y, series, point.isHollow, point.title)).join('');
  });
  return drawn.join('') + endLabels(PLOT.right, labels, PLOT.top, PLOT.bottom);
}

const xAxisTitle = (title: string) => text((PLOT.left + PLOT.right) / 2, HEIGHT - 6, title, 'axis', 'middle');

export function throughputChart(results: readonly Result[], servers: readonly string[]): string {
  const counts = [...new Set(results.map((result) => result.connections))];
  const ticks = ticksTo(Math.max(...results.map((result) => result.roundTripsPerSecond ?? 0)), 5);
  const y = linear([0, ticks.at(-1)!], [PLOT.bottom, PLOT.top]);
  // With a single number of connections there is no width to scale: its points are drawn at the right edge.
  const x =
    counts.length === 1 ? () => PLOT.right : logarithmic([counts[0]!, counts.at(-1)!], [PLOT.left + 20, PLOT.right]);
  const points = new Map(
    servers.map((server) => [
      server,
      results
        .filter((result) => result.server === server && result.roundTripsPerSecond !== null)
        .map((result) => ({
          x: x(result.connections),
          y: y(result.roundTripsPerSecond!),
          isHollow: !result.valid || !result.ranked,
          title: `${server}, ${connectionsOf(result.connections)}: ${whole(result.roundTripsPerSecond!)} rt/s`,
        })),
    ]),
  );
  const content =
    horizontalGrid(ticks, y, (value) => (value === 0 ? '0' : `${value / 1000} k`)) +
    counts.map((count) => text(x(count), PLOT.bottom + 20, whole(count), 'tick', 'middle')).join('') +
    xAxisTitle('connections') +
    lines(points, servers);
  return svg(WIDTH, HEIGHT, 'Round trips per second by number of connections', content);
}

const PERCENTILES = [
  ['p50', 'p50'],
  ['p90', 'p90'],
  ['p99', 'p99'],
  ['p999', 'p99.9'],
  ['max', 'max'],
] as const;

const micros = (value: number) =>
  value >= 1_000_000 ? `${value / 1_000_000} s` : value >= 1000 ? `${value / 1000} ms` : `${value} µs`;

/** `results` are those of one number of connections. */
export function latencyChart(results: readonly Result[], servers: readonly string[]): string {
  const measured = results.filter((result) => result.latencyMicros !== null);
  const ticks = decades(
    Math.min(...measured.map((result) => result.latencyMicros!.p50)),
    Math.max(...measured.map((result) => result.latencyMicros!.max)),
  );
  const y = logarithmic([ticks[0]!, ticks.at(-1)!], [PLOT.bottom, PLOT.top]);
  const x = linear([0, PERCENTILES.length - 1], [PLOT.left + 20, PLOT.right]);
  const points = new Map(
    measured.map((result) => [
      result.server,
      PERCENTILES.map(([field, name], i) => ({
        x: x(i),
        y: y(result.latencyMicros![field]),
        isHollow: !result.valid || !result.ranked,
        title: `${result.server}, ${name}: ${whole(result.latencyMicros![field])} µs`,
      })),
    ]),
  );
  const content =
    horizontalGrid(ticks, y, micros) +
    PERCENTILES.map(([, name], i) => text(x(i), PLOT.bottom + 20, name, 'tick', 'middle')).join('') +
    xAxisTitle('percentile') +
    lines(points, servers);
  return svg(WIDTH, HEIGHT, 'Latency by percentile', content);
}

function whisker(range: Spread, middle: number, x: Scale): string {
  const ends = [range.min, range.max].map((end) => line(x(end), middle - 4, x(end), middle + 4, 'whisker'));
  return line(x(range.min), middle, x(range.max), middle, 'whisker') + ends.join('');
}

/** `results` are the valid, ranked ones with a ratio; one group of bars per number of connections. */
export function ratioChart(
  results: readonly Result[],
  servers: readonly string[],
  field: RatioField,
  reference: string,
): string {
  const counts = [...new Set(results.map((result) => result.connections))];
  const top = Math.max(1, ...results.map((result) => result.spread[field]?.max ?? 0));
  const x = linear([0, top], [BARS.left, BARS.right]);
  let cursor = 14;
  let content = '';
  for (const count of counts) {
    content += text(0, cursor, connectionsOf(count), 'group');
    cursor += 12;
    const group = results.filter((result) => result.connections === count);
    for (const result of group.sort((a, b) => b[field]! - a[field]!)) {
      const middle = cursor + BARS.height / 2;
      content += text(BARS.left - 10, middle + 4, result.server, '', 'end');
      content += rectangle(
        BARS.left,
        cursor,
        x(result[field]!) - BARS.left,
        BARS.height,
        `bar s${servers.indexOf(result.server)}`,
      );
      const range = result.spread[field];
      if (range !== null) content += whisker(range, middle, x);
      const isOfThreads = field === 'ratioToThreads' || result.ratioToThreads === null;
      const ofThreads = isOfThreads ? '' : `, ${result.ratioToThreads!.toFixed(2)} × threads`;
      content += text(BARS.right + 12, middle + 4, `${result[field]!.toFixed(2)}${ofThreads}`);
      cursor += BARS.step;
    }
    cursor += 22;
  }
  const bottom = cursor - 30;
  const floor = line(x(1), 18, x(1), bottom, 'reference') + text(x(1), 12, reference, 'tick', 'end');
  return svg(WIDTH, bottom + 8, `Throughput as a ratio to ${reference}`, content + floor);
}

/** `idle` are the samples of one number of connections. */
export function memoryChart(idle: readonly IdleSample[], servers: readonly string[]): string {
  const total = (sample: IdleSample) => sample.rssBytesPerConnection + sample.kernelStackBytesPerConnection;
  // Narrower than the other bars: the labels are longer.
  const x = linear([0, Math.max(1, ...idle.map(total))], [0, BARS.right - BARS.left - 60]);
  let cursor = 4;
  let content = '';
  for (const sample of [...idle].sort((a, b) => total(a) - total(b))) {
    const middle = cursor + BARS.height / 2;
    const user = x(sample.rssBytesPerConnection);
    const series = servers.indexOf(sample.server);
    const stack = sample.kernelStackBytesPerConnection;
    content += text(BARS.left - 10, middle + 4, sample.server, '', 'end');
    content += rectangle(BARS.left, cursor, Math.max(1, user), BARS.height, `bar s${series}`);
    if (stack > 0)
      content += rectangle(BARS.left + user + 2, cursor, x(stack) - 2, BARS.height, `bar stack s${series}`);
    const kernel = stack > 0 ? ` + ${whole(stack)} kernel` : '';
    content += text(
      BARS.left + Math.max(1, x(total(sample))) + 10,
      middle + 4,
      `${whole(sample.rssBytesPerConnection)}${kernel} bytes`,
    );
    cursor += BARS.step;
  }
  return svg(WIDTH, cursor, 'Memory per idle connection', content);
}
