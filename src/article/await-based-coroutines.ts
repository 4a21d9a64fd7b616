// The same with `await`: an event is an awaitable class, and the map holds what resumes the function that awaits it.

import { type Coroutine, yieldNow } from '../index.ts';
import { input, print, reject } from './terminal.ts';

const waiting = new Map<string, Array<() => void>>([
  ['A', []],
  ['B', []],
  ['C', []],
]);

class EventB {
  then(resume: () => void): void {
    waiting.get('B')!.push(resume);
  }
}

class EventC {
  then(resume: () => void): void {
    waiting.get('C')!.push(resume);
  }
}

let count = 0;

async function task(): Promise<void> {
  const id = count++;
  print(`${id} Processing event A, blocking on B`);
  await new EventB();
  print(`${id} Processing event B, blocking on C`);
  await new EventC();
  print(`${id} Processing event C, task done`);
}

export function* main(): Coroutine<void> {
  for (;;) {
    print(`Task queue size ${[...waiting.values()].reduce((sum, queue) => sum + queue.length, 0)}`);
    const event = yield* input('> ');
    if (event === null) return;
    const resume = waiting.get(event)?.shift();
    if (!waiting.has(event)) yield* reject(event);
    else if (event === 'A') void task();
    else resume?.();
    // V8 goes on with an async function when nothing else runs: the loop gives way until it awaits its next event.
    yield* yieldNow();
  }
}
