// Unix sockets: listening and connecting on one machine, by a path (unix(7)).

import { type BigIntStats, lstatSync, unlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { compose } from '../compose.ts';
import { currentTask } from '../current.ts';
import { EAGAIN, systemError } from '../errors.ts';
import { native } from '../native.ts';
import { type Coroutine, type Operation, Trap } from '../operation.ts';
import type { Timer } from '../timers.ts';
import { OpenKind } from '../trace/record.ts';
import { integer, received, signalOf, type WaitOptions } from '../validate.ts';
import { Listener } from './listener.ts';
import { type BacklogOption, backlogOf, highWaterMarkOf, type StreamOptions } from './options.ts';
import { hangUp, Stream } from './stream.ts';

/** sizeof(sun_path), less the NUL that ends it. */
const MAX_PATH = 107;
/** How long to wait before asking again whether there is room: no descriptor tells. */
const FIRST_PAUSE_MS = 1;
const LAST_PAUSE_MS = 100;

export interface UnixListenOptions extends StreamOptions, BacklogOption {
  /** Where; at most 107 bytes. A file that is left by who did not close its listener does no harm. One that begins with '\0' is a name without a file, which anybody on the machine may connect to. */
  path: string;
  /** Who may connect: the permissions of the file. 0o600 by default: only who has the same user. */
  mode?: number | undefined;
}

export interface UnixConnectOptions extends WaitOptions, StreamOptions {
  path: string;
}

function pathOf(path: unknown): string {
  if (typeof path !== 'string' || path === '') throw new TypeError(`path must be a path, and is ${received(path)}`);
  const isFile = !path.startsWith('\0');
  if (isFile && path.includes('\0')) throw new TypeError('path must not contain a NUL, but for a first one');
  const length = Buffer.byteLength(path);
  const most = isFile ? MAX_PATH : MAX_PATH + 1;
  if (length > most)
    throw new RangeError(
      `path must have at most ${most} bytes (unix(7)), and has ${length}: use a shorter one, or a relative one`,
    );
  return path;
}

function listen(options: UnixListenOptions): Operation<Listener> {
  const path = pathOf(options?.path);
  const mode = integer(options.mode ?? 0o600, 'mode', 0, 0o777);
  const backlog = backlogOf(options);
  const highWaterMark = highWaterMarkOf(options);
  return compose('listen', () => listening(path, mode, backlog, highWaterMark));
}

function* listening(path: string, mode: number, backlog: number, highWaterMark: number): Coroutine<Listener> {
  const task = currentTask();
  const { loop } = task;
  loop.observer?.onBehalfOf(task);
  const fd = native.listenLocal(path, backlog, mode);
  if (fd < 0) throw failure('listen', fd, path);
  // The folder that it is relative to may be another by then.
  const place = path.startsWith('\0') ? null : resolve(path);
  const file = fileAt(place);
  const cleanUp = (): void => {
    const now = fileAt(place);
    // Somebody may have put another in its place.
    if (file === null || now === null || now.ino !== file.ino || now.dev !== file.dev) return;
    try {
      unlinkSync(place!);
    } catch {
      // Then it stays, and is in nobody's way: who listens there next finds that nobody does.
    }
  };
  const listener = new Listener(loop, fd, { address: path, family: 'Unix', port: 0 }, highWaterMark, cleanUp);
  loop.observer?.open(fd, OpenKind.listening, task);
  return listener;
}

function fileAt(path: string | null): BigIntStats | null {
  try {
    return path === null ? null : lstatSync(path, { bigint: true });
  } catch {
    return null;
  }
}

/** Names without a file are shown as ss(8) does. */
function shown(path: string): string {
  return path.replaceAll('\0', '@');
}

function failure(syscall: string, errno: number, path: string): Error {
  const error = systemError(syscall, errno, { address: path });
  error.message = shown(error.message);
  return error;
}

function connect(options: UnixConnectOptions): Operation<Stream> {
  const path = pathOf(options?.path);
  const highWaterMark = highWaterMarkOf(options);
  const signal = signalOf(options);
  return compose('connect', () => connecting(path, highWaterMark, signal), [], hangUp);
}

function* connecting(path: string, highWaterMark: number, signal: AbortSignal | undefined): Coroutine<Stream> {
  const task = currentTask();
  const { loop } = task;
  const stream = new Stream(loop, yield* new Connect(path, signal), highWaterMark);
  loop.observer?.open(stream.fd, OpenKind.connected, task);
  return stream;
}

/** Servers and clients on Unix sockets: as with `tcp`, for processes of one machine. */
export const unix: {
  /**
   * Listens at a path. A socket file that nobody listens on any more gives way; the file is removed when the listener is closed. (Of several that find one at
   * the same time, more than one may come to listen, and only the last of them is reached.)
   * @throws SystemError EADDRINUSE when somebody has it, ENOTSOCK when something else is there, ENOENT, EACCES (bind(2), unix(7)); TypeError, RangeError
   */
  listen(options: UnixListenOptions): Operation<Listener>;
  /**
   * Connects, and waits for room where so many wait to be accepted that there is none.
   * @throws SystemError ECONNREFUSED when nobody listens there, ENOENT, EACCES (connect(2)); TypeError, RangeError
   */
  connect(options: UnixConnectOptions): Operation<Stream>;
} = { listen, connect };

/** Decided at once, but where there is no room: then it asks again, for no descriptor tells when there is (connect(2), EAGAIN). */
class Connect extends Trap<number> implements Timer {
  deadline = 0;
  place = -1;
  order = 0;
  private readonly path: string;
  private pauseMs = FIRST_PAUSE_MS;

  constructor(path: string, signal: AbortSignal | undefined) {
    super(signal);
    this.path = path;
  }

  protected override begin(): void {
    const { loop } = this.task;
    loop.observer?.onBehalfOf(this.task);
    const result = native.connectLocal(this.path);
    if (result >= 0) this.succeed(result);
    else if (result !== EAGAIN) this.fail(failure('connect', result, this.path));
    else {
      loop.setTimer(this, loop.driver.now() + this.pauseMs);
      this.pauseMs = Math.min(2 * this.pauseMs, LAST_PAUSE_MS);
    }
  }

  expire(lateMs: number): void {
    this.task.loop.observer?.timer(this.task, lateMs);
    this.begin();
  }

  protected override undo(): void {
    this.task.loop.timers.remove(this);
  }
  override describe(): string {
    return `room at ${shown(this.path)}`;
  }
}
