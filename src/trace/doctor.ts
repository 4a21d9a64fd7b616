// `onewait trace doctor`: what is wrong with the program that was traced, each with the lines that prove it.
//
// Records are looked at once, in order. What a finding may need later (when a descriptor was registered, who used it last) is kept for what is
// open, and for the turn that goes on; of findings of one sort a few are kept with their lines, the others counted.

import { lineOf, ms } from './line.ts';
import type { TraceRecord } from './reader.ts';
import { EndKind, Kind, OpenKind, READS, SYSCALLS, WaitKind, WRITES } from './record.ts';
import { type Span, Spans } from './spans.ts';

export interface DoctorOptions {
  /** A step, or a turn of libuv, that takes as long is a finding. */
  heldNs: number;
  /** A descriptor that was waited for as long and never became ready is one. */
  idleNs: number;
}

export interface Finding {
  readonly sentence: string;
  readonly lines: readonly string[];
}

/** Of each sort so many are shown by themselves. */
const SHOWN = 5;
/** A step that kept nobody waiting may take so many times as long: programs have things to load when they start. */
const HARMLESS = 10;
/** Lines that prove one of them. */
const LINES = 6;
/** Turns in a row without any work that make a spin, and how fast they must follow each other: per second. */
const SPIN_TURNS = 1000;
const SPIN_RATE = 5000;
/** libuv is at work all the time when at least so many turns were for it, and they were half of all. */
const LIBUV_TURNS = 1000;
/** A wait that returned sooner than this did not sleep: what it brought had been ready before. */
const AT_ONCE_NS = 100_000;
/** Tasks, descriptors and threads beyond this are not watched: no program has them, but a damaged file may. */
const MAX_WATCHED = 1 << 16;
const MAX_THREADS = 256;
/** Ways to fail that are told apart. */
const MAX_FAILURES = 1000;
/** Descriptors that a sentence names. */
const NAMED = 3;

const EAGAIN = -11;
const ADD = 1;
const DEL = 2;
/** What a peer does, not the program. */
const PEER_GONE = /\b(ECONNRESET|EPIPE|ETIMEDOUT)\b/;

/** The order of findings in the report. */
const SORTS = ['failed', 'held', 'callback', 'spin', 'libuv', 'idle', 'again', 'unclosed', 'lost'] as const;
type Sort = (typeof SORTS)[number];

/** What more of a sort are called. */
const MORE: Record<Sort, string> = {
  failed: 'more tasks failed',
  held: 'more steps held the loop',
  callback: 'more callbacks held the loop',
  spin: 'more spins',
  libuv: 'more threads with a busy libuv',
  idle: 'more descriptors never became ready',
  again: 'more descriptors were ready with nothing there',
  unclosed: 'more descriptors were never closed',
  lost: 'more gaps',
};

interface Descriptor {
  readonly name: string;
  /** How it was opened; null when it was not. */
  readonly opened: string | null;
  readonly code: number;
  /** When somebody first wanted to know when it is ready, and the line; -1 while nobody does. */
  armedAt: number;
  armed: TraceRecord | null;
  everReady: boolean;
  /** The readiness that no call was made for yet, by direction; in this turn. */
  ready: TraceRecord | null;
  /** Readiness with nothing there. */
  again: number;
  againLines: string[];
  /** The task that used it last; once that has ended, its line. */
  user: number;
  orphaned: string | null;
}

interface HeldLoop {
  readonly step: Span;
  readonly lines: string[];
  readonly starved: Set<number>;
  /** Descriptors of this turn that have not been served when the step was over. */
  readonly waiting: ReadonlySet<number>;
}

interface ThreadState {
  readonly descriptors: Map<number, Descriptor>;
  /** Descriptors that a task was the last to use. */
  readonly uses: Map<number, Set<number>>;
  /** How each task was resumed last, and the line where its name is forgotten soon. */
  readonly resumes: Map<number, { record: TraceRecord; line: string | null }>;
  /** Descriptors that the last wait reported. */
  readonly ready: Set<number>;
  /** Those whose task has had its turn. */
  readonly served: Set<number>;
  /** Those whose task was resumed for them. */
  readonly resumed: Set<number>;
  /** Long steps of this turn, and of the one before: the wait that follows tells what they starved. */
  held: HeldLoop[];
  heldBefore: HeldLoop[];
  wait: TraceRecord | null;
  /** A turn of libuv. */
  hostLine: string | null;
  last: TraceRecord | null;
  /** Tasks that run, and how many there are. */
  readonly running: Set<number>;
  /** The task that was running when the thread waited, with its name: it awaits a promise of Node's, and nothing tells when it goes on. */
  adrift: { task: number; name: string } | null;
  tasks: number;
  turns: number;
  hosts: number;
  /** Whether something was done since the last wait, or libuv had a turn, and the turns in a row in which nothing was. */
  busy: boolean;
  hosted: boolean;
  idleTurns: number;
  idleSince: number;
  idleLines: string[];
}

