// What the charts draw with: scales, ticks, marks and text. Colours and fonts are the page's: marks have classes.

export type Scale = (value: number) => number;

export function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

export function linear(domain: readonly [number, number], range: readonly [number, number]): Scale {
  const [low, high] = domain;
  const span = high - low || 1;
  return (value) => range[0] + ((value - low) / span) * (range[1] - range[0]);
}

/** Both ends of the domain must be above zero. */
export function logarithmic(domain: readonly [number, number], range: readonly [number, number]): Scale {
  const scale = linear([Math.log10(domain[0]), Math.log10(domain[1])], range);
  return (value) => scale(Math.log10(value));
}

/** About `count` round numbers from 0 to at least `top`. */
export function ticksTo(top: number, count: number): number[] {
  const rough = (top || 1) / count;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((candidate) => candidate >= rough * 0.999)!;
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => i * step);
}

/** For a logarithmic axis: 1, 2, 5, 10, 20 and so on, from at most `low` to at least `high`, two of them at least. */
export function logTicks(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high)) + 1;
  const all = Array.from({ length: last - first + 1 }, (_, i) => [1, 2, 5].map((factor) => factor * 10 ** (first + i)));
  const ticks = all.flat();
  const start = ticks.findLastIndex((tick) => tick <= low * 1.0001);
  const end = ticks.findIndex((tick) => tick >= high * 0.9999);
  return ticks.slice(start, Math.max(start + 1, end) + 1);
}

/** Of the ticks of a logarithmic axis those that get a number: of many only the powers of ten. */
export const isNumbered = (tick: number, ticks: readonly number[]): boolean =>
  ticks.length <= 8 || Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6);

export function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" class="${kind}"/>`;
}

export type Anchor = 'start' | 'middle' | 'end';

export function text(x: number, y: number, content: string, kind = '', anchor: Anchor = 'start'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${kind}" text-anchor="${anchor}">${escapeText(content)}</text>`;
}

/** About as wide as the text is in the widest of the usual sans-serif fonts, at the charts' size. */
export const textWidth = (content: string, isBold = false): number => content.length * (isBold ? 8.4 : 7.4);

/** Lines of at most `width`, broken at spaces. */
export function wrapped(content: string, width: number, isBold = false): string[] {
  const lines: string[] = [];
  for (const word of content.split(' ')) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && textWidth(longer, isBold) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

export type Point = readonly [x: number, y: number];

export function path(points: readonly Point[], kind: string): string {
  return `<path d="M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L')}" class="${kind}"/>`;
}

export function rectangle(x: number, y: number, width: number, height: number, kind: string): string {
  return `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0, width).toFixed(1)}" height="${height.toFixed(1)}" class="${kind}"/>`;
}

/** Everything in it shows `title` while a pointer rests on it. */
export const titled = (title: string, content: string): string =>
  `<g><title>${escapeText(title)}</title>${content}</g>`;

const turned = (points: readonly Point[], degrees: number): Point[] => {
  const [sin, cos] = [Math.sin((degrees * Math.PI) / 180), Math.cos((degrees * Math.PI) / 180)];
  return points.map(([x, y]) => [x * cos - y * sin, x * sin + y * cos]);
};

const CIRCLE = Array.from(
  { length: 20 },
  (_, i): Point => [Math.cos((i * Math.PI) / 10), Math.sin((i * Math.PI) / 10)],
);
const SQUARE: Point[] = [
  [-0.9, -0.9],
  [0.9, -0.9],
  [0.9, 0.9],
  [-0.9, 0.9],
];
const TRIANGLE: Point[] = [
  [0, -1.2],
  [1.1, 0.8],
  [-1.1, 0.8],
];
const CROSS: Point[] = [
  [-0.4, -1.2],
  [0.4, -1.2],
  [0.4, -0.4],
  [1.2, -0.4],
  [1.2, 0.4],
  [0.4, 0.4],
  [0.4, 1.2],
  [-0.4, 1.2],
  [-0.4, 0.4],
  [-1.2, 0.4],
  [-1.2, -0.4],
  [-0.4, -0.4],
];
const STAR = Array.from({ length: 10 }, (_, i): Point => {
  const [angle, radius] = [(i * Math.PI) / 5 - Math.PI / 2, i % 2 === 0 ? 1.35 : 0.55];
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
});
const HOURGLASS: Point[] = [
  [-1, -1.1],
  [1, -1.1],
  [-1, 1.1],
  [1, 1.1],
];

/** Corners of each shape around its middle, for a radius of 1; the circle is a many-sided one. */
const SHAPES: ReadonlyArray<readonly Point[]> = [
  CIRCLE,
  SQUARE,
  TRIANGLE,
  turned(SQUARE, 45),
  turned(TRIANGLE, 180),
  STAR,
  CROSS,
  turned(TRIANGLE, 90),
  HOURGLASS,
  turned(CROSS, 45),
  turned(TRIANGLE, -90),
  turned(HOURGLASS, 90),
];

export function mark(x: number, y: number, shape: number, radius: number, kind: string): string {
  const corners = SHAPES[shape % SHAPES.length]!.map(
    ([dx, dy]) => `${(x + dx * radius).toFixed(1)},${(y + dy * radius).toFixed(1)}`,
  );
  return `<polygon points="${corners.join(' ')}" class="mark ${kind}"/>`;
}

/** What an SVG element shows, and how large it is. */
export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly content: string;
}

/** No wider than it was drawn, so that text is as large everywhere. */
export function svg(description: string, { width, height, content }: Drawing): string {
  return `<svg viewBox="0 0 ${width} ${height.toFixed(0)}" style="max-width:${width}px" role="img" aria-label="${escapeText(description)}">${content}</svg>`;
}
