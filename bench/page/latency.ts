// How long messages take: by percentile, and by the rate at which they are sent.

import { connectionsOf, whole } from '../format.ts';
import type { Percentiles, Result, SuiteReport } from '../results.ts';
import { escapeText, isNumbered, linear, logarithmic, logTicks, mark, svg, ticksTo } from '../svg.ts';
import type { Cast, Look } from './cast.ts';
import { distinct, type Figure, type Findings, isHollow } from './figure.ts';
import { type Axis, type Curve, lineChart } from './lines.ts';
import { headlineOf, sortedLooks } from './rate.ts';
import { type Cell, CHART_WIDTH, type Column, rowCharts } from './rows.ts';
import { duration, listed, NOTHING, ranked, standings, thousands, times } from './words.ts';

/** The last of them that a few seconds can tell. */
const LAST_QUANTILE = 0.9999;

/** Each nine has the same width, as in the plots of HdrHistogram: the horizontal place is log 1/(1-q). */
const NINES: Axis = {
  title: 'percentile (each nine has the same width)',
  ticks: [
    [0.5, 'p50'],
    [0.9, 'p90'],
    [0.99, 'p99'],
    [0.999, 'p99.9'],
    [0.9999, 'p99.99'],
  ].map(([at, label]) => ({ at: at as number, label: label as string })),
  scale: (range) => {
    const place = linear([0, -Math.log10(1 - LAST_QUANTILE)], range);
    return (quantile) => place(-Math.log10(1 - quantile));
  },
};

function microsAxis(values: readonly number[]): Axis {
  const positive = values.filter((value) => value > 0);
  const ticks = logTicks(Math.min(...positive), Math.max(...positive));
  return {
    title: 'latency (logarithmic)',
    ticks: ticks.map((at) => ({ at, label: isNumbered(at, ticks) ? duration(at) : '' })),
    scale: (range) => logarithmic([ticks[0]!, ticks.at(-1)!], range),
  };
}

const shown = ({ percentiles }: Result): Percentiles =>
  percentiles.filter(([quantile, micros]) => quantile <= LAST_QUANTILE && micros > 0);

const isMeasured = (result: Result): boolean => shown(result).length > 0;

const curvesByPercentile = (results: readonly Result[], cast: Cast): Curve[] =>
  [...cast.values()].map((look) => ({
    look,
    points: results
      .filter(({ server }) => server === look.name)
      .flatMap((result) =>
        shown(result).map(([quantile, micros]) => ({
          x: quantile,
          y: micros,
          isHollow: isHollow(result),
          title: `${look.name}, p${Number((quantile * 100).toPrecision(6))}: ${duration(micros)}`,
        })),
      ),
  }));

function percentileChart(description: string, results: readonly Result[], y: Axis, cast: Cast): string {
  return lineChart({
    description,
    width: CHART_WIDTH,
    height: 230,
    x: NINES,
    y,
    curves: curvesByPercentile(results, cast),
    hasMarks: false,
  });
}

/** Half as wide, without names: beside it there are others, and a legend above all. */
function smallChart(description: string, results: readonly Result[], y: Axis, cast: Cast): string {
  const curves = curvesByPercentile(results, cast).map((curve) => ({ ...curve, label: '' }));
  return lineChart({ description, width: CHART_WIDTH / 2 - 10, height: 230, x: NINES, y, curves, hasMarks: false });
}

const axisOf = (results: readonly Result[]): Axis =>
  microsAxis(results.flatMap((result) => shown(result).map(([, micros]) => micros)));

const p99 = ({ latencyMicros }: Result): number | undefined => latencyMicros?.p99;

/** Of the headline shape of a closed loop. */
export function saturatedFigure({ results, cast }: Findings): Figure {
  const headline = headlineOf(results);
  const measured = headline.filter(isMeasured);
  const values = ranked(measured, p99, 'least');
  const connections = connectionsOf(headline[0]?.connections ?? 0);
  const title = `How long does a message take when ${connections} ask as fast as they are answered?`;
  const caption =
    values.length === 0
      ? NOTHING
      : `99 of 100 are answered within these times, from the least to the most: ${standings(values, duration)}.`;
  const chart =
    measured.length === 0
      ? ''
      : percentileChart('Latency by percentile of saturated servers', measured, axisOf(measured), cast);
  return { title, caption, chart };
}

