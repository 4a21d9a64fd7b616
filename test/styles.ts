// One scenario, both styles. A scenario is a generator that hands each operation to whoever drives it with `yield* on(operation)`, and gets the
// outcome back. Driven by a coroutine, the operation is made while a generator is being stepped and gets `yield*`; driven by an async
// function, it is made as an async function would make it and gets `await`. So every assertion holds for both, and is written once.

import { test } from 'vitest';
import {
  type Coroutine,
  type Listener,
  type Operation,
  type PollerName,
  type RunOptions,
  run,
  type Stream,
  spawn,
  type Task,
  tcp,
} from '../src/index.ts';
import { within } from './until.ts';

export type Scenario<T> = Generator<Operation<unknown> | PromiseLike<unknown>, T, unknown>;

/** Waits for an operation, or a promise, in the scenario's style. */
export function* on<T>(operation: Operation<T> | PromiseLike<T>): Scenario<T> {
  return (yield operation) as T;
}

function isOperation(value: PromiseLike<unknown>): value is Operation<unknown> {
  return Symbol.iterator in value;
}

/** Drives a scenario as a generator. */
export function* byYield<T>(scenario: Scenario<T>): Coroutine<T> {
  let step = scenario.next();
  while (!step.done) {
    const wanted = step.value;
    let outcome: unknown;
    try {
      outcome = isOperation(wanted) ? yield* wanted : yield* spawn(() => wanted, { name: 'promise' });
    } catch (error) {
      step = scenario.throw(error);
      continue;
    }
    step = scenario.next(outcome);
  }
  return step.value;
}

/** Drives a scenario as an async function. */
export async function byAwait<T>(scenario: Scenario<T>): Promise<T> {
  let step = scenario.next();
  while (!step.done) {
    let outcome: unknown;
    try {
      outcome = await step.value;
    } catch (error) {
      step = scenario.throw(error);
      continue;
    }
    step = scenario.next(outcome);
  }
  return step.value;
}

export class Style {
  readonly name: 'yield' | 'await';
  readonly poller: PollerName;

  constructor(name: 'yield' | 'await', poller: PollerName = 'epoll') {
    this.name = name;
    this.poller = poller;
  }

  main<T>(scenario: () => Scenario<T>): () => Coroutine<T> | Promise<T> {
    return this.name === 'yield' ? () => byYield(scenario()) : () => byAwait(scenario());
  }

  spawn<T>(scenario: () => Scenario<T>, name = 'child'): Task<T> {
    return spawn(this.main(scenario), { name });
  }

  run<T>(scenario: (style: Style) => Scenario<T>, options: RunOptions = {}): Promise<T> {
    return within(
      'the end of the scenario',
      run(
        this.main(() => scenario(this)),
        { poller: this.poller, ...options },
      ),
      30_000,
    );
  }
}

export const STYLES: readonly Style[] = [new Style('yield'), new Style('await')];
const ALL: readonly Style[] = [
  ...STYLES,
  new Style('yield', 'poll'),
  new Style('await', 'poll'),
  new Style('yield', 'select'),
  new Style('await', 'select'),
];

/** A test per style. */
export function both(name: string, scenario: (style: Style) => Scenario<void>): void {
  for (const style of STYLES) test(`${name} (${style.name})`, () => style.run(scenario));
}

/** A test per style and poller. */
export function everywhere(name: string, scenario: (style: Style) => Scenario<void>): void {
  for (const style of ALL) test(`${name} (${style.name}, ${style.poller})`, () => style.run(scenario));
}

/** What `scenario` throws. */
export function* thrownBy(operation: () => Operation<unknown>): Scenario<unknown> {
  try {
    yield* on(operation());
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

/** Two streams, connected to each other through a listener. */
export function* pair(options: { highWaterMark?: number; host?: string } = {}): Scenario<[Stream, Stream, Listener]> {
  const listener = yield* on(tcp.listen(options));
  const client = yield* on(tcp.connect({ ...options, port: listener.address.port }));
  const server = yield* on(listener.accept());
  return [client, server, listener];
}

export function text(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : Buffer.from(bytes).toString();
}

/** Everything until the end. */
export function* readAll(stream: Stream): Scenario<Buffer> {
  const chunks: Uint8Array[] = [];
  for (let chunk = yield* on(stream.read()); chunk !== null; chunk = yield* on(stream.read())) chunks.push(chunk);
  return Buffer.concat(chunks);
}
