// `trace show --explain`: what happens in the loop and why, in words, below the line where it happens.
//
// The first time a thing happens it is explained at length, then a few times in short, and after that it is known. What depends on what
// happened before (was this read asked for by the wait, or remembered from an earlier one?) is decided here, record by record.

import { events, ms } from './line.ts';
import type { Names } from './names.ts';
import { ITS_TURN } from './observer.ts';
import type { TraceRecord } from './reader.ts';
import { EndKind, Kind, OpenKind, READS, SYSCALLS, WaitKind, WRITES } from './record.ts';

/** What is to be said of a line. */
export interface Explanation {
  /** Which thing happens: what was explained once is not explained at length again. */
  readonly key: string;
  readonly long: string;
  /** Said later; nothing if there is nothing to add. */
  readonly short?: string;
  /** How often the short one is said. */
  readonly times?: number;
}

const MARGIN = '              | ';
const WIDTH = 116;
/** After that many reminders a thing is known. */
const REMINDERS = 2;
const ALWAYS = Number.POSITIVE_INFINITY;
/** More threads and descriptors than are kept in mind make it forget, not grow. */
const MAX_THREADS = 256;
const MAX_EDGES = 65_536;

/** A wait that returns sooner than this did not sleep. */
const AT_ONCE_NS = 100_000;
const EDGE = 0x80000000;
const ADD = 1;
const DEL = 2;
const EAGAIN = -11;
const EINPROGRESS = -115;
const EINTR = -4;

interface ThreadState {
  /** Which task runs. */
  running: number;
  /** Descriptors that the last wait reported. */
  readonly ready: Set<number>;
  /** Descriptors whose readiness is reported once. */
  readonly edges: Set<number>;
}

export class Explainer {
  private readonly said = new Map<string, number>();
  private readonly threads = new Map<number, ThreadState>();

  /** The lines for an explanation, with its margin; none when it has been said often enough. */
  say(explanation: Explanation): string[] {
    const { key, long, short, times = REMINDERS } = explanation;
    const before = this.said.get(key) ?? 0;
    this.said.set(key, before + 1);
    if (before === 0) return wrapped(long);
    return short !== undefined && before <= times ? wrapped(short) : [];
  }

  /** What is to be said of a record; call it for each, in order, whether it is shown or not. Readiness is explained when its turn is over. */
  explain(record: TraceRecord, names: Names): Explanation | null {
    const state = this.state(record.thread);
    const explanation = explain(record, names, state);
    follow(record, state);
    return explanation;
  }

  /** What is to be said of a descriptor that is ready, and woke a task, or had a system call made on it, or neither. */
  readiness({ fd, mask }: TraceRecord, woke: string | null, used: boolean): Explanation {
    const event = events(mask);
    if (woke !== null)
      return {
        key: 'wake',
        long: `The kernel reports fd ${fd} ${event}. The loop looks it up in its map from event to coroutine: ${woke} is suspended on that. It resumes ${woke}, which goes on after the very yield or await where it stopped. "runnable" is how long ${woke} could have run before its turn came.`,
        short: `The event was fd ${fd} ${event}, and the map says that ${woke} waits for it.`,
      };
    if (used)
      return {
        key: 'ready, for the stream',
        long: `No coroutine is resumed for this. What belongs to fd ${fd} acts by itself: it sends bytes that the kernel had no room for before, or takes what is there for a coroutine that needs more.`,
      };
    return {
      key: 'ready, unwanted',
      long: `Nobody goes on for fd ${fd} ${event} in this turn. Most often nobody waits for it any more: interest is taken back only when it is in the way (see epoll_ctl below, if it is), for often enough somebody waits again before that, and a system call is saved. If somebody does wait, others had brought as much as one turn takes, and it is read in the next.`,
      short: `Nobody goes on for fd ${fd} ${event} in this turn.`,
    };
  }

  private state(thread: number): ThreadState {
    let state = this.threads.get(thread);
    if (state === undefined) {
      if (this.threads.size >= MAX_THREADS) this.threads.clear();
      state = { running: 0, ready: new Set(), edges: new Set() };
      this.threads.set(thread, state);
    }
    return state;
  }
}

