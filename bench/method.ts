// How it was measured, in words: what stands at the end of a report, and what a reader needs to do it again.

import { percent } from './format.ts';
import type { Machine } from './machine.ts';
import { type Plan, processesOf } from './plan.ts';
import { BUSY_ENOUGH, LATEST_MICROS, ON_TIME } from './sample.ts';
import type { Shape } from './shape.ts';
import type { Demand, Measure } from './suite.ts';
import type { Target } from './target.ts';

const VALIDITY: Readonly<Record<Demand, string>> = {
  busy: `the server was at least ${percent(BUSY_ENOUGH)} busy (CPU time of its whole process over wall time); at 1 connection wakeups are measured: shown, not ranked`,
  waits: `either the server was at least ${percent(BUSY_ENOUGH)} busy or the other core was not: who waits is what is compared`,
  any: "the server's CPU time is what is compared",
  unwatched: `the generator was less than ${percent(BUSY_ENOUGH)} busy: what limited the server is not known`,
  'on-time': `in an open loop at least ${percent(ON_TIME)} of the messages were answered in time and 99 of 100 were sent no later than ${LATEST_MICROS} µs after they should have been`,
};

const FIGURES: Readonly<Record<Measure, string>> = {
  rate: 'rates',
  capacity: 'rates per CPU time of the server',
  p99: 'p99 latencies: less is better',
};

/** How a suite was measured. */
export function describeSuite(
  { suite, stages, idleConnections, settleSeconds }: Plan,
  shapes: readonly Shape[],
): Record<string, string> {
  const memory: Record<string, string> =
    idleConnections.length === 0
      ? {}
      : {
          memory: `growth from 64 idle connections to all, each after one echo and ${settleSeconds} s of idleness, divided by their number: Rss of smaps_rollup; kernel stacks by number of threads and /proc/meminfo; all servers are idle at the same time`,
        };
  if (stages.length === 0) return memory;
  const lengths = new Set(
    stages.map(
      (stage) => `${stage.rounds} rounds of ${stage.seconds} s, of ${processesOf(stage)} processes of each server`,
    ),
  );
  const load = shapes.some(({ rate }) => rate !== null)
    ? 'open loop where a rate is given: messages are sent on a fixed schedule, and latency counts from when each should have been sent'
    : 'closed loop: the next message is sent when the answer to one has come';
  return {
    load:
      suite.path === null
        ? `${load}; every byte verified`
        : `closed loop of wrk; every status checked, and while warming up every byte`,
    ...(shapes.some(({ rate }) => rate !== null) ? { hiccups: HICCUPS } : {}),
    rounds: [...lengths].join('; '),
    validity: `a sample counts if every connection was established and ${VALIDITY[suite.demand]}`,
    figures: `medians over rounds; a ratio is the median of the ratios of ${FIGURES[suite.measure]} within a round`,
    ...memory,
  };
}

const HICCUPS =
  'messages that were meant to leave while the machine had taken one of the two cores away, half a millisecond before that, or within three times as long after it, are in no percentile; their share is shown. It has taken a core away when a process other than the server and the generator ran there for 0.1 ms or more, which the kernel tells (perf_event_open, CAP_PERFMON), or when threads with real-time priority (CAP_SYS_NICE) could not run there for a millisecond (of half of one to a whole, some). Without the one privilege other processes count as the server does, without the other all messages do';

/** What is to be known where the server is not watched. */
export function describeTarget({ pinning }: Machine, { name, host, port }: Target): Record<string, string> {
  const generator =
    pinning === null ? 'generator not pinned' : `generator pinned to CPU ${pinning.generatorCpu}, where it polls`;
  const address = `${host}:${port}`;
  return {
    cores: `${generator}; the server was not watched`,
    server: `${name === address ? '' : `${name}, at `}${address}, which was not started here: its CPU time, threads and memory are not known`,
    order: 'the same server throughout, warmed up before each stage',
    latency:
      'of a closed loop from the first attempt to send a message to its complete return; percentiles of all counting windows together',
  };
}

/** What is true of all suites. */
export function describeMethod({ pinning }: Machine): Record<string, string> {
  return {
    cores:
      pinning === null
        ? 'not pinned: there is one core only, so nothing here is valid'
        : `server pinned to CPU ${pinning.serverCpu}, generator to CPU ${pinning.generatorCpu}, where it polls; what the exchange asks is there, too`,
    order: 'a fresh server for each stage, warmed up; all servers in each round, the order rotated each round',
    latency:
      'of a closed loop from the first attempt to send a message to its complete return, of a saturated server; percentiles of all counting windows together',
  };
}
