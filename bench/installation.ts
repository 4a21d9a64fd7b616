// What can be measured here, and how the rest comes to be: `--list` and `--install`.
//
// A peer is installed by itself, whatever becomes of the others: a distribution may lack one package, a registry another.
// Nothing is updated that is there.

import { mkdirSync } from 'node:fs';
import { buildAll, isBuilt } from './builds.ts';
import { carryOut } from './commands.ts';
import { isPeer, type Peer, peerFolder, peerTable } from './peers.ts';
import { isAvailable, isCommand, type Server } from './servers.ts';

const say = (text: string) => process.stderr.write(`onewait bench: ${text}\n`);

/** The last line of what a command printed. */
const lastLine = (output: string) => output.trim().split('\n').at(-1)!;

function state(server: Server): string {
  const version = server.version?.() ?? '';
  if (isPeer(server) && version !== '' && !isBuilt(server)) return `${'to be compiled'.padEnd(16)}${version}`;
  return isAvailable(server) ? `${'ready'.padEnd(16)}${version}` : `${'missing'.padEnd(16)}${server.install}`;
}

/** A line for each server: ready, with the version of what it runs on, or what to do about it. */
export function formatList(servers: readonly Server[]): string {
  const width = Math.max(...servers.map(({ name }) => name.length));
  return servers.map((server) => `${server.name.padEnd(width)}  ${state(server)}`.trimEnd()).join('\n');
}

/** Whether Debian's packages can be installed here; says why not. */
async function prepareApt(packages: readonly string[]): Promise<boolean> {
  if (packages.length === 0) return false;
  const command = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (!isCommand('apt-get')) {
    say(`there is no apt-get here: install by other means what Debian calls ${packages.join(', ')}`);
    return false;
  }
  if (process.geteuid!() !== 0) {
    say(`apt-get needs root: run 'sudo ${command}', then this again`);
    return false;
  }
  const { ok, output } = await carryOut('updating the lists of apt-get', ['apt-get', 'update']);
  // Old lists may do.
  if (!ok) say(`apt-get update: ${lastLine(output)}`);
  return true;
}

function prepareNpm(folder: string, packages: readonly string[]): boolean {
  if (packages.length === 0) return false;
  if (!isCommand('npm')) {
    say('there is no npm here: it comes with Node (apt-get install npm)');
    return false;
  }
  mkdirSync(folder, { recursive: true });
  return true;
}

async function fetch(peer: Peer, title: string, command: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { ok, output } = await carryOut(`installing ${title}`, command, { env });
  if (!ok) say(`${peer.name} was not installed: ${lastLine(output)}`);
}

/** Installs and compiles what is missing of the peers with these names. Returns whether all of them are ready now. */
export async function install(programs: string, names: readonly string[]): Promise<boolean> {
  const folder = peerFolder(programs);
  // Read again after each change: what a row needs depends on what is there.
  const peers = () => peerTable(programs).filter(({ name }) => names.includes(name));
  const missing = peers().filter((peer) => peer.version() === null);
  const hasApt = await prepareApt(missing.flatMap(({ debian }) => debian));
  const hasNpm = prepareNpm(
    folder,
    missing.flatMap(({ npm }) => npm ?? []),
  );
  for (const peer of missing) {
    const { name, debian, npm } = peer;
    if (hasApt && debian.length > 0) {
      const command = ['apt-get', 'install', '-y', '--no-install-recommends', ...debian];
      await fetch(peer, `${name} (Debian: ${debian.join(' ')})`, command);
    }
    if (hasNpm && npm !== undefined) {
      const options = ['--no-audit', '--no-fund', '--ignore-scripts'];
      await fetch(peer, `${name} (npm: ${npm})`, ['npm', 'install', '--prefix', folder, ...options, npm]);
    }
  }
  for (const problem of (await buildAll(peers())).values()) say(problem);
  const result = peers();
  process.stdout.write(`${formatList(result)}\n`);
  return result.every((peer) => isBuilt(peer) && isAvailable(peer));
}
