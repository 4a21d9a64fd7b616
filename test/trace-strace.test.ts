// The trace against the kernel's own account: strace(1) watches a traced program, and what both say of its main thread must be the same, call
// by call: which, on which descriptor, asked what, with which result, and for waits who was ready.
//
// Compared is all that happens to descriptors of ours while the trace's file is open: sockets, the listener's spare descriptor, standard
// output, and the poller's set. Node's own are left out: libuv's epoll set, its pipes and eventfds, files. strace alone says which is which.
//
// - Where a signal broke a wait off and no handler ran (SIGSTOP and SIGCONT), epoll_wait says EINTR and so does the trace; ppoll and pselect6
//   are made once more by the kernel, and are one call in the trace.
// - Not in the trace by design: calls that only ask or set something (getsockname, fcntl, ...). Any other call on a descriptor of ours is
//   compared, also one that the trace could not name.
// - What is still open when the run ends is closed by the end of the process, when there is no trace any more. Here nothing is.

import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { errorName } from '../src/errors.ts';
import { readTrace } from '../src/trace/reader.ts';
import { Kind, SYSCALLS } from '../src/trace/record.ts';
import { Child, cli, folder, needs, script, socketCount } from './processes.ts';
import { type SystemCall, strace, systemCalls } from './strace.ts';
import { until } from './until.ts';

