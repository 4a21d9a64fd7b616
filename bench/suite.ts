// Ways of measuring: what servers are asked, which they are, whom they are compared with, and when a sample counts.

import { peerTable } from './peers.ts';
import { exchangeTable, type Server, serverTable, tracedTable } from './servers.ts';

/** What is sent and what must come back, where that is not the same: while servers are warmed up, every byte is verified. */
export interface Talk {
  readonly request: string;
  readonly response: string;
}

/** The figures of a result that are ratios. */
export type RatioField = 'ratioToRawEpoll' | 'ratioToThreads' | 'ratioToBlocking' | 'ratioToYield' | 'ratioToAwait';

export interface Suite {
  readonly name: 'echo' | 'exchange' | 'trace';
  readonly title: string;
  /** What is compared with what. The first is what the chart of ratios shows. */
  readonly ratios: ReadonlyArray<{ readonly field: RatioField; readonly server: string; readonly label: string }>;
  /** A server that waits while it is measured is no measure of the server. Where waiting is what is compared, it is. */
  readonly mustBeBusy: boolean;
  readonly connections: (mostConnections: number) => readonly number[];
  readonly quickConnections: readonly number[];
  /** The servers; `rates` is the port of the rates service, for those that ask it. */
  readonly servers: (programs: string, rates: number) => readonly Server[];
  /** What a suite whose servers do not echo asks for with GET. */
  readonly path: string | null;
}

const ECHO: Suite = {
  name: 'echo',
  title: 'Echo benchmark',
  ratios: [
    { field: 'ratioToRawEpoll', server: 'raw-epoll', label: '/ raw epoll' },
    { field: 'ratioToThreads', server: 'thread-per-connection', label: '/ threads' },
  ],
  mustBeBusy: true,
  connections: (mostConnections) => [1, 64, 1000, mostConnections],
  quickConnections: [1, 64, 1000],
  servers: (programs) => [...serverTable(programs), ...peerTable(programs)],
  path: null,
};

const EXCHANGE: Suite = {
  name: 'exchange',
  title: 'Exchange benchmark: HTTP requests that wait for another service',
  ratios: [
    { field: 'ratioToThreads', server: 'exchange-threads', label: '/ threads' },
    { field: 'ratioToBlocking', server: 'exchange-blocking', label: '/ blocking' },
  ],
  mustBeBusy: false,
  connections: () => [1, 16, 64, 256, 1000],
  quickConnections: [64, 256, 1000],
  servers: (_programs, rates) => exchangeTable(rates),
  path: '/convert?amount=12.50&base=EUR&target=PLN',
};

const TRACE: Suite = {
  name: 'trace',
  title: 'What it costs to record a trace',
  ratios: [
    { field: 'ratioToYield', server: 'onewait-yield', label: '/ yield' },
    { field: 'ratioToAwait', server: 'onewait-await', label: '/ await' },
  ],
  mustBeBusy: true,
  connections: () => [64, 1000],
  quickConnections: [64],
  servers: tracedTable,
  path: null,
};

export const SUITES: readonly Suite[] = [ECHO, EXCHANGE, TRACE];
