// Closed loops: how much each server does, and how that compares.

import { connectionsOf, sizeOf, whole } from '../format.ts';
import type { Result, SuiteReport } from '../results.ts';
import type { RatioField } from '../suite.ts';
import { linear, logarithmic, ticksTo } from '../svg.ts';
import { type Cast, type Look, roleOf } from './cast.ts';
import { distinct, type Figure, type Findings, isHollow } from './figure.ts';
import { type Axis, lineChart } from './lines.ts';
import { barAxis, type Cell, CHART_WIDTH, type Column, rowCharts } from './rows.ts';
import { NOTHING, oursOf, ranked, standings, thousands, times, type Valued } from './words.ts';

/** What was measured in the same way but for the number of connections. */
interface Group {
  /** Completes a title: ', messages of 16 KiB'; empty where all of a suite are alike. */
  readonly title: string;
  readonly results: readonly Result[];
}

function groupsOf(results: readonly Result[]): Group[] {
  const traits = ({ messageBytes, inFlight }: Result) => [
    messageBytes === null ? 'requests' : `with messages of ${sizeOf(messageBytes)}`,
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

/** What ratios are of. */
export const quantityNoun = ({ measure }: SuiteReport): string =>
  measure === 'capacity' ? 'throughput per CPU time' : 'throughput';

interface Quantity {
  readonly noun: string;
  readonly of: (result: Result) => number | null;
  /** Whether single rounds are known. */
  readonly hasRange: boolean;
}

function quantityOf({ measure }: SuiteReport, { churn, messageBytes }: Result): Quantity {
  const noun = churn ? 'connections' : messageBytes === null ? 'requests' : 'round trips';
  if (measure !== 'capacity')
    return { noun: `${noun} per second`, of: (result) => result.roundTripsPerSecond, hasRange: true };
  return {
    noun: `${noun} per second of the server's CPU time`,
    of: ({ serverCpuMicrosPerRoundTrip: micros }) => (micros === null || micros === 0 ? null : 1e6 / micros),
    hasRange: false,
  };
}

const countAxis = (counts: readonly number[]): Axis => ({
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
  axis: Pick<Column, 'domain' | 'ticks'>,
  reference: number | null,
  cellOf: (result: Result) => Cell | null,
): Column {
  const cells = results.map((result) => {
    const why = result.valid ? 'no ratio' : result.samples === 0 ? 'not measured' : 'not valid';
    return [result.server, cellOf(result) ?? why] as const;
  });
  return { title, kind: 'bars', ...axis, reference, cells: new Map(cells) };
}

function throughputColumn(title: string, results: readonly Result[], { noun, of, hasRange }: Quantity): Column {
  const ends = results.map((result) => (hasRange ? result.spread.roundTripsPerSecond?.max : of(result)) ?? 0);
  return column(title, results, barAxis(Math.max(...ends), 3, thousands), null, (result) => {
    const value = of(result);
    if (value === null) return null;
    return {
      value,
      label: `${whole(value)}${result.valid ? '' : ' *'}`,
      range: hasRange ? result.spread.roundTripsPerSecond : null,
      isHollow: isHollow(result),
      title: `${result.server}: ${whole(value)} ${noun}`,
    };
  });
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
    barAxis(top, steps, (at) => `${Number(at.toPrecision(3))}`),
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
export function ratioCaption(results: readonly Result[], suite: SuiteReport): string {
  const [first, ...others] = suite.ratios;
  const compared = results.filter(({ server }) => server !== first!.server);
  const values = ranked(compared, (result) => result[first!.field]);
  // What onewait itself loses or gains by something is told of all.
  if (values.length > 0 && first!.server !== null && roleOf(first!.server) === 'ours')
    return `With ${connectionsOf(compared[0]!.connections)}, of the ${quantityNoun(suite)} of ${first!.server} are reached: ${standings(values, percentOf)}.`;
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
  return `With ${connectionsOf(result.connections)}, ${best[0]} reaches ${share} of the ${quantityNoun(suite)} of ${first!.server}${rounds}${further}${place(values, best)}.`;
}

function place(values: readonly Valued[], own: Valued): string {
  if (values.length === 1) return '';
  const [most] = values;
  return most === own ? '; nobody else reaches more' : `; the most reaches ${most![0]}, ${percentOf(most![1])}`;
}

const question = ({ noun }: Quantity): string => `How many ${noun}`;

/** Of one number of connections: all that is known of it, side by side. */
function singleFigure({ title, results }: Group, quantity: Quantity, { suite, cast }: Findings): Figure {
  const columns = [
    throughputColumn(quantity.noun, results, quantity),
    ...suite.ratios
      .filter(({ server }) => server !== null)
      .map(({ field, server }) => ratioColumn(`ratio to ${server}`, results, field, topOf(results, field))),
  ].filter(({ cells }) => [...cells.values()].some((cell) => typeof cell !== 'string'));
  return {
    title: `${question(quantity)}, with ${connectionsOf(results[0]!.connections)}${title}?`,
    caption: throughputCaption(results, quantity),
    chart: columns.length === 0 ? '' : rowCharts(question(quantity), sortedLooks(results, quantity.of, cast), columns),
  };
}

function throughputFigure({ title, results }: Group, quantity: Quantity, cast: Cast): Figure {
  return {
    title: `${question(quantity)}, by number of connections${title}?`,
    caption: throughputCaption(headlineOf(results), quantity),
    chart: results.some((result) => quantity.of(result) !== null) ? throughputLines(results, quantity, cast) : '',
  };
}

/** A column for each number of connections at which somebody may be ranked. */
function ratioFigure({ title, results }: Group, { suite, cast }: Findings): Figure {
  const { field, server } = suite.ratios[0]!;
  const headline = headlineOf(results);
  const compared = results.filter((result) => result.ranked && result.valid && result[field] !== null);
  const columns = distinct(compared.map(({ shape }) => shape)).map((shape) => {
    const own = results.filter((result) => result.shape === shape);
    return ratioColumn(connectionsOf(own[0]!.connections), own, field, topOf(results, field), 2);
  });
  const rows = sortedLooks(headline, (result) => result[field], cast);
  return {
    title: `How much of the ${quantityNoun(suite)} of ${server} does each reach${title}?`,
    caption: ratioCaption(headline, suite),
    chart: columns.length === 0 ? '' : rowCharts(`The ${quantityNoun(suite)} as a ratio to ${server}`, rows, columns),
  };
}

export function rateFigures(findings: Findings): Figure[] {
  const { suite, results, cast } = findings;
  const quantity = quantityOf(suite, results[0]!);
  return groupsOf(results).flatMap((group) => {
    if (distinct(group.results.map(({ connections }) => connections)).length === 1)
      return [singleFigure(group, quantity, findings)];
    const figure = throughputFigure(group, quantity, cast);
    return suite.ratios[0]!.server === null ? [figure] : [figure, ratioFigure(group, findings)];
  });
}
