// The order of things. All servers of a stage are measured in turn, in each of its shapes, round by round, each round starting
// with another one: what drifts on the machine meets all of them, and a ratio compares neighbours.
//
// Up to three times in each stage every server is started anew and warmed up; then it serves some rounds, and sleeps between its windows.
// A fresh process for every window would measure compilers: in its first second a Node server takes a tenth to a half more per round trip.
//
// A sample that does not count is repeated at once, twice at most; but on a machine that is busy with something else no
// repetition helps, so all repetitions together are no more than half the samples. A server that dies is left out from then
// on; the others go on.

import { connectionsOf, percent, whole } from './format.ts';
import { type IdleSample, inTheMiddle, measureIdle } from './idle.ts';
import { type Lab, type Reachable, reach, SampleFailure } from './lab.ts';
import { idleSeconds, type Plan, processesOf, roundsPerProcess, sampleSeconds, warmupSeconds } from './plan.ts';
import type { Progress } from './progress.ts';
import { exceedsGenerator, type Sample, takeSample, warmUp } from './sample.ts';
import type { Server } from './servers.ts';
import { type Shape, titleOf } from './shape.ts';
import { median } from './stats.ts';
import type { Pace, Stage } from './suite.ts';
import type { Target } from './target.ts';

const MOST_REPEATS = 2;
/** A server that is asked again was under load a moment ago. */
const REPEAT_LEAD_SECONDS = 2;

/** Filled while running, so that what there is can be written when the run is interrupted. */
export interface Run {
  /** What was measured, in this order: an open loop's rate is known only then. */
  readonly shapes: Shape[];
  readonly samples: Sample[];
  readonly idle: IdleSample[];
  /** By server: why it was given up. */
  readonly failures: Map<string, string>;
}

export const emptyRun = (): Run => ({ shapes: [], samples: [], idle: [], failures: new Map() });

/** The shapes of a stage, and how it is called while it is under way. */
interface Measured extends Stage {
  readonly title: string;
}

/** What can be asked: a server that is started here, or one that runs already. */
type Subject = Server | Target;

export class Runner {
  readonly run: Run = emptyRun();
  readonly #lab: Lab;
  readonly #plan: Plan;
  readonly #servers: readonly Subject[];
  readonly #progress: Progress;
  #repeatsLeft = 0;

  constructor(lab: Lab, plan: Plan, servers: readonly Subject[], progress: Progress) {
    this.#lab = lab;
    this.#plan = plan;
    this.#servers = servers;
    this.#progress = progress;
  }

