// `onewait trace summary`: what every descriptor and every task did, in numbers.
//
// Memory is that of what is open, of the few that did most, and of the names that there are: what is closed or has ended, and is not among the
// few, is added to the others of its name.

import { Histogram } from './histogram.ts';
import type { TraceRecord } from './reader.ts';
import { Kind, OpenKind, READS, SYSCALLS, WRITES } from './record.ts';
import { type Mark, type Span, Spans, type Track } from './spans.ts';

/** Names that are told apart; what comes after that is 'others'. */
const MAX_GROUPS = 1000;
const EAGAIN = -11;
/** Sends or receives that are made by one system call follow each other, and are 64 at the most (native/call_ring.h). */
const TOGETHER: ReadonlySet<string> = new Set(['io_uring_send', 'io_uring_recv']);
const MOST_TOGETHER = 64;
const ORIGINS = new Map<number, string>([
  [OpenKind.accepted, ' accepted'],
  [OpenKind.connected, ' connected'],
]);

/** Durations, in nanoseconds. */
export interface Times {
  readonly count: number;
  readonly totalNs: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly maxNs: number;
}

interface Traffic {
  readonly calls: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Part of the calls that failed with EAGAIN, from 0 to 1. */
  readonly eagainRate: number;
  /** Null where there were no messages. */
  readonly callsPerMessage: number | null;
}

export interface FdSummary extends Traffic {
  /** 'fd 9 tcp 127.0.0.1:41514', or 'tcp accepted' for several. */
  readonly name: string;
  /** How many this is about. */
  readonly fds: number;
  /** While tasks were suspended on it. */
  readonly awaited: Times;
  readonly syscall: Times;
}

export interface TaskSummary extends Traffic {
  /** 'echo#3', or 'echo' for several. */
  readonly name: string;
  readonly tasks: number;
  readonly suspended: Times;
  readonly runnable: Times;
  readonly running: Times;
}

export interface SummaryReport {
  readonly records: number;
  /** From the first record to the last. */
  readonly durationNs: number;
  readonly threads: number;
  /** Waits, of all threads; each is a turn. */
  readonly turns: number;
  readonly blocked: Times;
  /** Part of the time that the threads spent blocked in their wait, from 0 to 1. */
  readonly blockedShare: number;
  readonly libuvTurns: number;
  readonly syscalls: number;
  readonly messages: number;
  /** All system calls, waits included, to each message; null where there were none. */
  readonly callsPerMessage: number | null;
  readonly fdsOpened: number;
  readonly tasksSpawned: number;
  readonly tasksFailed: number;
  readonly lostRecords: number;
  readonly fds: FdSummary[];
  readonly tasks: TaskSummary[];
  /** From when a descriptor was ready to when the task that waited for it ran, by doublings. */
  readonly readyToResume: Times & { readonly histogram: Array<{ fromNs: number; count: number }> };
}

/** What one descriptor or task did, or several of a name. */
class Totals {
  name: string;
  members = 1;
  calls = 0;
  reads = 0;
  writes = 0;
  bytesIn = 0;
  bytesOut = 0;
  eagain = 0;
  /** Of a task: suspended, runnable, running. Of a descriptor: awaited, syscall. */
  readonly times = new Map<Span['kind'], Histogram>();

  constructor(name: string) {
    this.name = name;
  }

  time(kind: Span['kind']): Histogram {
    let histogram = this.times.get(kind);
    if (histogram === undefined) {
      histogram = new Histogram();
      this.times.set(kind, histogram);
    }
    return histogram;
  }

  call({ kind, code, result }: TraceRecord): void {
    this.calls++;
    if (kind !== Kind.syscall) return;
    const name = SYSCALLS[code] ?? '?';
    if (result === EAGAIN) this.eagain++;
    else if (result > 0 && READS.has(name)) {
      this.reads++;
      this.bytesIn += result;
    } else if (result > 0 && WRITES.has(name)) {
      this.writes++;
      this.bytesOut += result;
    }
  }

