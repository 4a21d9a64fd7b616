// Draws the timeline on its canvas: the axis, the lanes in view and their names, arrows, and what is chosen or pointed at.
// It reads the state and changes none.

import { Item, type Lane, type Trace } from './data.ts';
import { formatDuration, formatMoment, ticksFor } from './format.ts';
import { type Lanes, ROW_HEIGHT } from './lanes.ts';
import { itemsWithin, type Pixel, pixelOf, type Range, Raster } from './paint.ts';
import type { View } from './view.ts';

export const NAMES_WIDTH = 210;
export const AXIS_HEIGHT = 30;
const OVERVIEW_HEIGHT = 26;
/** Where lanes begin. */
export const TOP: number = AXIS_HEIGHT + OVERVIEW_HEIGHT;
/** The part of a row that bars fill, and the lower bars of what waits. */
const BAR = { from: 3, to: 23 };
const WAITING = { from: 6, to: 20 };
const MAX_LABELS = 800;
const MIN_LABEL_PX = 46;
/** More arrows than this would hide what they connect: then only those of the chosen lane are drawn. */
const MAX_ARROWS = 250;
const FONT = '11px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif';
const PX_PER_CHARACTER = 6.1;

/** Names of the colours in page.css. */
const COLORS = [
  'page',
  'lane',
  'lane-odd',
  'grid',
  'text',
  'muted',
  'waiting',
  'on-waiting',
  'runnable',
  'on-runnable',
  'running',
  'on-running',
  'syscall',
  'on-syscall',
  'again',
  'failed',
  'ready',
  'select',
  'match',
  'panel',
  'line',
] as const;
type ColorName = (typeof COLORS)[number];

/** What is drawn, besides trace and view. */
export interface Scene {
  /** The chosen and the pointed-at item and lane; -1: none. */
  item: number;
  lane: number;
  hoverItem: number;
  hoverLane: number;
  /** The texts that a search is for; null without one. */
  matches: Uint8Array | null;
  laneMatches: Uint8Array | null;
}

interface Label {
  text: string;
  from: number;
  to: number;
  y: number;
  color: string;
}

export class Painter {
  private readonly canvas: HTMLCanvasElement;
  private readonly context: CanvasRenderingContext2D;
  private readonly trace: Trace;
  private readonly lanes: Lanes;
  private readonly view: View;
  private raster = new Raster(1, 1);
  private overview: HTMLCanvasElement | null = null;
  private colors = {} as Record<ColorName, string>;
  private pixels = {} as Record<ColorName, Pixel>;
  private width = 0;
  private height = 0;
  private scale = 1;

