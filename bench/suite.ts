// Ways of measuring: what servers are asked, which they are, whom they are compared with, and when a sample counts. A suite is one row
// here; the rest of the benchmark knows none of them by name.

import { peerTable } from './peers.ts';
import {
  coresTable,
  exchangeTable,
  pollerTable,
  type Server,
  serverTable,
  taskLimitTable,
  tracedTable,
} from './servers.ts';
import { type Shape, shapeOf } from './shape.ts';

/** What is sent and what must come back, where that is not the same: while servers are warmed up, every byte is verified. */
export interface Talk {
  readonly request: string;
  readonly response: string;
}

/** The figures of a result that are ratios. */
export const RATIO_FIELDS = [
  'ratioToRawEpoll',
  'ratioToThreads',
  'ratioToBlocking',
  'ratioToYield',
  'ratioToAwait',
  'ratioToNoIdle',
  'ratioToOneLoop',
] as const;
export type RatioField = (typeof RATIO_FIELDS)[number];

/** What is compared with what, of one round. */
export interface Ratio {
  readonly field: RatioField;
  readonly label: string;
  /** Null: the server itself, in the other shape. */
  readonly server: string | null;
  /** In which other shape, if not in the same. */
  readonly difference?: Partial<Shape>;
}

/**
 * What ratios are of. `rate`: round trips per second. `capacity`: round trips per second of the server's CPU time, where the generator
 * would be the limit. `p99`: of latency, so less is better.
 */
export type Measure = 'rate' | 'capacity' | 'p99';

/**
 * When a sample counts. `busy`: the server was never waiting, or whatever it waited for would have been measured. `waits`: it may wait, for
 * waiting is what is compared, unless the generator is why. `any`: it may wait for anything, for its CPU time is compared. `on-time`: it
 * answered at the rate it was asked at, and was asked on time; in a closed loop, which is to tell what it can do, it must be busy. `unwatched`: nothing is known of the server, so whenever the generator was not the
 * limit.
 */
export type Demand = 'busy' | 'waits' | 'any' | 'on-time' | 'unwatched';

/** An open loop's rate, as a share of what one of the servers can do in a closed loop. */
export interface Pace {
  readonly share: number;
  /** The name of a server, or the first or last of those that are measured. */
  readonly of: 'slowest' | 'fastest' | (string & {});
}

/** Shapes that are measured in turn, and servers in turn in each, round by round. */
export interface Stage {
  readonly shapes: readonly Shape[];
  /** Not null: the rate of the shapes is not known before the servers' capacity is, which the stage before has measured. */
  readonly pace: Pace | null;
  readonly rounds: number;
  /** Once per process: a just-in-time compiler needs a second, and a window before that would measure it. */
  readonly warmupSeconds: number;
  /** Before each window, with its connections. */
  readonly leadSeconds: number;
  readonly seconds: number;
}

export type Effort = 'quick' | 'standard' | 'full';

export interface Suite {
  readonly name: string;
  readonly title: string;
  /** Completes 'measures ...'. */
  readonly summary: string;
  readonly measure: Measure;
  /** The first is what the chart of ratios shows. */
  readonly ratios: readonly Ratio[];
  readonly demand: Demand;
  readonly stages: (effort: Effort, mostConnections: number) => readonly Stage[];
  /** Numbers of connections at which memory is measured. */
  readonly memory: (effort: Effort, mostConnections: number) => readonly number[];
  /** How many times, each in processes of its own. */
  readonly memoryRounds: (effort: Effort) => number;
  /** The servers; `rates` is the port of the rates service, for those that ask it. */
  readonly servers: (programs: string, rates: number) => readonly Server[];
  /** Whether it compares whatever echoes, and not what only servers of its own have. */
  readonly anyServer: boolean;
  /** What a suite whose servers do not echo asks for with GET. */
  readonly path: string | null;
}

/**
 * Many short windows, for machines drift: a ratio compares windows that lie a second apart. 64 connections are the headline and get the most
 * rounds; one connection is shown but not ranked and gets the fewest.
 */
function roundsFor({ connections, messageBytes }: Shape, effort: Effort): number {
  const quick = effort === 'quick';
  if (connections === 1) return quick ? 3 : 5;
  if (connections > 5_000) return 5;
  if (messageBytes !== null && messageBytes > 64) return quick ? 5 : 11;
  if (connections === 64) return quick ? 9 : 21;
  return quick ? 5 : 11;
}

/** Queues of thousands of connections need a while to fill. */
function closedLoop(shapes: readonly Shape[], effort: Effort, difference: Partial<Stage> = {}): Stage[] {
  return shapes.map((shape) => {
    const isLarge = shape.connections > 5_000;
    return {
      shapes: [shape],
      pace: null,
      rounds: roundsFor(shape, effort),
      warmupSeconds: 1.5,
      // A process that others had the core from for some seconds is slow at first, a Node by a fifth of its rate.
      leadSeconds: isLarge ? 1 : effort === 'quick' ? 0.3 : 0.6,
      seconds: isLarge ? 1 : effort === 'quick' ? 0.3 : 0.5,
      ...difference,
    };
  });
}