const CONTROLS = ['?', 'EPOLL_CTL_ADD', 'EPOLL_CTL_DEL', 'EPOLL_CTL_MOD'];
const EPOLL_FLAGS: ReadonlyArray<[number, string]> = [
  [0x1, 'EPOLLIN'],
  [0x2, 'EPOLLPRI'],
  [0x4, 'EPOLLOUT'],
  [0x2000, 'EPOLLRDHUP'],
  [0x80000000, 'EPOLLET'],
];
const TRANSFERS = new Set(['read', 'write', 'recvfrom', 'sendto']);
const WAITS = new Set(['epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'ppoll', 'pselect6']);
/** They change nothing and bring nothing. */
const QUESTIONS = new Set(['setsockopt', 'getsockopt', 'getsockname', 'getpeername', 'fcntl', 'fstat', 'newfstatat']);

/** What a trace says of the main thread's calls, a line each. */
function fromTrace(path: string): string[] {
  const calls: (() => string)[] = [];
  let ready: string[] = [];
  for (const record of readTrace(path).records) {
    const { kind, code, fd, generation, arg, result } = record;
    if (kind === Kind.wait) {
      // Who was ready follows, also between the calls that are made for it.
      const brought: string[] = [];
      ready = brought;
      calls.push(() => wait(SYSCALLS[code]!, arg, outcome(result), brought));
    } else if (kind === Kind.ready) ready.push(String(fd));
    else if (kind === Kind.host) ready.push('libuv');
    else if (kind === Kind.control)
      calls.push(() => control(CONTROLS[code]!, fd, flags(arg), generation, outcome(result)));
    else if (kind === Kind.syscall) calls.push(() => call(SYSCALLS[code]!, fd, arg, outcome(result)));
    expect(kind).not.toBe(Kind.lost);
    expect(record.thread).toBe(0);
  }
  return calls.map((line) => line());
}

/** What strace says of them. */
function fromStrace(all: readonly SystemCall[], trace: string): string[] {
  const lines: string[] = [];
  /** Our descriptors that are open; standard output is the program's from the start. */
  const ours = new Set([1]);
  let set = -1;
  let host = -1;
  let tracing = false;
  let traceFd = -1;
  for (const { name, args, result, error, notes } of all) {
    const [first = '', second = '', third = ''] = args.split(', ');
    const fd = Number.parseInt(first, 10);
    const number = Number.parseInt(third, 10);
    const ended = error || String(result);
    if (name === 'openat') {
      if (second === `"${trace}"`) [tracing, traceFd] = [true, result];
      if (tracing && second === '"/dev/null"') ours.add(result);
    }
    if (!tracing) continue;
    if (name === 'close' && fd === traceFd) tracing = false;
    if (name === 'epoll_ctl') {
      // Which set is ours: the one that libuv's is a member of.
      if (third.endsWith('<anon_inode:[eventpoll]>') && second === 'EPOLL_CTL_ADD') [set, host] = [fd, number];
      if (fd !== set) continue;
      const [, mask = '', generation = 0] = /events=([A-Z|]+), data=\{u32=\d+, u64=(\d+)\}/.exec(args) ?? [];
      lines.push(control(second, number, mask, Math.floor(Number(generation) / 2 ** 32), ended));
    } else if (WAITS.has(name)) {
      if (name.startsWith('epoll') && fd !== set) continue;
      // For poll and select libuv's set is a descriptor among others, and the only one of its sort.
      const member = /(\d+)<anon_inode:\[eventpoll\]>/.exec(args);
      if (!name.startsWith('epoll') && member !== null) host = Number(member[1]);
      const ready = readyIn(name, args, notes);
      lines.push(
        wait(
          // The kernels of other machines than x64 have no epoll_wait of their own.
          name === 'epoll_pwait' ? 'epoll_wait' : name,
          timeoutIn(name, args),
          ended,
          ready.map((one) => (one === host ? 'libuv' : String(one))),
        ),
      );
    } else if (name === 'socket' || (ours.has(fd) && !QUESTIONS.has(name))) {
      if ((name === 'socket' || name === 'accept4') && result >= 0) ours.add(result);
      if (name === 'close') ours.delete(fd);
      lines.push(call(name, name === 'socket' ? result : fd, number, ended));
    }
  }
  expect([...ours]).toEqual([1]);
  return lines;
}

function wait(name: string, timeoutNs: number, ended: string, ready: readonly string[]): string {
  // epoll_wait counts milliseconds, and waits rather too long than too short.
  const timeout = timeoutNs > 0 && name === 'epoll_wait' ? Math.ceil(timeoutNs / 1e6) * 1e6 : timeoutNs;
  return `${name}(${timeout} ns) = ${ended} [${[...ready].sort().join(' ')}]`;
}

function control(op: string, fd: number, mask: string, generation: number, ended: string): string {
  return `epoll_ctl(${op}, ${fd}${op === 'EPOLL_CTL_DEL' ? '' : `, ${mask}, generation ${generation}`}) = ${ended}`;
}

function call(name: string, fd: number, asked: number, ended: string): string {
  return `${name}(${fd}${TRANSFERS.has(name) ? `, ${asked}` : ''}) = ${ended}`;
}

function outcome(result: number): string {
  return result < 0 ? errorName(result) : String(result);
}

function flags(mask: number): string {
  const names = EPOLL_FLAGS.filter(([bit]) => mask & bit).map(([, name]) => name);
  return names.join('|');
}

/** How long a wait was asked to last, in ns; -1: for ever. */
function timeoutIn(name: string, args: string): number {
  const [, seconds, ns] = /\{tv_sec=(\d+), tv_nsec=(\d+)\}/.exec(args) ?? [];
  if (seconds !== undefined) return Number(seconds) * 1e9 + Number(ns);
  if (name !== 'epoll_wait' && name !== 'epoll_pwait') return -1;
  const ms = Number(/, \d+, (-?\d+)(?:, NULL, \d+)?$/.exec(args)![1]);
  return ms < 0 ? -1 : ms * 1e6;
}

/** Whose readiness a wait reported. */
function readyIn(name: string, args: string, notes: string): number[] {
  if (name === 'pselect6') {
    const sets = [...notes.matchAll(/(?:in|out) \[([\d ]+)\]/g)].flatMap(([, fds]) => fds!.split(' '));
    return [...new Set(sets)].map(Number);
  }
  const found = name === 'ppoll' ? notes.matchAll(/\{fd=(\d+)/g) : args.matchAll(/data=\{u32=(\d+)/g);
  return [...found].map(([, fd]) => Number(fd));
}

// --- the load -----------------------------------------------------------------------------------------------------------------

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  socket.on('error', () => {});
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

/** Waits until so many bytes have come in all. */
async function received(socket: Socket, bytes: number): Promise<void> {
  await until(`${bytes} bytes come back`, () => {
    socket.read();
    return socket.bytesRead >= bytes;
  });
}

/** Sends, and waits until it has come back. */
async function ask(socket: Socket, bytes: number): Promise<void> {
  const before = socket.bytesRead;
  socket.write(Buffer.alloc(bytes));
  await received(socket, before + bytes);
}

/** Sends and does not read, until the kernel takes no more of what the server sends. */
async function fill(socket: Socket, fullBuffers: () => number): Promise<void> {
  const before = fullBuffers();
  await until('the server has to wait with its answer', () => {
    if (socket.writableLength === 0) socket.write(Buffer.alloc(1 << 18));
    return fullBuffers() > before;
  });
}

/** Everything that may happen to an echo server's connections; all of them are closed when it returns. */
async function mixedLoad({ process: server, pid }: Child, port: number, output: string): Promise<void> {
  const fullBuffers = (): number => shortWrites(systemCalls(output, pid));
  const idle = socketCount(pid);
  const [a, b, c] = [await dial(port), await dial(port), await dial(port)];
  await ask(a, 1);
  await ask(b, 5000);
  await until('a wait brings four at once', async () => {
    // While it is stopped all become ready, and a connection waits to be accepted as well.
    server.kill('SIGSTOP');
    const echoes = [ask(a, 100), ask(b, 100_000), ask(c, 1)];
    const late = await dial(port);
    server.kill('SIGCONT');
    await Promise.all([...echoes, ask(late, 10)]);
    late.end();
    return systemCalls(output, pid).some(({ name, result }) => WAITS.has(name) && result >= 4);
  });
  // Backpressure: the server's writes are partial or refused, and it waits. Others are served meanwhile, and in the end everything has come back.
  a.pause();
  await fill(a, fullBuffers);
  await ask(b, 10);
  a.resume().on('data', () => {});
  await received(a, a.bytesWritten);
  // A half-closed connection gets its answer still.
  const before = c.bytesRead;
  c.end('the last words');
  await received(c, before + 14);
  // One is reset while the server waits for bytes, one while it waits with bytes.
  b.resetAndDestroy();
  const d = await dial(port);
  await fill(d, fullBuffers);
  d.resetAndDestroy();
  a.end();
  await until('the server has closed them all', () => socketCount(pid) === idle);
}

/** How many sends there were of which the kernel took not all, or nothing. */
function shortWrites(calls: readonly SystemCall[]): number {
  return calls.filter(({ name, args, result }) => name === 'sendto' && result < Number(args.split(', ').at(-4))).length;
}

function isOf(pattern: RegExp): (line: string) => boolean {
  return (line) => pattern.test(line);
}

/** strace shows what each of these does, and nothing of what is in an io_uring_enter but how much: test/call-ring.test.ts has that. */
const ONE_BY_ONE = { env: { ...process.env, ONEWAIT_IO_URING: '0' } };

describe.each(['yield', 'await'])('the trace of onewait echo --style %s', (style) => {
  test.each(['epoll', 'poll', 'select'])('equals what strace sees, on %s', async (poller) => {
    needs('strace');
    const [trace, output] = [join(folder(), 'trace'), join(folder(), 'strace')];
    const [command, ...args] = strace(output);
    const child = new Child(
      command!,
      [
        ...args,
        ...[process.execPath, cli, 'echo', '--port', '0', '--style', style, '--poller', poller, '--trace', trace],
      ],
      ONE_BY_ONE,
    );
    const port = Number((await child.says(/^listening on 127\.0\.0\.1:(\d+)$/m))[1]);
    await mixedLoad(child, port, output);
    child.process.kill('SIGINT');
    // Its output ends when strace has ended, too.
    expect(await child.end()).toMatchObject({ code: 130, stderr: '' });

    const calls = systemCalls(output, child.pid);
    const seen = fromStrace(calls, trace);
    const told = fromTrace(trace);
    expect(told).toEqual(seen);
    // And the load was what it is meant to be.
    for (const pattern of [
      /^accept4\(\d+\) = \d/,
      /^accept4\(\d+\) = EAGAIN/,
      /^recvfrom\(\d+, \d+\) = [1-9]/,
      /^recvfrom\(\d+, \d+\) = 0/,
      /^recvfrom\(\d+, \d+\) = ECONNRESET/,
      /^sendto\(\d+, (\d+)\) = \1$/,
      /^close\(\d+\) = 0/,
      /^(epoll_wait|ppoll|pselect6)\(\d+ ns\) = ([4-9]|\d\d)/,
      ...(poller === 'epoll'
        ? [/^epoll_ctl\(EPOLL_CTL_ADD/, /^epoll_ctl\(EPOLL_CTL_MOD/, /^epoll_ctl\(EPOLL_CTL_DEL/]
        : []),
    ])
      expect(seen.filter(isOf(pattern)), String(pattern)).not.toEqual([]);
    expect(shortWrites(calls)).toBeGreaterThanOrEqual(2);
  });
});

test('the trace of a program that connects, shuts down and reads into its own memory equals what strace sees', async () => {
  needs('strace');
  const [trace, output] = [join(folder(), 'trace'), join(folder(), 'strace')];
  const child = script(
    `
    await run(function* () {
      const listener = yield* tcp.listen();
      const { port } = listener.address;
      const server = spawn(function* () {
        const conn = yield* listener.accept();
        const memory = new Uint8Array(100_000);
        let bytes = 0;
        for (let count = -1; count !== 0; bytes += count) count = yield* conn.readInto(memory);
        yield* conn.write(String(bytes));
        yield* conn.close();
      });
      const client = yield* tcp.connect({ port });
      yield* client.write(new Uint8Array(300_000));
      yield* sleep(100.5); // no whole number of milliseconds, and long enough for a traced program to get there
      yield* client.write('a few more');
      yield* client.shutdown();
      if (Buffer.from(yield* client.readExactly(6)).toString() !== '300010') throw new Error('bytes are missing');
      yield* server;
      yield* client.close();
      listener.close();
      // Nobody listens there now.
      try { yield* tcp.connect({ port }); } catch {}
      // And this one cannot: the port is in use.
      const first = yield* tcp.listen();
      try { yield* tcp.listen({ port: first.address.port }); } catch {}
      first.close();
    }, { trace: process.argv[1] });
    `,
    { wrap: strace(output), args: [trace], ...ONE_BY_ONE },
  );
  expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
  const seen = fromStrace(systemCalls(output, child.pid), trace);
  expect(fromTrace(trace)).toEqual(seen);
  for (const pattern of [
    /^connect\(\d+\) = EINPROGRESS/,
    /^shutdown\(\d+\) = 0/,
    /^recvfrom\(\d+, 100000\) = \d/,
    /^epoll_pwait2\(/,
    /^(bind|listen)\(\d+\) = EADDRINUSE/,
  ])
    expect(seen.filter(isOf(pattern)), String(pattern)).not.toEqual([]);
});
