// Connections that say little, beside one that sends without pause.

import { whole } from '../format.ts';
import type { Result } from '../results.ts';
import { isNumbered, logTicks } from '../svg.ts';
import { distinct, type Figure, type Findings } from './figure.ts';
import { sortedLooks } from './rate.ts';
import { type Cell, rowCharts } from './rows.ts';
import { duration, NOTHING, ranked, standings } from './words.ts';

const p99 = ({ latencyMicros }: Result): number | undefined => latencyMicros?.p99;

export function fairFigure({ results, cast }: Findings): Figure {
  const flooded = results.filter(({ flooders }) => flooders > 0);
  const quiet = new Map(
    results.filter(({ flooders, valid }) => flooders === 0 && valid).map((result) => [result.server, p99(result)]),
  );
  const { connections, rate } = flooded[0]!;
  const title = `How much longer do ${whole(connections)} quiet connections wait beside one that floods?`;
  const values = ranked(flooded, p99, 'least');
  if (values.length === 0) return { title, caption: NOTHING, chart: '' };
  const micros = [...values.map(([, value]) => value), ...[...quiet.values()].flatMap((value) => value ?? [])];
  const ticks = logTicks(Math.min(...micros), Math.max(...micros));
  const cells = distinct(flooded.map(({ server }) => server)).map((server): [string, Cell | string] => {
    const result = flooded.find((candidate) => candidate.server === server)!;
    const value = result.valid ? p99(result) : undefined;
    if (value === undefined) return [server, 'not valid'];
    const before = quiet.get(server);
    const label = `${before === undefined ? '' : `${duration(before)} → `}${duration(value)}`;
    return [
      server,
      {
        value,
        ...(before === undefined ? {} : { from: before }),
        label,
        range: null,
        isHollow: false,
        title: `${server}: p99 ${label}`,
      },
    ];
  });
  const column = {
    title: 'p99 without the flood (bar) and with it (mark), logarithmic',
    kind: 'dots' as const,
    domain: [ticks[0]!, ticks.at(-1)!] as const,
    ticks: ticks.map((at) => ({ at, label: isNumbered(at, ticks) ? duration(at) : '' })),
    reference: null,
    cells: new Map(cells),
  };
  return {
    title,
    caption: `Asked ${whole(rate ?? 0)} times per second beside the flood, 99 of 100 are answered within these times, from the least to the most: ${standings(values, duration)}.`,
    chart: rowCharts(title, sortedLooks(flooded, p99, cast, 'least'), [column]),
  };
}
