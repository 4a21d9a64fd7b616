// `yield*` runs another generator to its end, as if its yields stood here.

import { print } from './terminal.ts';

function* steps(start: number, stop: number, step: number): Generator<number> {
  for (let number = start; number !== stop; number += step) yield number;
}

function* thereAndBack(start: number, stop: number): Generator<number> {
  yield* steps(start, stop, 1);
  yield* steps(stop, start, -1);
}

export function main(): void {
  for (const number of thereAndBack(0, 5)) print(number);
}
