// A driver without a kernel: a clock that jumps to whatever happens next, and descriptors that do what a test says. A wait that nothing would
// ever end throws instead of hanging.

import { setLoop } from '../src/current.ts';
import { COMPLETION, type Driver, READ_PAGE, READY } from '../src/driver.ts';
import { Loop } from '../src/loop.ts';
import type { NativePoller } from '../src/native.ts';
import type { Coroutine } from '../src/operation.ts';
import { EVENT_READ, Selector } from '../src/selectors.ts';
import type { Main, Task, TaskErrorHandler, TaskGroup } from '../src/task.ts';

const EBADF = -9;
const FIRST_FD = 3;

/** A simulated descriptor: ready for what `ready` says until somebody changes it. */
export interface SimulatedFile {
  readonly fd: number;
  ready: number;
  /** What an armed read brings; null is the end. */
  readonly input: (string | null)[];
}

interface Registration {
  readonly generation: number;
  readonly file: SimulatedFile;
  events: number;
}

/** Keeps registrations as a level-triggered poller does, each tied to the file that the number meant when it was made. */
class SimulatedPoller implements NativePoller {
  readonly registrations: Map<number, Registration> = new Map();
  private readonly files: Map<number, SimulatedFile>;

  constructor(files: Map<number, SimulatedFile>) {
    this.files = files;
  }
  add(fd: number, events: number, generation: number): number {
    const file = this.files.get(fd);
    if (file === undefined) return EBADF;
    this.registrations.set(fd, { generation, file, events });
    return 0;
  }
  modify(fd: number, events: number): number {
    const registration = this.registrations.get(fd);
    const file = this.files.get(fd);
    if (file === undefined) return EBADF;
    if (registration?.file !== file) return -2;
    registration.events = events;
    return 0;
  }
  remove(fd: number): number {
    return this.registrations.delete(fd) ? 0 : -2;
  }
  wait(): Int32Array {
    throw new Error('the simulated driver waits by itself');
  }
  fileno(): number {
    return -1;
  }
  close(): void {}
}

class SimulatedSelector extends Selector {
  constructor(poller: SimulatedPoller) {
    super('poll');
    this.poller.close();
    (this as { poller: NativePoller }).poller = poller;
  }
}

export class SimulatedDriver implements Driver {
  readonly selector: Selector;
  readonly events: Int32Array = new Int32Array(1024 * COMPLETION);
  readonly unwrittenEvents: Int32Array = new Int32Array(0);
  readonly unwritten: number = 0;
  readonly out: Uint8Array = new Uint8Array(0);
  readonly page: ArrayBuffer = new ArrayBuffer(65536);
  readonly slab: ArrayBuffer = new ArrayBuffer(0);
  completions = 0;
  woken = 0;
  pending = false;
  /** How often it has waited. */
  turns = 0;
  /** Whether the loop would keep the process alive. */
  referenced = false;

  private readonly files = new Map<number, SimulatedFile>();
  private readonly poller = new SimulatedPoller(this.files);
  private readonly script: { at: number; action: () => void }[] = [];
  private readonly armed = new Map<number, number>();
  private clock = 0;
  private deadline = Number.POSITIVE_INFINITY;
  private runnable = false;
  private dispatch: (() => void) | null = null;

  constructor() {
    this.selector = new SimulatedSelector(this.poller);
  }

  // --- the script ---------------------------------------------------------------------------------------------------------

  /** Opens the lowest free number. */
  open(ready = 0): SimulatedFile {
    let fd = FIRST_FD;
    while (this.files.has(fd)) fd++;
    const file: SimulatedFile = { fd, ready, input: [] };
    this.files.set(fd, file);
    return file;
  }

  close(file: SimulatedFile): void {
    if (this.files.get(file.fd) === file) this.files.delete(file.fd);
  }

  /** Does something at a time on the clock. */
  at(ms: number, action: () => void): void {
    this.script.push({ at: ms, action });
    this.script.sort((a, b) => a.at - b.at);
  }

  /** What is registered: by number, the events. */
  get registered(): Map<number, number> {
    return new Map([...this.poller.registrations].map(([fd, { events }]) => [fd, events]));
  }

