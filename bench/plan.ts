// What is going to be measured, and about how long that takes.

import type { Shape } from './shape.ts';
import type { Effort, Stage, Suite } from './suite.ts';

export interface Plan {
  readonly suite: Suite;
  readonly stages: readonly Stage[];
  /** Numbers of connections at which memory is measured. */
  readonly idleConnections: readonly number[];
  /** How many times. */
  readonly idleRounds: number;
  /** Of messages while memory is measured. */
  readonly messageBytes: number;
  /** How long nothing happens before memory is looked at. */
  readonly settleSeconds: number;
}

export interface Wishes {
  readonly suite: Suite;
  readonly effort: Effort;
  readonly connections: readonly number[] | null;
  readonly messageBytes: number | null;
  readonly inFlight: number | null;
  readonly seconds: number | null;
  readonly rounds: number | null;
  readonly settleSeconds: number;
  /** The most that this machine allows. */
  readonly mostConnections: number;
}

/** The most connections that a plan has at a time, beside what was wished for. */
export const mostBeside = ({ stages }: Pick<Plan, 'stages'>): number =>
  Math.max(0, ...stages.flatMap(({ shapes }) => shapes.map((shape) => connectionsIn(shape) - shape.connections)));

/** What is wished for takes the place of what the suite has; stages that become the same are one. */
function wished(stage: Stage, wishes: Wishes, connections: number | null): Stage {
  const change = (shape: Shape): Shape => ({
    ...shape,
    connections: connections ?? shape.connections,
    messageBytes: wishes.messageBytes ?? shape.messageBytes,
    inFlight: wishes.inFlight ?? shape.inFlight,
  });
  return {
    ...stage,
    shapes: stage.shapes.map(change),
    rounds: wishes.rounds ?? stage.rounds,
    seconds: wishes.seconds ?? stage.seconds,
  };
}

/** Of the stages whose shapes are the same only the first is left. */
function distinct(stages: readonly Stage[]): Stage[] {
  const keys = stages.map(({ shapes, pace }) => JSON.stringify([shapes, pace]));
  return stages.filter((_, i) => keys.indexOf(keys[i]!) === i);
}

export function makePlan(wishes: Wishes): Plan {
  const { suite, effort, mostConnections } = wishes;
  const stages = suite.stages(effort, mostConnections);
  const counts = wishes.connections === null ? null : [...new Set(wishes.connections)].sort((a, b) => a - b);
  const chosen = stages.flatMap((stage) =>
    (counts ?? [null]).map((connections) => {
      // A number of connections that the suite has itself comes with that stage's length and rounds.
      const own = JSON.stringify({ ...stage.shapes[0]!, connections });
      const alike = stages.find(({ shapes, pace }) => pace === stage.pace && JSON.stringify(shapes[0]) === own);
      return wished(alike ?? stage, wishes, connections);
    }),
  );
  // Where there is nothing else to measure, it is memory that is meant.
  const idle = stages.length === 0 && counts !== null ? counts : suite.memory(effort, mostConnections);
  return {
    suite,
    stages: distinct(chosen),
    idleConnections: [...new Set(idle.map((count) => Math.min(count, mostConnections)))],
    idleRounds: Math.min(suite.memoryRounds(effort), wishes.rounds ?? Number.POSITIVE_INFINITY),
    messageBytes: wishes.messageBytes ?? 64,
    settleSeconds: wishes.settleSeconds,
  };
}

const connectionsIn = ({ connections, idleConnections, flooders }: Shape): number =>
  connections + idleConnections + flooders;

/** Starting the generator, connecting and draining; connections cost 40 microseconds each at either end. */
export function sampleSeconds(stage: Stage, shape: Shape): number {
  return stage.leadSeconds + stage.seconds + 0.15 + connectionsIn(shape) * 80e-6;
}

/**
 * So often the servers of a stage are started anew. A process may be a little faster or slower than the next one of the same server for as long as it lives
 * (where memory lies, what its compiler saw first): spreads are to have that in them.
 */
const PROCESSES = 3;

/** How many rounds a process serves. */
export const roundsPerProcess = ({ rounds }: Pick<Stage, 'rounds'>): number => Math.ceil(rounds / PROCESSES);

export const processesOf = (stage: Pick<Stage, 'rounds'>): number => Math.ceil(stage.rounds / roundsPerProcess(stage));

export function warmupSeconds(stage: Stage): number {
  return 0.3 + stage.warmupSeconds + stage.shapes[0]!.connections * 80e-6;
}

/** Of all servers at the same time; they share the work of connecting. */
export function idleSeconds(
  { settleSeconds }: Pick<Plan, 'settleSeconds'>,
  connections: number,
  servers: number,
): number {
  return 1 + 2 * settleSeconds + connections * servers * 80e-6;
}

export function planSeconds(plan: Plan, servers: number): number {
  const { stages, idleConnections, idleRounds } = plan;
  const windows = stages.flatMap((stage) => [
    processesOf(stage) * warmupSeconds(stage),
    ...stage.shapes.map((shape) => stage.rounds * sampleSeconds(stage, shape)),
  ]);
  const sum = (seconds: readonly number[]) => seconds.reduce((total, value) => total + value, 0);
  const idle = idleConnections.map((connections) => idleRounds * idleSeconds(plan, connections, servers));
  return sum(windows) * servers + sum(idle);
}
