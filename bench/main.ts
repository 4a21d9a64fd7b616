// The echo benchmark: `npm run bench -- --help`.
//
// Exit codes: 0, everything was measured; 1, a server or the generator failed, or nothing could be measured; 2, wrong
// usage; 129, 130 and 143, interrupted by SIGHUP, SIGINT or SIGTERM.

import { setMaxListeners } from 'node:events';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildAll } from './builds.ts';
import { Children } from './children.ts';
import { compare } from './compare.ts';
import { learnAnswer, startRates } from './exchange.ts';
import { whole } from './format.ts';
import { formatList, install } from './installation.ts';
import { Interrupted, type Lab, SampleFailure } from './lab.ts';
import { describeMachine, type Machine, mostConnections } from './machine.ts';
import { type Options, parseOptions } from './options.ts';
import { whyUnwritable, writeReport } from './output.ts';
import { isPeer } from './peers.ts';
import { makePlan, mostBeside, type Plan, planSeconds } from './plan.ts';
import { Progress } from './progress.ts';
import { makeReport, type Outcome } from './results.ts';
import { Runner } from './runner.ts';
import { serve } from './serve.ts';
import { isAvailable, isCommand, type Server } from './servers.ts';
import { formatTable } from './table.ts';
import { located, type Target } from './target.ts';

const note = (message: string): void => void process.stderr.write(`onewait bench: ${message}\n`);

function fail(message: string, code = 1): never {
  note(message);
  process.exit(code);
}

function requireTools({ programs, suites, serve }: Options): void {
  for (const tool of ['taskset', 'setpriv']) {
    if (!isCommand(tool)) fail(`needs ${tool}: install util-linux (apt-get install util-linux)`);
  }
  if (serve !== null) return;
  if (suites.some(({ path }) => path !== null) && !isCommand('wrk'))
    fail('needs wrk, the client of the suite exchange: apt-get install wrk');
  const generator = join(programs, 'loadgen');
  if (!isCommand(generator)) fail(`there is no ${generator}: build it with 'node native/setup.mjs --bench'`);
}

/** A suite that is about to be measured. */
interface Task {
  readonly plan: Plan;
  readonly servers: ReadonlyArray<Server | Target>;
  readonly lab: Lab;
}

async function find(target: Target): Promise<Target> {
  try {
    return await located(target);
  } catch (error) {
    return fail(`cannot find --target ${target.host}: ${(error as Error).message}`);
  }
}

/** What is to be measured, with what it needs started. Servers that are not available are told, and left out. */
async function prepare(lab: Lab, plans: readonly Plan[], options: Options, skipped: string[]): Promise<Task[]> {
  if (options.target !== null) {
    const target = await find(options.target);
    return plans.map((plan) => ({ plan, servers: [target], lab }));
  }
  const tasks: Task[] = [];
  for (const plan of plans) {
    const { suite } = plan;
    const rates = suite.path === null ? 0 : await startRates(lab);
    const chosen = suite.servers(options.programs, rates).filter(({ name }) => options.servers.includes(name));
    const problems = await buildAll(chosen.filter(isPeer), lab.signal);
    for (const { name, install } of chosen.filter((server) => !isAvailable(server))) {
      const line = problems.get(name) ?? `${name} is not available: ${install}`;
      if (skipped.includes(line)) continue;
      skipped.push(line);
      note(`skipped: ${line}`);
    }
    const shareOneCore = chosen.some(({ severalCores }) => severalCores) && lab.pinning?.otherCpus.length === 1;
    if (shareOneCore) {
      const line = `${suite.name}: all loops share one core, for this machine has no other but the generator's`;
      skipped.push(line);
      note(line);
    }
    const talk = suite.path === null ? null : await learnAnswer(lab, suite.path, rates);
    tasks.push({ plan, servers: chosen.filter(isAvailable), lab: { ...lab, talk } });
  }
  return tasks;
}

/** Ends all children at SIGINT, SIGTERM and SIGHUP, and says so by its signal and its exit code. */
class Interruption {
  readonly children: Children = new Children();
  exitCode = 0;
  readonly #controller = new AbortController();

