// The same as a generator: `yield` suspends it, and whoever iterates resumes it where it left off.

import { print } from './terminal.ts';

function* fibonacci(count: number): Generator<number> {
  let [a, b] = [1, 1];
  for (let i = 0; i < count; i++) {
    yield a;
    [a, b] = [b, a + b];
  }
}

export function main(): void {
  for (const number of fibonacci(5)) print(number);
}
