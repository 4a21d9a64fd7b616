// `onewait trace show`: a trace as lines that read like strace, with the task that each concerns.
//
// A descriptor that becomes ready and the task that it wakes are two records and one line. So the lines of a turn are held back until the
// turn is over, that is until the next wait of the same thread, and the wake is put where its readiness is.
//
// Turns in which nothing happens but that libuv gets one come by the hundred while V8 marks in Node 22 and later. From the third in a row on they are
// one line, as a syslog has it.

import { Explainer, type Explanation } from './explain.ts';
import { type Filter, matches } from './filter.ts';
import { runnable, textOf, timeOf, wake } from './line.ts';
import { Names, threadName } from './names.ts';
import type { TraceRecord } from './reader.ts';
import { Kind, WaitKind } from './record.ts';

/** Most lines that are held back: memory stays bounded whatever the file says. */
const MAX_HELD = 65_536;
/** So many turns of libuv in a row are lines of their own. */
const LIBUVS_OWN = 2;

export interface ShowOptions {
  /** What to leave out. */
  filter?: Filter | undefined;
  /** Say in words what happens. */
  explain?: boolean | undefined;
  color?: boolean | undefined;
  /** Whether each line names its thread; otherwise those do that come when a second thread has been met. */
  threads?: boolean | undefined;
}

interface Line {
  readonly record: TraceRecord;
  text: string;
  shown: boolean;
  /** The name of the task that the descriptor of this line woke. */
  woke: string | null;
  readonly explanation: Explanation | null;
}

/** What a thread did since its last wait. */
interface Turn {
  lines: Line[];
  /** The readiness of a descriptor that woke nobody yet. */
  readonly causes: Map<number, Line>;
  /** Descriptors that a system call was made on. */
  readonly used: Set<number>;
}

/** Turns of a thread in which nothing happened but that libuv got one. */
interface Repetition {
  count: number;
  /** Where those that have no lines of their own begin, and end. */
  from: TraceRecord;
  to: TraceRecord;
}

/** Turns records into lines. `push` takes one record and returns the lines that are complete; `end` returns the rest. */
export class TraceFormatter {
  private readonly names = new Names();
  private readonly options: ShowOptions;
  private readonly explainer: Explainer | null;
  private readonly turns = new Map<number, Turn>();
  private readonly repetitions = new Map<number, Repetition>();
  private held = 0;

  constructor(options: ShowOptions = {}) {
    this.options = options;
    this.explainer = options.explain ? new Explainer() : null;
  }

  push(record: TraceRecord): string[] {
    const { names } = this;
    names.remember(record);
    let done: string[] = [];
    if (record.kind === Kind.wait) done = this.release(record.thread);
    else if (this.held >= MAX_HELD) done = this.end();
    const text = textOf(record, names);
    if (text !== null) this.hold(record, text);
    names.forget(record);
    return done;
  }

  end(): string[] {
    const lines = [...this.turns.keys()].flatMap((thread) => this.release(thread));
    return [...lines, ...[...this.repetitions.keys()].flatMap((thread) => this.repeated(thread))];
  }

  private hold(record: TraceRecord, text: string): void {
    const { kind, fd } = record;
    const turn = this.turn(record.thread);
    const shown = this.options.filter === undefined || matches(this.options.filter, record, this.names);
    const explanation = this.explainer?.explain(record, this.names) ?? null;
    if (kind === Kind.resume && record.code === WaitKind.descriptor) {
      const cause = turn.causes.get(fd);
      if (cause !== undefined) {
        turn.causes.delete(fd);
        const left = `${cause.text}  ${wake(record, this.names)}`;
        // The time before it takes 14 columns of the 70.
        cause.text = `${left.padEnd(56)}  ${runnable(record)}`;
        cause.woke = this.names.task(record, record.task);
        cause.shown ||= shown;
        return;
      }
    }
    const line: Line = { record, text, shown, woke: null, explanation };
    if (kind === Kind.ready) turn.causes.set(fd, line);
    else if (kind === Kind.syscall) turn.used.add(fd);
    turn.lines.push(line);
    this.held++;
  }

