// Who drives the loop: Node (`run`), or the call itself (`runBlocking`). Both drive the same loop; only who calls `wait` differs.

import { isMainThread, threadId } from 'node:worker_threads';
import { currentTask, getLoop, setLoop, watch } from './current.ts';
import { NativeDriver, type PollerName } from './driver.ts';
import { OnewaitError, systemError } from './errors.ts';
import { Loop } from './loop.ts';
import { native } from './native.ts';
import type { Coroutine } from './operation.ts';
import { checkMain, type Main, Task, type TaskErrorHandler, type TaskGroup } from './task.ts';
import { lookAsAsked } from './trace/live.ts';
import { isRecording, type Recording, record, recordAsAsked } from './trace/recorder.ts';
import { observe } from './trace/tracer.ts';
import { printTree } from './trace/tree.ts';
import { integer } from './validate.ts';

export interface RunOptions {
  /** The blocking call: 'epoll' (default), 'poll' or 'select'. */
  poller?: PollerName | undefined;
  /** Called with the failure of a task that nobody joined, instead of a report on standard error. */
  onTaskError?: TaskErrorHandler | undefined;
  /** Name of the main task. */
  name?: string | undefined;
  /** Records what happens to descriptors and tasks in this file (mode 0600), unless this thread is being recorded already. */
  trace?: string | undefined;
  /**
   * Reports on standard error, from a thread of its own, which task has held up the loop for so many milliseconds, and where it is, while it does so: a coroutine
   * that never waits, or a call that blocks. By default what ONEWAIT_WATCHDOG says, or there is none.
   */
  watchdog?: number | undefined;
}

const EINTR = -4;
const MAX_WATCHDOG_MS = 2 ** 31 - 1;

/** The tasks of one run(): when its main task ends, what is left is cancelled, and the run is over when that has ended too. */
class Run<T> implements TaskGroup {
  readonly tasks: Set<Task> = new Set();
  readonly root: TaskGroup = this;
  readonly onTaskError: TaskErrorHandler | undefined;
  readonly main: Task<T>;
  over = false;
  private readonly loop: Loop;
  private readonly onOver: () => void;
  private closing = false;

  constructor(loop: Loop, main: Main<T>, options: RunOptions, onOver: () => void) {
    this.loop = loop;
    this.onTaskError = options.onTaskError;
    this.onOver = onOver;
    this.main = loop.spawn(main, options.name ?? 'main', this);
  }

  get closed(): boolean {
    return this.closing;
  }

  ended(task: Task): void {
    if (task === (this.main as unknown as Task)) {
      task.adopt();
      if (task.state === 'failed') task.letGo(true);
      this.closing = true;
      for (const other of [...this.tasks]) other.cancel('the run that it belongs to has ended');
      this.loop.atRest.add(this.check);
    }
  }

  /** Async functions that wait for a promise of somebody else's cannot be cancelled; they are not waited for. */
  private readonly check = (): void => {
    for (const task of this.tasks) if (!task.foreign) return;
    this.loop.atRest.delete(this.check);
    this.over = true;
    this.onOver();
  };
}

function checkPoller(poller: unknown): PollerName {
  if (poller === undefined || poller === 'epoll') return 'epoll';
  if (poller === 'poll' || poller === 'select') return poller;
  throw new RangeError(`options.poller must be 'epoll', 'poll' or 'select', and is ${String(poller)}`);
}

let hosted: { loop: Loop; poller: PollerName; recording: Recording | null } | null = null;
/** The hosted runs, and what each asks of the watchdog: milliseconds, or Infinity. */
const runs = new Map<Run<unknown>, number>();

/** What the options or the environment ask for. Returns a recording that is the run's own, and ends with it. */
function beginRecording({ trace }: RunOptions): Recording | null {
  if (trace !== undefined && !isRecording()) return record(trace);
  recordAsAsked();
  return null;
}

/** Milliseconds, or Infinity: no watchdog is asked for. @throws TypeError, RangeError */
function watchdogLimit({ watchdog }: RunOptions): number {
  const { ONEWAIT_WATCHDOG: text } = process.env;
  if (watchdog !== undefined) return integer(watchdog, 'options.watchdog', 1, MAX_WATCHDOG_MS);
  return text ? integer(Number(text), 'ONEWAIT_WATCHDOG', 1, MAX_WATCHDOG_MS) : Number.POSITIVE_INFINITY;
}

/** What the watchdog looks for now; Infinity: there is none. */
let watchedMs = Number.POSITIVE_INFINITY;

/** Has the watchdog look for the least that is asked for, by the hosted runs and one that is about to begin. @throws SystemError of pthread_create(3) */
function adjustWatchdog(limitMs = Number.POSITIVE_INFINITY): void {
  const least = Math.min(limitMs, ...runs.values());
  if (least === watchedMs) return;
  if (least === Number.POSITIVE_INFINITY) native.unwatch();
  else watch(least, Task.prototype);
  watchedMs = least;
}

/** One of several runs is over. */
function relaxWatchdog(): void {
  try {
    adjustWatchdog();
  } catch {
    // There is no thread for another: the one that there is reports sooner than it has to.
  }
}

/** Node has nothing to do any more, and ends the process unless somebody finds something. */
function beforeExit(): void {
  forgetExit();
  process.once('exit', sayWhoIsLeft);
  // If it goes on after all, it may end for another reason.
  setImmediate(forgetExit).unref();
}

function forgetExit(): void {
  process.off('exit', sayWhoIsLeft);
}

