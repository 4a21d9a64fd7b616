// A server of the tables on its own, for a generator on another machine: `--serve NAME` there, `--target HOST:PORT` here.

import { networkInterfaces } from 'node:os';
import { type Lab, SampleFailure, startServer } from './lab.ts';
import { type Address, isAvailable, type Server } from './servers.ts';

/** How other machines may reach what listens there; nothing for a loopback address. */
function reachableAt(host: string): string[] {
  if (host !== '0.0.0.0') return host.startsWith('127.') || host === 'localhost' ? [] : [host];
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => address),
  );
}

function describe({ name }: Server, { host, port }: Address, { pinning }: Lab): string {
  const where = pinning === null ? 'not pinned' : `pinned to CPU ${pinning.serverCpu}`;
  const commands = reachableAt(host).map((address) => `  npm run bench -- --target ${address}:${port} --name ${name}`);
  return [
    `${name} is listening on ${host}:${port}, ${where}, until Ctrl-C`,
    ...(commands.length > 0
      ? ['measure it from another machine:', ...commands]
      : ['only this machine reaches it there: --host 0.0.0.0 lets others']),
    '',
  ].join('\n');
}

/** Serves until `lab.signal` is aborted. @throws SampleFailure when the server does not start, or ends by itself */
export async function serve(lab: Lab, server: Server, at: Address): Promise<void> {
  if (!isAvailable(server)) throw new SampleFailure(`${server.name} is not available: ${server.install}`);
  const { process: child } = await startServer(lab, server, undefined, at);
  process.stdout.write(describe(server, at, lab));
  const ending = await child.ended;
  if (!lab.signal.aborted)
    throw new SampleFailure(`${server.name} died (${ending}); its stderr ends with: ${child.stderrTail.trim()}`);
}
