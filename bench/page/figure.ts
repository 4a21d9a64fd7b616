// A question, the sentence that answers it, and the chart that shows it.

import type { IdleSample } from '../idle.ts';
import type { Result, SuiteReport } from '../results.ts';
import { escapeText } from '../svg.ts';
import type { Cast } from './cast.ts';

export interface Figure {
  readonly title: string;
  readonly caption: string;
  /** SVG or HTML; empty where there is nothing to draw. */
  readonly chart: string;
}

/** What a suite's figures are made of. */
export interface Findings {
  readonly suite: SuiteReport;
  readonly results: readonly Result[];
  readonly idle: readonly IdleSample[];
  readonly cast: Cast;
}

export const formatFigure = ({ title, caption, chart }: Figure): string =>
  `<section><h3>${escapeText(title)}</h3><p>${escapeText(caption)}</p>${chart}</section>`;

/** In the order in which they come first. */
export const distinct = <T>(values: readonly T[]): T[] => [...new Set(values)];

export const isHollow = ({ valid, ranked }: Result): boolean => !valid || !ranked;
