// What a generator throws comes out of the `yield*` that ran it, where it can be caught as from any call.

import { print } from './terminal.ts';

function* failing(): Generator<number> {
  yield 0;
  throw new Error('Generator error');
}

function* careful(): Generator<number> {
  try {
    yield* failing();
  } catch {
    print('Something went wrong');
  }
}

export function main(): void {
  for (const number of careful()) print(number);
}
