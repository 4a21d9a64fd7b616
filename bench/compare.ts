// `npm run bench -- compare BEFORE.json AFTER.json`: what changed beyond noise, in words.
//
// Exit codes: 0, nothing got worse; 1, something did, or the second run is not complete; 2, wrong usage, a file that is no report, or nothing to compare.

import { CommanderError } from 'commander';
import {
  type Change,
  type Comparison,
  compareReports,
  LEAST_CHANGE,
  LEAST_LIKELY,
  type Memory,
  type Subject,
} from './comparison.ts';
import { connectionsOf, percent, whole } from './format.ts';
import { commandOf } from './options.ts';
import { readReport, Unreadable } from './report-file.ts';

const signed = (share: number): string => `${share < 0 ? '-' : '+'}${percent(Math.abs(share))}`;

/** Two decimals, or as many as show that they differ. */
function pair(before: number, after: number): string {
  const texts = (digits: number) => [before, after].map((value) => value.toFixed(digits));
  const digits = [2, 3, 4].find((count) => new Set(texts(count)).size === 2) ?? 5;
  return texts(digits).join(' -> ');
}

const likelihood = (p: number): string => (p < 0.001 ? 'p < 0.001' : `p = ${p.toFixed(3)}`);

function changeLine(change: Change): string {
  const { server, shape, figure, reference, before, after, p, isExact, samplesBefore, samplesAfter } = change;
  const what = figure === '' ? '' : `${figure} `;
  const test = `${likelihood(p)}${isExact ? '' : ' (approximately)'}, ${samplesBefore} and ${samplesAfter} samples`;
  return `${server}, ${shape}: ${what}${pair(before, after)} of ${reference} (${signed(after / before - 1)}), ${test}`;
}

function memoryLine({ server, connections, before, after, samplesBefore, samplesAfter }: Memory): string {
  const share = before === 0 ? '' : ` (${signed(after / before - 1)})`;
  return `${server}, ${connectionsOf(connections)}, idle: ${whole(before)} -> ${whole(after)} bytes each${share}, ${samplesBefore} and ${samplesAfter} samples`;
}

/** In the order in which they come. */
function bySuite<T extends { readonly suite: string }>(items: readonly T[]): Array<readonly [string, T[]]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(item.suite, [...(groups.get(item.suite) ?? []), item]);
  return [...groups];
}

const figures = (count: number): string => `${whole(count)} figure${count === 1 ? '' : 's'}`;

const serversOf = (subjects: ReadonlyArray<Pick<Subject, 'server'>>): string =>
  [...new Set(subjects.map(({ server }) => server))].join(', ');

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`), ''];
}

function changesWhere(isWorse: boolean, { changes, memory }: Comparison): string[] {
  const named = ({ suite }: { readonly suite: string }, line: string) => `${suite}: ${line}`;
  return [
    ...changes.filter((change) => change.isWorse === isWorse).map((change) => named(change, changeLine(change))),
    ...memory.filter((change) => change.isWorse === isWorse).map((change) => named(change, memoryLine(change))),
  ];
}

const isEmpty = ({ changes, unchanged, tooFew, memory }: Comparison): boolean =>
  [changes, unchanged, tooFew, memory].every((list) => list.length === 0);

function summaryOf(comparison: Comparison): string {
  const tested = comparison.changes.length + comparison.unchanged.length;
  if (isEmpty(comparison))
    return 'There is nothing to compare: no server was measured in both, in the same shape and beside the reference of its suite.';
  if (tested === 0) return 'No ratio could be tested.';
  const byChance = (tested * LEAST_LIKELY).toFixed(1);
  return `${figures(tested)} tested; a change is p < ${LEAST_LIKELY}, which chance alone gives about ${byChance} of them, and at least ${percent(LEAST_CHANGE)} of the median.`;
}

/** The whole text, and nothing but the text. */
export function formatComparison(comparison: Comparison, before: string, after: string): string {
  const { warnings, unchanged, tooFew, memory, onlyBefore, onlyAfter } = comparison;
  const sameMemory = memory.filter(({ isWorse }) => isWorse === null);
  return [
    ...warnings.map((warning) => `warning: ${warning}`),
    ...(warnings.length > 0 ? [''] : []),
    ...section('Worse', changesWhere(true, comparison)),
    ...section('Better', changesWhere(false, comparison)),
    ...section('No change beyond noise', [
      ...bySuite(unchanged).map(([suite, same]) => `${suite}: ${figures(same.length)} of ${serversOf(same)}`),
      ...bySuite(sameMemory).map(([suite, same]) => `${suite}: bytes per idle connection of ${serversOf(same)}`),
    ]),
    ...section(
      'Too few samples that count to tell',
      bySuite(tooFew).map(([suite, subjects]) => {
        const least = subjects.reduce((a, b) =>
          b.samplesBefore + b.samplesAfter < a.samplesBefore + a.samplesAfter ? b : a,
        );
        const example = `${least.samplesBefore} and ${least.samplesAfter} samples beside ${least.reference}`;
        return `${suite}: ${figures(subjects.length)} of ${serversOf(subjects)}; ${example} for ${least.server}, ${least.shape}`;
      }),
    ),
    ...section(`Only in ${before}`, onlyBefore),
    ...section(`Only in ${after}`, onlyAfter),
    summaryOf(comparison),
  ].join('\n');
}

const HELP = `
What is compared: each server with the reference of its suite (raw-epoll, say), round by round, in the same shape: round trips,
CPU time per round trip, p99 latency. Absolute figures of two runs are not compared, for machines have phases.

A change is one if a rank test (Mann and Whitney, two-sided, exact for up to 100 samples in all) gives p < ${LEAST_LIKELY}, and the median
changed by at least ${percent(LEAST_CHANGE)}. Memory per idle connection is measured a few times: a change is
a difference that is larger than runs of the same servers have, if the samples of the one are all above those of the other. A process
may be a little faster or slower than another for as long as it lives, and only three share the rounds: compare two runs of the same program to learn how much that is.

Exit codes: 0, nothing got worse; 1, something did, or the second run is not complete; 2, wrong usage, a file that is no report, or nothing
to compare.`;

/** Compares the files that the arguments name; returns the exit code. */
export function compare(args: readonly string[]): number {
  const command = commandOf('npm run bench -- compare')
    .description('Says what changed beyond noise between two reports that --json wrote.')
    .argument('<before>', 'the one report')
    .argument('<after>', 'the other')
    .addHelpText('after', HELP);
  try {
    command.parse([...args], { from: 'user' });
    const [before, after] = command.args as [string, string];
    const second = readReport(after);
    const comparison = compareReports(readReport(before), second);
    process.stdout.write(`${formatComparison(comparison, before, after)}\n`);
    if (isEmpty(comparison)) return 2;
    return !second.complete || [...comparison.changes, ...comparison.memory].some(({ isWorse }) => isWorse) ? 1 : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof Unreadable)) throw error;
    process.stderr.write(`onewait bench: ${error.message}\n`);
    return 2;
  }
}
