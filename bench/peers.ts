// The peers: servers that users would pick instead of onewait, each in its own idiom (bench/servers/). A peer is added by
// adding its row here; test/bench-peers.test.ts says what its server must do.
//
// None is needed. What a row knows is how to find out whether the peer is there, where to get it from, and how to compile
// its server; it is fetched on request only (installation.ts), and compiled before it is measured (builds.ts). All of
// that goes into the folder `peers` of the compiled programs, nothing into package.json.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { address, isCommand, listening, nodeNet, root, type Server } from './servers.ts';

/** How a server is compiled: in a folder of its own, from copies, because compilers leave files beside sources. */
export interface Build {
  readonly folder: string;
  /** The name in that folder of each file of bench/servers/. */
  readonly sources: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** The file of that folder without which there is nothing to run. */
  readonly product: string;
}

export interface Peer extends Server {
  readonly peer: true;
  readonly version: () => string | null;
  /** The Debian packages it needs. */
  readonly debian: readonly string[];
  /** The npm package it needs, with the name to install it under. */
  readonly npm?: string;
  readonly build?: Build;
}

export const isPeer = (server: Server): server is Peer => server.peer === true;

/** `name` and the first number that a command prints; null if it cannot run or fails. */
function versionOf(name: string, command: string, ...args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? `${name} ${stdout.match(/\d[\d.]*/)?.[0]}` : null;
}

const LIBUV_VERSION = '/usr/include/uv/version.h';

function libuvVersion(): string | null {
  if (!isCommand('cc')) return null;
  try {
    const header = readFileSync(LIBUV_VERSION, 'utf8');
    const part = (name: string) => header.match(new RegExp(`UV_VERSION_${name} (\\d+)`))?.[1];
    return `libuv ${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}`;
  } catch {
    return null;
  }
}

/** Where Debian puts the sources of Rust's libraries, which cargo uses as a registry. */
const CRATES = '/usr/share/cargo/registry';

function tokioVersion(): string | null {
  if (!isCommand('cargo')) return null;
  try {
    return (
      readdirSync(CRATES)
        .find((name) => /^tokio-\d/.test(name))
        ?.replace('-', ' ') ?? null
    );
  } catch {
    return null;
  }
}

/** Debian's own, which sees the modules that Debian installs. */
const PYTHON = '/usr/bin/python3';

export function peerFolder(programs: string): string {
  return join(programs, 'peers');
}

