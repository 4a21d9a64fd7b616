// What a generator returns is the value of the `yield*` that ran it: a function call that can be suspended.

import { print } from './terminal.ts';

function* steps(start: number, stop: number, step: number): Generator<number, number> {
  let count = 0;
  for (let number = start; number !== stop; number += step) {
    yield number;
    count++;
  }
  return count;
}

function* counted(): Generator<number, void> {
  const count = yield* steps(0, 10, 2);
  print(`Generated ${count} numbers`);
}

export function main(): void {
  for (const number of counted()) print(number);
}
