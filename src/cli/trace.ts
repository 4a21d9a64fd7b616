// `onewait trace ...`: the commands that read traces. Each adds itself to the group; those that have much to say have a file of their own.

import { statSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Doctor, type DoctorOptions } from '../trace/doctor.ts';
import { KIND_NAMES, type TaskPattern, taskPattern } from '../trace/filter.ts';
import { readTrace, TraceError, TraceReader, type TraceRecord } from '../trace/reader.ts';
import { HEADER_BYTES, RECORD_BYTES } from '../trace/record.ts';
import { type ShowOptions, TraceFormatter } from '../trace/show.ts';
import { Summary } from '../trace/summary.ts';
import { summaryText } from '../trace/summary-text.ts';
import { addExport } from './export.ts';
import { complain, say } from './say.ts';
import { addTimeline } from './timeline.ts';
import { addTop } from './top.ts';

/** How often a file that grows is looked at. */
const LOOK_MS = 100;
/** Lines are printed together, but those of a turn never torn. */
const PRINT_BYTES = 64 * 1024;
const NS_PER_MS = 1e6;

/** Adds the group `trace` to the program. A command with a file of its own adds itself to the group here. */
export function traceCommand(program: Command): void {
  const group = program
    .command('trace')
    .description('Reads traces, which `--trace FILE` or ONEWAIT_TRACE=FILE record.');
  showCommand(group);
  summaryCommand(group);
  doctorCommand(group);
  addTimeline(group);
  addExport(group);
  addTop(group);
}

// --- options ---------------------------------------------------------------------------------------------------------------

/** Of a list with commas, or of an option that was given several times, or both. */
function list<T>(parse: (text: string) => T): (text: string, before: T[] | undefined) => T[] {
  return (text, before = []) => [...before, ...text.split(',').map((part) => parse(part.trim()))];
}

function descriptor(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 2 ** 31 - 1)
    throw new InvalidArgumentError('a descriptor is a whole number from 0, as in --fd 7 or --fd 7,9.');
  return value;
}

function task(text: string): TaskPattern {
  const pattern = taskPattern(text);
  if (pattern === null || (pattern.id !== null && pattern.id > 2 ** 32 - 1))
    throw new InvalidArgumentError("a task is a name and a number, or one of them, as in 'echo#3', 'echo', '#3'.");
  return pattern;
}

function kind(text: string): number {
  const value = KIND_NAMES.get(text);
  if (value === undefined) throw new InvalidArgumentError(`there are ${[...KIND_NAMES.keys()].join(', ')}.`);
  return value;
}

function milliseconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError('it must be a number of milliseconds, 0 or more.');
  return value;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('it must be a whole number from 0 to 999999.');
  return Number(text);
}

// --- show ------------------------------------------------------------------------------------------------------------------

interface ShowArguments {
  fd?: number[];
  task?: TaskPattern[];
  kind?: number[];
  from?: number;
  to?: number;
  follow?: true;
  explain?: true;
  color: 'auto' | 'always' | 'never';
}