  // --- the driver ---------------------------------------------------------------------------------------------------------

  now(): number {
    return this.clock;
  }
  setDeadline(deadline: number): void {
    this.deadline = deadline;
  }
  setRunnable(runnable: boolean): void {
    this.runnable = runnable;
  }
  submitRead(fd: number, length: number): boolean {
    this.armed.set(fd, length);
    return true;
  }
  submitWrite(): boolean {
    throw new Error('simulated descriptors take no writes');
  }
  hasWrite(): boolean {
    return false;
  }
  drop(fd: number): void {
    this.armed.delete(fd);
  }
  send(): number[] {
    throw new Error('simulated descriptors take no writes');
  }
  clearUnwritten(): void {}
  flush(): number {
    return 0;
  }
  refill(): void {}
  forget(fd: number): void {
    this.armed.delete(fd);
  }

  run(): number {
    this.turns++;
    this.completions = 0;
    if (!this.collect() && !this.runnable) {
      const next = Math.min(this.deadline, this.script[0]?.at ?? Number.POSITIVE_INFINITY);
      if (next === Number.POSITIVE_INFINITY) throw new Error('nothing would ever end this wait');
      this.clock = Math.max(this.clock, next);
      while (this.script.length > 0 && this.script[0]!.at <= this.clock) this.script.shift()!.action();
      this.collect();
    }
    this.woken = this.clock;
    return this.completions;
  }

  start(dispatch: () => void): void {
    this.dispatch = dispatch;
    this.pump();
  }
  stop(): void {
    this.dispatch = null;
  }
  ref(): void {
    this.referenced = true;
  }
  unref(): void {
    this.referenced = false;
  }

  /** A turn per immediate: promises are resumed in between, as in the real host. With nothing to do it idles, and Node does what it does. */
  private pump(): void {
    setImmediate(() => {
      if (this.dispatch === null) return;
      const busy = this.runnable || this.deadline !== Number.POSITIVE_INFINITY || this.script.length > 0;
      if (busy || this.collect()) {
        this.run();
        this.dispatch();
      }
      this.pump();
    });
  }

  private collect(): boolean {
    this.completions = 0;
    for (const [fd, { generation, file, events }] of this.poller.registrations) {
      if (this.files.get(fd) !== file) continue;
      let ready = file.ready & events;
      const wanted = this.armed.get(fd) ?? 0;
      if (wanted > 0 && events & EVENT_READ && file.input.length > 0) {
        this.armed.set(fd, 0);
        const bytes = Buffer.from(file.input.shift() ?? '').subarray(0, wanted);
        new Uint8Array(this.page).set(bytes);
        this.complete(READ_PAGE, fd, generation, bytes.length);
        ready &= ~EVENT_READ;
      }
      if (ready !== 0) this.complete(READY, fd, generation, ready);
    }
    return this.completions > 0;
  }

  private complete(kind: number, fd: number, generation: number, result: number): void {
    this.events.set([kind, fd, generation, result, 0, 0], this.completions++ * COMPLETION);
  }
}

export interface SimulateOptions {
  onTaskError?: TaskErrorHandler;
}

/** Runs `main` on a simulated driver until it ends: its value, or its error. */
export async function simulate<T>(
  main: (driver: SimulatedDriver) => Coroutine<T> | PromiseLike<T>,
  options: SimulateOptions = {},
): Promise<T> {
  const driver = new SimulatedDriver();
  const loop = new Loop(driver, false);
  setLoop(loop);
  loop.start();
  try {
    return await new Promise<T>((resolve, reject) => {
      let task: Task<T> | null = null;
      const group: TaskGroup = {
        tasks: new Set(),
        onTaskError: options.onTaskError,
        get root(): TaskGroup {
          return group;
        },
        ended(ended: Task): void {
          if (ended !== (task as unknown)) return;
          ended.adopt();
          if (ended.state === 'done') resolve(ended.outcome as T);
          else reject(ended.outcome);
        },
      };
      const body: Main<T> = () => main(driver);
      task = loop.spawn(body, 'main', group);
    });
  } finally {
    loop.stop();
    setLoop(null);
  }
}
