// What is going to be measured, and about how long that takes.

import type { Shape } from './sample.ts';

export interface Stage extends Shape {
  readonly rounds: number;
}

export interface Plan {
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly stages: readonly Stage[];
  /** Numbers of connections at which memory is measured. */
  readonly idleConnections: readonly number[];
}

export interface Wishes {
  readonly quick: boolean;
  readonly connections: readonly number[] | null;
  readonly messageBytes: number;
  readonly inFlight: number;
  readonly seconds: number | null;
  readonly rounds: number | null;
  /** The most that this machine allows. */
  readonly mostConnections: number;
}

/** 64 connections are the headline and get the most rounds; one connection is shown but not ranked and gets the fewest. */
function roundsFor(connections: number, quick: boolean): number {
  if (connections === 1) return quick ? 2 : 3;
  if (connections === 64) return quick ? 5 : 9;
  if (connections > 5_000) return 3;
  return quick ? 3 : 5;
}

/** Compilers need a while to be done with the hot path; queues of thousands of connections need one to fill. */
function warmupFor(connections: number, quick: boolean): number {
  if (connections > 5_000) return 1;
  return quick ? 0.2 : 0.5;
}

function secondsFor(connections: number, quick: boolean): number {
  if (connections === 1) return quick ? 0.4 : 1;
  return quick ? 0.6 : 1.5;
}

export function makePlan(wishes: Wishes): Plan {
  const { quick, messageBytes, inFlight, mostConnections } = wishes;
  const standard = quick ? [1, 64, 1000] : [1, 64, 1000, mostConnections];
  const counts = [...new Set(wishes.connections ?? standard)].sort((a, b) => a - b);
  const idle = Math.min(quick ? 2_000 : 5_000, mostConnections);
  const largest = counts.at(-1)!;
  return {
    messageBytes,
    inFlight,
    stages: counts.map((connections) => ({
      connections,
      messageBytes,
      inFlight,
      rounds: wishes.rounds ?? roundsFor(connections, quick),
      warmupSeconds: warmupFor(connections, quick),
      seconds: wishes.seconds ?? secondsFor(connections, quick),
    })),
    idleConnections: largest > idle ? [idle, largest] : [idle],
  };
}

/** Starting and ending the server, connecting, and draining; connections cost 40 microseconds each at either end. */
export function sampleSeconds(stage: Stage): number {
  return stage.warmupSeconds + stage.seconds + 0.2 + stage.connections * 80e-6;
}

export function idleSeconds(connections: number): number {
  return 1.3 + connections * 80e-6;
}

export function planSeconds(plan: Plan, servers: number): number {
  const windows = plan.stages.reduce((sum, stage) => sum + stage.rounds * sampleSeconds(stage), 0);
  const idle = plan.idleConnections.reduce((sum, connections) => sum + idleSeconds(connections), 0);
  return (windows + idle) * servers;
}
