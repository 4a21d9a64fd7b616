// An event loop with handlers. The program waits in one place, for the next event, and calls the handler of that event.

import type { Coroutine } from '../index.ts';
import { input, print, reject } from './terminal.ts';

function processA(): void {
  print('Processing event A');
}

function processB(): void {
  print('Processing event B');
}

function processC(): void {
  print('Processing event C');
}

export function* main(): Coroutine<void> {
  for (let event = yield* input('> '); event !== null; event = yield* input('> ')) {
    if (event === 'A') processA();
    else if (event === 'B') processB();
    else if (event === 'C') processC();
    else yield* reject(event);
  }
}