const connectionsEach = (counts: readonly number[], difference: Partial<Shape> = {}): Shape[] =>
  counts.map((connections) => shapeOf({ ...difference, connections }));

const TO_FLOOR: Ratio = { field: 'ratioToRawEpoll', server: 'raw-epoll', label: '/ raw epoll' };
const TO_THREADS: Ratio = { field: 'ratioToThreads', server: 'thread-per-connection', label: '/ threads' };

const none = (): readonly never[] => [];

const ECHO: Suite = {
  name: 'echo',
  title: 'Echo',
  summary: 'how many messages a server echoes, by number of connections, and what a connection costs it',
  measure: 'rate',
  ratios: [TO_FLOOR, TO_THREADS],
  demand: 'busy',
  stages: (effort, most) => {
    const counts = { quick: [1, 64, 1000], standard: [1, 64, 1000, most], full: [1, 16, 64, 256, 1000, 10_000, most] };
    return closedLoop(connectionsEach(counts[effort]), effort);
  },
  memory: (effort, most) => (effort === 'quick' ? [5_000] : [5_000, most]),
  memoryRounds: (effort) => (effort === 'quick' ? 1 : 3),
  servers: (programs) => [...serverTable(programs), ...peerTable(programs)],
  anyServer: true,
  path: null,
};

const PIPELINED: Suite = {
  ...ECHO,
  name: 'pipelined',
  title: 'Echo, 16 messages in flight',
  summary: 'the same with 16 messages in flight on each connection',
  stages: (effort) =>
    closedLoop(connectionsEach(effort === 'quick' ? [64] : [64, 1000], { inFlight: 16 }), effort, {
      rounds: effort === 'quick' ? 5 : 11,
    }),
  memory: none,
};

/** More than this in flight at once is a test of the machine's memory. */
const MOST_BYTES_IN_FLIGHT = 256 * 2 ** 20;

const SIZES: Suite = {
  ...ECHO,
  name: 'sizes',
  title: 'Echo, by size of the messages',
  summary: 'the same with messages of 1 KiB to 1 MiB: for those the generator needs as much time as the server',
  measure: 'capacity',
  demand: 'any',
  stages: (effort) => {
    const counts = effort === 'full' ? [1, 16, 64, 256, 1000] : [64];
    const shapes = [2 ** 10, 2 ** 14, 2 ** 20].flatMap((messageBytes) =>
      connectionsEach(counts, { messageBytes }).filter(
        ({ connections }) => connections * messageBytes <= MOST_BYTES_IN_FLIGHT,
      ),
    );
    return closedLoop(shapes, effort);
  },
  memory: none,
};

/** Below and above what the slowest can do, and half of what Node can: the rates are the same for all. */
const PACES: readonly Pace[] = [
  { share: 0.25, of: 'slowest' },
  { share: 0.5, of: 'slowest' },
  { share: 0.5, of: 'node-net' },
  { share: 0.8, of: 'slowest' },
  { share: 1.2, of: 'slowest' },
  { share: 0.8, of: 'fastest' },
];
const QUICK_PACES: readonly Pace[] = [{ share: 0.5, of: 'node-net' }];

const LATENCY: Suite = {
  ...ECHO,
  name: 'latency',
  title: 'Latency at fixed rates',
  summary: 'how long a message takes when messages come at a fixed rate, counted from when it should have been sent',
  measure: 'p99',
  demand: 'on-time',
  stages: (effort) => {
    const [capacity] = closedLoop([shapeOf()], effort, { rounds: 3 });
    // Half of a capacity is what is quoted.
    const roundsAt = ({ share }: Pace) => (share === 0.5 && effort !== 'quick' ? 5 : 3) * (effort === 'full' ? 2 : 1);
    return [
      capacity!,
      ...(effort === 'quick' ? QUICK_PACES : PACES).map((pace) => ({
        ...capacity!,
        pace,
        rounds: roundsAt(pace),
        // A server under a steady load is measured, not one that has just had a pause, as each here has while the others are measured: V8 gives
        // a heap in use its size by what has survived since, which takes 15 seconds at half of what the server can do, and collects twice as
        // often before that. wrk2 lets a load run for ten seconds before it counts.
        leadSeconds: effort === 'quick' ? 0.3 : 20,
        seconds: effort === 'quick' ? 1 : 3,
      })),
    ];
  },
  memory: none,
};

const CHURN: Suite = {
  ...ECHO,
  name: 'churn',
  title: 'A connection for each message',
  summary: 'how many connections a second a server accepts, echoes on and closes',
  measure: 'capacity',
  demand: 'any',
  stages: (effort) =>
    closedLoop([shapeOf({ churn: true })], effort, { rounds: effort === 'quick' ? 5 : 11, seconds: 1 }),
  memory: none,
};

