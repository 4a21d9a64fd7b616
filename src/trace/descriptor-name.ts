// What a descriptor is, for people: 'tcp 127.0.0.1:41514', 'tcp listening on 127.0.0.1:7000', 'unix /run/x', 'stdin (pipe)', 'file /tmp/x'.

import { readlinkSync } from 'node:fs';
import { native } from '../native.ts';

const STANDARD = ['stdin', 'stdout', 'stderr'];

/** Names an open descriptor by what getpeername(2) and proc_pid_fd(5) say of it; 'closed' when it is not open. */
export function descriptorName(fd: number, listens: boolean): string {
  const address = socketAddress(fd, !listens);
  if (address !== null) return `tcp ${listens ? 'listening on ' : ''}${address}`;
  const path = localPath(fd);
  if (path !== null) return `unix ${listens ? 'listening on ' : ''}${path}`;
  const kind = kindOf(fd);
  return STANDARD[fd] === undefined ? kind : `${STANDARD[fd]} (${kind})`;
}

function kindOf(fd: number): string {
  let target: string;
  try {
    target = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return 'closed';
  }
  const [, kind, what] = /^(\w+):\[?(\w+)\]?$/.exec(target) ?? [];
  if (kind !== undefined) return kind === 'anon_inode' ? what! : kind;
  if (/^\/dev\/(pts\/|tty)/.test(target)) return `terminal ${target}`;
  return target.startsWith('/dev/') ? target : `file ${target}`;
}

/** '127.0.0.1:7000': of this end of a TCP socket, or of the other; null where there is none. */
export function socketAddress(fd: number, peer: boolean): string | null {
  const name = native.socketName(fd, peer);
  if (typeof name === 'number' || name.port === 0) return null;
  const { address, family, port } = name;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The path of a Unix socket: one end of a connection has it. '@name' where there is no file, as ss(8) writes it; null where there is none. */
function localPath(fd: number): string | null {
  for (const peer of [false, true]) {
    const name = native.socketName(fd, peer);
    if (typeof name === 'object' && name.family === 'Unix' && name.address !== '')
      return name.address.replace(/^\0/, '@');
  }
  return null;
}