function showCommand(group: Command): void {
  group
    .command('show <file>')
    .description('Prints a trace as lines that read like those of strace, with the task that each concerns.')
    .addOption(new Option('--fd <n>', 'only what concerns this descriptor, or these: 7,9').argParser(list(descriptor)))
    .addOption(
      new Option('--task <task>', "only what concerns this task, or these: 'echo#3', all 'echo', '#3'").argParser(
        list(task),
      ),
    )
    .addOption(new Option('--kind <kind>', `only these: ${[...KIND_NAMES.keys()].join(', ')}`).argParser(list(kind)))
    .addOption(new Option('--from <ms>', 'only from this time on, since the trace began').argParser(milliseconds))
    .addOption(new Option('--to <ms>', 'only up to this time').argParser(milliseconds))
    .option('--follow', 'go on with what is added to the file, until Ctrl-C')
    .option('--explain', 'say in words what happens in the loop, and why')
    .addOption(
      new Option('--color <when>', 'colours: on a terminal, or so')
        .choices(['auto', 'always', 'never'])
        .default('auto'),
    )
    .addHelpText(
      'after',
      `
Of several threads every line names its own; their lines are in the order in which the threads wrote them to the file.
Colours are left out as well when NO_COLOR is set.`,
    )
    .action(async (file: string, options: ShowArguments, command: Command) => {
      const { from, to } = options;
      if (from !== undefined && to !== undefined && from > to)
        command.error(`error: --from ${from} is after --to ${to}, so there is nothing to show`);
      await attempt(() => {
        const formatter = new TraceFormatter({
          filter: {
            fds: options.fd,
            tasks: options.task,
            kinds: options.kind,
            from: from === undefined ? undefined : from * NS_PER_MS,
            to: to === undefined ? undefined : to * NS_PER_MS,
          },
          explain: options.explain,
          color: wantsColor(options.color),
          threads: hasSeveralThreads(file),
        } satisfies ShowOptions);
        if (options.follow) return follow(file, formatter);
        show(file, formatter);
        return 0;
      });
    });
}

/** Terminals are for people; https://no-color.org. */
function wantsColor(when: ShowArguments['color']): boolean {
  if (when !== 'auto') return when === 'always';
  return isatty(1) && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
}

function show(file: string, formatter: TraceFormatter): void {
  let text = '';
  const print = (lines: string[]) => {
    for (const line of lines) text += `${line}\n`;
    if (text.length < PRINT_BYTES) return;
    say(text);
    text = '';
  };
  try {
    for (const record of readTrace(file).records) print(formatter.push(record));
  } finally {
    // Also of a file that is damaged further on.
    print(formatter.end());
    say(text);
  }
}

/** Shows what there is, and what is added, until SIGINT. Returns its exit code. */
async function follow(file: string, formatter: TraceFormatter): Promise<number> {
  const reader = new TraceReader(file);
  let stopped: (code: number) => void = () => {};
  const stop = new Promise<number>((resolve) => {
    stopped = resolve;
  });
  process.once('SIGINT', () => stopped(130));
  process.once('SIGTERM', () => stopped(143));
  const begun = statSync(file).ino;
  try {
    for (;;) {
      const now = statSync(file, { throwIfNoEntry: false });
      if (now === undefined) throw new TraceError(file, 'was removed meanwhile');
      if (now.ino !== begun || reader.begunAnew)
        throw new TraceError(file, 'was begun anew meanwhile: another recording writes it; follow it again');
      let read = 0;
      for (let record = reader.next(); record !== null; record = reader.next(), read++) print(formatter.push(record));
      // A turn is over when the next wait has returned. Until then somebody wants to see what happened before it.
      if (read === 0) print(formatter.end());
      const code = await Promise.race([stop, new Promise<null>((resolve) => setTimeout(resolve, LOOK_MS, null))]);
      if (code === null) continue;
      print(formatter.end());
      return code;
    }
  } finally {
    reader.close();
  }

  function print(lines: string[]): void {
    if (lines.length > 0) say(`${lines.join('\n')}\n`);
  }
}

/** Whether a second thread comes up anywhere: so that the first lines name theirs as well. Cheap: it looks at one byte of each record. */
function hasSeveralThreads(file: string): boolean {
  const reader = new TraceReader(file);
  try {
    return reader.severalThreads();
  } finally {
    reader.close();
  }
}

// --- summary and doctor ----------------------------------------------------------------------------------------------------

