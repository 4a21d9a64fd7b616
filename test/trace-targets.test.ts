// Where a trace may not, or not any more, be written: file systems that are full, from the start or while a server is traced, and folders that
// are somebody else's. They are real ones, in a mount namespace of the server's own, which takes root; without it these tests are skipped.
// Links, FIFOs, devices and directories are in trace.test.ts.

import { statfsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Child, cli, folder, needs, onewait } from './processes.ts';
import { until } from './until.ts';

const root = process.getuid?.() === 0;

/** `onewait echo` that traces into a file system of its own, of `size` bytes, after `prepare` has been run there. */
function echoOn(size: string, prepare: string, path: string): Child {
  const mount = `mount -t tmpfs -o size=${size} tmpfs ${path} && cd ${path} && ${prepare}`;
  return new Child('unshare', [
    '-m',
    'sh',
    '-c',
    `${mount}; exec ${process.execPath} ${cli} echo --port 0 --trace ${path}/trace`,
  ]);
}

async function ask(socket: Socket, bytes: number): Promise<void> {
  const start = socket.bytesRead;
  socket.write(Buffer.alloc(bytes));
  await until('the echo comes back', () => {
    socket.read();
    return socket.bytesRead - start >= bytes;
  });
}

describe.skipIf(!root)('onewait echo --trace', () => {
  test.each([
    ['a full disk', '64k', 'head -c 1m /dev/zero > filler 2>/dev/null', 'ENOSPC'],
    ['a read-only file system', '64k', 'mount -o remount,ro .', 'EROFS'],
  ])('refuses %s in one line', async (_, size, prepare, message) => {
    needs('unshare');
    const { code, stdout, stderr } = await echoOn(size, prepare, folder()).end();
    expect(stderr).toMatch(/^onewait: cannot record a trace in [^\n]*\n$/);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  });

  test('refuses a folder that it may not write into, in one line', async () => {
    needs('setpriv');
    const path = join(folder(), 'trace');
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, cli];
    const child = new Child('setpriv', [...nobody, 'echo', '--port', '0', '--trace', path]);
    const { code, stdout, stderr } = await child.end();
    expect(stderr).toMatch(/^onewait: cannot record a trace in [^\n]*EACCES[^\n]*\n$/);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  });

  test('serves on when the disk becomes full, says so at its end, and leaves a trace that is readable up to there', async () => {
    needs('unshare');
    const path = folder();
    const child = echoOn('256k', 'true', path);
    const port = Number((await child.says(/:(\d+)$/m))[1]);
    const inside = `/proc/${child.pid}/root${path}`;
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const full = async (): Promise<boolean> => {
      await ask(socket, 10);
      return statfsSync(inside).bavail === 0;
    };
    await until('the disk is full', full, 50_000);
    for (let i = 0; i < 20; i++) await ask(socket, 10);
    const lines = (await onewait(['trace', 'show', join(inside, 'trace')]).end()).stdout.split('\n');
    // In Node 22 incremental marking has libuv ask for hundreds of turns, which fill some of the disk and are one line.
    expect(lines.length).toBeGreaterThan(1_000);
    expect(lines.some((line) => /recvfrom\(\d+, \d+\) = 10/.test(line))).toBe(true);
    socket.destroy();
    child.process.kill('SIGINT');
    const { code, stderr } = await child.end();
    expect(stderr).toMatch(/ONEWAIT_TRACE_LOST\] Warning: the trace .* is not complete: \d+ records are missing/);
    expect(code).toBe(130);
  });
});
