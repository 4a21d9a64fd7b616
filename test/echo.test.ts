// `onewait echo`: serves, and ends as it should.

import { connect, createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { Child, descriptors, echoServer, needs, onewait } from './processes.ts';

async function say(port: number, words: string, host = '127.0.0.1'): Promise<string> {
  const socket = connect(port, host);
  socket.write(words);
  let heard = '';
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('data', (data) => {
      heard += data;
      if (heard.length >= words.length) resolve();
    });
  });
  socket.destroy();
  return heard;
}

describe.each(['yield', 'await'])('in %s style', (style) => {
  test.each(['epoll', 'poll', 'select'])('echoes on %s', async (poller) => {
    const { child, port } = await echoServer('--style', style, '--poller', poller);
    const words = Array.from({ length: 20 }, (_, i) => `words ${i} `.repeat(i * 50));
    expect(await Promise.all(words.map((each) => say(port, each || '.')))).toEqual(words.map((each) => each || '.'));
    expect(child.stdout).toBe(`listening on 127.0.0.1:${port}\n`);
    expect(child.stderr).toBe('');
  });

  test.each([
    ['SIGINT', 130, 'epoll'],
    ['SIGTERM', 143, 'epoll'],
    ['SIGINT', 130, 'poll'],
    ['SIGINT', 130, 'select'],
  ] as const)('ends on %s with code %i, whatever it is doing (%s)', async (signal, code, poller) => {
    for (const busy of [false, true]) {
      const { child, port } = await echoServer('--style', style, '--poller', poller);
      const sockets = Array.from({ length: busy ? 20 : 0 }, () => connect(port, '127.0.0.1').on('error', () => {}));
      for (const socket of sockets) socket.on('data', (data) => socket.write(data)).write(Buffer.alloc(1000));
      await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('data', resolve))));
      child.process.kill(signal);
      const ended = await child.end(5000);
      expect(ended).toMatchObject({ code, signal: null, stderr: '' });
      for (const socket of sockets) socket.destroy();
    }
  });

  test('answers a client that has shut down its direction, and closes after it', async () => {
    const { child, port } = await echoServer('--style', style);
    const before = descriptors(child.pid).size;
    for (let i = 0; i < 20; i++) {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.end('all at once, and the end');
      const heard: Buffer[] = [];
      for await (const data of socket) heard.push(data as Buffer);
      expect(Buffer.concat(heard).toString()).toBe('all at once, and the end');
    }
    expect(descriptors(child.pid).size).toBe(before);
  });
});

test('listens where it is told to', async () => {
  const child = onewait(['echo', '--port', '0', '--host', '::1']);
  const [, port] = await child.says(/^listening on ::1:(\d+)$/m);
  expect(await say(Number(port), 'six', '::1')).toBe('six');
  const named = onewait(['echo', '--port', '0', '--host', 'localhost']);
  const [, address, other] = await named.says(/^listening on (.*):(\d+)$/m);
  expect(await say(Number(other), 'by name', address)).toBe('by name');
});

test('says in one line that the port is in use, and exits 1', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const { code, stdout, stderr } = await onewait(['echo', '--port', String(port)]).end();
  server.close();
  expect(stderr).toMatch(new RegExp(`^onewait: [^\n]*EADDRINUSE[^\n]*127\\.0\\.0\\.1:${port}[^\n]*\n$`));
  expect(stdout).toBe('');
  expect(code).toBe(1);
});

test.each([
  ['an address of another machine', ['--host', '192.0.2.1'], 'EADDRNOTAVAIL'],
  ['a name that nobody has', ['--host', 'nobody.invalid'], 'nobody.invalid'],
])('says in one line that it cannot listen on %s', async (_, args, message) => {
  const { code, stdout, stderr } = await onewait(['echo', '--port', '0', ...args]).end();
  expect(stderr).toMatch(/^onewait: [^\n]*\n$/);
  expect(stderr).toContain(message);
  expect(stdout).toBe('');
  expect(code).toBe(1);
});

test('goes on quietly when whoever reads its output goes away', async () => {
  needs('bash');
  const { child, port } = await echoServer();
  child.process.stdout!.destroy();
  expect(await say(port, 'alone')).toBe('alone');
  expect(child.stderr).toBe('');
  // As in `onewait echo | head -1`: the pipeline ends when the server does.
  const pipeline = new Child(
    'bash',
    ['-c', `${process.execPath} ${child.process.spawnargs[1]} echo --port 0 | head -1`],
    {
      detached: true,
    },
  );
  await pipeline.says(/listening on/);
  process.kill(-pipeline.pid, 'SIGINT');
  expect((await pipeline.end()).stderr).toBe('');
});
