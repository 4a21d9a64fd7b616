// The addon, typed. Numbers that come back are values or negative errnos; errors are made from them in errors.ts.

import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { systemError } from './errors.ts';

/** What `native/poller.h` promises, for one of the three pollers. */
export interface NativePoller {
  add(fd: number, events: number, generation: number): number;
  modify(fd: number, events: number): number;
  remove(fd: number): number;
  /** Triples of fd, generation and events; or a negative errno. */
  wait(timeoutMs: number): Int32Array | number;
  fileno(): number;
  close(): void;
}

/** The batched turn of `native/turn.h`; driver.ts is its only user. */
export interface NativeTurn {
  shared(): ArrayBuffer;
  setAreas(page: ArrayBuffer, slab: ArrayBuffer): void;
  flush(): number;
  send(buffers: readonly Uint8Array[]): void;
  run(): number;
  now(): number;
  forget(fd: number): void;
  start(dispatch: () => void): number;
  stop(): void;
  ref(): void;
  unref(): void;
}

/** Threads that block, `native/blocking_threads.h`; exchange-threads.ts is its only user. */
export interface NativeBlockingThreads {
  /** Readable while `take` has something to give; a negative errno when not all threads could be started. */
  fd(): number;
  call(host: string, port: number, id: number, fd: number, request: Uint8Array, offset: number, length: number): void;
  take(): Array<[id: number, fd: number, result: number, bytes: Uint8Array]>;
}

export interface SocketAddress {
  /** An IP address; the path of a Unix socket, '' of one that has none. */
  address: string;
  family: 'IPv4' | 'IPv6' | 'Unix';
  /** 0 of a Unix socket. */
  port: number;
}

interface Native {
  Poller: new (kind: string) => NativePoller;
  /** `together`: the writes of a turn may leave in one system call, where the kernel has io_uring. */
  Turn: new (
    poller: NativePoller,
    together?: boolean,
  ) => NativeTurn;
  BlockingThreads: new (threads: number, patienceMs: number) => NativeBlockingThreads;
  listen(host: string, port: number, backlog: number, reusePort: boolean): number;
  connect(host: string, port: number): number;
  accept(fd: number): number;
  recv(fd: number, buffer: Uint8Array, offset: number, length: number): number;
  send(fd: number, buffer: Uint8Array, offset: number, length: number): number;
  read(fd: number, buffer: Uint8Array, offset: number, length: number): number;
  write(fd: number, buffer: Uint8Array, offset: number, length: number): number;
  shutdown(fd: number): number;
  close(fd: number): number;
  openSpare(): number;
  socketError(fd: number): number;
  socketName(fd: number, peer: boolean): SocketAddress | number;
  /** `borrowed`: it is Node's to close. */
  listenLocal(path: string, backlog: number, mode: number, borrowed?: boolean): number;
  connectLocal(path: string): number;
  traceOpen(path: string, records: number, flight: boolean, thread: number, payload: number): number;
  traceMemory(): ArrayBuffer | null;
  traceClose(): number;
  /** `keepOthers`: -EEXIST where another process has left a trace lately. */
  traceDump(path: string, keepOthers: boolean): number;
  traceRoom(): boolean;
  traceText(what: number, task: number, fd: number, text: string): void;
  traceTick(): void;
  /** Memory to read into, 32 and 512 KiB, with anything in it; undefined when enough of it is in use. */
  takePage(): ArrayBuffer | undefined;
  takeSlab(): ArrayBuffer | undefined;
  /** A thread reports on standard error what holds up the loop for `ms`; `native/watchdog.h` says what the objects are. */
  watch(ms: number, running: object, identity: object): number;
  unwatch(): void;
  /** Whether anybody has asked a promise for what becomes of it: `await` and `then` do. */
  isAwaited(promise: Promise<unknown>): boolean;
  /** Absent from Node 24 on, where AsyncLocalStorage does the same. */
  getAsyncContext?(): unknown;
  setAsyncContext?(value: unknown): void;
}

function load(): Native {
  if (process.platform !== 'linux') {
    throw new Error(
      `onewait runs on Linux only, for it is made of epoll; this is ${process.platform}. Use a Linux machine or container`,
    );
  }
  const require = createRequire(import.meta.url);
  const root = dirname(require.resolve('onewait/package.json'));
  try {
    return require('node-gyp-build')(root) as Native;
  } catch (cause) {
    throw new Error(
      `onewait's addon is not built for ${process.platform}-${process.arch} and Node ${process.version}: run 'npm rebuild onewait'`,
      { cause },
    );
  }
}

export const native: Native = load();

/** A result that cannot be negative unless the call failed. @throws SystemError */
export function checked(
  syscall: string,
  result: number,
  details?: { fd?: number; address?: string; port?: number },
): number {
  if (result < 0) throw systemError(syscall, result, details);
  return result;
}