  private turn(thread: number): Turn {
    let turn = this.turns.get(thread);
    if (turn === undefined) {
      turn = { lines: [], causes: new Map(), used: new Set() };
      this.turns.set(thread, turn);
    }
    return turn;
  }

  private release(thread: number): string[] {
    const turn = this.turns.get(thread);
    if (turn === undefined) return [];
    this.turns.delete(thread);
    this.held -= turn.lines.length;
    const lines: string[] = [];
    // Who filters wants to see all.
    if (this.options.filter !== undefined || !isLibuvsAlone(turn)) lines.push(...this.repeated(thread));
    else if (this.repeats(thread, turn)) return [];
    for (const line of turn.lines) {
      if (!line.shown) continue;
      lines.push(this.print(line));
      if (this.explainer === null) continue;
      const { record } = line;
      const explanation =
        record.kind === Kind.ready
          ? this.explainer.readiness(record, line.woke, turn.used.has(record.fd))
          : line.explanation;
      if (explanation !== null) lines.push(...this.explainer.say(explanation).map((text) => this.dim(text)));
    }
    return lines;
  }

  /** Counts a turn that is libuv's only: whether it is one of many, and no lines of its own. */
  private repeats(thread: number, { lines }: Turn): boolean {
    const repetition = this.repetitions.get(thread) ?? { count: 0, from: lines[0]!.record, to: lines[1]!.record };
    this.repetitions.set(thread, repetition);
    if (++repetition.count <= LIBUVS_OWN) return false;
    if (repetition.count === LIBUVS_OWN + 1) repetition.from = lines[0]!.record;
    repetition.to = lines[1]!.record;
    return true;
  }

  /** The line of those that were none, if there were any: something else comes now. */
  private repeated(thread: number): string[] {
    const repetition = this.repetitions.get(thread);
    if (repetition === undefined) return [];
    this.repetitions.delete(thread);
    const { count, from, to } = repetition;
    if (count <= LIBUVS_OWN) return [];
    const more = count - LIBUVS_OWN;
    const turns = more === 1 ? 'turn' : 'turns';
    const text = `... ${more.toLocaleString('en')} more ${turns} of libuv alone, in ${((to.t - from.t) / 1e6).toFixed(3)} ms`;
    return [this.print({ record: from, text })];
  }

  private print({ record, text }: Pick<Line, 'record' | 'text'>): string {
    const several = this.options.threads || this.names.severalThreads;
    const thread = several ? `${threadName(record.thread).padEnd(9)}  ` : '';
    return `${this.dim(timeOf(record))}  ${this.dim(thread)}${this.options.color ? painted(record, text) : text}`;
  }

  private dim(text: string): string {
    return this.options.color && text !== '' ? `\u001b[2m${text}\u001b[22m` : text;
  }
}

/** Whether it is a wait and a turn of libuv, and no more. */
function isLibuvsAlone({ lines: [wait, host, more] }: Turn): boolean {
  return wait?.record.kind === Kind.wait && host?.record.kind === Kind.host && more === undefined;
}

const BLUE = 34;
const GREEN = 32;
const YELLOW = 33;
const RED = 31;

/** Colours for what the eye looks for: the wait, who goes on and who stops, and what failed. */
function painted(record: TraceRecord, text: string): string {
  switch (record.kind) {
    case Kind.wait:
      return paint(text, BLUE);
    case Kind.suspend:
      return paint(text, YELLOW);
    case Kind.end:
      return paint(text, record.code === 0 ? GREEN : RED);
    case Kind.lost:
      return paint(text, RED);
    case Kind.syscall:
    case Kind.control:
      return record.result < 0 ? text.replace(/= -1 \S+/, (failure) => paint(failure, RED)) : text;
    default:
      return text.replace(/=> resume .*#\d+/, (resumed) => paint(resumed, GREEN));
  }
}

function paint(text: string, color: number): string {
  return `\u001b[${color}m${text}\u001b[39m`;
}
