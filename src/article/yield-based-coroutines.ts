// Coroutines: the task is one function again. It yields the event that it waits for; a map from event to generators says whom to resume.

import type { Coroutine } from '../index.ts';
import { input, print, reject } from './terminal.ts';

type Task = Generator<string, void>;

function* eventB(): Task {
  yield 'B';
}

function* eventC(): Task {
  yield 'C';
}

let count = 0;

function* task(): Task {
  const id = count++;
  print(`${id} Processing event A, blocking on B`);
  yield* eventB();
  print(`${id} Processing event B, blocking on C`);
  yield* eventC();
  print(`${id} Processing event C, task done`);
}

const waiting = new Map<string, Task[]>([
  ['A', []],
  ['B', []],
  ['C', []],
]);

/** Runs a task up to the next event that it waits for, and puts it where that event will find it. */
function resume(task: Task): void {
  const { done, value: event } = task.next();
  if (!done) waiting.get(event)!.push(task);
}

export function* main(): Coroutine<void> {
  for (;;) {
    print(`Task queue size ${[...waiting.values()].reduce((sum, queue) => sum + queue.length, 0)}`);
    const event = yield* input('> ');
    if (event === null) return;
    const first = waiting.get(event)?.shift();
    if (!waiting.has(event)) yield* reject(event);
    else if (event === 'A') resume(task());
    else if (first !== undefined) resume(first);
  }
}
