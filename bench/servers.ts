// The servers that can be measured: one row each. A peer is added by adding its row; the rest of the benchmark knows no
// server but the two that the others are compared with.
//
// Every server takes the port it is told, on 127.0.0.1, prints a line that `ready` matches when it accepts connections, and
// ends on SIGTERM.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Server {
  readonly name: string;
  readonly summary: string;
  /** A path, or a name to be found on PATH. */
  readonly command: string;
  readonly args: (port: number) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files without which it cannot run, besides the command. */
  readonly files?: readonly string[];
  readonly ready: RegExp;
  /** What to do when it is not available. */
  readonly install: string;
}

/** What everything is compared with: nothing but the system calls. */
export const FLOOR = 'raw-epoll';

/** What coroutines on one thread are to replace. */
export const BASELINE = 'thread-per-connection';

export const HOST = '127.0.0.1';

const listening = /^listening on /m;
const address = (port: number) => ['--port', `${port}`, '--host', HOST];

/** All servers, with the C++ ones in the folder `programs`. */
export function serverTable(programs: string): readonly Server[] {
  const nodeNet = fileURLToPath(new URL('./servers/node-net.js', import.meta.url));
  const cli = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const compiled = (name: string, summary: string): Server => ({
    name,
    summary,
    command: join(programs, name),
    args: address,
    ready: listening,
    install: "build it with 'node native/setup.mjs --bench' (needs a C++20 compiler: apt-get install g++)",
  });
  const onewait = (style: 'yield' | 'await', summary: string): Server => ({
    name: `onewait-${style}`,
    summary,
    command: process.execPath,
    args: (port) => [cli, 'echo', ...address(port), '--style', style],
    files: [cli],
    ready: listening,
    install: "build it with 'node native/setup.mjs'",
  });
  return [
    compiled(FLOOR, 'C++, level-triggered epoll, one thread, no other work: the floor'),
    compiled(BASELINE, 'C++, a thread per connection with blocking read and write: the baseline'),
    {
      name: 'node-net',
      summary: "Node's net module, a callback per chunk",
      command: process.execPath,
      args: (port) => [nodeNet, ...address(port)],
      files: [nodeNet],
      ready: listening,
      install: "build it with 'node native/setup.mjs'",
    },
    onewait('yield', 'onewait, a generator per connection'),
    onewait('await', 'onewait, an async function per connection'),
  ];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether `command` is an executable file, by its path or on PATH. */
export function isCommand(command: string): boolean {
  if (command.includes('/')) return isExecutable(command);
  return (process.env.PATH ?? '').split(delimiter).some((folder) => isExecutable(join(folder, command)));
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

export function isAvailable(server: Server): boolean {
  return isCommand(server.command) && (server.files ?? []).every(isReadable);
}