/** Keeps in mind what later explanations depend on. */
function follow({ kind, fd, task, code, arg }: TraceRecord, state: ThreadState): void {
  if (kind === Kind.wait) {
    state.ready.clear();
    state.running = 0;
  } else if (kind === Kind.ready) {
    if (state.ready.size < MAX_EDGES) state.ready.add(fd);
  } else if (kind === Kind.resume) state.running = task;
  else if ((kind === Kind.suspend || kind === Kind.end) && state.running === task) state.running = 0;
  else if (kind === Kind.control) {
    if (code !== DEL && arg >= EDGE && state.edges.size < MAX_EDGES) state.edges.add(fd);
    else state.edges.delete(fd);
  }
}

function explain(record: TraceRecord, names: Names, state: ThreadState): Explanation | null {
  const { kind, fd, task, result } = record;
  const who = names.task(record, task);
  switch (kind) {
    case Kind.wait:
      return wait(record);
    case Kind.control:
      return control(record, who);
    case Kind.syscall:
      return syscall(record, who, state);
    case Kind.spawn:
      return {
        key: 'spawn',
        long: `A task is a coroutine that the loop runs. Nothing of ${who} runs yet: it is put into the queue of what is runnable, and starts in the next turn.`,
        short: `${who} is in the queue, and starts in the next turn.`,
      };
    case Kind.suspend:
      return suspend(record, names, who);
    case Kind.resume:
      return resume(record, names, who);
    case Kind.end:
      if (record.code === EndKind.failed)
        return {
          key: 'end, failed',
          long: `An error left ${who}, which is its end. Who joined the task gets the error; if nobody did, it is reported.`,
        };
      if (record.code === EndKind.cancelled)
        return {
          key: 'end, cancelled',
          long: `${who} was cancelled: the wait it was suspended on threw an error at it, so that its finally blocks ran.`,
        };
      return {
        key: 'end',
        long: `${who} has returned. Nothing is left of it, and whoever waits for its end becomes runnable.`,
      };
    case Kind.timer:
      return {
        key: 'timer',
        long: `The time that ${who} waited for has come. Timers fire after a wait, never within a step of a task, so one is late by as long as others take.`,
      };
    case Kind.host:
      return {
        key: 'host',
        long: "Node's own loop, libuv, is watched like any other descriptor, and has something to do: a timer, a signal, a file that was read. It gets one turn, without blocking; its callbacks run there. Then this loop goes on.",
        short: 'libuv has something to do, and gets one turn.',
      };
    case Kind.open:
      return open(record, names);
    case Kind.close:
      return {
        key: 'close',
        long: `The number ${fd} is free, and the kernel gives it to the next that is opened. What comes under it from now on is another descriptor.`,
      };
    case Kind.lost:
      return {
        key: 'lost',
        long: `Here ${result} records are missing: the program was faster than the disk. What follows may refer to what is missing.`,
      };
    default:
      return null;
  }
}

function wait({ result, duration, arg }: TraceRecord): Explanation {
  if (result === EINTR)
    return {
      key: 'wait, signal',
      long: 'A signal ended the wait. That is no error: its handler runs, and the loop waits again.',
      short: 'A signal ended the wait.',
    };
  if (arg === 0)
    return {
      key: 'wait, look',
      long: 'timeout=0: it only looks, and does not sleep, for there is something to do at once: a task is runnable, or readiness is remembered. It still asks, so that nobody starves whose descriptor is ready.',
      short: 'It only looks: there is something to do at once.',
    };
  const until =
    arg < 0
      ? 'timeout=-1: it sleeps until something happens.'
      : `timeout=${ms(arg)}: by then a timer is due, of the program or of Node.`;
  if (result === 0)
    return {
      key: 'wait, time',
      long: `Nothing became ready, and time is up: a timer is due.`,
      short: 'Time is up: a timer is due.',
    };
  const brought = result === 1 ? 'one descriptor is' : `${result} descriptors are`;
  if (duration < AT_ONCE_NS)
    return {
      key: 'wait, at once',
      long: `The one blocking call of the whole program, for nobody can go on. This time it need not sleep: ${brought} ready already.`,
    };
  return {
    key: 'wait',
    long: `The one blocking call of the whole program. Every coroutine that cannot go on is suspended; the loop asks the kernel which of their descriptors are ready, and sleeps here until one is. ${until} It slept ${ms(duration)}, and ${brought} ready.`,
    short: `Nobody could go on, so the program slept here for ${ms(duration)}.`,
  };
}

