// What an idle connection costs: memory of the process, kernel stacks of its threads, and CPU although nothing happens.
//
// Per connection means the slope from a first few connections to all of them, each after one echo, so that what a process
// needs once (code, a heap, a first slab) is not divided among the connections. Both ends are looked at when the process has been idle for a while:
// before that, a collected heap still has the room that the making of connections took (V8 gives it back after eight seconds, or sixteen, or twenty-four).
// No core is contended meanwhile, so all servers are idle at the same time.

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { whole } from './format.ts';
import { type GeneratorEvent, generate, type Lab, type RunningServer, withServer } from './lab.ts';
import type { Server } from './servers.ts';
import { median } from './stats.ts';

export interface IdleSample {
  readonly server: string;
  readonly connections: number;
  readonly established: number;
  readonly rssBytesPerConnection: number;
  /** The same, each time that it was measured. */
  readonly rssSamples: readonly number[];
  readonly kernelStackBytesPerConnection: number;
  readonly threads: number;
  /** CPU seconds per second, of the whole process. */
  readonly cpuShareWhileIdle: number;
  readonly whyIncomplete: string | null;
}

const BASELINE_CONNECTIONS = 64;

export interface Footprint {
  readonly rssBytes: number;
  readonly threads: number;
}

function kibibytes(file: string, field: string): number {
  const match = new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(readFileSync(file, 'utf8'));
  if (match === null) throw new Error(`${file} has no field ${field}`);
  return Number(match[1]) * 1024;
}

/** smaps_rollup walks the page tables; VmRSS of /proc/PID/status is a sum of per-CPU counters and off by megabytes for a process with many threads. */
export function footprintOf(pid: number): Footprint {
  return {
    rssBytes: kibibytes(`/proc/${pid}/smaps_rollup`, 'Rss'),
    threads: Number(/^Threads:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
  };
}

/** Of one thread, on this machine: kernel stacks are not the process's own memory, but the kernel counts them, and its tasks (proc_loadavg(5)). */
function kernelStackBytes(): number {
  const tasks = Number(/\/(\d+) /.exec(readFileSync('/proc/loadavg', 'utf8'))?.[1]);
  return kibibytes('/proc/meminfo', 'KernelStack') / tasks;
}

/** What the server said about its own trouble explains more than the connections it closed. */
function firstError({ process }: RunningServer, fields: Readonly<Record<string, unknown>>): string {
  const complaint = process.stderrTail.trim().split('\n').at(-1) ?? '';
  return `${String(fields.firstConnectionError)}${complaint === '' ? '' : `; it said: ${complaint}`}`;
}

/** What processes of one server needed, of which there is one at least: the one in the middle, or the first that had not all connections. */
export function inTheMiddle(samples: readonly IdleSample[]): IdleSample {
  const incomplete = samples.find(({ whyIncomplete }) => whyIncomplete !== null);
  if (incomplete !== undefined) return incomplete;
  const rising = [...samples].sort((a, b) => a.rssBytesPerConnection - b.rssBytesPerConnection);
  const rssSamples = rising.map(({ rssBytesPerConnection }) => rssBytesPerConnection);
  return { ...rising[rising.length >> 1]!, rssBytesPerConnection: Math.round(median(rssSamples)!), rssSamples };
}

/** `settleSeconds`: how long nothing happens before the server is looked at. */
export function measureIdle(
  lab: Lab,
  server: Server,
  connections: number,
  { messageBytes, settleSeconds }: { readonly messageBytes: number; readonly settleSeconds: number },
): Promise<IdleSample> {
  return withServer(lab, server, async (running) => {
    const { pid } = running.process;
    let before: Footprint | null = null;
    let after: Footprint | null = null;
    let problem: unknown = null;
    let fields: Record<string, unknown> = {};
    const look = async (event: GeneratorEvent): Promise<void> => {
      await delay(settleSeconds * 1000, undefined, { signal: lab.signal });
      if (event.event === 'baseline') before = footprintOf(pid);
      else after = footprintOf(pid);
    };
    const args = ['--idle', '--baseline', BASELINE_CONNECTIONS, '--connections', connections, '--size', messageBytes];
    await generate(lab, running, args.map(String), (event, goOn) => {
      fields = { ...fields, ...event };
      if (event.event !== 'baseline' && event.event !== 'idle') return;
      look(event)
        .catch((error: unknown) => {
          problem = error;
        })
        .finally(goOn);
    });
    if (before === null || after === null) throw problem ?? new Error('the generator skipped its idle phase');
    const [first, last]: [Footprint, Footprint] = [before, after];
    const established = Number(fields.established);
    const errors = Number(fields.connectionErrors);
    const added = Math.max(1, established - (connections > BASELINE_CONNECTIONS ? BASELINE_CONNECTIONS : 0));
    const perConnection = (bytes: number) => Math.max(0, Math.round(bytes / added));
    const rssBytesPerConnection = perConnection(last.rssBytes - first.rssBytes);
    return {
      server: server.name,
      connections,
      established,
      rssBytesPerConnection,
      rssSamples: [rssBytesPerConnection],
      kernelStackBytesPerConnection: perConnection((last.threads - first.threads) * kernelStackBytes()),
      threads: last.threads,
      cpuShareWhileIdle: Number(fields.serverBusy),
      whyIncomplete: errors === 0 ? null : `${whole(errors)} connections failed: ${firstError(running, fields)}`,
    };
  });
}
