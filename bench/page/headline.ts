// The chart that comes first: how each server compares, with 64 connections and 64 bytes if that was measured. It is also a picture of
// its own, for where a page cannot be.

import { sizeOf, whole } from '../format.ts';
import type { Report, Result, SuiteReport } from '../results.ts';
import { type Drawing, escapeText, svg, text, wrapped } from '../svg.ts';
import { castOf } from './cast.ts';
import { distinct, type Figure } from './figure.ts';
import { comparable } from './memory.ts';
import { headlineOf, quantityNoun, ratioCaption, ratioColumn, sortedLooks, topOf } from './rate.ts';
import { CHART_WIDTH, type Column, drawRows } from './rows.ts';
import { oursOf, ranked, times } from './words.ts';

export interface Headline {
  readonly title: string;
  readonly caption: string;
  readonly drawing: Drawing;
}

/** The first suite with a comparison of servers that counts. */
function chosen({ suites, results }: Report): { suite: SuiteReport; results: readonly Result[] } | null {
  for (const suite of suites) {
    const own = headlineOf(results.filter((result) => result.suite === suite.name));
    const { field, server } = suite.ratios[0]!;
    const compared = own.filter((result) => result.valid && result.ranked && result[field] !== null);
    if (server !== null && suite.measure !== 'p99' && compared.length > 1) return { suite, results: own };
  }
  return null;
}

/** Memory of two servers at the same number of connections. */
function memoryClause({ idle, suites }: Report, server: string, other: string): string {
  for (const { name } of suites) {
    const held = comparable(idle.filter(({ suite }) => suite === name));
    const [own, others] = [server, other].map((wanted) => held.find((sample) => sample.server === wanted));
    if (own === undefined || others === undefined) continue;
    const bytes = (sample: typeof own) => sample.rssBytesPerConnection + sample.kernelStackBytesPerConnection;
    return `; an idle connection costs it ${whole(bytes(own))} bytes, and ${other} ${whole(bytes(others))}`;
  }
  return '';
}

/** One loop with one blocking call, against the floor and against threads, in one sentence. */
function caption(report: Report, results: readonly Result[], suite: SuiteReport): string {
  const values = ranked(results, (result) => result.ratioToRawEpoll);
  const best = oursOf(values);
  if (best === undefined) return ratioCaption(results, suite);
  const [server, ratio] = best;
  const threads = results.find((result) => result.server === server)!.ratioToThreads;
  const gain = threads === null ? '' : ` and ${times(threads)} times that of a thread per connection`;
  const memory = memoryClause(report, server, 'thread-per-connection');
  return `With one blocking call and a coroutine for each connection, ${server} reaches ${(ratio * 100).toFixed(0)} % of the throughput of raw epoll in C++${gain}${memory}.`;
}

/** With the other ratio beside the first, in words. */
function withFurther(column: Column, results: readonly Result[], { ratios }: SuiteReport): Column {
  const second = ratios[1];
  if (second === undefined) return column;
  const cells = [...column.cells].map(([server, cell]) => {
    const value = results.find((result) => result.server === server)![second.field];
    if (typeof cell === 'string' || value === null) return [server, cell] as const;
    const than = second.field === 'ratioToThreads' ? 'threads' : second.server;
    return [server, { ...cell, label: `${cell.label}  =  ${times(value)} × ${than}` }] as const;
  });
  return { ...column, cells: new Map(cells) };
}

/** Null where there is nothing to compare. */
export function headlineFigure(report: Report): Headline | null {
  const found = chosen(report);
  if (found === null) return null;
  const { suite, results } = found;
  const { field, server: reference } = suite.ratios[0]!;
  const cast = castOf(
    distinct(report.results.filter((result) => result.suite === suite.name).map(({ server }) => server)),
  );
  const { connections, messageBytes } = results[0]!;
  const message = messageBytes === null ? 'HTTP requests' : `messages of ${sizeOf(messageBytes)}`;
  const isFloor = field === 'ratioToRawEpoll';
  const column = withFurther(
    ratioColumn(
      `${quantityNoun(suite)} as a ratio to ${reference}, ${whole(connections)} connections, ${message}`,
      results,
      field,
      topOf(results, field),
      5,
    ),
    results,
    suite,
  );
  return {
    title: isFloor
      ? 'As fast as raw epoll, or a thread per connection?'
      : `${suite.title}: how many times what ${reference} does?`,
    caption: caption(report, results, suite),
    drawing: drawRows({ rows: sortedLooks(results, (result) => result[field], cast), columns: [column] }),
  };
}

export const headlineChart = ({ title, caption, drawing }: Headline): Figure => ({
  title,
  caption,
  chart: svg(title, drawing),
});

const MARGIN = 24;

/** With its title, its sentence and where it was measured, on a ground of its own. */
export function standaloneSvg({ title, caption, drawing }: Headline, { machine }: Report, style: string): Drawing {
  const lines = wrapped(caption, CHART_WIDTH * 1.08);
  const top = MARGIN + 26 + lines.length * 18 + 14;
  const width = CHART_WIDTH + 2 * MARGIN;
  const height = Math.ceil(top + drawing.height + 12 + 16 + MARGIN / 2);
  const source = `${machine.cpuModel}, Linux ${machine.kernel}, Node ${machine.node}, ${machine.date.slice(0, 10)}; whiskers: least and greatest of single rounds`;
  const content = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeText(caption)}"><style>${style}</style><rect width="${width}" height="${height}" rx="6" class="paper"/>${text(MARGIN, MARGIN + 14, title, 'title')}${lines.map((words, i) => text(MARGIN, MARGIN + 40 + i * 18, words)).join('')}<g transform="translate(${MARGIN},${top})">${drawing.content}</g>${text(MARGIN, height - MARGIN / 2 - 2, source, 'tick')}</svg>\n`;
  return { width, height, content };
}
