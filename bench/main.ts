// The echo benchmark: `npm run bench -- --help`.
//
// Exit codes: 0, everything was measured; 1, a server or the generator failed, or nothing could be measured; 2, wrong
// usage; 130 and 143, interrupted by SIGINT or SIGTERM.

import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildAll } from './builds.ts';
import { Children } from './children.ts';
import { learnAnswer, startRates } from './exchange.ts';
import { formatList, install } from './installation.ts';
import { Interrupted, type Lab, SampleFailure } from './lab.ts';
import { describeMachine, type Machine, mostConnections } from './machine.ts';
import { type Options, parseOptions } from './options.ts';
import { isPeer } from './peers.ts';
import { makePlan, type Plan, planSeconds } from './plan.ts';
import { Progress } from './progress.ts';
import { formatPage } from './report.ts';
import { makeReport, type Report } from './results.ts';
import { type Run, Runner } from './runner.ts';
import { isAvailable, isCommand, type Server } from './servers.ts';
import { formatTable } from './table.ts';

function fail(message: string): never {
  process.stderr.write(`onewait bench: ${message}\n`);
  process.exit(1);
}

/** Found out before five minutes of measuring, not after. */
function requireWritable(folder: string, isOurs: boolean): void {
  try {
    if (isOurs) mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    fail(`cannot write to ${folder}: ${(error as Error).message}`);
  }
}

function requireTools({ programs, suite }: Options): void {
  for (const tool of ['taskset', 'setpriv']) {
    if (!isCommand(tool)) fail(`needs ${tool}: install util-linux (apt-get install util-linux)`);
  }
  if (suite.path !== null && !isCommand('wrk')) fail('needs wrk, the client of this suite: apt-get install wrk');
  const generator = join(programs, 'loadgen');
  if (!isCommand(generator)) fail(`there is no ${generator}: build it with 'node native/setup.mjs --bench'`);
}

function write(report: Report, options: Options): void {
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  if (options.out === null) return;
  const page = join(options.out, 'report.html');
  writeFileSync(page, formatPage(report));
  process.stderr.write(`onewait bench: wrote ${page}\n`);
}

async function measure(options: Options, machine: Machine, plan: Plan): Promise<number> {
  const interruption = new AbortController();
  const children = new Children();
  let exitCode = 0;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      exitCode = 128 + osConstants.signals[signal];
      interruption.abort();
      void children.endAll();
    });
  }

  const { pinning } = machine;
  if (pinning === null) process.stderr.write('onewait bench: there is one core only: not pinned, no sample is valid\n');
  const bare: Lab = { children, pinning, programs: options.programs, talk: null, signal: interruption.signal };
  const { suite } = options;
  let run: Run = { samples: [], idle: [], failures: new Map() };
  let servers: readonly Server[] = [];
  let skipped: string[] = [];
  try {
    const rates = suite.path === null ? 0 : await startRates(bare);
    const chosen = suite.servers(options.programs, rates).filter(({ name }) => options.servers.includes(name));
    const problems = await buildAll(chosen.filter(isPeer));
    servers = chosen.filter(isAvailable);
    skipped = chosen
      .filter((server) => !servers.includes(server))
      .map((server) => problems.get(server.name) ?? `${server.name} is not available: ${server.install}`);
    for (const line of skipped) process.stderr.write(`onewait bench: skipped: ${line}\n`);
    if (servers.length === 0) fail('no server is left to measure');
    const talk = suite.path === null ? null : await learnAnswer(bare, suite.path, rates);
    const progress = new Progress(process.stderr, planSeconds(plan, servers.length));
    const runner = new Runner({ ...bare, talk }, plan, servers, progress);
    run = runner.run;
    await runner.measureAll().finally(() => progress.clear());
  } catch (error) {
    if (error instanceof SampleFailure) fail(error.message);
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    await children.endAll();
  }
  const names = servers.map((server) => server.name);
  const interrupted = interruption.signal.aborted;
  const report = makeReport(machine, plan, names, run, { interrupted, skipped });
  write(report, options);
  if (interrupted) {
    process.stderr.write('onewait bench: interrupted; nothing that was measured is valid\n');
    return exitCode;
  }
  process.stdout.write(`${formatTable(report)}\n`);
  return run.failures.size > 0 ? 1 : 0;
}

// A reader that has gone (`| head`) wants no more output, and no complaint either.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const defaultPrograms = fileURLToPath(new URL('./bin', import.meta.url));
const machine = describeMachine(process.argv.slice(1).join(' '));
const most = mostConnections(machine);
const options = parseOptions(process.argv, {
  programs: defaultPrograms,
  mostConnections: most,
});
if (options.list) {
  const { suite, programs } = options;
  process.stdout.write(`${formatList(suite.servers(programs, 0))}\n`);
} else if (options.install !== null) {
  process.exitCode = (await install(options.programs, options.install)) ? 0 : 1;
} else {
  requireTools(options);
  if (options.json !== null) requireWritable(dirname(resolve(options.json)), false);
  if (options.out !== null) requireWritable(options.out, true);
  const plan = makePlan({ ...options, mostConnections: most });
  process.exitCode = await measure(options, machine, plan);
}
