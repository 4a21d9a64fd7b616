// A server that somebody else has started, on another machine perhaps, and what can be measured of it: what it answers. Its CPU time and its
// memory are not known, so nothing here says that it was the limit; a sample counts unless the generator was.

import { lookup } from 'node:dns/promises';
import type { Address } from './servers.ts';
import type { Suite } from './suite.ts';

export interface Target extends Address {
  readonly name: string;
}

/** 'HOST:PORT', or null if it is not. The generator speaks IPv4. */
export function parseAddress(text: string): Address | null {
  const [, host, port] = /^([^\s:]+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65535) return null;
  return { host, port: Number(port) };
}

/** The target with its address in numbers. @throws an error that says which name has none */
export async function located(target: Target): Promise<Target> {
  const { address } = await lookup(target.host, 4);
  return { ...target, host: address };
}

/** A suite as it can be measured of a server that is not watched, and has no others beside it. */
export function unwatched(suite: Suite): Suite {
  return {
    ...suite,
    measure: suite.measure === 'capacity' ? 'rate' : suite.measure,
    demand: suite.demand === 'on-time' ? 'on-time' : 'unwatched',
    stages: (effort, most) =>
      suite
        .stages(effort, most)
        .map((stage) => ({ ...stage, pace: stage.pace === null ? null : { ...stage.pace, of: 'slowest' } })),
    memory: () => [],
  };
}
