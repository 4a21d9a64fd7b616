// What a running program tells those who look on, `onewait trace top` for one: through a Unix socket (ONEWAIT_TRACE_LISTEN=PATH), and its tree of tasks
// on standard error at SIGUSR1 (ONEWAIT_TRACE_TREE=1).
//
// Nobody asks, nothing is done: a request is a line of JSON, and its answer a line of JSON that says how many bytes follow it, and these.
//
//   {"ask":"costs"}                       the records since the last such request of this client, as a whole trace file, the last MOST_RECORDS at most.
//                                         The first request has none: it begins the window
//   {"ask":"about","tasks":[3],"fds":[9]} what these are and do now
//   {"ask":"tree"}                        the tree of tasks, as text
//
// - The socket has mode 0600. It and its connections keep no program alive.
// - While somebody asks for costs, and nothing else records, this thread records into memory; with the last of them that ends.
// - A client that does not read is not answered further, so it cannot fill the memory.
// - The main thread's socket is PATH, that of a worker PATH.workerN; where another process listens already, whose
//   child this may be, '.PID' is added. `runBlocking` has none: nothing of Node runs meanwhile, so nobody would answer.

import { unlinkSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { constants } from 'node:os';
import { isMainThread, threadId } from 'node:worker_threads';
import { getLoop } from '../current.ts';
import { systemError } from '../errors.ts';
import { native } from '../native.ts';
import { descriptorName } from './descriptor-name.ts';
import { printable } from './names.ts';
import { HEADER_BYTES, Kind, MAGIC, RECORD_BYTES, VERSION } from './record.ts';
import { activeRecording, type Recording, recordLive } from './recorder.ts';
import { observe } from './tracer.ts';
import { describer, printTree, taskTree } from './tree.ts';

/** Records in one answer: 2.4 MB, copied in about a millisecond. */
const MOST_RECORDS = 50_000;
/** Tasks, or descriptors, that one question may be about. */
const MOST_ASKED = 1000;
/** Tasks that are named as those who wait for a descriptor. */
const MOST_WAITING = 10;
/** Longest request, in characters. */
const MAX_REQUEST = 65_536;

/** What the answer to `costs` says about its records. */
export interface CostsHead {
  pid: number;
  thread: number;
  /** ns since the recording began, when it was answered. */
  now: number;
  records: number;
  /** Records between the last answer and this one that are not in it; -1: it is of another recording. */
  skipped: number;
  tasks: number;
  bytes: number;
}

/** What tasks and descriptors are and do now; those that are no more are left out. */
export interface About {
  tasks: Record<string, { name: string; does: string }>;
  fds: Record<string, { name: string; awaitedBy: string[] }>;
  bytes: number;
}

/** Those who look on are few, and of the same user. */
const BACKLOG = 16;
const MODE = 0o600;
const NOT_LISTENING: Record<string, string> = {
  ENOTSOCK: 'it exists, and is no socket',
  ENAMETOOLONG: 'the name of a socket has at most 107 bytes',
  ENOENT: 'its directory does not exist',
};

let asked = false;

/**
 * Opens what the environment asks for, the first time that it is called on this thread.
 * @throws SystemError when it cannot listen there
 */
export function lookAsAsked(): void {
  if (asked) return;
  asked = true;
  const { ONEWAIT_TRACE_LISTEN: path, ONEWAIT_TRACE_TREE: tree } = process.env;
  if (path) listen(isMainThread ? path : `${path}.worker${threadId}`);
  // Signals are the main thread's. It stays: without a listener the signal would end the process.
  if (tree && tree !== '0' && isMainThread) process.on('SIGUSR1', onSignal);
}

function onSignal(): void {
  printTree(`pid ${process.pid}, `, getLoop());
}

const lookers = new Set<Looker>();

function listen(asked: string): void {
  let path = asked;
  let fd = native.listenLocal(path, BACKLOG, MODE, true);
  if (fd === -constants.errno.EADDRINUSE) {
    // A program that has inherited the name, from one that listens there, takes another.
    path = `${asked}.${process.pid}`;
    fd = native.listenLocal(path, BACKLOG, MODE, true);
  }
  if (fd < 0) {
    const error = systemError('listen', fd);
    error.message = `ONEWAIT_TRACE_LISTEN: cannot listen on ${path}: ${NOT_LISTENING[error.code] ?? error.message}`;
    throw error;
  }
  const server = createServer((socket) => {
    lookers.add(new Looker(socket));
  });
  // Whoever cannot be accepted can try again.
  server.on('error', () => {});
  server.listen({ fd });
  server.unref();
  process.once('exit', () => {
    try {
      unlinkSync(path);
    } catch {
      // Somebody else has removed it.
    }
  });
}

/** One who looks on. */
class Looker {
  private readonly socket: Socket;
  private unread = '';
  private recording: Recording | null = null;
  /** The first record that it has not been given. */
  private next = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.unref();
    socket.setEncoding('utf8');
    socket.on('data', (text: unknown) => {
      this.unread += text as string;
      this.answerAll();
    });
    socket.on('drain', () => {
      socket.resume();
      this.answerAll();
    });
    // It is gone: 'close' follows.
    socket.on('error', () => {});
    socket.on('close', () => {
      lookers.delete(this);
      stopUnlessWatched();
    });
  }

  private answerAll(): void {
    const { socket } = this;
    while (!socket.writableNeedDrain && !socket.destroyed) {
      const end = this.unread.indexOf('\n');
      if (end < 0) break;
      const line = this.unread.slice(0, end);
      this.unread = this.unread.slice(end + 1);
      try {
        this.answer(JSON.parse(line));
      } catch (error) {
        this.send({ error: (error as Error).message });
        socket.destroySoon();
        return;
      }
    }
    if (this.unread.length > MAX_REQUEST) socket.destroy();
    else if (socket.writableNeedDrain) socket.pause();
  }

  private answer(request: { ask?: unknown; tasks?: unknown; fds?: unknown } | null): void {
    if (request?.ask === 'costs') this.costs();
    else if (request?.ask === 'tree') this.send({}, Buffer.from(taskTree(getLoop()).join('\n')));
    else if (request?.ask === 'about') this.send(about(numbers(request.tasks), numbers(request.fds)));
    else throw new TypeError('ask for costs, about or tree');
  }

  private costs(): void {
    const recording = recordLive();
    const loop = getLoop();
    if (loop !== null) observe(loop);
    const { ring } = recording;
    const now = ring.now();
    const isFirst = recording !== this.recording;
    if (isFirst) this.next = ring.written;
    const behind = (ring.written - this.next) >>> 0;
    const records = ring.since(this.next, MOST_RECORDS, recording.live || recording.flight !== null);
    const count = records.length / RECORD_BYTES;
    this.recording = recording;
    this.next = ring.written;
    const head: Omit<CostsHead, 'bytes'> = {
      pid: process.pid,
      thread: threadId,
      now,
      records: count,
      skipped: isFirst ? -1 : behind - count,
      tasks: loop === null ? 0 : [...loop.tasks()].length,
    };
    this.send(head, traceHead(now), records);
  }

  private send(head: object, ...parts: Uint8Array[]): void {
    let bytes = 0;
    for (const { length } of parts) bytes += length;
    this.socket.cork();
    this.socket.write(`${JSON.stringify({ ...head, bytes })}\n`);
    for (const part of parts) this.socket.write(part);
    this.socket.uncork();
  }

  /** Whether it wants this thread recorded. */
  get watches(): boolean {
    return this.recording !== null;
  }
}