  async measureAll(): Promise<Run> {
    for (const stage of this.#plan.stages) await this.#stage(stage);
    for (const connections of this.#plan.idleConnections) await this.#idle(connections);
    this.#progress.clear();
    return this.run;
  }

  /** What each server can do, in the order of what it can. */
  #capacities(): Array<[server: string, rate: number]> {
    const closed = this.run.samples.filter((sample) => sample.pacing === null);
    const rates = this.#servers.map(({ name }): [string, number | null] => {
      const own = closed.filter(({ server }) => server === name);
      const counting = own.filter(({ valid }) => valid);
      return [name, median((counting.length > 0 ? counting : own).map((sample) => sample.roundTripsPerSecond))];
    });
    const known = rates.filter((pair): pair is [string, number] => pair[1] !== null);
    return known.sort(([, a], [, b]) => a - b);
  }

  /** Rounded to thousands: a rate is to be read. Null if the server that it depends on is not there. */
  #rateOf({ share, of }: Pace): number | null {
    const capacities = this.#capacities();
    const [, capacity] =
      (of === 'slowest'
        ? capacities[0]
        : of === 'fastest'
          ? capacities.at(-1)
          : capacities.find(([name]) => name === of)) ?? [];
    return capacity === undefined ? null : Math.max(1_000, Math.round((share * capacity) / 1_000) * 1_000);
  }

  /** Null of a stage whose rate cannot be known, or has been measured. */
  #fix(stage: Stage): Measured | null {
    if (stage.pace === null) return { ...stage, title: titleOf(stage.shapes[0]!) };
    const rate = this.#rateOf(stage.pace);
    if (rate === null) {
      const { share, of } = stage.pace;
      this.#note(
        `no rate of ${percent(share)} of the capacity of ${of}, which is not known: it is not among the servers, or did not live to be measured`,
      );
    }
    if (rate === null || this.run.shapes.some((shape) => shape.rate === rate)) return null;
    const title = `${whole(rate)} per second, ${percent(stage.pace.share)} of the capacity of ${stage.pace.of}`;
    return { ...stage, shapes: stage.shapes.map((shape) => ({ ...shape, rate })), title };
  }

  async #stage(planned: Stage): Promise<void> {
    const stage = this.#fix(planned);
    if (stage === null) return;
    this.run.shapes.push(...stage.shapes);
    const running = new Map<Subject, Reachable>();
    this.#repeatsLeft = Math.ceil((stage.rounds * stage.shapes.length * this.#servers.length) / 2);
    try {
      for (let round = 0; round < stage.rounds; round++) {
        if (round % roundsPerProcess(stage) === 0) await this.#startAnew(stage, running);
        await this.#round(stage, round, running);
        const taken = this.run.samples.filter(({ shape }) =>
          stage.shapes.some((own) => titleOf(own) === titleOf(shape)),
        );
        const names = this.#servers.map(({ name }) => name).filter((name) => !this.run.failures.has(name));
        if (round === stage.rounds - 1 || !exceedsGenerator(taken, names)) continue;
        this.#note(`${stage.title}: more than the generator can ask for; no further rounds`);
        const roundSeconds = stage.shapes.reduce((sum, shape) => sum + sampleSeconds(stage, shape), 0);
        const starts = processesOf(stage) - 1 - Math.floor(round / roundsPerProcess(stage));
        const left = (stage.rounds - 1 - round) * roundSeconds + starts * warmupSeconds(stage);
        this.#progress.advance(left * this.#servers.length);
        return;
      }
    } finally {
      await end(running);
    }
  }

  async #startAnew(stage: Measured, running: Map<Subject, Reachable>): Promise<void> {
    await end(running);
    for (const server of this.#servers) {
      await this.#attempt(server, `${stage.title}, warming up: ${server.name}`, warmupSeconds(stage), async () => {
        const started = await reach(this.#lab, server);
        running.set(server, started);
        await warmUp(this.#lab, started, stage.shapes[0]!, stage.warmupSeconds);
      });
    }
  }

  async #round(stage: Measured, round: number, running: ReadonlyMap<Subject, Reachable>): Promise<void> {
    const first = round % this.#servers.length;
    for (const server of [...this.#servers.slice(first), ...this.#servers.slice(0, first)]) {
      const start = round % stage.shapes.length;
      for (const shape of [...stage.shapes.slice(start), ...stage.shapes.slice(0, start)]) {
        const most = 'command' in server ? server.mostConnections : undefined;
        if (shape.connections + shape.idleConnections > (most ?? Number.POSITIVE_INFINITY)) {
          if (round === 0)
            this.#note(
              `${titleOf(shape)}: without ${server.name}, which takes ${whole(most!)} connections at the most`,
            );
          continue;
        }
        const what = `${titleOf(shape)}, round ${round + 1} of ${stage.rounds}: ${server.name}`;
        await this.#attempt(server, what, sampleSeconds(stage, shape), async () => {
          for (let repeats = 0; ; repeats++) {
            const leadSeconds = repeats === 0 ? stage.leadSeconds : Math.min(stage.leadSeconds, REPEAT_LEAD_SECONDS);
            const seconds = { ...stage, leadSeconds };
            const sample = await takeSample(this.#lab, running.get(server)!, shape, seconds, round, this.#plan.suite);
            this.run.samples.push(sample);
            if (!sample.repeat || repeats === MOST_REPEATS || this.#repeatsLeft === 0) return;
            this.#repeatsLeft--;
            this.#progress.begin(`${what} again, for ${sample.whyInvalid}`);
          }
        });
      }
    }
  }

  /** Of all servers at the same time. */
  async #idle(connections: number): Promise<void> {
    const samples: IdleSample[] = [];
    const { idleRounds } = this.#plan;
    for (let round = 0; round < idleRounds; round++) {
      const title = `idle, ${connectionsOf(connections)}, round ${round + 1} of ${idleRounds}`;
      this.#progress.begin(title);
      const measured = this.#servers
        .filter((server) => 'command' in server)
        .filter(({ name }) => !this.run.failures.has(name))
        .map((server) =>
          this.#guard(server, title, async () => {
            samples.push(await measureIdle(this.#lab, server, connections, this.#plan));
          }),
        );
      await Promise.all(measured);
      this.#progress.advance(idleSeconds(this.#plan, connections, this.#servers.length));
    }
    for (const name of new Set(samples.map(({ server }) => server)))
      this.run.idle.push(inTheMiddle(samples.filter(({ server }) => server === name)));
  }

  async #attempt(server: Subject, what: string, plannedSeconds: number, measure: () => Promise<void>): Promise<void> {
    if (!this.run.failures.has(server.name)) {
      this.#progress.begin(what);
      await this.#guard(server, what, measure);
    }
    this.#progress.advance(plannedSeconds);
  }

  #note(message: string): void {
    this.#progress.note(`onewait bench: ${message}`);
  }

  /** A server that fails is left out; the others go on. */
  async #guard(server: Subject, what: string, measure: () => Promise<void>): Promise<void> {
    try {
      await measure();
    } catch (error) {
      if (!(error instanceof SampleFailure)) throw error;
      this.run.failures.set(server.name, error.message);
      this.#note(`${error.message} (${what}); it is left out from here on`);
    }
  }
}

async function end(running: Map<Subject, Reachable>): Promise<void> {
  await Promise.all([...running.values()].map(({ process }) => process?.end()));
  running.clear();
}
