// What every echo server of the benchmark does, whoever wrote it: one contract over all rows. And how peers are installed.
//
// A peer that is not installed is skipped; 'npm run bench -- --install' installs it.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { buildAll } from '../bench/builds.ts';
import { Children } from '../bench/children.ts';
import { type RunningServer, startServer } from '../bench/lab.ts';
import { peerTable } from '../bench/peers.ts';
import { HOST, isAvailable, type Server, serverTable } from '../bench/servers.ts';
import { folder, needs, root } from './processes.ts';
import { until, within } from './until.ts';

const programs = join(root, 'dist/bench/bin');
const main = join(root, 'dist/bench/main.js');
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

describe.each([...serverTable(programs), ...peerTable(programs)])('$name', (row: Server) => {
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
