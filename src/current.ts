// Who is running? The task on whose behalf code runs right now, in both styles.
//
// A generator is stepped by the loop, which says so here. An async function is resumed by V8, behind our back, so its task travels with
// its promises: in V8's continuation-preserved slot (native/async_context.cc), or from Node 24 on in an AsyncLocalStorage, which is made of it.

import { AsyncLocalStorage } from 'node:async_hooks';
import { OnewaitError } from './errors.ts';
import type { Loop } from './loop.ts';
import { checked, native } from './native.ts';
import type { Task } from './task.ts';

/** What a task is by, in the async context. Anything else found there is not ours. */
export abstract class Identity {}

const { getAsyncContext, setAsyncContext } = native;
const storage = getAsyncContext === undefined ? new AsyncLocalStorage<Task>() : null;

/** Whose generator is being stepped. The watchdog looks at it from below. */
const running: { task: Task | null } = { task: null };
let activeLoop: Loop | null = null;

/** The loop that runs on this thread, or null. */
export function getLoop(): Loop | null {
  return activeLoop;
}

export function setLoop(loop: Loop | null): void {
  activeLoop = loop;
}

/** Says whose generator is being stepped, until it is set back; returns who it was before. */
export function setStepping(task: Task | null): Task | null {
  const before = running.task;
  running.task = task;
  return before;
}

/** Runs `start` such that `task` is current in it and in everything that it awaits. */
export function runAs<R>(task: Task, start: () => R): R {
  const before = setStepping(task);
  try {
    if (storage !== null) return storage.run(task, start);
    const outer = getAsyncContext!();
    setAsyncContext!(task);
    try {
      return start();
    } finally {
      setAsyncContext!(outer);
    }
  } finally {
    setStepping(before);
  }
}

/** Whether a generator is being stepped: if not, whoever makes an operation will await it. */
export function isStepping(): boolean {
  return running.task !== null;
}

/** Whether `task` is the one that is running. */
export function isRunning(task: Task): boolean {
  return activeLoop !== null && currentTask() === task;
}

/**
 * The task that is running. Code of Node's own (a callback of `http`, say) belongs to the loop's guest task.
 * @throws OnewaitError ERR_NO_LOOP when no loop runs on this thread
 */
export function currentTask(): Task {
  const { task } = running;
  return task !== null ? task : taskOfContext();
}

function taskOfContext(): Task {
  const context = storage === null ? getAsyncContext!() : storage.getStore();
  if (context instanceof Identity) return context as Task;
  if (activeLoop !== null) return activeLoop.guest;
  throw new OnewaitError('ERR_NO_LOOP', 'no loop is running here: call this inside run(main) or runBlocking(main)');
}

/** Has a thread of its own report on standard error who holds up this one for `ms`; `prototype` is that of all tasks. @throws SystemError */
export function watch(ms: number, prototype: object): void {
  checked('pthread_create', native.watch(ms, running, storage ?? prototype));
}