export class Doctor {
  private readonly options: DoctorOptions;
  private readonly spans: Spans;
  private readonly threads = new Map<number, ThreadState>();
  private readonly found = new Map<Sort, { count: number; shown: Array<{ sentence: string; lines: string[] }> }>();
  /** Failures by name and error: one finding for all that are alike. */
  private readonly failures = new Map<string, { count: number; lines: string[] }>();
  private otherFailures = 0;
  private lost = 0;
  private lostLines: string[] = [];
  private last = 0;

  constructor(options: DoctorOptions) {
    this.options = options;
    this.spans = new Spans({ span: (span) => this.span(span) });
  }

  push(record: TraceRecord): void {
    const { kind } = record;
    this.last = Math.max(this.last, record.t + record.duration);
    if (kind !== Kind.text && kind !== Kind.thread) this.look(record, this.thread(record.thread));
    // Names are forgotten here with what they name, so it comes last; long steps are noticed in it.
    this.spans.push(record);
    if (kind === Kind.end || kind === Kind.suspend) this.stopped(record, this.thread(record.thread));
    const over = kind === Kind.thread && record.result !== 0 ? this.threads.get(record.thread) : undefined;
    if (over === undefined) return;
    this.over(over, record.t);
    this.threads.delete(record.thread);
  }

  /** What was found, once everything has been pushed. */
  finish(): Finding[] {
    for (const state of this.threads.values()) this.over(state, this.last);
    for (const [what, { count: times, lines }] of this.failures)
      this.add('failed', `${times === 1 ? what : `${what}, ${count(times)} times`}.`, lines);
    if (this.otherFailures > 0) this.add('failed', `${count(this.otherFailures)} more tasks failed in other ways.`, []);
    if (this.lost > 0)
      this.add(
        'lost',
        `${count(this.lost)} records were lost: what is said here may be wrong for want of them.`,
        this.lostLines,
      );
    return SORTS.flatMap((sort) => {
      const findings = this.found.get(sort);
      if (findings === undefined) return [];
      const { count: times, shown } = findings;
      const rest = times - shown.length;
      return rest === 0 ? shown : [...shown, { sentence: `${count(rest)} ${MORE[sort]}.`, lines: [] }];
    });
  }

  /** A thread does nothing any more. */
  private over(state: ThreadState, t: number): void {
    this.endOfSpin(state, t);
    this.report(state.heldBefore);
    this.report(state.held);
    for (const [fd, descriptor] of state.descriptors) {
      this.closed(fd, descriptor, t);
      if (descriptor.orphaned !== null && descriptor.opened !== null)
        this.add('unclosed', `fd ${fd} ${descriptor.name} was never closed, though the task that used it has ended.`, [
          descriptor.opened,
          descriptor.orphaned,
        ]);
    }
    if (state.hosts >= LIBUV_TURNS && state.hosts * 2 >= state.turns)
      this.add(
        'libuv',
        `libuv had something to do in ${count(state.hosts)} of ${count(state.turns)} turns: timers, sockets or files of Node's own keep it awake.`,
        state.hostLine === null ? [] : [state.hostLine],
      );
  }

