// The machine that is measured on: what it is, how many connections it allows, and which core belongs to whom.

import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

export interface Machine {
  readonly cpuModel: string;
  readonly cores: number;
  readonly kernel: string;
  /** Of the servers' connections (tcp(7)): BBR paces large messages by timers. */
  readonly congestionControl: string;
  readonly node: string;
  readonly memoryBytes: number;
  readonly descriptorLimit: number;
  readonly date: string;
  readonly commandLine: string;
  /** Null when there is but one core: server and generator then take it from each other. */
  readonly pinning: Pinning | null;
}

export interface Pinning {
  readonly serverCpu: number;
  readonly generatorCpu: number;
  /** All but the generator's. */
  readonly otherCpus: readonly number[];
}

/** '0-2,5' is 0, 1, 2, 5: the format of cpuset(7). */
function parseCpuList(text: string): number[] {
  return text
    .trim()
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first, last] = part.split('-').map(Number);
      return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i);
    });
}

function siblingsOf(cpu: number): number[] {
  try {
    return parseCpuList(readFileSync(`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, 'utf8'));
  } catch {
    return [cpu];
  }
}

/** The server gets the first core this process may use; the generator one that shares no execution units with it, if any. */
function choosePinning(): Pinning | null {
  const status = readFileSync('/proc/self/status', 'utf8');
  const allowed = parseCpuList(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? '');
  const [serverCpu, ...others] = allowed;
  if (serverCpu === undefined || others.length === 0) return null;
  const siblings = siblingsOf(serverCpu);
  const generatorCpu = others.find((cpu) => !siblings.includes(cpu)) ?? others[0]!;
  return { serverCpu, generatorCpu, otherCpus: allowed.filter((cpu) => cpu !== generatorCpu) };
}

function descriptorLimit(): number {
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return hard === undefined || hard === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(hard);
}

export function describeMachine(commandLine: string): Machine {
  return {
    cpuModel: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    congestionControl: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim(),
    node: process.version,
    memoryBytes: totalmem(),
    descriptorLimit: descriptorLimit(),
    date: new Date().toISOString(),
    commandLine,
    pinning: choosePinning(),
  };
}

/** As many as one process can have, less what it needs itself; beyond 19,000 the picture does not change any more. */
export function mostConnections(machine: Machine): number {
  return Math.max(1, Math.min(machine.descriptorLimit - 500, 19_000));
}