  constructor() {
    // While memory is measured each of the servers listens for it.
    setMaxListeners(0, this.#controller.signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        this.exitCode = 128 + osConstants.signals[signal];
        this.#controller.abort();
        void this.children.endAll();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }
}

/** Serves until it is interrupted; returns the exit code. */
async function serveAlone(
  { programs }: Options,
  { pinning }: Machine,
  { server, at }: NonNullable<Options['serve']>,
): Promise<number> {
  const interruption = new Interruption();
  const { children, signal } = interruption;
  try {
    const problems = await buildAll([server].filter(isPeer), signal);
    if (problems.has(server.name)) fail(problems.get(server.name)!);
    await serve({ children, pinning, programs, talk: null, signal }, server, at);
  } catch (error) {
    if (error instanceof SampleFailure) fail(error.message);
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    await children.endAll();
  }
  return interruption.exitCode;
}

async function measure(options: Options, machine: Machine, plans: readonly Plan[]): Promise<number> {
  const interruption = new Interruption();
  const { children } = interruption;
  const { pinning } = machine;
  if (pinning === null && options.target === null) note('there is one core only: not pinned, no sample is valid');
  const lab: Lab = { children, pinning, programs: options.programs, talk: null, signal: interruption.signal };
  const outcomes: Outcome[] = [];
  const skipped: string[] = [];
  const versions = new Set<string>();
  try {
    const tasks = await prepare(lab, plans, options, skipped);
    if (tasks.every(({ servers }) => servers.length === 0)) fail('no server is left to measure');
    for (const server of tasks.flatMap(({ servers }) => servers)) {
      if ('version' in server && server.version !== undefined) versions.add(`${server.name}: ${server.version()}`);
    }
    const seconds = tasks.reduce((sum, { plan, servers }) => sum + planSeconds(plan, servers.length), 0);
    const progress = new Progress(process.stderr, seconds);
    for (const task of tasks) {
      const runner = new Runner(task.lab, task.plan, task.servers, progress);
      outcomes.push({ plan: task.plan, servers: task.servers.map(({ name }) => name), run: runner.run });
      await runner.measureAll().finally(() => progress.clear());
    }
  } catch (error) {
    if (error instanceof SampleFailure) fail(error.message);
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    await children.endAll();
  }
  const interrupted = interruption.signal.aborted;
  const report = makeReport(machine, outcomes, {
    interrupted,
    skipped,
    versions: [...versions],
    target: options.target,
  });
  const written = writeReport(report, options, interrupted, note);
  if (interrupted) {
    note('interrupted; nothing that was measured is valid');
    return interruption.exitCode;
  }
  process.stdout.write(`${formatTable(report)}\n`);
  return !written || outcomes.some(({ run }) => run.failures.size > 0) ? 1 : 0;
}

// A reader that has gone (`| head`) wants no more output, and no complaint either.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

/** Measures or serves as `argv` says; returns the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  if (argv[2] === 'compare') return compare(argv.slice(3));
  const machine = describeMachine(argv.slice(1).join(' '));
  const most = mostConnections(machine);
  const programs = fileURLToPath(new URL('./bin', import.meta.url));
  const options = parseOptions(argv, { programs, mostConnections: most });
  if (options.list) {
    const rows = new Map(
      options.suites.flatMap((suite) => suite.servers(options.programs, 0)).map((row) => [row.name, row]),
    );
    process.stdout.write(`${formatList([...rows.values()])}\n`);
    return 0;
  }
  if (options.install !== null) return (await install(options.programs, options.install)) ? 0 : 1;
  const plans = options.suites.map((suite) => makePlan({ ...options, suite, mostConnections: most }));
  for (const plan of plans) {
    const beside = mostBeside(plan);
    if (Math.max(...(options.connections ?? [0])) + beside > most)
      fail(
        `--connections: ${plan.suite.name} has ${whole(beside)} others beside them, and ${whole(most)} are all that this machine allows`,
        2,
      );
  }
  const problem = whyUnwritable(options);
  if (problem !== null) fail(problem);
  requireTools(options);
  if (options.serve !== null) return serveAlone(options, machine, options.serve);
  return measure(options, machine, plans);
}

process.exitCode = await main(process.argv);
