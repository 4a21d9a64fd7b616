// A plain function: it runs from its first line to its last.

import { print } from './terminal.ts';

function printFibonacci(count: number): void {
  let [a, b] = [1, 1];
  for (let i = 0; i < count; i++) {
    print(a);
    [a, b] = [b, a + b];
  }
}

export function main(): void {
  printFibonacci(5);
}
