// Active connections among idle ones.

import { connectionsOf, whole } from '../format.ts';
import type { Result } from '../results.ts';
import { linear, logarithmic } from '../svg.ts';
import { distinct, type Figure, type Findings, isHollow } from './figure.ts';
import { type Axis, lineChart } from './lines.ts';
import { rateAxis } from './rate.ts';
import { CHART_WIDTH } from './rows.ts';
import { listed, NOTHING } from './words.ts';

/** Zero has its place at the left edge, a step before the first number that a logarithm can place. */
function idleAxis(counts: readonly number[]): Axis {
  const positive = counts.filter((count) => count > 0);
  return {
    title: 'idle connections (logarithmic, but for none at the left)',
    ticks: counts.map((at) => ({ at, label: whole(at) })),
    scale: ([low, high]) => {
      const start = counts.includes(0) ? low + (high - low) / (positive.length + 1) : low;
      const [first, last] = [positive[0] ?? 1, positive.at(-1) ?? 1];
      const place =
        first === last ? linear([first, last * 2], [start, high]) : logarithmic([first, last], [start, high]);
      return (count) => (count === 0 ? low : place(count));
    },
  };
}

/** What share of its rate each has left among the most idle connections that it was measured with. */
function caption(results: readonly Result[], servers: readonly string[]): string {
  const ends = servers.flatMap((server) => {
    const own = results.filter((result) => result.server === server && result.valid && result.ratioToNoIdle !== null);
    const last = own
      .filter(({ idleConnections }) => idleConnections > 0)
      .sort((a, b) => b.idleConnections - a.idleConnections)[0];
    return last === undefined ? [] : [last];
  });
  if (ends.length === 0) return NOTHING;
  const most = Math.max(...ends.map(({ idleConnections }) => idleConnections));
  const items = ends
    .sort((a, b) => b.ratioToNoIdle! - a.ratioToNoIdle!)
    .map(({ server, ratioToNoIdle, idleConnections }) => {
      const share = `${server} ${(ratioToNoIdle! * 100).toFixed(0)} %`;
      return idleConnections === most ? share : `${share} (among ${whole(idleConnections)})`;
    });
  return `Among ${whole(most)} idle connections, what is left of the rate without them: ${listed(items)}.`;
}

export function idleFigure({ results, cast }: Findings): Figure {
  const counts = distinct(results.map(({ idleConnections }) => idleConnections)).sort((a, b) => a - b);
  const measured = results.filter(({ roundTripsPerSecond }) => roundTripsPerSecond !== null);
  const active = connectionsOf(results[0]!.connections);
  const curves = [...cast.values()].map((look) => ({
    look,
    points: measured
      .filter(({ server }) => server === look.name)
      .sort((a, b) => a.idleConnections - b.idleConnections)
      .map((result) => ({
        x: result.idleConnections,
        y: result.roundTripsPerSecond!,
        isHollow: isHollow(result),
        title: `${look.name}, ${whole(result.idleConnections)} idle: ${whole(result.roundTripsPerSecond!)} round trips per second`,
      })),
  }));
  const chart = lineChart({
    description: 'Round trips per second by number of idle connections',
    width: CHART_WIDTH,
    height: 270,
    x: idleAxis(counts),
    y: rateAxis(
      `round trips per second of ${active}`,
      Math.max(...measured.map(({ roundTripsPerSecond }) => roundTripsPerSecond!)),
    ),
    curves,
    hasMarks: true,
  });
  return {
    title: `Do idle connections slow down ${active} that are not?`,
    caption: caption(results, [...cast.keys()]),
    chart: measured.length === 0 ? '' : chart,
  };
}