function summaryCommand(group: Command): void {
  group
    .command('summary <file>')
    .description('Counts what every descriptor and every task did, and how long it took.')
    .option('--json', 'the same as JSON, with times in nanoseconds')
    .addOption(
      new Option('--top <n>', 'so many of each are shown by themselves, the others together')
        .default(20)
        .argParser(wholeNumber),
    )
    .addHelpText(
      'after',
      `
A message is a read that brought bytes (of what is only written to, a write that took some).
"suspended" is waiting for something, "runnable" is from then until it runs, "running" until it waits again; p50, p99 and
max are of single stretches of it, within 4 %.`,
    )
    .action((file: string, options: { json?: true; top: number }) =>
      attempt(() => {
        const summary = new Summary(options.top);
        readAll(file, (record) => summary.push(record));
        const report = summary.report();
        say(options.json ? `${JSON.stringify(report, null, 2)}\n` : summaryText(report));
        return 0;
      }),
    );
}

function doctorCommand(group: Command): void {
  group
    .command('doctor <file>')
    .description('Looks for what is wrong with a program, and shows the lines that prove it.')
    .addOption(
      new Option(
        '--held <ms>',
        'a step that runs as long while a descriptor is ready is a finding, or ten times as long',
      )
        .default(10)
        .argParser(milliseconds),
    )
    .addOption(
      new Option('--idle <ms>', 'a descriptor that is waited for as long and never ready is a finding')
        .default(5000)
        .argParser(milliseconds),
    )
    .addHelpText(
      'after',
      `
It finds a step, or a callback, that held the loop, and what it starved; a descriptor that never became ready; one that was ready and had
nothing (EAGAIN); one that was never closed though its task ended; a task that failed (not for a peer that went away);
a loop that spins; libuv at work all the time; lost records.

Exit code: 0 nothing found, 1 something found, or the file cannot be read, 2 wrong usage.`,
    )
    .action((file: string, options: { held: number; idle: number }) =>
      attempt(() => {
        const thresholds: DoctorOptions = { heldNs: options.held * NS_PER_MS, idleNs: options.idle * NS_PER_MS };
        const doctor = new Doctor(thresholds);
        const count = readAll(file, (record) => doctor.push(record));
        const findings = doctor.finish();
        let text = '';
        for (const [i, { sentence, lines }] of findings.entries())
          text += `${i > 0 ? '\n' : ''}${sentence}\n${lines.map((line) => `    ${line}\n`).join('')}`;
        const records = `${count.toLocaleString('en')} ${count === 1 ? 'record' : 'records'}`;
        if (findings.length === 0) text = `Nothing found in ${records}.\n`;
        else text += `\n${findings.length} ${findings.length === 1 ? 'finding' : 'findings'} in ${records}.\n`;
        say(text);
        return findings.length === 0 ? 0 : 1;
      }),
    );
}

// --- reading ---------------------------------------------------------------------------------------------------------------

const PROGRESS_EVERY = 1 << 16;
const PROGRESS_AFTER_MS = 1000;
const PROGRESS_STEP_MS = 200;

/** Reads a trace record by record, and says how far it is if that takes a while and somebody looks. Returns the number of records. */
function readAll(file: string, take: (record: TraceRecord) => void): number {
  const looking = isatty(2);
  const about = looking ? Math.max(1, Math.floor((statSync(file).size - HEADER_BYTES) / RECORD_BYTES)) : 1;
  const start = performance.now();
  let next = start + PROGRESS_AFTER_MS;
  let shown = false;
  let count = 0;
  try {
    for (const record of readTrace(file).records) {
      take(record);
      if (++count % PROGRESS_EVERY !== 0 || !looking) continue;
      const now = performance.now();
      if (now < next) continue;
      next = now + PROGRESS_STEP_MS;
      shown = true;
      // Two records of the file may be one, and one may be two.
      say(`\rreading ${file}: ${Math.min(99, Math.floor((count / about) * 100))} %`, 2);
    }
  } finally {
    if (shown) say('\r\u001b[K', 2);
  }
  return count;
}

/** Runs a command; what goes wrong is one line and exit code 1. */
async function attempt(command: () => number | Promise<number>): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    complain(error);
    process.exitCode = 1;
  }
}