  private look(record: TraceRecord, state: ThreadState): void {
    const { kind, fd, task, t } = record;
    this.gap(record, state);
    switch (kind) {
      case Kind.wait:
        this.turn(record, state);
        break;
      case Kind.ready:
        this.ready(record, state);
        break;
      case Kind.control:
        state.busy = true;
        this.control(record, state);
        break;
      case Kind.syscall:
        state.busy = true;
        this.syscall(record, state);
        break;
      case Kind.suspend:
        if (record.code === WaitKind.descriptor && fd >= 0) {
          const descriptor = this.descriptor(record, state);
          if (descriptor !== null) {
            this.arm(record, descriptor);
            this.use(task, fd, descriptor, state);
          }
        }
        break;
      case Kind.resume:
        if (record.code === WaitKind.start) state.busy = true;
        if (record.code === WaitKind.descriptor) state.resumed.add(fd);
        if (state.resumes.size < MAX_WATCHED) {
          const line = record.code === WaitKind.other ? this.line(record) : null;
          state.resumes.set(task, { record, line });
        }
        if (state.running.size < MAX_WATCHED) state.running.add(task);
        break;
      case Kind.end:
        state.busy = true;
        this.end(record, state);
        break;
      case Kind.host:
        state.hosted = true;
        state.hosts++;
        state.hostLine ??= this.line(record);
        break;
      case Kind.open:
        state.busy = true;
        this.forget(fd, state, t);
        this.descriptor(record, state);
        break;
      case Kind.close:
        state.busy = true;
        this.forget(fd, state, t);
        break;
      case Kind.lost:
        this.lost += record.result;
        if (this.lostLines.length < LINES) this.lostLines.push(this.line(record));
        break;
      case Kind.spawn:
        state.busy = true;
        state.tasks++;
        break;
      default:
        state.busy = true;
    }
  }

  // --- the loop -----------------------------------------------------------------------------------------------------------

  private turn(record: TraceRecord, state: ThreadState): void {
    const { t, duration } = record;
    state.turns++;
    if (state.busy || state.wait === null) this.endOfSpin(state, t);
    // One for libuv in between is neither work of the loop's nor a part of its spin.
    else if (!state.hosted && state.idleTurns++ === 0) state.idleSince = state.wait.t;
    // It slept: that is no spin, whatever comes of it.
    if (record.arg !== 0 && duration >= AT_ONCE_NS) this.endOfSpin(state, t);
    if (state.idleTurns > 0 && state.idleLines.length < LINES) state.idleLines.push(this.line(record));
    state.busy = false;
    state.hosted = false;
    state.wait = record;
    for (const task of state.running) state.adrift = { task, name: this.spans.names.task(record, task) };
    state.running.clear();
    // The steps of the turn before the last: what they starved is known now.
    this.report(state.heldBefore);
    for (const { waiting, starved } of state.held) for (const fd of waiting) if (state.resumed.has(fd)) starved.add(fd);
    state.heldBefore = duration < AT_ONCE_NS ? state.held : [];
    if (duration >= AT_ONCE_NS) this.report(state.held);
    state.held = [];
    for (const fd of state.ready) {
      const descriptor = state.descriptors.get(fd);
      if (descriptor !== undefined) descriptor.ready = null;
    }
    state.ready.clear();
    state.served.clear();
    state.resumed.clear();
  }

  private endOfSpin(state: ThreadState, t: number): void {
    const { idleTurns, idleSince } = state;
    if (idleTurns >= SPIN_TURNS && idleTurns / ((t - idleSince) / 1e9) >= SPIN_RATE)
      this.add(
        'spin',
        `The loop span: ${count(idleTurns)} turns in a row did nothing, within ${ms(t - idleSince)}. Something is always ready and never taken, a task asks again and again instead of waiting, or code of Node's own (setImmediate) does.`,
        state.idleLines,
      );
    state.idleTurns = 0;
    state.idleLines = [];
  }

  /** Nothing was recorded for long, and no task ran: then code that is no coroutine did. */
  private gap(record: TraceRecord, state: ThreadState): void {
    const { last } = state;
    state.last = record.kind === Kind.lost ? null : record;
    if (state.last === null || last === null || state.running.size > 0 || state.tasks <= 0) return;
    const took = record.t - last.t - last.duration;
    if (took < this.options.heldNs) return;
    const held = `held the loop for ${ms(took)}`;
    this.add(
      'callback',
      state.adrift === null
        ? `Code that is no coroutine ${held}: a callback of Node's own, in a turn of libuv.`
        : `Code that Node called ${held}: a callback of its own, or ${state.adrift.name} when it went on after a promise that is not onewait's.`,
      [this.line(last), this.line(record)],
    );
  }

  private span(step: Span): void {
    if (step.kind !== 'running' || step.duration < this.options.heldNs || step.track.task === 0) return;
    const { record } = step;
    const state = this.thread(step.track.thread);
    if (state.held.length >= LINES * 10) return;
    const resume = state.resumes.get(step.track.task);
    const lines = resume === undefined ? [] : [resume.line ?? this.line(resume.record)];
    if (record !== null) lines.push(this.line(record));
    const own = resume?.record.code === WaitKind.descriptor ? resume.record.fd : -1;
    const waiting = new Set([...state.ready].filter((fd) => fd !== own && !state.served.has(fd)));
    state.held.push({ step, lines, starved: new Set(), waiting });
  }