  add(other: Totals): void {
    this.members += other.members;
    this.calls += other.calls;
    this.reads += other.reads;
    this.writes += other.writes;
    this.bytesIn += other.bytesIn;
    this.bytesOut += other.bytesOut;
    this.eagain += other.eagain;
    for (const [kind, histogram] of other.times) this.time(kind).addAll(histogram);
  }

  get messages(): number {
    return this.reads > 0 ? this.reads : this.writes;
  }

  traffic(): Traffic {
    const { calls, bytesIn, bytesOut, eagain, messages } = this;
    return {
      calls,
      bytesIn,
      bytesOut,
      eagainRate: calls === 0 ? 0 : eagain / calls,
      callsPerMessage: messages === 0 ? null : calls / messages,
    };
  }
}

/** Those that weigh most, and the others by name. */
class Ranking {
  private readonly top: number;
  private readonly weight: (totals: Totals) => number;
  private readonly first: Totals[] = [];
  private readonly groups = new Map<string, Totals>();
  private readonly groupOf = new WeakMap<Totals, string>();

  constructor(top: number, weight: (totals: Totals) => number) {
    this.top = top;
    this.weight = weight;
  }

  offer(totals: Totals, group: string): void {
    this.groupOf.set(totals, group);
    const { first, weight } = this;
    const heaviness = weight(totals);
    let at = first.length;
    while (at > 0 && weight(first[at - 1]!) < heaviness) at--;
    first.splice(at, 0, totals);
    if (first.length > this.top) this.fold(first.pop()!);
  }

  /** In the order of their weight, then the groups in that of theirs. */
  result(): Totals[] {
    const groups = [...this.groups.values()].sort((a, b) => this.weight(b) - this.weight(a));
    return [...this.first, ...groups];
  }

  private fold(totals: Totals): void {
    let name = this.groupOf.get(totals) ?? totals.name;
    if (!this.groups.has(name) && this.groups.size >= MAX_GROUPS) name = 'others';
    let group = this.groups.get(name);
    if (group === undefined) {
      group = new Totals(name);
      group.members = 0;
      this.groups.set(name, group);
    }
    group.add(totals);
  }
}

export class Summary {
  private readonly spans: Spans;
  private readonly live = new Map<Track, { totals: Totals; group: string }>();
  private readonly fds: Ranking;
  private readonly tasks: Ranking;
  private readonly all = new Totals('all');
  private readonly blocked = new Histogram();
  private readonly readyToResume = new Histogram();
  /** When each thread's first record was, and its last. */
  private readonly threads = new Map<number, { from: number; to: number }>();
  private records = 0;
  private libuvTurns = 0;
  private fdsOpened = 0;
  private tasksSpawned = 0;
  private tasksFailed = 0;
  private lost = 0;
  private origin = '';
  /** Sends or receives in a row that may be of the same system call, and which they are. */
  private together = 0;
  private kindTogether = 0;

  /** `top`: so many descriptors, and so many tasks, are told apart at most. */
  constructor(top: number) {
    this.fds = new Ranking(top, ({ calls }) => calls);
    this.tasks = new Ranking(top, (totals) => totals.time('running').total);
    this.spans = new Spans({
      track: (track) => this.begin(track),
      span: (span) => this.span(span),
      mark: (mark) => this.mark(mark),
      woke: (_, latency) => this.readyToResume.add(latency),
      ended: (track) => this.end(track),
    });
  }

  push(record: TraceRecord): void {
    this.records++;
    const { kind, t, thread } = record;
    if (kind !== Kind.text && kind !== Kind.thread) {
      const known = this.threads.get(thread);
      if (known !== undefined) {
        if (t < known.from) known.from = t;
        known.to = Math.max(known.to, t + record.duration);
      } else if (this.threads.size < MAX_GROUPS) this.threads.set(thread, { from: t, to: t + record.duration });
    }
    this.origin = '';
    if (kind === Kind.open) {
      if (record.code !== OpenKind.found) this.fdsOpened++;
      this.origin = ORIGINS.get(record.code) ?? '';
    } else if (kind === Kind.syscall || kind === Kind.control) {
      this.all.call(record);
      if (record.code !== this.kindTogether || !TOGETHER.has(SYSCALLS[record.code]!)) this.together = 0;
      else if (this.together % MOST_TOGETHER !== 0) this.all.calls--;
      this.kindTogether = record.code;
      this.together++;
    } else if (kind === Kind.wait) this.together = 0;
    this.spans.push(record);
  }

