// Closed loops: how much each server does, and how that compares.

import { connectionsOf, sizeOf, whole } from '../format.ts';
import type { Result, SuiteReport } from '../results.ts';
import type { RatioField } from '../suite.ts';
import { linear, logarithmic, ticksTo } from '../svg.ts';
import type { Cast, Look } from './cast.ts';
import { distinct, type Figure, type Findings, isHollow } from './figure.ts';
import { type Axis, lineChart } from './lines.ts';
import { type Cell, CHART_WIDTH, type Column, rowCharts } from './rows.ts';
import { NOTHING, oursOf, ranked, standings, thousands, times, type Valued } from './words.ts';

/** What was measured in the same way but for the number of connections. */
interface Group {
  /** Completes a title: ', messages of 16 KiB'; empty where all of a suite are alike. */
  readonly title: string;
  readonly results: readonly Result[];
}

function groupsOf(results: readonly Result[]): Group[] {
  const traits = ({ messageBytes, inFlight }: Result) => [
    messageBytes === null ? 'requests' : `messages of ${sizeOf(messageBytes)}`,
    `${inFlight} in flight`,
  ];
  const keys = distinct(results.map((result) => traits(result).join()));
  const differing = [0, 1].filter((i) => distinct(results.map((result) => traits(result)[i])).length > 1);
  return keys.map((key) => {
    const own = results.filter((result) => traits(result).join() === key);
    return { title: differing.map((i) => `, ${traits(own[0]!)[i]}`).join(''), results: own };
  });
}

/** Of the shapes of closed loops the one that sentences are about: 64 connections and 64 bytes, or what is nearest to that. */
export function headlineOf(results: readonly Result[]): readonly Result[] {
  const closed = results.filter(
    ({ rate, flooders, idleConnections }) => rate === null && flooders + idleConnections === 0,
  );
  const distance = ({ connections, messageBytes, ranked }: Result) =>
    Math.abs(Math.log(connections / 64)) + Math.abs(Math.log((messageBytes ?? 64) / 64)) + (ranked ? 0 : 1e6);
  const nearest = [...closed].sort((a, b) => distance(a) - distance(b))[0];
  return closed.filter(({ shape }) => shape === nearest?.shape);
}

interface Quantity {
  readonly noun: string;
  readonly of: (result: Result) => number | null;
}

function quantityOf({ measure }: SuiteReport, { churn, messageBytes }: Result): Quantity {
  const noun = churn ? 'connections' : messageBytes === null ? 'requests' : 'round trips';
  if (measure !== 'capacity') return { noun: `${noun} per second`, of: (result) => result.roundTripsPerSecond };
  return {
    noun: `${noun} per second of the server's CPU time`,
    of: ({ serverCpuMicrosPerRoundTrip: micros }) => (micros === null || micros === 0 ? null : 1e6 / micros),
  };
}

export const countAxis = (counts: readonly number[]): Axis => ({
  title: 'connections (logarithmic)',
  ticks: counts.map((at) => ({ at, label: whole(at) })),
  scale: (range) => logarithmic([counts[0]!, counts.at(-1)!], range),
});

export function rateAxis(title: string, top: number): Axis {
  const ticks = ticksTo(top, 5);
  return {
    title,
    ticks: ticks.map((at) => ({ at, label: thousands(at) })),
    scale: (range) => linear([0, ticks.at(-1)!], range),
  };
}

function throughputLines(results: readonly Result[], { noun, of }: Quantity, cast: Cast): string {
  const counts = distinct(results.map(({ connections }) => connections)).sort((a, b) => a - b);
  const curves = [...cast.values()].map((look) => ({
    look,
    points: results
      .filter((result) => result.server === look.name && of(result) !== null)
      .sort((a, b) => a.connections - b.connections)
      .map((result) => ({
        x: result.connections,
        y: of(result)!,
        isHollow: isHollow(result),
        title: `${look.name}, ${connectionsOf(result.connections)}: ${whole(of(result)!)} ${noun}`,
      })),
  }));
  return lineChart({
    description: `${noun} by number of connections`,
    width: CHART_WIDTH,
    height: 270,
    x: countAxis(counts),
    y: rateAxis(noun, Math.max(...results.map((result) => of(result) ?? 0))),
    curves,
    hasMarks: true,
  });
}

/** The bars of one shape. */
function column(
  title: string,
  results: readonly Result[],
  ticks: Column['ticks'],
  reference: number | null,
  cellOf: (result: Result) => Cell | null,
): Column {
  const cells = results.map((result) => {
    const why = result.valid ? 'no ratio' : result.samples === 0 ? 'not measured' : 'not valid';
    return [result.server, cellOf(result) ?? why] as const;
  });
  return { title, kind: 'bars', ticks, reference, cells: new Map(cells) };
}

function throughputColumn(title: string, results: readonly Result[], { noun, of }: Quantity): Column {
  const values = results.map((result) => of(result) ?? 0);
  const ticks = ticksTo(
    Math.max(
      ...values,
      ...results.map(({ spread }) => (noun.includes('CPU') ? 0 : (spread.roundTripsPerSecond?.max ?? 0))),
    ),
    4,
  );
  return column(
    title,
    results,
    ticks.map((at) => ({ at, label: thousands(at) })),
    null,
    (result) => {
      const value = of(result);
      if (value === null) return null;
      return {
        value,
        label: `${whole(value)}${result.valid ? '' : ' *'}`,
        range: noun.includes('CPU') ? null : result.spread.roundTripsPerSecond,
        isHollow: isHollow(result),
        title: `${result.server}: ${whole(value)} ${noun}`,
      };
    },
  );
}

