// The article's programs, in its order: from `input()` to a server.

import type { PollerName } from '../driver.ts';
import type { Coroutine } from '../index.ts';

/** What the programs can be told; each is told what its row asks for. */
export interface ProgramOptions {
  readonly host: string;
  readonly port: number;
  readonly poller: PollerName;
  /** Milliseconds that the rates service takes. */
  readonly delay: number;
  /** Where the rates service is. */
  readonly rates: [address: string, port: number];
  readonly threads: number;
}

export interface Program {
  readonly name: string;
  readonly shows: string;
  /** What it can be told. */
  readonly options: ReadonlyArray<keyof ProgramOptions>;
  /** Its port, if it is not told another. */
  readonly port?: number;
  /** It waits by itself, not on the loop of onewait. */
  readonly literal?: boolean;
  readonly load: () => Promise<{ main: (options: ProgramOptions) => Coroutine<void> | Promise<void> | void }>;
}

export const PROGRAMS: readonly Program[] = [
  {
    name: 'manual-async-simple',
    shows: 'an event loop with handlers',
    options: [],
    load: () => import('./manual-async-simple.ts'),
  },
  {
    name: 'manual-async-with-state',
    shows: 'a task that waits twice, as a state machine',
    options: [],
    load: () => import('./manual-async-with-state.ts'),
  },
  { name: 'print-fibonacci', shows: 'a plain function', options: [], load: () => import('./print-fibonacci.ts') },
  {
    name: 'yield-fibonacci',
    shows: 'the same as a generator',
    options: [],
    load: () => import('./yield-fibonacci.ts'),
  },
  {
    name: 'yield-twice',
    shows: 'a generator that runs another, twice',
    options: [],
    load: () => import('./yield-twice.ts'),
  },
  {
    name: 'returning-generator',
    shows: "a generator's return value, through yield*",
    options: [],
    load: () => import('./returning-generator.ts'),
  },
  {
    name: 'failing-generator',
    shows: "a generator's exception, through yield*",
    options: [],
    load: () => import('./failing-generator.ts'),
  },
  {
    name: 'yield-based-coroutines',
    shows: 'generators that yield the event they wait for, and a map from event to generators',
    options: [],
    load: () => import('./yield-based-coroutines.ts'),
  },
  {
    name: 'await-based-coroutines',
    shows: 'the same with await',
    options: [],
    load: () => import('./await-based-coroutines.ts'),
  },
  {
    name: 'select-echo',
    shows: 'input() becomes select(), letters become descriptors: an echo server',
    options: ['host', 'port', 'poller'],
    port: 7000,
    literal: true,
    load: () => import('./select-echo.ts'),
  },
  {
    name: 'exchange-rates',
    shows: 'the rates service that the exchange asks, with a delay',
    options: ['host', 'port', 'delay'],
    port: 7070,
    load: () => import('./exchange-rates.ts'),
  },
  {
    name: 'exchange-hardcoded',
    shows: 'a currency exchange over HTTP, its rates in the program',
    options: ['host', 'port'],
    port: 7080,
    load: () => import('./exchange-hardcoded.ts'),
  },
  {
    name: 'exchange-blocking',
    shows: 'one request at a time, blocking on the rates service',
    options: ['host', 'port', 'rates'],
    port: 7080,
    load: () => import('./exchange-blocking.ts'),
  },
  {
    name: 'exchange-threads',
    shows: 'a thread per request, each blocking on the rates service',
    options: ['host', 'port', 'rates', 'threads'],
    port: 7080,
    load: () => import('./exchange-threads.ts'),
  },
  {
    name: 'exchange-callbacks',
    shows: 'one loop, callbacks and a state machine per connection',
    options: ['host', 'port', 'rates'],
    port: 7080,
    literal: true,
    load: () => import('./exchange-callbacks.ts'),
  },
  {
    name: 'exchange-coroutines',
    shows: 'the same with coroutines: it reads like the one that blocks',
    options: ['host', 'port', 'rates'],
    port: 7080,
    load: () => import('./exchange-coroutines.ts'),
  },
];
