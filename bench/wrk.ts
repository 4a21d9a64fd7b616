// wrk(1) as the client of servers that speak HTTP: it keeps its connections alive, with one request in flight on each.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { whole } from './format.ts';
import { footprintOf } from './idle.ts';
import { generatorCores, Interrupted, type Lab, type RunningServer, SampleFailure } from './lab.ts';
import type { Window } from './sample.ts';
import { HOST } from './servers.ts';
import type { LatencyCounts } from './stats.ts';

/** What loadgen/wrk.lua prints. */
interface Outcome {
  readonly requests: number;
  readonly micros: number;
  readonly connect: number;
  readonly read: number;
  readonly write: number;
  readonly status: number;
  readonly timeout: number;
  readonly latencyCounts: LatencyCounts;
}

// bench/ or dist/bench/: the script is beside the sources.
const SCRIPT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './loadgen/wrk.lua' : '../../bench/loadgen/wrk.lua', import.meta.url),
);

/** When the server's memory is looked at, as a share of the window: all connections are there, and still are. */
const LOOK_AT = 0.8;

/** CPU seconds that a process has used, its ended threads included: utime and stime of proc_pid_stat(5), in hundredths (sysconf(3), _SC_CLK_TCK). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Runs wrk against a server for `seconds`, a whole number. @throws SampleFailure when the server or wrk ends with an error */
export async function runWrk(
  lab: Lab,
  running: RunningServer,
  path: string,
  connections: number,
  seconds: number,
): Promise<Omit<Window, 'otherCoreBusy' | 'pacing' | 'floodBytesPerSecond'>> {
  const { pid } = running.process;
  if (lab.signal.aborted) throw new Interrupted();
  let outcome: Outcome | null = null;
  let seen = { generatorBusy: 0, rssBytes: 0, threads: 0 };
  const begin = { wall: performance.now(), cpu: cpuSeconds(pid) };
  const load = ['--threads', '1', '--connections', `${connections}`, '--duration', `${seconds}s`, '--script', SCRIPT];
  const wrk = lab.children.start(
    ['wrk', ...load, `http://${HOST}:${running.port}${path}`],
    generatorCores(lab),
    (line) => {
      if (line.startsWith('{')) outcome = JSON.parse(line) as Outcome;
    },
  );
  const look = setTimeout(
    () => {
      if (running.process.ending !== null || wrk.ending !== null) return;
      const { rssBytes, threads } = footprintOf(pid);
      seen = { generatorBusy: cpuSeconds(wrk.pid) / ((performance.now() - begin.wall) / 1000), rssBytes, threads };
    },
    seconds * LOOK_AT * 1000,
  );
  const ending = await Promise.race([
    wrk.ended,
    running.process.ended.then((how) => `${running.server.name} died (${how})`),
  ]);
  clearTimeout(look);
  await wrk.end();
  if (lab.signal.aborted) throw new Interrupted();
  if (running.process.ending !== null) throw new SampleFailure(ending);
  if (wrk.exitCode !== 0 || outcome === null)
    throw new SampleFailure(`${running.server.name}: wrk gave up (${ending}): ${wrk.stderrTail.trim()}`);
  const elapsed = (performance.now() - begin.wall) / 1000;
  const serverCpuSeconds = cpuSeconds(pid) - begin.cpu;
  const { requests, micros, connect, read, write, status, timeout, latencyCounts }: Outcome = outcome;
  const errors = connect + read + write + status + timeout;
  const kinds = { connect, read, write, status, timeout };
  const failed = Object.entries(kinds).filter(([, count]) => count > 0);
  return {
    established: connections - connect,
    connectionErrors: errors,
    firstConnectionError:
      errors === 0 ? null : `errors of wrk: ${failed.map(([kind, count]) => `${whole(count)} x ${kind}`).join(', ')}`,
    roundTrips: requests,
    seconds: micros / 1e6,
    roundTripsPerSecond: requests / (micros / 1e6),
    serverCpuSeconds,
    serverBusy: serverCpuSeconds / elapsed,
    latencyCounts,
    ...seen,
  };
}