const IDLE: Suite = {
  ...ECHO,
  name: 'idle',
  title: 'Among idle connections',
  summary: 'how much slower the active connections become the more idle ones there are, on epoll, poll and select',
  ratios: [{ field: 'ratioToNoIdle', server: null, difference: { idleConnections: 0 }, label: '/ none idle' }],
  stages: (effort, most) => {
    const counts = effort === 'quick' ? [0, 900, 4_000] : [0, 200, 900, 4_000, 18_000];
    const shapes = counts.filter((count) => count + 64 <= most).map((idleConnections) => shapeOf({ idleConnections }));
    const [stage] = closedLoop([shapeOf()], effort);
    return [{ ...stage!, shapes, rounds: effort === 'quick' ? 3 : 7 }];
  },
  memory: none,
  servers: pollerTable,
  anyServer: false,
};

const MEMORY: Suite = {
  ...ECHO,
  name: 'memory',
  title: 'Memory per idle connection',
  summary: 'what a connection costs while nothing happens on it',
  stages: none,
  anyServer: false,
};

const FAIR: Suite = {
  ...ECHO,
  name: 'fair',
  title: 'Beside a flood',
  summary: 'how long 100 connections that say little wait for an answer while one sends without pause',
  measure: 'p99',
  demand: 'on-time',
  stages: (effort) => {
    const pingers = { connections: 100, rate: 5_000 };
    const [stage] = closedLoop([shapeOf()], effort);
    const shapes = [shapeOf(pingers), shapeOf({ ...pingers, flooders: 1 })];
    // A server is warmed up with messages; a flood is something else to its compiler and its memory.
    const [rounds, leadSeconds, seconds] = effort === 'quick' ? [3, 2, 1] : [5, 5, 2];
    return [{ ...stage!, shapes, rounds, leadSeconds, seconds }];
  },
  memory: none,
};

const THREADS_LIMIT: Suite = {
  ...ECHO,
  name: 'threads-limit',
  title: 'Until threads run out',
  summary: 'how many connections there can be until a thread for each cannot be made, and what becomes of the others',
  stages: none,
  memoryRounds: () => 1,
  memory: (effort, most) =>
    (effort === 'quick' ? [6_000] : [1_000, 2_000, 4_000, 6_000, 12_000, most]).filter((count) => count <= most),
  servers: taskLimitTable,
  anyServer: false,
};

const CORES: Suite = {
  ...ECHO,
  name: 'cores',
  title: 'Several loops',
  summary: 'several loops that share a port (SO_REUSEPORT), in worker threads and in processes',
  ratios: [{ field: 'ratioToOneLoop', server: 'onewait-1', label: '/ one loop' }],
  demand: 'waits',
  stages: (effort) => closedLoop(connectionsEach([256]), effort),
  memory: none,
  servers: coresTable,
  anyServer: false,
};

const EXCHANGE: Suite = {
  name: 'exchange',
  title: 'Exchange: HTTP requests that wait for another service',
  summary: "the article's exchange over HTTP, written in five ways; the client is wrk",
  measure: 'rate',
  ratios: [
    { field: 'ratioToThreads', server: 'exchange-threads', label: '/ threads' },
    { field: 'ratioToBlocking', server: 'exchange-blocking', label: '/ blocking' },
  ],
  demand: 'waits',
  stages: (effort) =>
    // wrk counts whole seconds.
    closedLoop(
      connectionsEach(effort === 'quick' ? [64, 256, 1000] : [1, 16, 64, 256, 1000], { messageBytes: null }),
      effort,
      {
        rounds: effort === 'quick' ? 3 : 7,
        seconds: 1,
      },
    ),
  memory: none,
  memoryRounds: () => 0,
  servers: (_programs, rates) => exchangeTable(rates),
  anyServer: false,
  path: '/convert?amount=12.50&base=EUR&target=PLN',
};

const TRACE: Suite = {
  ...ECHO,
  name: 'trace',
  title: 'What it costs to record a trace',
  summary: 'servers that record a trace of all they do, and the same without',
  ratios: [
    { field: 'ratioToYield', server: 'onewait-yield', label: '/ yield' },
    { field: 'ratioToAwait', server: 'onewait-await', label: '/ await' },
  ],
  stages: (effort) => closedLoop(connectionsEach(effort === 'quick' ? [64] : [64, 1000]), effort),
  memory: none,
  servers: tracedTable,
  anyServer: false,
};

export const SUITES: readonly Suite[] = [
  ECHO,
  PIPELINED,
  SIZES,
  LATENCY,
  CHURN,
  IDLE,
  MEMORY,
  FAIR,
  THREADS_LIMIT,
  CORES,
  TRACE,
  EXCHANGE,
];
