// Hosts on a network of their own: network namespaces (network_namespaces(7)) on a bridge. What a test needs of several machines, on one.

import { spawnSync } from 'node:child_process';

function ip(...args: readonly string[]): string | null {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
  return status === 0 ? null : (error?.message ?? stderr).trim();
}

function must(...args: readonly string[]): void {
  const problem = ip(...args);
  if (problem !== null) throw new Error(`ip ${args.join(' ')}: ${problem}`);
}

/** Why there can be no such network here, or null if there can. */
export function whyNoNetwork(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const probe = `onewait-${process.pid}-probe`;
  const problem = ip('netns', 'add', probe);
  if (problem === null) must('netns', 'delete', probe);
  else if (problem.includes('ENOENT')) return 'there is no ip: apt-get install -y iproute2';
  return problem;
}

/** Hosts by name, each with an IPv4 address in one network of 256 addresses. */
export class Network {
  readonly #names: string[] = [];

  constructor(hosts: Readonly<Record<string, string>>) {
    try {
      const hub = this.#add('hub');
      must('-n', hub, 'link', 'add', 'bridge', 'type', 'bridge');
      must('-n', hub, 'link', 'set', 'bridge', 'up');
      for (const [host, address] of Object.entries(hosts)) {
        const name = this.#add(host);
        // Both ends are made where they belong, so nothing is left elsewhere.
        must('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', host, 'netns', hub);
        must('-n', hub, 'link', 'set', host, 'master', 'bridge', 'up');
        must('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0');
        must('-n', name, 'link', 'set', 'eth0', 'up');
        must('-n', name, 'link', 'set', 'lo', 'up');
      }
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  #nameOf(host: string): string {
    return `onewait-${process.pid}-${host}`;
  }

  #add(host: string): string {
    const name = this.#nameOf(host);
    must('netns', 'add', name);
    this.#names.push(name);
    return name;
  }

  /** A command as it is run on that host. */
  on(host: string, ...command: readonly string[]): [program: string, args: string[]] {
    return ['ip', ['netns', 'exec', this.#nameOf(host), ...command]];
  }

  /** Hosts that still run something are gone when that ends. */
  remove(): void {
    for (const name of this.#names.splice(0)) ip('netns', 'delete', name);
  }
}
