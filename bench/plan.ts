// What is going to be measured, and about how long that takes.

import type { Shape } from './sample.ts';
import type { Suite } from './suite.ts';

export interface Stage extends Shape {
  /** Once per server: a just-in-time compiler needs a second, and a window before that would measure it. */
  readonly warmupSeconds: number;
  readonly rounds: number;
}

export interface Plan {
  readonly suite: Suite;
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly stages: readonly Stage[];
  /** Numbers of connections at which memory is measured. */
  readonly idleConnections: readonly number[];
}

export interface Wishes {
  readonly suite: Suite;
  readonly quick: boolean;
  readonly connections: readonly number[] | null;
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly seconds: number | null;
  readonly rounds: number | null;
  /** The most that this machine allows. */
  readonly mostConnections: number;
}

/**
 * Many short windows, for machines drift: a ratio compares windows that lie a second apart. 64 connections are the headline and get the most
 * rounds; one connection is shown but not ranked and gets the fewest.
 */
function roundsFor(connections: number, quick: boolean, suite: Suite): number {
  if (suite.path !== null) return quick ? 3 : 7;
  if (connections === 1) return quick ? 3 : 5;
  if (connections === 64) return quick ? 9 : 21;
  if (connections > 5_000) return 5;
  return quick ? 5 : 11;
}

function secondsFor(connections: number, quick: boolean, suite: Suite): number {
  if (suite.path !== null) return 1; // wrk counts whole ones
  if (connections > 5_000) return 1;
  return quick ? 0.3 : 0.5;
}

/** Queues of thousands of connections need a while to fill. */
function leadFor(connections: number): number {
  return connections > 5_000 ? 0.5 : 0.1;
}

export function makePlan(wishes: Wishes): Plan {
  const { suite, quick, inFlight, mostConnections } = wishes;
  const messageBytes = suite.path?.length ?? wishes.messageBytes;
  const standard = quick ? suite.quickConnections : suite.connections(mostConnections);
  const counts = [...new Set(wishes.connections ?? standard)].sort((a, b) => a - b);
  const idle = Math.min(quick ? 2_000 : 5_000, mostConnections);
  const largest = counts.at(-1)!;
  return {
    suite,
    messageBytes,
    inFlight,
    stages: counts.map((connections) => ({
      connections,
      messageBytes,
      inFlight,
      rounds: wishes.rounds ?? roundsFor(connections, quick, suite),
      warmupSeconds: 1.5,
      leadSeconds: leadFor(connections),
      seconds: wishes.seconds ?? secondsFor(connections, quick, suite),
    })),
    idleConnections: suite.name !== 'echo' ? [] : largest > idle ? [idle, largest] : [idle],
  };
}

/** Starting the generator, connecting and draining; connections cost 40 microseconds each at either end. */
export function sampleSeconds(stage: Stage): number {
  return stage.leadSeconds + stage.seconds + 0.15 + stage.connections * 80e-6;
}

export function warmupSeconds(stage: Stage): number {
  return 0.3 + stage.warmupSeconds + stage.connections * 80e-6;
}

export function idleSeconds(connections: number): number {
  return 1.3 + connections * 80e-6;
}

export function planSeconds(plan: Plan, servers: number): number {
  const windows = plan.stages.reduce(
    (sum, stage) => sum + warmupSeconds(stage) + stage.rounds * sampleSeconds(stage),
    0,
  );
  const idle = plan.idleConnections.reduce((sum, connections) => sum + idleSeconds(connections), 0);
  return (windows + idle) * servers;
}