const legendOf = (looks: readonly Look[]): string => {
  const items = looks.map(({ name, shape, kind, role }) => {
    const glyph = svg(name, { width: 14, height: 14, content: mark(7, 7, shape, 4.2, kind) });
    return `<li class="${role}">${glyph}${escapeText(name)}</li>`;
  });
  return `<ul class="legend">${items.join('')}</ul>`;
};

/** One small chart for each rate, all with the same scale; a large one where there is but one. */
function multiples(byRate: ReadonlyMap<number, readonly Result[]>, cast: Cast): string {
  const onTime = new Map(
    [...byRate].map(([rate, results]) => [rate, results.filter(({ valid }) => valid).filter(isMeasured)]),
  );
  const all = [...onTime.values()].flat();
  if (all.length === 0) return '';
  const y = axisOf(all);
  if (onTime.size === 1) return percentileChart('Latency by percentile', all, y, cast);
  const charts = [...onTime].map(([rate, results]) => {
    const title = `${whole(rate)} messages per second`;
    const asked = byRate.get(rate)!.length;
    const missing = results.length === asked ? '' : ` (${results.length} of ${asked} on time)`;
    const chart = results.length === 0 ? '' : smallChart(`Latency at ${title}`, results, y, cast);
    return `<div><h4>${title}${missing}</h4>${chart}</div>`;
  });
  return `${legendOf([...cast.values()])}<div class="multiples">${charts.join('')}</div>`;
}

/** What each reached at the lowest rate that it was not on time at. */
interface Reach {
  readonly server: string;
  readonly onTime: readonly Result[];
  readonly missed: Result | null;
}

function reachOf(server: string, results: readonly Result[]): Reach {
  const own = results.filter((result) => result.server === server).sort((a, b) => a.rate! - b.rate!);
  const missed = own.find(({ valid, achievedRate }) => !valid && achievedRate !== null) ?? null;
  return {
    server,
    onTime: own.filter(({ valid, rate }) => valid && (missed === null || rate! < missed.rate!)),
    missed,
  };
}

function rateChart(reaches: readonly Reach[], rates: readonly number[], cast: Cast): string {
  const values = reaches.flatMap(({ onTime }) => onTime.flatMap((result) => p99(result) ?? []));
  if (values.length === 0) return '';
  const highest = rates.at(-1)!;
  const ticks = ticksTo(highest, 6).filter((at) => at <= highest);
  const curves = reaches.map(({ server, onTime, missed }): Curve => {
    const look = cast.get(server)!;
    const points = onTime
      .filter((result) => p99(result) !== undefined)
      .map((result) => ({
        x: result.rate!,
        y: p99(result)!,
        isHollow: false,
        title: `${server}, ${whole(result.rate!)} per second: p99 ${duration(p99(result)!)}`,
      }));
    if (missed === null) return { look, points };
    const title = `${server} answered ${whole(missed.achievedRate!)} of ${whole(missed.rate!)} messages per second`;
    return {
      look,
      points,
      label: `${server}, ${thousands(missed.achievedRate!)} of ${thousands(missed.rate!)}`,
      leavesAt: { x: missed.achievedRate!, title },
    };
  });
  return lineChart({
    description: 'p99 latency by rate',
    width: CHART_WIDTH,
    height: 280,
    x: {
      title: 'messages per second; × is how many a server answered of the first rate that it missed',
      ticks: ticks.map((at) => ({ at, label: thousands(at) })),
      scale: (range) => linear([0, highest], range),
    },
    y: microsAxis(values),
    curves,
    hasMarks: true,
  });
}

function reachCaption(reaches: readonly Reach[], rates: readonly number[]): string {
  const measured = reaches.filter(({ onTime, missed }) => onTime.length > 0 || missed !== null);
  if (measured.every(({ onTime }) => onTime.length === 0)) return NOTHING;
  const highest = rates.at(-1)!;
  const all = measured.filter(({ missed, onTime }) => missed === null && onTime.some(({ rate }) => rate === highest));
  const who = (some: readonly Reach[]) =>
    some.length > 4 ? `${some.length} of ${measured.length} servers` : listed(some.map(({ server }) => server));
  const missed = measured.filter((reach) => reach.missed !== null);
  const kept =
    all.length === 0
      ? `Nobody is on time at ${whole(highest)} messages per second`
      : all.length === measured.length
        ? `All are on time up to ${whole(highest)} messages per second`
        : `${who(all)} ${all.length === 1 ? 'is' : 'are'} on time up to ${whole(highest)} messages per second`;
  if (missed.length === 0) return `${kept}, the highest rate that was asked for.`;
  const [first] = [...missed].sort((a, b) => a.missed!.rate! - b.missed!.rate!);
  return `${kept}; ${missed.length === 1 ? `${first!.server} misses ${whole(first!.missed!.rate!)}` : `${missed.length} miss a rate before or there, ${first!.server} the first, at ${whole(first!.missed!.rate!)}`}.`;
}

