// Spans become pixels here, by arithmetic: a lane is a row of pixels, repeated down its height. The browser gets a whole picture per frame instead
// of a call per span, so a frame costs what its pixels cost, not what the trace weighs.
//
// Few spans in view are drawn one by one, and share the pixels at their ends. Many are drawn pixel by pixel: how much of a pixel's time is covered
// decides how strong it is, and the least that happened is still to be seen.

import { lowerBound, type Trace } from './data.ts';
import type { View } from './view.ts';

/** What is there at all is at least so strong; more where it must not be missed, less where it would hide what is. */
const FAINTEST = 0.3;
const FAINTEST_BEHIND = 0.06;
/** Up to so many spans per pixel are drawn one by one. */
const SPANS_PER_PIXEL = 1.5;

/** A colour as the pixels of a canvas have it: 0xAABBGGRR. */
export type Pixel = number;

/** '#rrggbb' as a pixel. */
export function pixelOf(hex: string): Pixel {
  const value = Number.parseInt(hex.trim().slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

function mix(below: Pixel, above: Pixel, strength: number): Pixel {
  const part = Math.round(strength * 256);
  const rest = 256 - part;
  const redBlue = ((below & 0xff00ff) * rest + (above & 0xff00ff) * part) / 256;
  const green = ((below & 0xff00) * rest + (above & 0xff00) * part) / 256;
  return (0xff000000 | (redBlue & 0xff00ff) | (green & 0xff00)) >>> 0;
}

/** A range of items: those of a series that are in view. */
export interface Range {
  first: number;
  last: number;
}

/** The items of a series that touch a stretch of time. */
export function itemsWithin(trace: Trace, lane: number, kind: number, from: number, to: number): Range {
  const [first, last] = trace.series(lane, kind);
  const begin = lowerBound(trace.reach, from, first, last);
  return { first: begin, last: lowerBound(trace.begin, to, begin, last, true) };
}

/** A picture that lanes are painted into, and one row of it that is being made. */
export class Raster {
  readonly row: Uint32Array;
  private readonly width: number;
  private readonly height: number;
  private readonly pixels: Uint32Array;
  private readonly image: ImageData;

  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.row = new Uint32Array(width);
  }

  fits(width: number, height: number): boolean {
    return this.width === width && this.height === height;
  }

  fill(color: Pixel): void {
    this.pixels.fill(color);
  }

  /** Repeats the row from one height to another. */
  stamp(from: number, to: number): void {
    for (let y = Math.max(0, from); y < Math.min(this.height, to); y++) this.pixels.set(this.row, y * this.width);
  }

  show(context: CanvasRenderingContext2D, x: number, y: number): void {
    context.putImageData(this.image, x, y);
  }

  /** Part of the row in one colour; the pixels at its ends by how much of them it has. */
  bar(from: number, to: number, color: Pixel, strength = 1, faintest = FAINTEST): void {
    const { row, width } = this;
    const left = Math.max(0, from);
    const right = Math.min(width, to);
    if (right <= left) return;
    const first = Math.floor(left);
    const last = Math.min(width - 1, Math.ceil(right) - 1);
    if (first === last) {
      // Short of a pixel, so stronger than its share.
      row[first] = mix(row[first]!, color, strength * Math.min(1, faintest + right - left));
      return;
    }
    row[first] = mix(row[first]!, color, strength * (first + 1 - left));
    if (strength === 1) row.fill(color, first + 1, last);
    else for (let x = first + 1; x < last; x++) row[x] = mix(row[x]!, color, strength);
    row[last] = mix(row[last]!, color, strength * (right - last));
  }

  /**
   * Paints the items of a series into the row. Returns those in view when they were drawn one by one, null when they were too many for that.
   * `scale` is device pixels per pixel of CSS. `each` may give some items another colour, and how strong they are. What is painted over by other
   * series is `behind`: where pixels are short of room, those prevail.
   */
  series(
    trace: Trace,
    view: View,
    scale: number,
    lane: number,
    kind: number,
    color: Pixel,
    each?: (item: number) => { color: Pixel; strength: number },
    behind = false,
  ): Range | null {
    const range = itemsWithin(trace, lane, kind, view.from, view.to);
    const { first, last } = range;
    const nsPerPx = view.nsPerPx / scale;
    if (last - first > this.width * SPANS_PER_PIXEL) {
      this.density(trace, view.from, nsPerPx, trace.series(lane, kind), first, color, behind);
      return null;
    }
    const gap = scale;
    const faintest = behind ? FAINTEST_BEHIND : FAINTEST;
    for (let i = first; i < last; i++) {
      const from = (trace.begin[i]! - view.from) / nsPerPx;
      let to = (trace.end[i]! - view.from) / nsPerPx;
      // So that two spans side by side are two.
      if (to - from > 4 * gap) to -= gap;
      if (each === undefined) this.bar(from, Math.max(to, from + 0.05), color, 1, faintest);
      else {
        const look = each(i);
        this.bar(from, Math.max(to, from + 0.05), look.color, look.strength, faintest);
      }
    }
    return range;
  }

  private density(
    trace: Trace,
    start: number,
    nsPerPx: number,
    [seriesFirst, seriesLast]: [number, number],
    inView: number,
    color: Pixel,
    behind: boolean,
  ): void {
    const { row, width } = this;
    const { begin } = trace;
    let after = lowerBound(begin, start, seriesFirst, seriesLast);
    let covered = trace.coveredUntil(start, seriesFirst, after);
    // An item that began before the view and is in it counts for the first pixel.
    let present = inView < after;
    for (let x = 0; x < width; x++) {
      const t = start + (x + 1) * nsPerPx;
      const before = after;
      // The next is near: steps that double, then halving.
      let step = 1;
      while (after + step < seriesLast && begin[after + step]! < t) step *= 2;
      after = lowerBound(begin, t, after, Math.min(seriesLast, after + step + 1));
      const now = trace.coveredUntil(t, seriesFirst, after);
      const share = Math.max(0, Math.min(1, (now - covered) / nsPerPx));
      if (after > before || share > 0 || present) {
        const strength = behind ? share : FAINTEST + (1 - FAINTEST) * Math.sqrt(share);
        row[x] = mix(row[x]!, color, strength);
      }
      present = false;
      covered = now;
    }
  }
}
