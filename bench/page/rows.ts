// A chart of rows, one per server, and columns of bars that begin at zero, or of dots on a logarithmic axis. A whisker is from the
// least to the greatest of single rounds.

import type { Spread } from '../stats.ts';
import {
  type Drawing,
  line,
  linear,
  logarithmic,
  mark,
  rectangle,
  type Scale,
  svg,
  text,
  textWidth,
  ticksTo,
  titled,
  wrapped,
} from '../svg.ts';
import type { Look } from './cast.ts';

export interface Cell {
  readonly value: number;
  /** The value in words, beside its bar. */
  readonly label: string;
  readonly range: Spread | null;
  /** Further, faded, at the end of the bar. */
  readonly kernel?: number;
  /** Where it came from, on the same axis: an arrow leads from there to the value. */
  readonly from?: number;
  readonly isHollow: boolean;
  readonly title: string;
}

export interface Column {
  readonly title: string;
  readonly kind: 'bars' | 'dots';
  /** From zero, for bars. */
  readonly domain: readonly [number, number];
  readonly ticks: ReadonlyArray<{ readonly at: number; readonly label: string }>;
  /** What all are compared with. */
  readonly reference: number | null;
  /** By server; a string says why there is no value. */
  readonly cells: ReadonlyMap<string, Cell | string>;
}

export interface RowChart {
  readonly rows: readonly Look[];
  readonly columns: readonly Column[];
}

export const CHART_WIDTH = 860;
const STEP = 22;
const BAR = 14;
const GAP = 26;

function drawCell(look: Look, cell: Cell, kind: Column['kind'], x: Scale, middle: number): string {
  const { value, range, kernel = 0, from } = cell;
  const classes = `${look.kind}${cell.isHollow ? ' hollow' : ''}`;
  const at = x(value);
  const parts: string[] = [];
  if (kind === 'bars') {
    parts.push(rectangle(x(0), middle - BAR / 2, Math.max(1.5, at - x(0)), BAR, `bar ${classes}`));
    if (kernel > 0)
      parts.push(rectangle(at + 1, middle - BAR / 2, x(value + kernel) - at - 1, BAR, `bar kernel ${classes}`));
  }
  if (range !== null && range.max > range.min) {
    const [low, high] = [x(range.min), x(range.max)];
    const strokes = (kind: string) =>
      line(low, middle, high, middle, kind) +
      [low, high].map((end) => line(end, middle - 3.5, end, middle + 3.5, kind)).join('');
    parts.push((kind === 'bars' ? strokes('halo') : '') + strokes('whisker'));
  }
  if (from !== undefined) {
    parts.push(line(x(from), middle, at, middle, `link ${look.kind}`));
    parts.push(line(x(from), middle - 6, x(from), middle + 6, `link ${look.kind}`));
  }
  if (kind === 'dots') parts.push(mark(at, middle, look.shape, 4.6, classes));
  return titled(cell.title, parts.join(''));
}

const LINE = 16;

export function drawRows({ rows, columns }: RowChart): Drawing {
  const left = Math.max(...rows.map(({ name, role }) => textWidth(name, role === 'ours'))) + 24;
  const step = (CHART_WIDTH - left + GAP) / columns.length;
  const titles = columns.map(({ title }) => wrapped(title, step - GAP, true));
  const top = 10 + LINE * Math.max(...titles.map((lines) => lines.length));
  const bottom = top + rows.length * STEP;
  const middleOf = (row: number) => top + row * STEP + STEP / 2;
  const names = rows.map(
    (look, row) =>
      text(left - 24, middleOf(row) + 4, look.name, `name ${look.role}`, 'end') +
      mark(left - 13, middleOf(row), look.shape, 3.6, look.kind),
  );
  const drawn = columns.map(({ kind, domain, ticks, reference, cells }, i) => {
    const start = left + i * step;
    const labels = [...cells.values()].map((cell) => (typeof cell === 'string' ? '' : cell.label));
    const end = start + step - GAP - Math.max(0, ...labels.map((label) => textWidth(label))) - 10;
    const x = kind === 'bars' ? linear(domain, [start, end]) : logarithmic(domain, [start + 6, end - 6]);
    const title = titles[i]!.map((words, n) =>
      text(start, top - 12 - (titles[i]!.length - 1 - n) * LINE, words, 'head'),
    );
    const grid = ticks.map(
      ({ at, label }) =>
        line(x(at), top, x(at), bottom, at === 0 ? 'axis' : 'grid') + text(x(at), bottom + 15, label, 'tick', 'middle'),
    );
    const values = rows.map((look, row) => {
      const cell = cells.get(look.name) ?? 'not measured';
      if (typeof cell === 'string') return text(start + 6, middleOf(row) + 4, cell, 'tick missing');
      const label = text(end + 10, middleOf(row) + 4, cell.label, look.role === 'peer' ? 'soft' : '');
      return drawCell(look, cell, kind, x, middleOf(row)) + label;
    });
    const compared = reference === null ? '' : line(x(reference), top - 4, x(reference), bottom, 'reference');
    return title.join('') + grid.join('') + compared + values.join('');
  });
  return { width: CHART_WIDTH, height: bottom + 22, content: names.join('') + drawn.join('') };
}

/** An axis of bars, no longer than the longest needs. */
export function barAxis(
  top: number,
  count: number,
  label: (value: number) => string,
): Pick<Column, 'domain' | 'ticks'> {
  const ticks = ticksTo(top, count).filter((at) => at <= top * 1.005);
  return { domain: [0, top * 1.005], ticks: ticks.map((at) => ({ at, label: label(at) })) };
}

/** At most `most` columns to a chart, about as many in each. */
export function rowCharts(description: string, rows: readonly Look[], columns: readonly Column[], most = 4): string {
  const size = Math.ceil(columns.length / Math.ceil(columns.length / most));
  return Array.from({ length: Math.ceil(columns.length / size) }, (_, i) =>
    svg(description, drawRows({ rows, columns: columns.slice(i * size, (i + 1) * size) })),
  ).join('');
}