  /** A step is over: the descriptor that its task was resumed for has been served. */
  private stopped({ task, kind }: TraceRecord, state: ThreadState): void {
    const resume = state.resumes.get(task);
    if (resume?.record.code === WaitKind.descriptor) state.served.add(resume.record.fd);
    state.running.delete(task);
    if (state.adrift?.task === task) state.adrift = null;
    if (kind === Kind.end) {
      state.resumes.delete(task);
      state.tasks--;
    }
  }

  private report(held: HeldLoop[]): void {
    for (const { step, lines, starved } of held) {
      if (starved.size === 0 && step.duration < HARMLESS * this.options.heldNs) continue;
      const fds = [...starved];
      const named = fds
        .slice(0, NAMED)
        .map((fd) => `fd ${fd}`)
        .join(', ');
      const who = `${step.track.name} held the loop for ${ms(step.duration)} without a wait`;
      const sentence =
        fds.length === 0
          ? `${who}; no descriptor that is watched was kept waiting.`
          : `${who}, and starved ${fds.length === 1 ? 'one descriptor that was' : `${count(fds.length)} descriptors that were`} ready: ${named}${fds.length > NAMED ? ` and ${count(fds.length - NAMED)} more` : ''}.`;
      this.add('held', sentence, lines);
    }
  }

  // --- descriptors --------------------------------------------------------------------------------------------------------

  private ready(record: TraceRecord, state: ThreadState): void {
    const { fd } = record;
    const wait = state.wait;
    if (wait !== null && state.heldBefore.length > 0) {
      for (const { starved, lines } of state.heldBefore) {
        starved.add(fd);
        if (lines.length < LINES - 2) lines.push(...(starved.size === 1 ? [this.line(wait)] : []), this.line(record));
      }
    }
    if (state.ready.size < MAX_WATCHED) state.ready.add(fd);
    const descriptor = this.descriptor(record, state);
    if (descriptor === null) return;
    descriptor.everReady = true;
    descriptor.ready = record;
    if (state.idleTurns > 0 && state.idleLines.length < LINES) state.idleLines.push(this.line(record));
  }

  private control(record: TraceRecord, state: ThreadState): void {
    if (record.code === DEL) {
      const descriptor = state.descriptors.get(record.fd);
      if (descriptor === undefined) return;
      this.closed(record.fd, descriptor, record.t);
      descriptor.armedAt = -1;
      return;
    }
    // What Node itself watches, libuv's descriptor first of all, is its own affair.
    if (record.task === 0) return;
    const descriptor = this.descriptor(record, state);
    if (descriptor !== null && (record.code === ADD || descriptor.armedAt < 0)) this.arm(record, descriptor);
  }

  private arm(record: TraceRecord, descriptor: Descriptor): void {
    if (descriptor.armedAt >= 0) return;
    descriptor.armedAt = record.t;
    descriptor.armed = record;
  }

  private syscall(record: TraceRecord, state: ThreadState): void {
    const { fd, task, result } = record;
    if (fd < 0) return;
    const name = SYSCALLS[record.code] ?? '?';
    if (name === 'close') {
      if (result === 0) this.forget(fd, state, record.t);
      return;
    }
    const descriptor = this.descriptor(record, state);
    if (descriptor === null) return;
    if (task !== 0) this.use(task, fd, descriptor, state);
    const { ready } = descriptor;
    const direction = READS.has(name) || name === 'accept4' ? 1 : WRITES.has(name) ? 2 : 0;
    if (direction !== 0 && result >= 0) descriptor.everReady = true;
    if (ready === null || !(ready.mask & direction)) return;
    descriptor.ready = null;
    if (result !== EAGAIN) return;
    descriptor.again++;
    if (descriptor.againLines.length < LINES) descriptor.againLines.push(this.line(ready), this.line(record));
  }

  private use(task: number, fd: number, descriptor: Descriptor, state: ThreadState): void {
    descriptor.orphaned = null;
    if (descriptor.user === task) return;
    state.uses.get(descriptor.user)?.delete(fd);
    descriptor.user = task;
    let uses = state.uses.get(task);
    if (uses === undefined) {
      if (state.uses.size >= MAX_WATCHED) return;
      uses = new Set();
      state.uses.set(task, uses);
    }
    uses.add(fd);
  }