export function ratioColumn(
  title: string,
  results: readonly Result[],
  field: RatioField,
  top: number,
  steps = 3,
): Column {
  return column(
    title,
    results,
    ticksTo(top, steps).map((at) => ({ at, label: `${Number(at.toPrecision(3))}` })),
    1,
    (result) => {
      const value = result.valid ? result[field] : null;
      if (value === null) return null;
      const range = result.spread[field];
      const rounds = range === null ? '' : `, ${times(range.min)} to ${times(range.max)} in single rounds`;
      return {
        value,
        label: times(value),
        range,
        isHollow: isHollow(result),
        title: `${result.server}: ${times(value)}${rounds}`,
      };
    },
  );
}

export const topOf = (results: readonly Result[], field: RatioField): number =>
  Math.max(1, ...results.map((result) => (result.valid ? (result.spread[field]?.max ?? 0) : 0)));

/** The looks of those that have results, the best first. */
export function sortedLooks(
  results: readonly Result[],
  figure: (result: Result) => number | null | undefined,
  cast: Cast,
  first: 'most' | 'least' = 'most',
): Look[] {
  const order = ranked(results, figure, first).map(([server]) => server);
  const others = distinct(results.map(({ server }) => server)).filter((server) => !order.includes(server));
  return [...order, ...others].map((server) => cast.get(server)!);
}

function throughputCaption(results: readonly Result[], { noun, of }: Quantity): string {
  const values = ranked(results, of);
  if (values.length === 0) return NOTHING;
  return `With ${connectionsOf(results[0]!.connections)}, ${noun} from the most to the least: ${standings(values, whole)}.`;
}

const percentOf = (value: number): string => `${(value * 100).toFixed(0)} %`;

/** What the best of onewait reaches of what it is compared with; of anyone, where there is no onewait. */
export function ratioCaption(results: readonly Result[], { ratios }: SuiteReport): string {
  const [first, ...others] = ratios;
  const compared = results.filter(({ server }) => server !== first!.server);
  const values = ranked(compared, (result) => result[first!.field]);
  const best = oursOf(values) ?? values[0];
  if (best === undefined) return NOTHING;
  const result = compared.find(({ server }) => server === best[0])!;
  const range = result.spread[first!.field];
  const rounds = range === null ? '' : ` (${percentOf(range.min)} to ${percentOf(range.max)} in single rounds)`;
  const further = others
    .filter(({ field, server }) => result[field] !== null && server !== result.server)
    .map(({ field, server }) => ` and ${times(result[field]!)} times that of ${server}`)
    .join('');
  const share = best[1] < 2 ? percentOf(best[1]) : `${times(best[1])} times`;
  return `With ${connectionsOf(result.connections)}, ${best[0]} reaches ${share} of the throughput of ${first!.server}${rounds}${further}${place(values, best)}.`;
}

function place(values: readonly Valued[], own: Valued): string {
  const before = values.indexOf(own);
  if (values.length === 1) return '';
  return before === 0
    ? ', the most of all that are compared with it'
    : `; ${values[0]![0]} reaches the most, ${percentOf(values[0]![1])}`;
}

export function rateFigures({ suite, results, cast }: Findings): Figure[] {
  const quantity = quantityOf(suite, results[0]!);
  const headline = headlineOf(results);
  const { field, server: reference } = suite.ratios[0]!;
  const several = distinct(results.map(({ connections }) => connections)).length > 1;
  const question = `How many ${quantity.noun}`;
  const groups = groupsOf(results);
  if (!several && groups.length === 1) {
    const columns = [
      throughputColumn(quantity.noun, headline, quantity),
      ...suite.ratios
        .filter((ratio) => ratio.server !== null)
        .map((ratio) => ratioColumn(`ratio to ${ratio.server}`, headline, ratio.field, topOf(headline, ratio.field))),
    ];
    const rows = sortedLooks(headline, quantity.of, cast);
    return [
      {
        title: `${question}, with ${connectionsOf(headline[0]!.connections)}?`,
        caption: throughputCaption(headline, quantity),
        chart: rowCharts(
          question,
          rows,
          columns.filter(({ cells }) => [...cells.values()].some((cell) => typeof cell !== 'string')),
        ),
      },
    ];
  }
  return groups.flatMap(({ title, results: own }) => {
    const at = headlineOf(own);
    const measured = own.some((result) => quantity.of(result) !== null);
    const rankedShapes = distinct(
      own.filter((result) => result.ranked && result[field] !== null && result.valid).map(({ shape }) => shape),
    );
    const columns = rankedShapes.map((shape) => {
      const inShape = own.filter((result) => result.shape === shape);
      return ratioColumn(connectionsOf(inShape[0]!.connections), inShape, field, topOf(own, field), 2);
    });
    return [
      {
        title: `${question}, by number of connections${title}?`,
        caption: throughputCaption(at, quantity),
        chart: measured ? throughputLines(own, quantity, cast) : '',
      },
      {
        title: `How much of the throughput of ${reference} does each reach${title}?`,
        caption: ratioCaption(at, suite),
        chart:
          columns.length === 0
            ? ''
            : rowCharts(
                `Throughput as a ratio to ${reference}`,
                sortedLooks(at, (result) => result[field], cast),
                columns,
              ),
      },
    ];
  });
}