function control({ code, fd, task, arg }: TraceRecord, who: string): Explanation | null {
  if (code === DEL)
    return {
      key: 'ctl, del',
      long: `The kernel need not watch fd ${fd} any more: it is about to be closed, or it was ready and nobody waited for that.`,
    };
  if (task === 0)
    return {
      key: 'ctl, node',
      long: `Registers fd ${fd} with epoll, on behalf of no coroutine. In a program on Node's loop the first of these is libuv's own descriptor.`,
    };
  if (code !== ADD)
    return {
      key: 'ctl, mod',
      long: `Changes what the kernel watches fd ${fd} for, or arms it again.`,
    };
  if (arg >= EDGE)
    return {
      key: 'ctl, edge',
      long: `Registers fd ${fd} with epoll, once in its life. ET, edge-triggered, means that the kernel reports news, not the state; the loop remembers what it heard. So neither a read nor a wait of ${who} costs another epoll_ctl.`,
      short: `fd ${fd} is registered, once in its life.`,
    };
  return {
    key: 'ctl, add',
    long: `Registers fd ${fd} with epoll: from now on a wait reports it when it is ready. It stays registered while ${who} waits for it again and again, so this is no call per wait.`,
    short: `From now on a wait reports fd ${fd} when it is ready.`,
  };
}

