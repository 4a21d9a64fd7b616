// All figures, as tables, and what else is to be known of a run: what does not count, how it was measured, and on what.

import { connectionsOf, whole } from '../format.ts';
import type { Machine } from '../machine.ts';
import type { Report } from '../results.ts';
import { escapeText } from '../svg.ts';
import { memoryTable, shapeTable } from '../table.ts';
import { distinct, type Findings } from './figure.ts';

function table([header, ...rows]: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    row.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join('');
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('');
  return `<div class="scroll"><table><thead><tr>${cells('th', header!)}</tr></thead><tbody>${body}</tbody></table></div>`;
}

export const definitions = (entries: Readonly<Record<string, string>>): string =>
  `<dl>${Object.entries(entries)
    .map(([name, value]) => `<dt>${escapeText(name)}</dt><dd>${escapeText(value)}</dd>`)
    .join('')}</dl>`;

const heading = (content: string): string => `<h4>${escapeText(content)}</h4>`;

/** Those of one suite. */
export function suiteTables({ suite, results }: Findings, idle: Report['idle']): string {
  const shapes = distinct(results.map(({ shape }) => shape));
  const tables = shapes.map((shape) => {
    const own = results.filter((result) => result.shape === shape);
    return (
      heading(`${shape}${own[0]!.ranked ? '' : ' (measures wakeups: not for ranking)'}`) + table(shapeTable(own, suite))
    );
  });
  const memory =
    idle.length === 0 ? '' : heading('Idle connections, after one echo on each') + table(memoryTable(idle));
  return `<h3>${escapeText(suite.title)}</h3>${tables.join('')}${memory}${definitions(suite.method)}`;
}

export function selfChecks({ selfChecks: checks, suites }: Report): string {
  if (checks.length === 0) return '';
  const slow = checks.filter(({ enough }) => !enough).length;
  const verdict =
    slow === 0
      ? 'The generator could have asked for more than the best server did, everywhere'
      : `In ${slow} of ${checks.length} shapes the best server did nearly as much as the generator can ask for: it may be faster than shown`;
  const rows = checks.map(({ suite, shape, server, headroom, enough }) => [
    suites.find(({ name }) => name === suite)?.title ?? suite,
    shape,
    server,
    `${headroom.toFixed(2)} ×`,
    enough ? 'yes' : 'no',
  ]);
  return `<h2>Was the load generator fast enough?</h2><p>${verdict}.</p>${table([['suite', 'shape', 'best server', 'headroom', 'enough'], ...rows])}`;
}

export function missing({ results, idle, skipped }: Report): string {
  const lines = [
    ...results
      .filter(({ valid }) => !valid)
      .map(({ server, shape, whyInvalid }) => `${server}, ${shape}: ${whyInvalid}`),
    ...idle
      .filter(({ whyIncomplete }) => whyIncomplete !== null)
      .map(
        ({ server, connections, whyIncomplete }) => `${server}, ${connectionsOf(connections)}, idle: ${whyIncomplete}`,
      ),
    ...skipped,
  ];
  if (lines.length === 0) return '';
  return `<h2 id="missing">What is not valid or missing</h2><ul class="words">${distinct(lines)
    .map((words) => `<li>${escapeText(words)}</li>`)
    .join('')}</ul>`;
}

export const machineFacts = (machine: Machine): Record<string, string> => ({
  processor: `${machine.cpuModel}, ${machine.cores} core${machine.cores === 1 ? '' : 's'}`,
  'main memory': `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`,
  Linux: machine.kernel,
  'congestion control': machine.congestionControl,
  Node: machine.node,
  'open files': `at most ${whole(machine.descriptorLimit)} in a process`,
  date: machine.date,
  command: machine.commandLine,
});