  private end(record: TraceRecord, state: ThreadState): void {
    const { task } = record;
    for (const fd of state.uses.get(task) ?? []) {
      const descriptor = state.descriptors.get(fd);
      if (descriptor?.user === task && record.code !== EndKind.cancelled) descriptor.orphaned = this.line(record);
    }
    state.uses.delete(task);
    if (record.code !== EndKind.failed) return;
    const { names } = this.spans;
    const ending = names.ending(record);
    if (PEER_GONE.test(ending)) return;
    const what = `${names.task(record, task).replace(/#\d+$/, '')} ${ending}`;
    let failure = this.failures.get(what);
    if (failure === undefined) {
      if (this.failures.size >= MAX_FAILURES) {
        this.otherFailures++;
        return;
      }
      failure = { count: 0, lines: [] };
      this.failures.set(what, failure);
    }
    failure.count++;
    const resume = state.resumes.get(task);
    if (failure.lines.length < LINES)
      failure.lines.push(...(resume === undefined ? [] : [resume.line ?? this.line(resume.record)]), this.line(record));
  }

  /** It is closed, or the kernel watches it no more, or the trace is over: was it ever good for anything? */
  private closed(fd: number, descriptor: Descriptor, t: number): void {
    const { name, armed, armedAt, everReady, again, againLines } = descriptor;
    if (again > 0)
      this.add(
        'again',
        `fd ${fd} ${name} was reported ready ${again === 1 ? 'once' : `${count(again)} times`} and had nothing (EAGAIN): somebody else takes from the same file or socket.`,
        againLines,
      );
    descriptor.again = 0;
    descriptor.againLines = [];
    // Nobody has called: that is no fault of a listener.
    if (armed === null || armedAt < 0 || everReady || descriptor.code === OpenKind.listening) return;
    if (t - armedAt < this.options.idleNs) return;
    const lines = descriptor.opened === null ? [] : [descriptor.opened];
    this.add('idle', `fd ${fd} ${name} was waited for and never became ready, in ${ms(t - armedAt)}.`, [
      ...lines,
      this.line(armed),
    ]);
  }

  private forget(fd: number, state: ThreadState, t: number): void {
    const descriptor = state.descriptors.get(fd);
    if (descriptor === undefined) return;
    this.closed(fd, descriptor, t);
    state.uses.get(descriptor.user)?.delete(fd);
    state.descriptors.delete(fd);
  }

  private descriptor(record: TraceRecord, state: ThreadState): Descriptor | null {
    const { fd } = record;
    let descriptor = state.descriptors.get(fd);
    if (descriptor === undefined) {
      if (state.descriptors.size >= MAX_WATCHED) return null;
      const ours = record.kind === Kind.open && record.code !== OpenKind.found;
      descriptor = {
        name: this.spans.names.descriptor(record),
        opened: ours ? this.line(record) : null,
        code: record.kind === Kind.open ? record.code : -1,
        armedAt: -1,
        armed: null,
        everReady: false,
        ready: null,
        again: 0,
        againLines: [],
        user: 0,
        orphaned: null,
      };
      state.descriptors.set(fd, descriptor);
    }
    return descriptor;
  }

  // --- what was found -----------------------------------------------------------------------------------------------------

  private add(sort: Sort, sentence: string, lines: string[]): void {
    const findings = this.found.get(sort) ?? { count: 0, shown: [] };
    this.found.set(sort, findings);
    findings.count++;
    if (findings.shown.length < SHOWN) findings.shown.push({ sentence, lines });
  }

  private line(record: TraceRecord): string {
    return lineOf(record, this.spans.names).trimEnd();
  }

  private thread(thread: number): ThreadState {
    let state = this.threads.get(thread);
    if (state === undefined) {
      if (this.threads.size >= MAX_THREADS) this.threads.clear();
      state = {
        descriptors: new Map(),
        uses: new Map(),
        resumes: new Map(),
        ready: new Set(),
        served: new Set(),
        resumed: new Set(),
        held: [],
        heldBefore: [],
        wait: null,
        hostLine: null,
        last: null,
        running: new Set(),
        adrift: null,
        tasks: 0,
        turns: 0,
        hosts: 0,
        busy: false,
        hosted: false,
        idleTurns: 0,
        idleSince: 0,
        idleLines: [],
      };
      this.threads.set(thread, state);
    }
    return state;
  }
}

function count(value: number): string {
  return value.toLocaleString('en');
}