function suspend(record: TraceRecord, names: Names, who: string): Explanation {
  if (record.code === WaitKind.descriptor) {
    const event = `fd ${record.fd} ${events(record.mask)}`;
    return {
      key: 'suspend',
      long: `${who} cannot go on before ${event}, and says so with a yield or an await. Its function stops right there, with its variables, and the loop keeps it in a map: ${event} -> ${who}. No thread is blocked; the loop goes on with whoever is runnable.`,
      short: `The map has ${event} -> ${who} now.`,
    };
  }
  const on = names.wait(record);
  if (/^(event|semaphore|channel)( |$)/.test(on))
    return {
      key: 'suspend, sync',
      long: `${who} waits for another task: for ${on}. No descriptor is needed for that. ${who} stands in a queue, and whoever sets the event, releases a permit, sends or receives makes the first in it runnable.`,
    };
  if (/#\d+$/.test(on))
    return {
      key: 'suspend, join',
      long: `${who} waits for another task, ${on}. No descriptor is needed for that: when ${on} ends, it makes ${who} runnable.`,
    };
  if (/^[\d.e+]+ ms$/.test(on))
    return {
      key: 'suspend, sleep',
      long: `${who} waits for a time. The loop keeps such times in a heap, and the earliest is the timeout of the next wait: sleeping needs no thread either.`,
    };
  if (on === ITS_TURN)
    return {
      key: 'suspend, turn',
      long: `${who} could go on at once, and gives way: it is in the queue behind the others, and has its turn after the next wait.`,
      short: `${who} gives way to the others.`,
    };
  return {
    key: 'suspend, other',
    long: `${who} waits for something that is no descriptor; whatever brings it about makes ${who} runnable.`,
  };
}

function resume(record: TraceRecord, names: Names, who: string): Explanation {
  if (record.code === WaitKind.start)
    return {
      key: 'start',
      long: `${who} runs for the first time, up to the first thing it has to wait for.`,
      short: `${who} begins.`,
    };
  if (record.code === WaitKind.descriptor)
    return {
      key: 'resume, descriptor',
      long: `${who} goes on: what it waited for on fd ${record.fd} is there, though the last wait reported nothing new of it, or it was closed, or ${who} cancelled, and the wait throws that.`,
    };
  return {
    key: 'resume, other',
    long: `${who} goes on after its yield or await: what it waited for, ${names.wait(record)}, has happened; or ${who} was cancelled, and the wait throws that.`,
  };
}

function open(record: TraceRecord, names: Names): Explanation | null {
  const { code, fd } = record;
  if (code === OpenKind.accepted)
    return {
      key: 'open, accepted',
      long: `A client. The kernel had set up its connection already; accept4 gives it a descriptor, ${fd}, which does not block: a call on it that would have to wait fails with EAGAIN.`,
    };
  if (code === OpenKind.listening)
    return {
      key: 'open, listening',
      long: `From now on the kernel accepts connections and queues them here. fd ${fd} is "readable" when there is one in the queue.`,
    };
  if (code === OpenKind.found && names.descriptor(record) === 'libuv')
    return {
      key: 'open, libuv',
      long: `fd ${fd} is the epoll descriptor of libuv, Node's own loop. An epoll descriptor can be watched like any other; so this loop watches it, and one wait covers both.`,
    };
  if (code === OpenKind.found)
    return {
      key: 'open, found',
      long: `The program did not open fd ${fd} through this loop: it was there, from the shell or from Node, when somebody waited on it.`,
    };
  return null;
}

function syscall(record: TraceRecord, who: string, state: ThreadState): Explanation | null {
  const { fd, task, arg, result } = record;
  const name = SYSCALLS[record.code] ?? '?';
  const reads = READS.has(name);
  const writes = WRITES.has(name);
  if (result === EAGAIN)
    return name === 'accept4'
      ? {
          key: 'again, accept',
          long: 'EAGAIN: the queue is empty. Instead of blocking, the kernel says so, and that is the sign to wait: all that were there have been accepted.',
          short: 'The queue is empty.',
        }
      : {
          key: writes ? 'again, write' : 'again, read',
          long: `EAGAIN: the call would have to wait, and says so instead of blocking. ${writes ? 'The kernel has no room for more; the rest is sent when' : 'It is made again when'} the next wait reports fd ${fd} ${writes ? 'OUT' : 'IN'}.`,
          short: `It would have to wait, so it waits for fd ${fd} ${writes ? 'OUT' : 'IN'}.`,
        };
  if (result === EINPROGRESS)
    return {
      key: 'connect',
      long: `EINPROGRESS: the handshake is on its way. fd ${fd} becomes writable (OUT) when it is over, well or badly.`,
    };
  if (result < 0) return null;
  if (reads && result === 0)
    return {
      key: 'end of stream',
      long: 'Zero bytes are the end: the other side will send nothing more. A read returns null then.',
      short: 'The other side will send nothing more.',
    };
  if (name === 'io_uring_recv')
    return {
      key: 'read, together',
      long: `${who} had said what it waits for: bytes. So native code reads them for all that are ready, before any of their coroutines is resumed: by one system call, io_uring_enter(2), whose time is shared out among them evenly, if there are several of whom no more than a little is expected. (With ONEWAIT_IO_URING=0 each is a call of its own, which strace can show.)`,
      short: `Read with what others were sent.`,
    };
  if (name === 'recvfrom' && state.running === 0) {
    if (state.ready.has(fd) || !state.edges.has(fd))
      return {
        key: 'read, native',
        long: `${who} had said what it waits for: bytes. So native code reads them for all that are ready, before any of their coroutines is resumed, and the resume brings the bytes along.`,
      };
    return {
      key: 'read, remembered',
      long: `The wait reported nothing new for fd ${fd}, and need not: edge-triggered readiness is reported once, and the loop remembered that there may be more.`,
    };
  }
  if (writes && result < arg)
    return {
      key: 'write, partial',
      long: `The kernel had room for ${result} of ${arg} bytes. The rest waits here until a wait reports fd ${fd} OUT; if it is much, so does the writer (backpressure).`,
      short: `Room for ${result} of ${arg} bytes; the rest waits for OUT.`,
      times: ALWAYS,
    };
  if (name === 'io_uring_send')
    return {
      key: 'send, together',
      long: `${who} wrote this. Writes are collected: small ones are sent at the start of the next turn, just before the wait, and large ones when all coroutines of this turn have run. Those to different descriptors leave by one system call, io_uring_enter(2), whose time is shared out among them evenly. (With ONEWAIT_IO_URING=0 each is a call of its own, which strace can show.)`,
      short: `Collected, and sent with what others wrote.`,
    };
  if (name === 'sendto' && task !== 0 && state.running !== task)
    return {
      key: 'send, queued',
      long: `${who} wrote this before it was suspended. Small writes are queued, and sent here, at the start of the next turn: those of all coroutines in one call into native code, just before the wait. A client notices nothing, for until the wait nothing else happens.`,
      short: `Queued by ${who} in the turn before, sent just before the wait.`,
    };
  return null;
}

/** Breaks a text into lines behind a margin. */
function wrapped(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && MARGIN.length + line.length + 1 + word.length > WIDTH) {
      lines.push(MARGIN + line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(MARGIN + line);
  return lines;
}