function stopUnlessWatched(): void {
  const recording = activeRecording();
  if (!recording?.live || [...lookers].some((looker) => looker.watches)) return;
  recording.stop();
  const loop = getLoop();
  if (loop !== null) observe(loop);
}

/** The beginning of a trace file, and the record that says whose the next ones are. */
function traceHead(now: number): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + RECORD_BYTES);
  bytes.write(MAGIC, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt16LE(RECORD_BYTES, 12);
  bytes.writeBigUInt64LE(BigInt(Math.round(Date.now() * 1e6 - now)), 16);
  bytes.writeUInt32LE(process.pid, 32);
  bytes.writeDoubleLE(now, HEADER_BYTES);
  bytes.writeUInt8(Kind.thread, HEADER_BYTES + 8);
  bytes.writeInt32LE(threadId, HEADER_BYTES + 12);
  return bytes;
}

function numbers(asked: unknown): Set<number> {
  if (!Array.isArray(asked) || asked.length > MOST_ASKED || !asked.every((one) => Number.isInteger(one) && one >= 0))
    throw new TypeError(`tasks and fds must be at most ${MOST_ASKED} numbers each`);
  return new Set(asked as number[]);
}

function about(tasks: Set<number>, fds: Set<number>): Omit<About, 'bytes'> {
  const answer: Omit<About, 'bytes'> = { tasks: {}, fds: {} };
  const loop = getLoop();
  if (loop === null) return answer;
  const describe = describer(loop);
  for (const { number: fd, listens } of loop.watched())
    if (fds.has(fd)) answer.fds[fd] = { name: descriptorName(fd, listens), awaitedBy: [] };
  for (const task of loop.tasks()) {
    if (tasks.has(task.id)) answer.tasks[task.id] = { name: printable(String(task)), does: describe(task) };
    for (const { fd } of task.waits()) {
      const { awaitedBy } = answer.fds[fd] ?? {};
      if (awaitedBy !== undefined && awaitedBy.length < MOST_WAITING) awaitedBy.push(printable(String(task)));
    }
  }
  return answer;
}
