// Compiling the peers. Each is compiled again only when its sources, its command or what it is compiled with has changed:
// a hash of them is stored beside the product. One that does not compile is no reason not to measure the others.

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { carryOut } from './commands.ts';
import { Interrupted } from './lab.ts';
import type { Build, Peer } from './peers.ts';
import { isReadable, root } from './servers.ts';

const sourceOf = (file: string) => join(root, 'bench/servers', file);
const stampOf = (build: Build) => join(build.folder, '.stamp');

function hashOf({ build, version }: Peer): string {
  const hash = createHash('sha256').update(JSON.stringify([build, version()]));
  for (const file of Object.values(build!.sources)) hash.update(readFileSync(sourceOf(file)));
  return hash.digest('hex');
}

/** Whether nothing is left to compile for this peer. */
export function isBuilt(peer: Peer): boolean {
  const { build } = peer;
  if (build === undefined) return true;
  const stamp = stampOf(build);
  return (
    isReadable(join(build.folder, build.product)) && isReadable(stamp) && readFileSync(stamp, 'utf8') === hashOf(peer)
  );
}

/** Compiles the server of a peer that is there, if need be. Returns what went wrong. */
async function build(peer: Peer, signal: AbortSignal | undefined): Promise<string | null> {
  if (peer.build === undefined || isBuilt(peer)) return null;
  const { folder, sources, command } = peer.build;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, file] of Object.entries(sources)) copyFileSync(sourceOf(file), join(folder, name));
  const { ok, output } = await carryOut(`compiling ${peer.name}`, command, { cwd: folder, signal });
  if (signal?.aborted) throw new Interrupted();
  if (ok) {
    writeFileSync(stampOf(peer.build), hashOf(peer));
    return null;
  }
  const log = join(folder, 'build.log');
  writeFileSync(log, output);
  return `${peer.name} could not be compiled: see ${log}`;
}

/**
 * Compiles what can be compiled of these. Returns what went wrong, by the peer's name.
 * @throws Interrupted when `signal` is aborted
 */
export async function buildAll(peers: readonly Peer[], signal?: AbortSignal): Promise<ReadonlyMap<string, string>> {
  const problems = new Map<string, string>();
  for (const peer of peers) {
    const problem = peer.version() === null ? null : await build(peer, signal);
    if (problem !== null) problems.set(peer.name, problem);
  }
  return problems;
}
