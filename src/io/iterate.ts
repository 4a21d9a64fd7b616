// Iteration in both styles: `for await (const x of it)`, and `const { value, done } = yield* it.next()`.

import { compose } from '../compose.ts';
import type { Coroutine, Operation } from '../operation.ts';

/** An async iterator whose `next()` is an operation. */
export interface OperationIterator<T> {
  next(): Operation<IteratorResult<T, undefined>> & Promise<IteratorResult<T, undefined>>;
  [Symbol.asyncIterator](): OperationIterator<T>;
}

/** Iterates over what `next` brings until it brings null. */
export function iterate<T>(next: () => Operation<T | null> | Coroutine<T | null>): OperationIterator<T> {
  const iterator: OperationIterator<T> = {
    // `for await` asks for a thenable and TypeScript for a promise; an operation is the former.
    next: () => compose('next', () => resultOf(next)) as ReturnType<OperationIterator<T>['next']>,
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}

function* resultOf<T>(next: () => Operation<T | null> | Coroutine<T | null>): Coroutine<IteratorResult<T, undefined>> {
  const value = yield* next();
  return value === null ? { done: true, value: undefined } : { done: false, value };
}