/** p99 as a multiple of another server's, at each rate at which both were on time. */
function ratioFigure(byRate: ReadonlyMap<number, readonly Result[]>, suite: SuiteReport, cast: Cast): Figure {
  const { field, server: reference } = suite.ratios[0]!;
  const withRatio = [...byRate].filter(([, results]) =>
    results.some((result) => result.valid && result[field] !== null),
  );
  const title = `How many times the p99 of ${reference}?`;
  if (withRatio.length === 0) return { title, caption: NOTHING, chart: '' };
  const ends = withRatio.flatMap(([, results]) =>
    results
      .filter(({ valid }) => valid)
      .flatMap(({ spread }) => (spread[field] === null ? [] : [spread[field].min, spread[field].max])),
  );
  const ticks = logTicks(Math.min(1, ...ends), Math.max(1, ...ends));
  const columns = withRatio.map(
    ([rate, results]): Column => ({
      title: `${thousands(rate)} per second`,
      kind: 'dots',
      domain: [ticks[0]!, ticks.at(-1)!],
      ticks: ticks.map((at) => ({
        at,
        label:
          isNumbered(at, ticks) && (ticks.length < 6 || Number.isInteger(Math.log10(at)))
            ? `${Number(at.toPrecision(3))}`
            : '',
      })),
      reference: 1,
      cells: new Map(
        results.map((result): [string, Cell | string] => {
          const value = result.valid ? result[field] : null;
          if (value === null) return [result.server, result.valid ? 'no ratio' : 'not valid'];
          const cell = {
            value,
            label: times(value),
            range: result.spread[field],
            isHollow: false,
            title: `${result.server}: ${times(value)} times the p99 of ${reference}`,
          };
          return [result.server, cell];
        }),
      ),
    }),
  );
  const most = [...withRatio].sort(
    ([a, x], [b, y]) => y.filter(({ valid }) => valid).length - x.filter(({ valid }) => valid).length || b - a,
  )[0]!;
  const values = ranked(
    most[1].filter(({ server }) => server !== reference),
    (result) => result[field],
    'least',
  );
  const caption =
    values.length === 0
      ? NOTHING
      : `At ${whole(most[0])} messages per second, from the least to the most: ${standings(values, times)} times the p99 of ${reference}.`;
  return {
    title,
    caption,
    chart: rowCharts(
      title,
      sortedLooks(most[1], (result) => result[field], cast, 'least'),
      columns,
      3,
    ),
  };
}

/** Of an open loop. */
export function latencyFigures({ suite, results, cast }: Findings): Figure[] {
  const open = results.filter(({ rate }) => rate !== null);
  const rates = distinct(open.map(({ rate }) => rate!)).sort((a, b) => a - b);
  const byRate = new Map(rates.map((rate) => [rate, open.filter((result) => result.rate === rate)]));
  const full =
    [...byRate].filter(([, own]) => own.every(({ valid }) => valid)).at(-1) ??
    [...byRate].find(([, own]) => own.some(({ valid }) => valid));
  const values = full === undefined ? [] : ranked(full[1], p99, 'least');
  const about =
    full === undefined
      ? ''
      : `At ${whole(full[0])} messages per second 99 of 100 are answered within these times, from the least to the most`;
  const reaches = distinct(open.map(({ server }) => server)).map((server) => reachOf(server, open));
  const byPercentile: Figure = {
    title: 'How long does a message take when messages come at a fixed rate?',
    caption: values.length === 0 ? NOTHING : `${about}: ${standings(values, duration)}.`,
    chart: multiples(byRate, cast),
  };
  const reachFigure: Figure = {
    title: 'Up to which rate does the p99 hold?',
    caption: reachCaption(reaches, rates),
    chart: rateChart(reaches, rates, cast),
  };
  return [byPercentile, ...(rates.length > 1 ? [reachFigure] : []), ratioFigure(byRate, suite, cast)];
}
