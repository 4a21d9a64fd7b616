// A chart of lines, one per server, each with its name at its end.

import { line, mark, type Point, path, type Scale, svg, text, textWidth, titled } from '../svg.ts';
import type { Look, Role } from './cast.ts';
import { type EndLabel, endLabels, LABEL_STEP, labelsWidth } from './labels.ts';

export interface Axis {
  readonly title: string;
  readonly ticks: ReadonlyArray<{ readonly at: number; readonly label: string }>;
  readonly scale: (range: readonly [number, number]) => Scale;
}

export interface Curve {
  readonly look: Look;
  readonly points: ReadonlyArray<{
    readonly x: number;
    readonly y: number;
    readonly isHollow: boolean;
    readonly title: string;
  }>;
  /** What is written at its end, if not its name. Nothing if empty: then the curve is to be found in a legend. */
  readonly label?: string;
  /** Where the line leaves the chart at its top: the value there is not one to draw. */
  readonly leavesAt?: { readonly x: number; readonly title: string };
}

export interface LineChart {
  readonly description: string;
  readonly width: number;
  readonly height: number;
  readonly x: Axis;
  readonly y: Axis;
  readonly curves: readonly Curve[];
  /** Whether every point has its mark, or the last one only. */
  readonly hasMarks: boolean;
}

/** What matters most is drawn last. */
const ORDER: readonly Role[] = ['peer', 'threads', 'floor', 'ours'];

const radiusOf = ({ role }: Look): number => (role === 'ours' ? 5 : 4.2);

function drawCurve({ look, points, leavesAt }: Curve, x: Scale, y: Scale, top: number, hasMarks: boolean): string {
  const places = points.map((point): Point => [x(point.x), y(point.y)]);
  const curve = places.length > 1 ? path(places, `curve ${look.kind}`) : '';
  const marks = points.map((point, i) => {
    const radius = hasMarks || i === points.length - 1 ? radiusOf(look) : 1.6;
    const drawn = mark(...places[i]!, look.shape, radius, `${look.kind}${point.isHollow ? ' hollow' : ''}`);
    return titled(point.title, drawn);
  });
  if (leavesAt === undefined) return curve + marks.join('');
  const end: Point = [x(leavesAt.x), top];
  const last = places.at(-1);
  const rise = last === undefined ? '' : path([last, end], `curve missed ${look.kind}`);
  const cross = [-1, 1].map((side) => line(end[0] - 5, end[1] - 5 * side, end[0] + 5, end[1] + 5 * side, 'stroke'));
  return rise + curve + marks.join('') + titled(leavesAt.title, `<g class="cross ${look.kind}">${cross.join('')}</g>`);
}

/** Where a curve is named, once it is known where it ends. */
function labelOf({ look, points, label = look.name, leavesAt }: Curve, x: Scale, y: Scale, top: number): EndLabel {
  const last = points.at(-1);
  const end = leavesAt !== undefined ? { x: x(leavesAt.x), y: top } : { x: x(last!.x), y: y(last!.y) };
  return { look, ...end, content: label, isTied: leavesAt === undefined };
}

const unplaced: Scale = () => 0;

export function lineChart({ description, width, height, x, y, curves, hasMarks }: LineChart): string {
  const drawn = curves.filter(({ points, leavesAt }) => points.length > 0 || leavesAt !== undefined);
  const named = drawn.filter(({ label }) => label !== '');
  const left = 14 + Math.max(...y.ticks.map(({ label }) => textWidth(label)));
  const right = width - labelsWidth(named.map((curve) => labelOf(curve, unplaced, unplaced, 0)));
  const top = 30;
  const bottom = top + Math.max(height, (named.length - 1) * LABEL_STEP);
  const xOf = x.scale([left + 12, right]);
  const yOf = y.scale([bottom, top + 6]);
  const grid = y.ticks.map(
    ({ at, label }) =>
      line(left, yOf(at), right, yOf(at), at === 0 ? 'axis' : 'grid') +
      text(left - 8, yOf(at) + 4, label, 'tick', 'end'),
  );
  const across = x.ticks.map(
    ({ at, label }) =>
      line(xOf(at), bottom, xOf(at), bottom + 5, 'axis') + text(xOf(at), bottom + 19, label, 'tick', 'middle'),
  );
  const ordered = [...drawn].sort((a, b) => ORDER.indexOf(a.look.role) - ORDER.indexOf(b.look.role));
  const content =
    text(0, 12, y.title, 'tick') +
    grid.join('') +
    line(left, bottom, right, bottom, 'axis') +
    across.join('') +
    text(Math.max((left + right) / 2, textWidth(x.title) / 2), bottom + 38, x.title, 'tick', 'middle') +
    ordered.map((curve) => drawCurve(curve, xOf, yOf, top, hasMarks)).join('') +
    endLabels(
      named.map((curve) => labelOf(curve, xOf, yOf, top)),
      right,
      top,
      bottom,
    );
  return svg(description, { width, height: bottom + 46, content });
}
