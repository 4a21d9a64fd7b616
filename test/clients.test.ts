// Clients that we did not write, through `onewait echo` as it is installed: every byte comes back, and no descriptor stays behind.

import { createHash, randomBytes } from 'node:crypto';
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Child, descriptors, echoServer, needs, onewait, residentBytes, script, socketCount } from './processes.ts';
import { until } from './until.ts';

const MIB = 1024 * 1024;
const SIZE = 100 * MIB;
const folder = mkdtempSync(join(tmpdir(), 'onewait-clients-'));
const file = join(folder, 'bytes');
let expected = '';

beforeAll(() => {
  const hash = createHash('sha256');
  const fd = openSync(file, 'w');
  for (let written = 0; written < SIZE; written += MIB) {
    const block = randomBytes(MIB);
    hash.update(block);
    writeSync(fd, block);
  }
  closeSync(fd);
  expected = hash.digest('hex');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(['yield', 'await'])('100 MiB through the echo server (%s)', (style) => {
  test.each([
    ['nc', 'nc -N 127.0.0.1 PORT'],
    ['socat', 'socat -t 60 STDIO TCP:127.0.0.1:PORT'],
  ])('come back as they were to %s', async (program, command) => {
    needs(program, 'bash');
    const { child, port } = await echoServer('--style', style);
    const before = descriptors(child.pid).size;
    const client = new Child('bash', [
      '-o',
      'pipefail',
      '-c',
      `${command.replace('PORT', String(port))} < ${file} | sha256sum`,
    ]);
    const { code, stdout, stderr } = await client.end(50_000);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout.split(' ')[0]).toBe(expected);
    await until('its descriptor is gone', () => descriptors(child.pid).size === before);
    expect(child.stderr).toBe('');
  });

  test("come back as they were to a socket of Node's", async () => {
    const { child, port } = await echoServer('--style', style);
    const before = descriptors(child.pid).size;
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const hash = createHash('sha256');
    socket.on('data', (data) => hash.update(data));
    createReadStream(file).pipe(socket);
    await new Promise((resolve, reject) => socket.on('end', resolve).on('error', reject));
    expect(hash.digest('hex')).toBe(expected);
    await until('its descriptor is gone', () => descriptors(child.pid).size === before);
    expect(child.stderr).toBe('');
  });

  test('come back as they were to many at once, on every poller', async () => {
    for (const poller of ['epoll', 'poll', 'select']) {
      const { child, port } = await echoServer('--style', style, '--poller', poller);
      const client = script(
        `
        import { createHash, randomBytes } from 'node:crypto';
        import { connect } from 'node:net';
        const talk = () => new Promise((resolve, reject) => {
          const sent = createHash('sha1');
          const received = createHash('sha1');
          const socket = connect({ port: Number(process.argv[1]), host: '127.0.0.1', allowHalfOpen: true });
          let left = 40;
          const write = () => {
            while (left > 0) {
              left--;
              const block = randomBytes(1 + Math.floor(Math.random() * 20000));
              sent.update(block);
              if (!socket.write(block)) return socket.once('drain', write);
            }
            socket.end();
          };
          socket.on('data', (data) => received.update(data));
          socket.on('end', () => resolve(sent.digest('hex') === received.digest('hex')));
          socket.on('error', reject);
          write();
        });
        const outcomes = await Promise.all(Array.from({ length: 100 }, talk));
        console.log(outcomes.filter(Boolean).length);
      `,
        { args: [String(port)] },
      );
      expect(await client.end(50_000)).toMatchObject({ code: 0, stdout: '100\n', stderr: '' });
      expect(child.stderr).toBe('');
    }
  });

  test('do not make the server grow while a client sends and never reads', async () => {
    const { child, port } = await echoServer('--style', style);
    const before = residentBytes(child.pid);
    const socket = connect(port, '127.0.0.1').pause();
    const block = Buffer.alloc(MIB);
    let stuck = false;
    while (!stuck) {
      stuck = await new Promise<boolean>((resolve) => {
        // The server stops reading when it cannot write: then the socket's buffers are all that is full.
        const timer = setTimeout(() => resolve(true), 300);
        socket.write(block, () => {
          clearTimeout(timer);
          resolve(false);
        });
      });
    }
    expect(residentBytes(child.pid) - before).toBeLessThan(30 * MIB);
    const other = connect(port, '127.0.0.1');
    other.write('served');
    expect(String(await new Promise((resolve) => other.once('data', resolve)))).toBe('served');
    other.destroy();
    socket.destroy();
  });

  test('do not make the server grow while two hundred clients send and none reads, and reach all of them when they do', async () => {
    const path = join(folder, `socket-${style}`);
    const child = onewait(['echo', '--path', path, '--style', style]);
    await child.says(/listening/);
    const before = residentBytes(child.pid);
    const block = Buffer.alloc(4 * MIB, 'abcdefghijklmno');
    const sockets = Array.from({ length: 200 }, () => connect(path).pause());
    for (const socket of sockets) socket.end(block);
    await until('all are stuck', () => sockets.every(({ bytesWritten }) => bytesWritten > 0));
    await child.sleeps();
    expect(sockets.filter(({ writableLength }) => writableLength > 0)).toHaveLength(200);
    // In each what waits to be sent, and a chunk: 25 MiB; V8's young generation and the heap are the rest. Unbounded it would be 700.
    expect(residentBytes(child.pid) - before).toBeLessThan(150 * MIB);
    const other = connect(path);
    other.write('served');
    expect(String(await new Promise((resolve) => other.once('data', resolve)))).toBe('served');
    other.destroy();
    const received = sockets.map(async (socket) => {
      let at = 0;
      for await (const data of socket) {
        expect((data as Buffer).equals(block.subarray(at, at + (data as Buffer).length))).toBe(true);
        at += (data as Buffer).length;
      }
      return at;
    });
    expect(new Set(await Promise.all(received))).toEqual(new Set([block.length]));
    expect(child.stderr).toBe('');
  });

  test('leave no descriptor behind when the clients are killed in the middle', async () => {
    const { child, port } = await echoServer('--style', style);
    const before = socketCount(child.pid);
    for (let round = 0; round < 3; round++) {
      // Killed with bytes that it did not read: the kernel resets its connections.
      const clients = script(
        `
        import { connect } from 'node:net';
        process.stdin.resume();
        let connected = 0;
        for (let i = 0; i < 100; i++) {
          const socket = connect(Number(process.argv[1]), '127.0.0.1', () => { if (++connected === 100) console.log('connected'); });
          socket.pause();
          socket.write(Buffer.alloc(500_000));
        }
      `,
        { args: [String(port)] },
      );
      await clients.says(/connected/);
      await until('they are all connected', () => socketCount(child.pid) >= before + 100);
      clients.process.kill('SIGKILL');
      await clients.end();
      await until('their descriptors are gone', () => socketCount(child.pid) === before);
    }
    const socket = connect(port, '127.0.0.1');
    socket.write('alive');
    expect(String(await new Promise((resolve) => socket.once('data', resolve)))).toBe('alive');
    socket.destroy();
    // A peer that is gone is its own business: nothing is reported.
    expect(child.stderr).toBe('');
  });
});
