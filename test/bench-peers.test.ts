// What every echo server of the benchmark does, whoever wrote it: one contract over all rows. And how peers are installed.
//
// A peer that is not installed is skipped; 'npm run bench -- --install' installs it.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { buildAll } from '../bench/builds.ts';
import { Children } from '../bench/children.ts';
import { type RunningServer, startServer } from '../bench/lab.ts';
import { peerTable } from '../bench/peers.ts';
import { HOST, isAvailable, type Server, serverTable } from '../bench/servers.ts';
import { compiledPrograms, main } from './bench-programs.ts';
import { folder, root } from './processes.ts';
import { until, within } from './until.ts';

const programs = join(root, 'dist/bench/bin');
const KIB = 1024;
const MIB = 1024 * KIB;

/** Bytes in which no part looks like another. */
function noise(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = seed + 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const own = compiledPrograms('raw-epoll', 'thread-per-connection');

describe.each([...serverTable(own), ...peerTable(programs)])('$name', (row: Server) => {
  const children = new Children();
  let running: RunningServer | null = null;
  let problem = '';

  beforeAll(async () => {
    const problems = await buildAll(peerTable(programs).filter(({ name }) => name === row.name));
    if (!isAvailable(row)) {
      problem = problems.get(row.name) ?? row.install;
      return;
    }
    // With a soft limit of its own too low for what is asked of it here.
    const limited: Server = {
      ...row,
      command: 'prlimit',
      args: (port) => ['--nofile=100:', row.command, ...row.args(port)],
    };
    running = await startServer({ children, pinning: null, signal: new AbortController().signal }, limited);
  }, 300_000);
  beforeEach((context) => {
    if (running === null) context.skip(problem);
  });
  afterAll(() => children.endAll());

  /** A connection, which does not read until it is told. */
  async function client(): Promise<Socket> {
    const socket = connect({ port: running!.port, host: HOST, noDelay: true, allowHalfOpen: true });
    onTestFinished(() => void socket.destroy());
    socket.pause();
    await within('a connection', new Promise<void>((resolve) => socket.once('connect', resolve)));
    return socket;
  }

  /** The next `size` bytes. */
  async function receive(socket: Socket, size: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let received = 0;
    const whole = new Promise<void>((resolve, reject) => {
      const onData = (chunk: Buffer) => {
        chunks.push(chunk);
        received += chunk.length;
        if (received < size) return;
        socket.pause().off('data', onData).off('end', onEnd).off('error', reject);
        resolve();
      };
      const onEnd = () => reject(new Error(`the server ended the connection after ${received} bytes of ${size}`));
      socket.on('data', onData).on('end', onEnd).on('error', reject).resume();
    });
    await within(`an echo of ${size} bytes`, whole);
    return Buffer.concat(chunks);
  }

  async function echoes(socket: Socket, message: Buffer): Promise<void> {
    socket.write(message);
    expect((await receive(socket, message.length)).equals(message)).toBe(true);
  }

  test('echoes every byte, in whatever pieces they come', async () => {
    const socket = await client();
    const message = noise(MIB, 1);
    const echo = receive(socket, message.length);
    let from = 0;
    for (let size = 1; from < message.length; size = (size * 3 + 1) % 70_001) {
      const piece = message.subarray(from, from + size);
      await new Promise((resolve) => socket.write(piece, resolve));
      from += size;
    }
    expect((await echo).equals(message)).toBe(true);
  });

  test('serves 200 connections at once', async () => {
    const sockets = await Promise.all(Array.from({ length: 200 }, client));
    for (let round = 0; round < 3; round++) {
      await Promise.all(sockets.map((socket, i) => echoes(socket, noise(100 + i, round * 1000 + i))));
    }
  });

  test('finishes the echo for a peer that has ended its side, then ends its own', async () => {
    const socket = await client();
    const message = noise(8 * MIB, 2);
    let wasReset = false;
    socket.on('error', () => {
      wasReset = true;
    });
    socket.end(message);
    // All of it is on its way, the end as well, before any is read.
    const echo = await receive(socket, message.length);
    expect(echo.equals(message)).toBe(true);
    await within('the end', new Promise((resolve) => socket.once('end', resolve).resume()));
    expect(wasReset).toBe(false);
  });

  test('serves the others when a peer resets its connection in the middle of an echo', async () => {
    const before = await client();
    await echoes(before, noise(KIB, 3));
    for (let i = 0; i < 5; i++) {
      const broken = await client();
      broken.on('error', () => {});
      broken.write(noise(4 * MIB, 4));
      await receive(broken, KIB);
      broken.resetAndDestroy();
    }
    await echoes(before, noise(KIB, 5));
    await echoes(await client(), noise(KIB, 6));
  });

  test('stops reading from a peer that does not read, and goes on when it does', async () => {
    const socket = await client();
    const others = await client();
    const piece = noise(64 * KIB, 7);
    let taken = 0;
    let stop = false;
    const writing = (async () => {
      while (!stop && taken < 256 * MIB) {
        await new Promise((resolve) => socket.write(piece, resolve));
        taken += piece.length;
      }
    })();
    let quiet = 0;
    let last = -1;
    await until('the writes of a peer that does not read stall', () => {
      quiet = taken === last ? quiet + 1 : 0;
      last = taken;
      return quiet === 60;
    });
    // What the kernel holds on both ways, and what the server does.
    expect(taken).toBeLessThan(64 * MIB);
    await echoes(others, noise(KIB, 8));

    stop = true;
    // The write that stalled, too.
    const echo = await receive(socket, taken + piece.length);
    await writing;
    expect(echo.length).toBe(taken);
    for (let from = 0; from < taken; from += piece.length) {
      expect(piece.equals(echo.subarray(from, from + piece.length))).toBe(true);
    }
  });

  test('ends on SIGTERM, with connections open', async () => {
    const socket = await client();
    socket.on('error', () => {});
    await echoes(socket, noise(KIB, 9));
    // Children would have to kill it after five seconds.
    await running!.process.end();
    expect(running!.process.ending).toMatch(/^(SIGTERM|exit code (0|143))$/);
  });
});

describe('--list and --install', () => {
  /** The benchmark's command where nothing is installed and PATH has these programs only, which write down their arguments. */
  function command(
    args: readonly string[],
    programs: Readonly<Record<string, string>> = {},
    { uid, morePath = '' }: { uid?: number; morePath?: string } = {},
  ) {
    const home = folder();
    chmodSync(home, 0o777);
    const path = join(home, 'path');
    const log = join(home, 'log');
    mkdirSync(path);
    writeFileSync(log, '');
    chmodSync(log, 0o666);
    writeFileSync(join(home, 'loadgen'), '', { mode: 0o755 });
    for (const [name, body] of Object.entries(programs)) {
      writeFileSync(join(path, name), `#!/bin/sh\necho "${name} $*" >> ${log}\nPATH=/bin:/usr/bin\n${body}\n`, {
        mode: 0o755,
      });
    }
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, '--programs', home, ...args], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${path}${morePath}` },
      uid,
    });
    return { status, stdout, stderr, home, calls: readFileSync(log, 'utf8') };
  }

  test('--list says of every server of the suite whether it is ready, and how to have it if not', () => {
    const { status, stdout } = command(['--list']);
    expect(status).toBe(0);
    const lines = stdout.trim().split('\n');
    const rows = [...serverTable(''), ...peerTable('')];
    expect(lines.map((line) => line.split(' ')[0])).toEqual(rows.map(({ name }) => name));
    expect(stdout).toMatch(/^onewait-yield +ready +Node \d+\.\d+/m);
    expect(stdout).toMatch(/^raw-epoll +missing +build it with 'node native\/setup\.mjs --bench'/m);
    expect(stdout).toMatch(/^go +missing +install it with 'npm run bench -- --install go'$/m);
  });

  test('--list says which peers are still to be compiled', () => {
    const { stdout } = command(['--list'], { go: 'echo go version go1.19.8 linux/amd64' });
    expect(stdout).toMatch(/^go +to be compiled +Go 1\.19\.8$/m);
  });

  test('--list is about the suite', () => {
    const { stdout } = command(['--list', '--suite', 'exchange']);
    expect(stdout).toContain('exchange-coroutines');
    expect(stdout).not.toContain('bun');
  });

  test('--install says what to do where there is neither apt-get nor npm', () => {
    const { status, stdout, stderr } = command(['--install', 'go,bun']);
    expect(status).toBe(1);
    expect(stderr.trim().split('\n')).toEqual([
      'onewait bench: there is no apt-get here: install by other means what Debian calls golang-go',
      'onewait bench: there is no npm here: it comes with Node (apt-get install npm)',
    ]);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/ {2,}/).slice(0, 2)),
    ).toEqual([
      ['go', 'missing'],
      ['bun', 'missing'],
    ]);
  });

  const fakeGo =
    'case "$1" in version) echo go version go1.19.8 linux/amd64;; build) : > server; chmod +x server;; esac';
  const isRoot = process.geteuid!() === 0;

  test('--install leaves to root what only root may do', () => {
    const { status, stderr, calls } = command(['--install', 'go'], { 'apt-get': '' }, isRoot ? { uid: 65534 } : {});
    expect(status).toBe(1);
    expect(stderr).toBe(
      "onewait bench: apt-get needs root: run 'sudo apt-get install -y --no-install-recommends golang-go', then this again\n",
    );
    expect(calls).toBe('');
  });

  test.runIf(isRoot)('--install takes from Debian what is missing, compiles it, and says what is ready then', () => {
    const go = fakeGo.replaceAll('$', '\\$').replaceAll('"', '\\"');
    const aptGet = `[ "$1" = update ] || { printf '#!/bin/sh\\n%s\\n' "PATH=/bin; ${go}" > $(dirname $0)/go; chmod +x $(dirname $0)/go; }`;
    const { status, stdout, stderr, calls, home } = command(['--install', 'go'], { 'apt-get': aptGet });
    expect(calls).toBe('apt-get update\napt-get install -y --no-install-recommends golang-go\n');
    expect(stderr).toMatch(/^onewait bench: installing go \(Debian: golang-go\): done in/m);
    expect(stderr).toMatch(/^onewait bench: compiling go: done in/m);
    expect(stdout).toBe('go  ready           Go 1.19.8\n');
    expect(status).toBe(0);
    expect(readFileSync(join(home, 'peers/go/server.go'), 'utf8')).toContain('package main');
  });

  test('--install takes from npm what is missing', () => {
    const npm =
      'mkdir -p $3/node_modules/bun/bin; cd $3/node_modules/bun/bin; printf "#!/bin/sh\\necho 1.2.3\\n" > bun; chmod +x bun';
    const { status, stdout, stderr, calls, home } = command(['--install', 'bun'], { npm });
    expect(calls).toMatch(new RegExp(`^npm install --prefix ${home}/peers .* bun@npm:@oven/bun-linux-[^ ]+$`, 'm'));
    expect(stderr).toContain('installing bun');
    expect(stdout).toBe('bun  ready           Bun 1.2.3\n');
    expect(status).toBe(0);
  });

  test('--install goes on when one peer cannot be had', () => {
    const npm =
      'case "$*" in *deno*) echo no deno today; exit 1;; esac; mkdir -p $3/node_modules/bun/bin; cd $3/node_modules/bun/bin; printf "#!/bin/sh\\necho 1.2.3\\n" > bun; chmod +x bun';
    const { status, stdout, stderr } = command(['--install', 'deno,bun'], { npm });
    expect(stderr).toContain('onewait bench: deno was not installed: no deno today\n');
    expect(stdout).toMatch(/^bun +ready +Bun 1\.2\.3\ndeno +missing /);
    expect(status).toBe(1);
  });

  test('--install fetches and compiles nothing a second time', () => {
    const { home } = command(['--list'], {});
    const path = join(home, 'path');
    writeFileSync(join(path, 'go'), `#!/bin/sh\nPATH=/bin\n${fakeGo}\n`, { mode: 0o755 });
    const again = () =>
      spawnSync(process.execPath, [main, '--programs', home, '--install', 'go'], {
        encoding: 'utf8',
        env: { ...process.env, PATH: path },
      });
    expect(again().stderr).toContain('compiling go');
    const { status, stderr } = again();
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  test('--install knows peers only', () => {
    const { status, stderr } = command(['--install', 'raw-epoll']);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^onewait bench: There is no peer 'raw-epoll': choose from libuv, .*\n$/);
  });

  test('a peer that does not compile is skipped with one line, which says where the compiler is heard', () => {
    const go =
      'case "$1" in version) echo go version go1.19.8 linux/amd64;; build) echo no such thing >&2; exit 1;; esac';
    const { status, stderr, home } = command(
      ['--servers', 'go', '--quick'],
      { go },
      { morePath: `:${process.env.PATH}` },
    );
    expect(status).toBe(1);
    expect(stderr).toContain(`skipped: go could not be compiled: see ${home}/peers/go/build.log\n`);
    expect(readFileSync(join(home, 'peers/go/build.log'), 'utf8')).toBe('no such thing\n');
    expect(stderr).toContain('no server is left to measure');
  });
});