  /** What came of it. Nothing may be pushed any more. */
  report(): SummaryReport {
    this.spans.finish();
    for (const track of [...this.live.keys()]) this.end(track);
    const { all, blocked, threads } = this;
    const lives = [...threads.values()];
    const lived = lives.reduce((sum, { from, to }) => sum + to - from, 0);
    const from = lives.reduce((least, life) => Math.min(least, life.from), Number.POSITIVE_INFINITY);
    const to = lives.reduce((most, life) => Math.max(most, life.to), 0);
    return {
      records: this.records,
      durationNs: lives.length === 0 ? 0 : to - from,
      threads: threads.size,
      turns: blocked.count,
      blocked: times(blocked),
      blockedShare: lived === 0 ? 0 : Math.min(1, blocked.total / lived),
      libuvTurns: this.libuvTurns,
      syscalls: all.calls + blocked.count,
      messages: all.messages,
      callsPerMessage: all.messages === 0 ? null : (all.calls + blocked.count) / all.messages,
      fdsOpened: this.fdsOpened,
      tasksSpawned: this.tasksSpawned,
      tasksFailed: this.tasksFailed,
      lostRecords: this.lost,
      fds: this.fds.result().map((totals) => ({
        name: totals.name,
        fds: totals.members,
        ...totals.traffic(),
        awaited: times(totals.time('awaited')),
        syscall: times(totals.time('syscall')),
      })),
      tasks: this.tasks.result().map((totals) => ({
        name: totals.name,
        tasks: totals.members,
        ...totals.traffic(),
        suspended: times(totals.time('suspended')),
        runnable: times(totals.time('runnable')),
        running: times(totals.time('running')),
      })),
      readyToResume: { ...times(this.readyToResume), histogram: this.readyToResume.doublings() },
    };
  }

  private begin(track: Track): void {
    if (track.kind === 'wait') return;
    const life = this.live.get(track);
    const group = groupName(track, this.origin);
    if (life === undefined) this.live.set(track, { totals: new Totals(track.name), group });
    else {
      // It has got its name.
      life.totals.name = track.name;
      life.group = group;
    }
  }

  private span({ track, kind, duration, other, record }: Span): void {
    if (kind === 'blocked') {
      this.blocked.add(duration);
      return;
    }
    const totals = this.live.get(track)?.totals;
    totals?.time(kind).add(duration);
    if (kind !== 'syscall' || record === null) return;
    totals?.call(record);
    if (other !== null) this.live.get(other)?.totals.call(record);
  }

  private mark({ kind, record }: Mark): void {
    if (kind === 'libuv') this.libuvTurns++;
    else if (kind === 'lost') this.lost += record.result;
    else if (kind === 'spawn') this.tasksSpawned++;
    else if (kind === 'end' && record.code === 1) this.tasksFailed++;
  }

  private end(track: Track): void {
    const life = this.live.get(track);
    if (life === undefined) return;
    this.live.delete(track);
    // What Node itself does on descriptors is no task.
    if (track.kind === 'task' && track.task === 0) return;
    (track.kind === 'fd' ? this.fds : this.tasks).offer(life.totals, life.group);
  }
}

/** What several of a sort are called: 'echo', 'tcp accepted', 'pipe'. */
function groupName({ kind, name }: Track, origin: string): string {
  if (kind === 'task') return name.replace(/#\d+$/, '');
  const what = name.replace(/fd -?\d+ ?/, '');
  return `${what.replace(/ (on )?(\S*[.:]\S*:\d+|\/.*)$/, '') || 'descriptors'}${origin}`;
}

function times(histogram: Histogram): Times {
  return {
    count: histogram.count,
    totalNs: histogram.total,
    p50Ns: Math.round(histogram.percentile(0.5)),
    p99Ns: Math.round(histogram.percentile(0.99)),
    maxNs: histogram.max,
  };
}
