// Descriptors for tests: real pipes and sockets, opened synchronously, closed once, and gone when the test is.

import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, onTestFinished } from 'vitest';
import { Cancelled, type Operation, type Task, timeout, type WaitOptions, yieldNow } from '../src/index.ts';
import { checked, native } from '../src/native.ts';
import { readTrace, type TraceRecord } from '../src/trace/reader.ts';
import { folder } from './processes.ts';
import { on, type Scenario, type Style, thrownBy } from './styles.ts';

/** Both ends of something: closed once each, however often somebody asks. */
class Ends {
  readonly #open = new Set<number>();

  protected own(fd: number): number {
    this.#open.add(fd);
    return fd;
  }

  /** Closes ends that are still open; all of them when none is named. */
  close(...fds: number[]): void {
    for (const fd of fds.length > 0 ? fds : [...this.#open]) if (this.#open.delete(fd)) closeSync(fd);
  }
}

/** FIFOs are the only pipes that Node can open by itself. They are made by the dozen, for mkfifo is a process. */
const fifos: string[] = [];
let fifoFolder = '';
let fifoCount = 0;
afterAll(() => {
  if (fifoFolder !== '') rmSync(fifoFolder, { recursive: true, force: true });
});
function nextFifo(): string {
  if (fifoFolder === '') {
    fifoFolder = mkdtempSync(join(tmpdir(), 'onewait-fifos-'));
  }
  if (fifos.length === 0) {
    for (let i = 0; i < 64; i++) fifos.push(join(fifoFolder, `${++fifoCount}`));
    execFileSync('mkfifo', fifos);
  }
  return fifos.pop()!;
}

/** A pipe of its own; neither end blocks. */
export class Pipe extends Ends {
  readonly reader: number;
  readonly writer: number;

  constructor() {
    super();
    const path = nextFifo();
    this.reader = this.own(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    this.writer = this.own(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
  }

  write(data = 'x'): void {
    writeSync(this.writer, data);
  }

  /** Fills it until the kernel takes no more. */
  fill(): void {
    const chunk = Buffer.alloc(4096);
    for (;;) {
      try {
        writeSync(this.writer, chunk);
      } catch {
        return;
      }
    }
  }

  /** Takes what is in it, at most `most` bytes. */
  read(most = 65536): string {
    const buffer = Buffer.alloc(most);
    return buffer.toString('latin1', 0, readSync(this.reader, buffer));
  }
}

/** Two connected TCP sockets. */
export class Sockets extends Ends {
  readonly near: number;
  readonly far: number;

  constructor() {
    super();
    const listener = checked('listen', native.listen('127.0.0.1', 0, 1, false));
    const { port } = native.socketName(listener, false) as { port: number };
    this.near = this.own(checked('connect', native.connect('127.0.0.1', port)));
    this.far = this.own(checked('accept', native.accept(listener)));
    native.close(listener);
  }

  send(fd: number, text: string): void {
    const data = Buffer.from(text);
    checked('send', native.send(fd, data, 0, data.length), { fd });
  }
}

/** A pipe that is closed when the test is finished. */
export function pipe(): Pipe {
  const made = new Pipe();
  onTestFinished(() => made.close());
  return made;
}

/** Two connected sockets that are closed when the test is finished. */
export function sockets(): Sockets {
  const made = new Sockets();
  onTestFinished(() => made.close());
  return made;
}

/** A descriptor that is closed when the test is finished. */
export function open(path: string, flags: string = 'r'): number {
  const fd = openSync(path, flags);
  onTestFinished(() => closeSync(fd));
  return fd;
}

/** How many descriptors this process has open, the directory that is being read left aside. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

/** What native code recorded while `action` ran: the oracle for what the kernel was asked. */
export function recorded(action: () => void): TraceRecord[] {
  const path = join(folder(), 'trace');
  checked('open', native.traceOpen(path, 1 << 16, false, 0, 0), { address: path });
  try {
    action();
  } finally {
    native.traceClose();
  }
  return [...readTrace(path).records];
}

/** What `action` throws. */
export function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

/** Lets others run until `condition` holds. */
export function* turnsUntil(condition: () => boolean): Scenario<void> {
  while (!condition()) yield* on(yieldNow());
}

/** Waits three times, and is cancelled, late, and gives up: the wait tells each, and has not happened. */
export function* givenUp(style: Style, wait: (options?: WaitOptions) => Operation<unknown>): Scenario<void> {
  const cancelled = style.spawn(() => on(wait()));
  yield* suspended(cancelled);
  cancelled.cancel();
  expect(yield* thrownBy(() => cancelled)).toBeInstanceOf(Cancelled);
  expect(yield* thrownBy(() => timeout(3, wait()))).toMatchObject({ code: 'ERR_TIMEOUT' });
  const giveUp = new AbortController();
  const waiting = style.spawn(() => on(wait({ signal: giveUp.signal })));
  yield* suspended(waiting);
  giveUp.abort('enough');
  expect(yield* thrownBy(() => waiting)).toBe('enough');
}

/** Lets others run until `task` waits for something of ours, or for `what`. */
export function suspended(task: Task<unknown>, what?: string): Scenario<void> {
  return turnsUntil(() => task.ended || (what === undefined ? task.waitingFor !== null : task.waitingFor === what));
}
