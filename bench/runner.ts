// The order of things. All servers of one number of connections are measured in turn, round by round, each round starting
// with another one: what drifts on the machine meets all of them, and a ratio compares neighbours.
//
// For each number of connections every server is started anew and warmed up; then it serves all rounds and sleeps between its windows.
// A fresh process for every window would measure compilers: in its first second a Node server takes a tenth to a half more per round trip.
//
// A sample that does not count is repeated at once, twice at most; but on a machine that is busy with something else no
// repetition helps, so all repetitions together are no more than half the samples. A server that dies is left out from then
// on; the others go on.

import { connectionsOf } from './format.ts';
import { type IdleSample, measureIdle } from './idle.ts';
import { type Lab, type RunningServer, SampleFailure, startServer } from './lab.ts';
import { idleSeconds, type Plan, type Stage, sampleSeconds, warmupSeconds } from './plan.ts';
import type { Progress } from './progress.ts';
import { type Sample, takeSample, warmUp } from './sample.ts';
import type { Server } from './servers.ts';

const MOST_REPEATS = 2;

/** Filled while running, so that what there is can be written when the run is interrupted. */
export interface Run {
  readonly samples: Sample[];
  readonly idle: IdleSample[];
  /** By server: why it was given up. */
  readonly failures: Map<string, string>;
}

export class Runner {
  readonly run: Run = { samples: [], idle: [], failures: new Map() };
  readonly #lab: Lab;
  readonly #plan: Plan;
  readonly #servers: readonly Server[];
  readonly #progress: Progress;
  #repeatsLeft = 0;

  constructor(lab: Lab, plan: Plan, servers: readonly Server[], progress: Progress) {
    this.#lab = lab;
    this.#plan = plan;
    this.#servers = servers;
    this.#progress = progress;
  }

  async measureAll(): Promise<Run> {
    for (const stage of this.#plan.stages) await this.#stage(stage);
    for (const connections of this.#plan.idleConnections) {
      for (const server of this.#servers) await this.#idle(server, connections);
    }
    this.#progress.clear();
    return this.run;
  }

  async #stage(stage: Stage): Promise<void> {
    const running = new Map<Server, RunningServer>();
    this.#repeatsLeft = Math.ceil((stage.rounds * this.#servers.length) / 2);
    try {
      for (const server of this.#servers) {
        const what = `${connectionsOf(stage.connections)}, warming up: ${server.name}`;
        await this.#attempt(server, what, warmupSeconds(stage), async () => {
          const started = await startServer(this.#lab, server);
          running.set(server, started);
          await warmUp(this.#lab, started, stage, stage.warmupSeconds);
        });
      }
      for (let round = 0; round < stage.rounds; round++) await this.#round(stage, round, running);
    } finally {
      await Promise.all([...running.values()].map(({ process }) => process.end()));
    }
  }

  async #round(stage: Stage, round: number, running: ReadonlyMap<Server, RunningServer>): Promise<void> {
    const first = round % this.#servers.length;
    for (const server of [...this.#servers.slice(first), ...this.#servers.slice(0, first)]) {
      const what = `${connectionsOf(stage.connections)}, round ${round + 1} of ${stage.rounds}: ${server.name}`;
      await this.#attempt(server, what, sampleSeconds(stage), async () => {
        for (let repeats = 0; ; repeats++) {
          const sample = await takeSample(this.#lab, running.get(server)!, stage, round, this.#plan.suite);
          this.run.samples.push(sample);
          if (!sample.repeat || repeats === MOST_REPEATS || this.#repeatsLeft === 0) return;
          this.#repeatsLeft--;
          this.#progress.begin(`${what} again, for ${sample.whyInvalid}`);
        }
      });
    }
  }

  async #idle(server: Server, connections: number): Promise<void> {
    await this.#attempt(
      server,
      `idle, ${connectionsOf(connections)}: ${server.name}`,
      idleSeconds(connections),
      async () => {
        this.run.idle.push(await measureIdle(this.#lab, server, connections, this.#plan.messageBytes));
      },
    );
  }

  async #attempt(server: Server, what: string, plannedSeconds: number, measure: () => Promise<void>): Promise<void> {
    if (!this.run.failures.has(server.name)) {
      this.#progress.begin(what);
      try {
        await measure();
      } catch (error) {
        if (!(error instanceof SampleFailure)) throw error;
        this.run.failures.set(server.name, error.message);
        this.#progress.note(`onewait bench: ${error.message} (${what}); it is left out from here on`);
      }
    }
    this.#progress.advance(plannedSeconds);
  }
}