  constructor(canvas: HTMLCanvasElement, trace: Trace, lanes: Lanes, view: View) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', { alpha: false })!;
    this.trace = trace;
    this.lanes = lanes;
    this.view = view;
  }

  /** Takes the colours of the theme that is on now. */
  readColors(): void {
    const style = getComputedStyle(document.documentElement);
    for (const name of COLORS) {
      this.colors[name] = style.getPropertyValue(`--${name}`).trim();
      this.pixels[name] = pixelOf(this.colors[name]);
    }
    this.overview = null;
  }

  resize(width: number, height: number): void {
    this.width = width;
    this.height = height;
    this.scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    this.overview = null;
    this.view.resize(width - NAMES_WIDTH, height - TOP);
  }

  draw(scene: Scene): void {
    const { context, colors, scale, width, height } = this;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = FONT;
    context.textBaseline = 'middle';
    context.fillStyle = colors.page;
    context.fillRect(0, 0, width, height);
    const labels = this.bars(scene);
    context.save();
    context.beginPath();
    context.rect(NAMES_WIDTH, TOP, width - NAMES_WIDTH, height - TOP);
    context.clip();
    this.labels(labels);
    this.arrows(scene);
    this.outline(scene.hoverItem, colors.text, 1);
    this.outline(scene.item, colors.select, 2);
    context.restore();
    this.lost();
    this.names(scene);
    this.axis();
    this.overviewStrip();
  }

  /** The lanes in view: from the first row up to, not including, the second. */
  private rowsInView(): [number, number] {
    const { scrollTop, height } = this.view;
    const first = Math.floor(scrollTop / ROW_HEIGHT);
    return [first, Math.min(this.lanes.rows.length, Math.ceil((scrollTop + height) / ROW_HEIGHT))];
  }

  private rowTop(row: number): number {
    return TOP + row * ROW_HEIGHT - this.view.scrollTop;
  }

  private bars(scene: Scene): Label[] {
    const { view, scale, pixels } = this;
    const width = this.canvas.width - Math.round(NAMES_WIDTH * scale);
    const height = this.canvas.height - Math.round(TOP * scale);
    const labels: Label[] = [];
    if (width < 1 || height < 1) return labels;
    if (!this.raster.fits(width, height)) this.raster = new Raster(width, height);
    const { raster } = this;
    raster.fill(pixels.page);
    const grid = this.gridPixels();
    const [first, last] = this.rowsInView();
    for (let row = first; row < last; row++) {
      const lane = this.lanes.rows[row]!;
      const top = Math.round((row * ROW_HEIGHT - view.scrollTop) * scale);
      const y = (px: number): number => top + Math.round(px * scale);
      const background = (): void => {
        raster.row.fill(pixels.page);
        const alive = (lane.begin - view.from) / view.nsPerPx;
        const dead = (lane.end - view.from) / view.nsPerPx;
        raster.bar(alive * scale, Math.max(dead, alive + 1) * scale, row % 2 === 0 ? pixels.lane : pixels['lane-odd']);
        for (const x of grid) raster.bar(x, x + 1, pixels.grid);
      };
      background();
      raster.stamp(top, y(ROW_HEIGHT));
      this.busy(lane, scene, null);
      raster.stamp(y(BAR.from), y(BAR.to));
      background();
      this.waiting(lane, scene, labels, row);
      this.busy(lane, scene, { labels, row });
      raster.stamp(y(WAITING.from), y(WAITING.to));
      if (lane.kind === 'fd') this.readiness(lane, background, y);
    }
    raster.show(this.context, Math.round(NAMES_WIDTH * scale), Math.round(TOP * scale));
    return labels;
  }

  private gridPixels(): number[] {
    const { view, scale } = this;
    const { step } = ticksFor(view.from, view.nsPerPx, 110);
    const found: number[] = [];
    for (let t = Math.ceil(view.from / step) * step; t < view.to; t += step)
      found.push(Math.round(view.pxAt(t) * scale));
    return found;
  }

  /** What waits: the blocking call, a task that is suspended, a descriptor that is awaited. */
  private waiting(lane: Lane, scene: Scene, labels: Label[], row: number): void {
    const kind = lane.kind === 'wait' ? Item.blocked : lane.kind === 'fd' ? Item.awaited : Item.suspended;
    this.series(lane, kind, 'waiting', scene, { labels, row });
  }

  /** What does something: a system call, a task that runs or could. */
  private busy(lane: Lane, scene: Scene, labelled: { labels: Label[]; row: number } | null): void {
    if (lane.kind === 'fd') this.series(lane, Item.syscall, 'syscall', scene, labelled);
    else if (lane.kind === 'task') {
      this.series(lane, Item.runnable, 'runnable', scene, labelled);
      this.series(lane, Item.running, 'running', scene, labelled);
      this.series(lane, Item.timer, 'ready', scene, null);
      this.series(lane, Item.end, 'text', scene, null);
    } else this.series(lane, Item.libuv, 'ready', scene, null);
  }

  private series(
    lane: Lane,
    kind: number,
    color: ColorName,
    scene: Scene,
    labelled: { labels: Label[]; row: number } | null,
  ): void {
    const { trace, view, scale, pixels } = this;
    const look = { color: pixels[color], strength: 1 };
    const each =
      scene.matches === null && kind !== Item.syscall && kind !== Item.end
        ? undefined
        : (item: number) => {
            look.color = pixels[this.colorOf(item, kind, color)];
            look.strength = scene.matches === null || scene.matches[trace.name[item]!] === 1 ? 1 : 0.25;
            return look;
          };
    const range = this.raster.series(trace, view, scale, lane.index, kind, pixels[color], each, kind === Item.runnable);
    if (labelled !== null && range !== null) this.label(range, kind, color, scene, labelled);
  }

  /** Calls that failed stand out; those that only would have had to wait step back. */
  private colorOf(item: number, kind: number, color: ColorName): ColorName {
    const result = this.trace.result[item]!;
    if (kind === Item.end) return result === 1 ? 'failed' : color;
    if (kind !== Item.syscall || result >= 0) return color;
    const error = this.trace.errors.get(result);
    return error === 'EAGAIN' || error === 'EINPROGRESS' ? 'again' : 'failed';
  }

  private label(
    range: Range,
    kind: number,
    color: ColorName,
    scene: Scene,
    { labels, row }: { labels: Label[]; row: number },
  ): void {
    const { trace, view, colors } = this;
    const y = this.rowTop(row) + ROW_HEIGHT / 2 + 0.5;
    const textColor = colors[`on-${color}` as ColorName] ?? colors.text;
    for (let i = range.first; i < range.last && labels.length < MAX_LABELS; i++) {
      const from = Math.max(0, view.pxAt(trace.begin[i]!));
      const to = Math.min(view.width, view.pxAt(trace.end[i]!));
      if (to - from < MIN_LABEL_PX) continue;
      const room = kind === Item.awaited ? this.clearOfCalls(trace.lane[i]!, from, to) : { from, to };
      if (room.to - room.from < MIN_LABEL_PX) continue;
      const dimmed = scene.matches !== null && scene.matches[trace.name[i]!] === 0;
      labels.push({ text: this.caption(i, kind), ...room, y, color: dimmed ? colors.muted : textColor });
    }
  }

  /** The first stretch of a lane, between two places of it, that has room for a label and no system call. */
  private clearOfCalls(lane: number, from: number, to: number): { from: number; to: number } {
    const { trace, view } = this;
    const { first, last } = itemsWithin(trace, lane, Item.syscall, view.timeAt(from), view.timeAt(to));
    let left = from;
    for (let i = first; i < last; i++) {
      const begin = view.pxAt(trace.begin[i]!);
      if (begin - left >= MIN_LABEL_PX) return { from: left, to: begin };
      left = Math.max(left, view.pxAt(trace.end[i]!));
    }
    return { from: left, to };
  }

  private caption(item: number, kind: number): string {
    const text = this.trace.text(item);
    if (kind === Item.syscall) {
      const result = this.trace.result[item]!;
      return `${text} = ${result < 0 ? (this.trace.errors.get(result) ?? result) : result}`;
    }
    if (kind === Item.suspended) return `waits for ${text}`;
    if (kind === Item.awaited) return text;
    return `${text} ${formatDuration(this.trace.duration(item))}`;
  }

  private labels(labels: Label[]): void {
    const { context } = this;
    for (const { text, from, to, y, color } of labels) {
      context.fillStyle = color;
      context.fillText(fitted(text, to - from - 8), NAMES_WIDTH + from + 4, y);
    }
  }

  /** A descriptor became ready: a line over the whole row. */
  private readiness(lane: Lane, background: () => void, y: (px: number) => number): void {
    background();
    const { raster, pixels, trace, view, scale } = this;
    raster.series(trace, view, scale, lane.index, Item.ready, pixels.ready);
    raster.stamp(y(0), y(BAR.from));
  }

  private arrows(scene: Scene): void {
    const { trace, view } = this;
    const [first, last] = this.rowsInView();
    const found: number[] = [];
    for (let row = first; row < last && found.length <= MAX_ARROWS; row++) {
      const range = itemsWithin(trace, this.lanes.rows[row]!.index, Item.flow, view.from, view.to);
      for (let i = range.first; i < range.last && found.length <= MAX_ARROWS; i++) found.push(i);
    }
    if (found.length > MAX_ARROWS) {
      const chosen = scene.hoverLane >= 0 ? scene.hoverLane : scene.lane;
      found.length = 0;
      if (chosen >= 0) {
        for (const i of arrowsOf(trace, chosen, view.from, view.to)) found.push(i);
        if (found.length > MAX_ARROWS) return;
      }
    }
    for (const i of found) this.arrow(i, trace.lane[i] === scene.lane || trace.other[i] === scene.lane);
  }

  private arrow(flow: number, strong: boolean): void {
    const { trace, view, context, colors } = this;
    const fromRow = this.lanes.row(trace.lane[flow]!);
    const toRow = this.lanes.row(trace.other[flow]!);
    if (fromRow < 0 || toRow < 0) return;
    const down = toRow > fromRow;
    const x0 = NAMES_WIDTH + view.pxAt(trace.begin[flow]!);
    const x1 = NAMES_WIDTH + view.pxAt(trace.end[flow]!);
    const y0 = this.rowTop(fromRow) + (down ? BAR.to : BAR.from);
    const y1 = this.rowTop(toRow) + (down ? BAR.from : BAR.to);
    const bend = Math.max(6, Math.min(24, Math.abs(y1 - y0) / 2)) * (down ? 1 : -1);
    context.globalAlpha = strong ? 1 : 0.75;
    context.strokeStyle = colors.ready;
    context.fillStyle = colors.ready;
    context.lineWidth = strong ? 2 : 1.25;
    context.beginPath();
    context.moveTo(x0, y0);
    context.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1 - (down ? 4 : -4));
    context.stroke();
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x1 - 3.5, y1 - (down ? 6 : -6));
    context.lineTo(x1 + 3.5, y1 - (down ? 6 : -6));
    context.fill();
    context.globalAlpha = 1;
  }

  private outline(item: number, color: string, lineWidth: number): void {
    if (item < 0) return;
    const { trace, view, context } = this;
    const row = this.lanes.row(trace.lane[item]!);
    if (row < 0) return;
    const from = Math.max(-10, view.pxAt(trace.begin[item]!));
    const to = Math.min(view.width + 10, Math.max(view.pxAt(trace.end[item]!), from + 2));
    context.strokeStyle = color;
    context.lineWidth = lineWidth;
    context.strokeRect(
      NAMES_WIDTH + from - 1,
      this.rowTop(row) + BAR.from - 1,
      Math.max(3, to - from + 1),
      BAR.to - BAR.from + 2,
    );
  }

  /** Where records were lost nothing is known: a line through all lanes. */
  private lost(): void {
    const { trace, view, context, colors, height } = this;
    for (const lane of trace.lanes) {
      if (lane.kind !== 'wait') continue;
      const [first, last] = trace.series(lane.index, Item.lost);
      let shown = Number.NEGATIVE_INFINITY;
      for (let i = first; i < last; i++) {
        const x = view.pxAt(trace.begin[i]!);
        if (x < 0 || x > view.width || x - shown < 1) continue;
        context.fillStyle = colors.failed;
        context.fillRect(NAMES_WIDTH + x - 1, TOP, 2, height - TOP);
        if (x - shown > 120) {
          const text = trace.text(i);
          const wide = context.measureText(text).width + 10;
          const left = Math.min(NAMES_WIDTH + x - 1, this.width - wide);
          context.fillRect(left, height - 20, wide, 18);
          context.fillStyle = colors.page;
          context.fillText(text, left + 5, height - 10.5);
        }
        shown = x;
      }
    }
  }

  private names(scene: Scene): void {
    const { context, colors, height } = this;
    context.fillStyle = colors.panel;
    context.fillRect(0, TOP, NAMES_WIDTH, height - TOP);
    const [first, last] = this.rowsInView();
    for (let row = first; row < last; row++) {
      const lane = this.lanes.rows[row]!;
      const top = this.rowTop(row);
      if (lane.index === scene.lane || lane.index === scene.hoverLane) {
        context.fillStyle = lane.index === scene.lane ? colors.select : colors.grid;
        context.globalAlpha = lane.index === scene.lane ? 0.22 : 1;
        context.fillRect(0, top, NAMES_WIDTH, ROW_HEIGHT);
        context.globalAlpha = 1;
      }
      if (scene.laneMatches?.[lane.index] === 1) {
        context.fillStyle = colors.match;
        context.fillRect(0, top + 2, 4, ROW_HEIGHT - 4);
      }
      context.fillStyle = colors[lane.kind === 'wait' ? 'muted' : lane.kind === 'fd' ? 'syscall' : 'running'];
      this.symbol(lane, 14, top + ROW_HEIGHT / 2);
      context.fillStyle = colors.text;
      context.fillText(fitted(lane.name, NAMES_WIDTH - 34), 26, top + ROW_HEIGHT / 2 + 0.5);
    }
    context.fillStyle = colors.line;
    context.fillRect(NAMES_WIDTH - 1, TOP, 1, height - TOP);
  }

  /** A bar for the blocking call, a square for a descriptor, a disc for a task. */
  private symbol(lane: Lane, x: number, y: number): void {
    const { context } = this;
    if (lane.kind === 'wait') context.fillRect(x - 5, y - 1.5, 10, 3);
    else if (lane.kind === 'fd') context.fillRect(x - 4, y - 4, 8, 8);
    else {
      context.beginPath();
      context.arc(x, y, 4.5, 0, 2 * Math.PI);
      context.fill();
    }
  }

  private axis(): void {
    const { context, colors, view, width } = this;
    const y = OVERVIEW_HEIGHT;
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, width, TOP);
    context.fillStyle = colors.line;
    context.fillRect(0, TOP - 1, width, 1);
    const { step, base, label } = ticksFor(view.from, view.nsPerPx, 110);
    context.fillStyle = colors.muted;
    context.fillText(`${formatDuration(view.to - view.from)} in view`, 10, y - OVERVIEW_HEIGHT / 2);
    context.fillStyle = colors.text;
    context.fillText(base > 0 ? `from ${formatMoment(base)}` : 'time', 10, y + AXIS_HEIGHT / 2);
    context.save();
    context.beginPath();
    context.rect(NAMES_WIDTH, y, width - NAMES_WIDTH, AXIS_HEIGHT);
    context.clip();
    for (let t = Math.ceil(view.from / step) * step; t < view.to; t += step) {
      const x = Math.round(NAMES_WIDTH + view.pxAt(t));
      context.fillStyle = colors.line;
      context.fillRect(x, TOP - 8, 1, 7);
      // -0 is 0.
      context.fillStyle = colors.text;
      context.fillText(label(t + 0), x + 4, y + AXIS_HEIGHT / 2);
    }
    context.restore();
  }

  /** The whole trace at the top: how busy the loop is, and which part of it is in view. */
  private overviewStrip(): void {
    const { context, colors, view, trace } = this;
    this.overview ??= this.busyness();
    const end = Math.max(1, trace.about.end);
    const left = NAMES_WIDTH;
    context.drawImage(this.overview, left, 2, view.width, OVERVIEW_HEIGHT - 4);
    const from = left + Math.max(0, Math.min(1, view.from / end)) * view.width;
    const to = left + Math.max(0, Math.min(1, view.to / end)) * view.width;
    context.fillStyle = colors.page;
    context.globalAlpha = 0.65;
    context.fillRect(left, 2, from - left, OVERVIEW_HEIGHT - 4);
    context.fillRect(to, 2, left + view.width - to, OVERVIEW_HEIGHT - 4);
    context.globalAlpha = 1;
    context.strokeStyle = colors.select;
    context.lineWidth = 1.5;
    context.strokeRect(from, 1.5, Math.max(3, to - from - 1), OVERVIEW_HEIGHT - 3);
  }

  /** A column for each pixel: as high as the part of its time that the loop was not blocked, of the busiest thread. */
  private busyness(): HTMLCanvasElement {
    const { trace, colors, view } = this;
    const canvas = document.createElement('canvas');
    canvas.width = Math.max(1, Math.round(view.width));
    canvas.height = OVERVIEW_HEIGHT - 4;
    const context = canvas.getContext('2d')!;
    context.fillStyle = colors.page;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = colors.running;
    const nsPerPx = Math.max(1, trace.about.end) / canvas.width;
    const busiest = new Float64Array(canvas.width);
    for (const lane of trace.lanes) {
      if (lane.kind !== 'wait') continue;
      const [first, last] = trace.series(lane.index, Item.blocked);
      if (first === last) continue;
      let after = first;
      let covered = 0;
      for (let x = 0; x < canvas.width; x++) {
        const t = (x + 1) * nsPerPx;
        while (after < last && trace.begin[after]! < t) after++;
        const now = trace.coveredUntil(t, first, after);
        // Before the thread's first wait and after its last it is not known what it did.
        if (t > trace.begin[first]! && t - nsPerPx < trace.reach[last - 1]!)
          busiest[x] = Math.max(busiest[x]!, 1 - (now - covered) / nsPerPx);
        covered = now;
      }
    }
    for (let x = 0; x < canvas.width; x++) {
      const height = Math.max(busiest[x]! > 0.001 ? 1 : 0, busiest[x]! * canvas.height);
      context.fillRect(x, canvas.height - height, 1, height);
    }
    return canvas;
  }
}

/** The arrows from or to a lane that begin in a stretch of time. */
function* arrowsOf(trace: Trace, lane: number, from: number, to: number): Generator<number, void> {
  const { first, last } = itemsWithin(trace, lane, Item.flow, from, to);
  for (let i = first; i < last; i++) yield i;
  for (const i of trace.linked(lane, Item.flow)) if (trace.begin[i]! >= from && trace.begin[i]! < to) yield i;
}

/** As much of a text as has room. */
function fitted(text: string, px: number): string {
  const room = Math.floor(px / PX_PER_CHARACTER);
  if (text.length <= room) return text;
  return room < 3 ? '' : `${text.slice(0, room - 1)}…`;
}