/** All peers, with what is installed and compiled for them below the folder `programs`. */
export function peerTable(programs: string): readonly Peer[] {
  const folder = peerFolder(programs);
  const source = (file: string) => join(root, 'bench/servers', file);
  const common = (name: string, summary: string) =>
    ({
      name,
      summary,
      ready: listening,
      peer: true,
      install: `install it with 'npm run bench -- --install ${name}'`,
    }) as const;

  const compiled = (
    name: string,
    summary: string,
    build: Omit<Build, 'folder'>,
    rest: Pick<Peer, 'version' | 'debian' | 'env'>,
  ): Peer => ({
    ...common(name, summary),
    command: join(folder, name, build.product),
    args: address,
    build: { ...build, folder: join(folder, name) },
    ...rest,
  });

  interface Runtime {
    readonly title: string;
    readonly npm: string;
    /** The program inside the package. */
    readonly program: string;
    readonly options: readonly string[];
    readonly script: string;
  }
  const fromNpm = (name: string, summary: string, runtime: Runtime): Peer => {
    const command = join(folder, 'node_modules', name, runtime.program);
    return {
      ...common(name, summary),
      command,
      args: (at) => [...runtime.options, runtime.script, ...address(at)],
      files: [runtime.script],
      version: () => versionOf(runtime.title, command, '--version'),
      debian: [],
      npm: `${name}@npm:${runtime.npm}`,
    };
  };
  const node = (major: number): Peer =>
    fromNpm(`node-net-${major}`, `the same as node-net, in Node ${major}`, {
      title: 'Node',
      npm: `node-linux-${process.arch}@${major}`,
      program: 'bin/node',
      options: [],
      script: nodeNet,
    });

  const python = (name: string, summary: string, file: string, module: string | null): Peer => ({
    ...common(name, summary),
    command: PYTHON,
    // Without -B it would leave compiled modules beside the sources.
    args: (at) => ['-B', source(file), ...address(at)],
    files: [source(file)],
    version: () =>
      module === null
        ? versionOf('Python', PYTHON, '--version')
        : versionOf(module, PYTHON, '-c', `import ${module}; print(${module}.__version__)`),
    debian: ['python3', ...(module === null ? [] : [`python3-${module}`])],
  });

  const classes = join(folder, 'java-threads');
  return [
    compiled(
      'libuv',
      'C, libuv, a callback per chunk: what Node stands on',
      {
        sources: { 'libuv.c': 'libuv.c' },
        command: ['cc', '-O2', '-Wall', '-Wextra', '-Werror', 'libuv.c', '-o', 'server', '-luv'],
        product: 'server',
      },
      { version: libuvVersion, debian: ['gcc', 'libc6-dev', 'libuv1-dev'] },
    ),
    compiled(
      'tokio',
      'Rust, tokio on one thread, a task per connection',
      {
        sources: { 'Cargo.toml': 'tokio.toml', 'main.rs': 'tokio.rs' },
        command: [
          ...['cargo', 'build', '--release', '--offline', '--target-dir', 'target'],
          ...['--config', 'source.crates-io.replace-with="debian"'],
          ...['--config', `source.debian.directory="${CRATES}"`],
        ],
        product: 'target/release/server',
      },
      { version: tokioVersion, debian: [...(isCommand('cargo') ? [] : ['cargo']), 'librust-tokio-dev'] },
    ),
    compiled(
      'go',
      'Go on one thread, a goroutine per connection',
      {
        sources: { 'server.go': 'go.go' },
        command: ['go', 'build', '-o', 'server', 'server.go'],
        product: 'server',
      },
      { version: () => versionOf('Go', 'go', 'version'), debian: ['golang-go'], env: { GOMAXPROCS: '1' } },
    ),
    {
      ...common('java-threads', 'Java, a thread per connection with blocking streams'),
      command: 'java',
      args: (at) => ['-cp', classes, 'JavaThreads', ...address(at)],
      files: [join(classes, 'JavaThreads.class')],
      version: () => versionOf('Java', 'javac', '--version'),
      debian: ['default-jdk-headless'],
      build: {
        folder: classes,
        sources: { 'JavaThreads.java': 'JavaThreads.java' },
        command: ['javac', 'JavaThreads.java'],
        product: 'JavaThreads.class',
      },
    },
    // What the packages `bun` and `deno` would fetch for this machine: the programs alone, with no script to run.
    fromNpm('bun', 'Bun.listen, a callback per chunk', {
      title: 'Bun',
      npm: `@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : 'x64'}@1`,
      program: 'bin/bun',
      options: [],
      script: source('bun.mjs'),
    }),
    fromNpm('deno', 'Deno.listen, an async function per connection', {
      title: 'Deno',
      npm: `@deno/linux-${process.arch}-glibc@2`,
      program: 'deno',
      options: ['run', '--quiet', '--no-config', '--allow-net'],
      script: source('deno.mjs'),
    }),
    node(22),
    node(24),
    python('uvloop', 'Python, uvloop, a callback per chunk', 'uvloop_protocol.py', 'uvloop'),
    python('asyncio', 'Python, asyncio streams, a coroutine per connection', 'asyncio_streams.py', null),
    python('trio', 'Python, trio, a task per connection', 'trio_streams.py', 'trio'),
    python('gevent', 'Python, gevent, a greenlet per connection', 'gevent_server.py', 'gevent'),
  ];
}