function sayWhoIsLeft(): void {
  const what = isMainThread ? 'the process' : `worker ${threadId}`;
  if (hosted!.loop.stuck) printTree(`${what} ends, for nothing can wake who is left: `, hosted!.loop);
}

/** No run is left, or none has come about. */
function endHosted(): void {
  process.off('beforeExit', beforeExit);
  forgetExit();
  const { loop, recording } = hosted!;
  loop.stop();
  adjustWatchdog();
  recording?.stop();
  hosted!.recording = null;
  observe(loop);
  setLoop(null);
}

/**
 * Runs `main` on the loop, hosted by Node: everything of Node keeps working, while ours is the program's only blocking call.
 * May be called again, also while another run goes on: they share the loop. When `main` ends, tasks that it spawned are cancelled.
 * If all that is left waits for what can never happen, Node ends the process as it does for any promise that is never settled (exit code 13
 * at the top level of a module), and standard error has the tree of tasks, with what each waits for.
 * @returns what `main` returns
 * @throws what `main` throws; TypeError for a main that cannot be run; RangeError; OnewaitError ERR_LOOP_RUNNING inside runBlocking()
 */
export async function run<T>(main: Main<T>, options: RunOptions = {}): Promise<T> {
  checkMain(main);
  const poller = checkPoller(options.poller);
  const limitMs = watchdogLimit(options);
  const active = getLoop();
  if (active?.blocking)
    throw new OnewaitError(
      'ERR_LOOP_RUNNING',
      'run() cannot work inside runBlocking(): Node does not run meanwhile. Use spawn()',
    );
  if (hosted === null || hosted.poller !== poller) {
    if (runs.size > 0)
      throw new OnewaitError(
        'ERR_LOOP_RUNNING',
        `the loop runs on ${hosted!.poller}, and cannot change to ${poller} meanwhile`,
      );
    const loop = new Loop(new NativeDriver(poller), false);
    hosted?.loop.selector.close();
    hosted = { loop, poller, recording: null };
  }
  const { loop } = hosted;
  lookAsAsked();
  hosted.recording ??= beginRecording(options);
  try {
    observe(loop);
    setLoop(loop);
    loop.start();
    process.off('beforeExit', beforeExit).on('beforeExit', beforeExit);
    adjustWatchdog(limitMs);
  } catch (error) {
    if (runs.size === 0) endHosted();
    throw error;
  }
  return new Promise<T>((resolve, reject) => {
    const run = new Run<T>(loop, main, options, () => {
      runs.delete(run as Run<unknown>);
      loop.runs.delete(run);
      if (runs.size === 0) endHosted();
      else relaxWatchdog();
      if (run.main.state === 'done') resolve(run.main.outcome as T);
      else reject(run.main.outcome);
    });
    runs.set(run as Run<unknown>, limitMs);
    loop.runs.add(run);
  });
}

/**
 * The literal `while (true) { wait }`: blocks the calling thread until the coroutine `main` has ended. Generators only. Nothing of Node runs
 * meanwhile, host names cannot be looked up, and promises are not resumed.
 * @returns what `main` returns
 * @throws what `main` throws; TypeError for an async function; OnewaitError ERR_LOOP_RUNNING inside a running loop, ERR_DEADLOCK when every
 * coroutine is suspended on something that no descriptor and no timer can bring about
 */
export function runBlocking<T>(main: Coroutine<T> | (() => Coroutine<T>), options: RunOptions = {}): T {
  checkMain(main);
  const poller = checkPoller(options.poller);
  const limitMs = watchdogLimit(options);
  if (getLoop() !== null)
    throw new OnewaitError(
      'ERR_LOOP_RUNNING',
      'a loop is running on this thread already; use spawn() or scope() inside it',
    );
  const recording = beginRecording(options);
  let loop: Loop | null = null;
  try {
    const driver = new NativeDriver(poller);
    loop = new Loop(driver, true);
    observe(loop);
    setLoop(loop);
    adjustWatchdog(limitMs);
    const run = new Run<T>(loop, main, options, () => {});
    loop.runs.add(run);
    while (!run.over) {
      if (loop.stuck) throw deadlock(run.tasks);
      const result = driver.run();
      if (result < 0 && result !== EINTR) throw systemError(poller === 'epoll' ? 'epoll_wait' : poller, result);
      loop.dispatch();
    }
    if (run.main.state === 'done') return run.main.outcome as T;
    throw run.main.outcome;
  } finally {
    adjustWatchdog();
    recording?.stop();
    setLoop(null);
    loop?.selector.close();
  }
}

function deadlock(tasks: Iterable<Task>): OnewaitError {
  const waits = [...tasks].map((task) => `${task} on ${task.waitingFor}`).join(', ');
  return new OnewaitError(
    'ERR_DEADLOCK',
    `every coroutine waits, and no descriptor and no timer can wake one: ${waits}`,
  );
}

/**
 * Starts a task of its own in the current run. A failure that nobody joined is reported once, harms no other task, and closes the stream that the
 * task used last. When the run ends, the task is cancelled.
 * @throws OnewaitError ERR_NO_LOOP when no loop runs, ERR_RUN_ENDED when the run is over
 */
export function spawn<T>(main: Main<T>, options: { name?: string | undefined } = {}): Task<T> {
  checkMain(main);
  const task = currentTask();
  const group = task === task.loop.guest ? runs.keys().next().value : (task.group.root as Run<unknown>);
  if (group === undefined || group.closed)
    throw new OnewaitError(
      'ERR_RUN_ENDED',
      'the run that this task belongs to has ended: nothing can be spawned in it',
    );
  return task.loop.spawn(main, options.name, group);
}
