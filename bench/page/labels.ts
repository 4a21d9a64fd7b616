// Names at the ends of lines, which do not lie on each other and stay as near to the ends as that allows.

import { line, mark, text, textWidth } from '../svg.ts';
import type { Look } from './cast.ts';

export interface EndLabel {
  readonly look: Look;
  /** Where its line ends. */
  readonly x: number;
  readonly y: number;
  readonly content: string;
  /** Whether a thin line ties it to the end. */
  readonly isTied: boolean;
}

export const LABEL_STEP = 16;

/** From the end of the plot to where the text begins. */
const INDENT = 44;

export const labelsWidth = (labels: readonly EndLabel[]): number =>
  labels.length === 0
    ? 24
    : INDENT + Math.max(...labels.map(({ content, look }) => textWidth(content, look.role === 'ours')));

/**
 * The places nearest to `wanted` (in rising order) that are at least `step` apart: isotonic regression, by joining neighbours that would be
 * too near into a block around their mean.
 */
export function spreadOut(wanted: readonly number[], step: number, low: number, high: number): number[] {
  const blocks: { sum: number; size: number }[] = [];
  const mean = ({ sum, size }: { sum: number; size: number }) => sum / size;
  wanted.forEach((value, i) => {
    blocks.push({ sum: value - i * step, size: 1 });
    while (blocks.length > 1 && mean(blocks.at(-2)!) > mean(blocks.at(-1)!)) {
      const last = blocks.pop()!;
      const previous = blocks.pop()!;
      blocks.push({ sum: previous.sum + last.sum, size: previous.size + last.size });
    }
  });
  const highest = Math.max(low, high - (wanted.length - 1) * step);
  return blocks
    .flatMap((block) => Array.from({ length: block.size }, () => Math.min(Math.max(mean(block), low), highest)))
    .map((place, i) => place + i * step);
}

/** `right` is the end of the plot. */
export function endLabels(labels: readonly EndLabel[], right: number, top: number, bottom: number): string {
  const sorted = [...labels].sort((a, b) => a.y - b.y || b.x - a.x);
  const places = spreadOut(
    sorted.map(({ y }) => y),
    LABEL_STEP,
    top,
    bottom,
  );
  return sorted
    .map(({ look, x, y, content, isTied }, i) => {
      const at = places[i]!;
      const leader = isTied ? line(x + 7, y, right + INDENT - 19, at, `leader ${look.kind}`) : '';
      const glyph = mark(right + INDENT - 11, at, look.shape, 3.6, look.kind);
      return leader + glyph + text(right + INDENT, at + 4, content, `name ${look.role}`);
    })
    .join('');
}
