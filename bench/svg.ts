// What the charts draw with: scales, ticks, marks and labels that do not lie on each other. Colours are CSS classes
// (`s0`, `s1`, ...), so that the page decides them for light and dark; every server also has a marker shape of its own.

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
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((candidate) => candidate >= rough)!;
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => i * step);
}

/** The powers of ten that enclose two positive values. */
export function decades(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

export function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" class="${kind}"/>`;
}

export function text(
  x: number,
  y: number,
  content: string,
  kind = '',
  anchor: 'start' | 'middle' | 'end' = 'start',
): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${kind}" text-anchor="${anchor}">${escapeText(content)}</text>`;
}

export function path(points: ReadonlyArray<readonly [x: number, y: number]>, kind: string): string {
  return `<path d="M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L')}" class="${kind}"/>`;
}

export function rectangle(x: number, y: number, width: number, height: number, kind: string): string {
  return `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0, width).toFixed(1)}" height="${height.toFixed(1)}" class="${kind}"/>`;
}

/** Corners of each shape around its middle, for a radius of 1; the circle is a many-sided one. */
const SHAPES: ReadonlyArray<ReadonlyArray<readonly [number, number]>> = [
  Array.from({ length: 20 }, (_, i) => [Math.cos((i * Math.PI) / 10), Math.sin((i * Math.PI) / 10)] as const),
  [
    [-0.9, -0.9],
    [0.9, -0.9],
    [0.9, 0.9],
    [-0.9, 0.9],
  ],
  [
    [0, -1.15],
    [1.05, 0.8],
    [-1.05, 0.8],
  ],
  [
    [0, -1.25],
    [1.25, 0],
    [0, 1.25],
    [-1.25, 0],
  ],
  [
    [0, 1.15],
    [1.05, -0.8],
    [-1.05, -0.8],
  ],
];

/** The mark of a server, hollow if its value is not one to rank by; the title is shown by a pointer resting on it. */
export function marker(x: number, y: number, series: number, isHollow: boolean, title: string): string {
  const corners = SHAPES[series % SHAPES.length]!.map(
    ([dx, dy]) => `${(x + dx * 5).toFixed(1)},${(y + dy * 5).toFixed(1)}`,
  );
  const kind = `marker s${series}${isHollow ? ' hollow' : ''}`;
  return `<polygon points="${corners.join(' ')}" class="${kind}"><title>${escapeText(title)}</title></polygon>`;
}

export interface EndLabel {
  readonly series: number;
  readonly y: number;
  readonly content: string;
}

/** Labels at the right ends of lines, moved apart where they would overlap, each tied to its end by a thin line. */
export function endLabels(x: number, labels: readonly EndLabel[], top: number, bottom: number): string {
  const gap = 17;
  const placed = [...labels].sort((a, b) => a.y - b.y).map((label) => ({ ...label, at: label.y }));
  for (let i = 1; i < placed.length; i++) placed[i]!.at = Math.max(placed[i]!.at, placed[i - 1]!.at + gap);
  const last = placed.length - 1;
  if (last >= 0) placed[last]!.at = Math.min(placed[last]!.at, bottom);
  for (let i = last - 1; i >= 0; i--) placed[i]!.at = Math.min(placed[i]!.at, placed[i + 1]!.at - gap);
  return placed
    .map(({ series, y, at, content }) => {
      const height = Math.max(at, top);
      return line(x + 9, y, x + 24, height, `leader s${series}`) + text(x + 28, height + 4, content);
    })
    .join('');
}

export function svg(width: number, height: number, description: string, content: string): string {
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeText(description)}">${content}</svg>`;
}
