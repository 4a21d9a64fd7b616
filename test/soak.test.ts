// Many connections at once, each echoed, and afterwards everything is as it was before.

import { expect, test } from 'vitest';
import { script, socketCount } from './processes.ts';
import { until } from './until.ts';

const CLIENTS = 5;
const EACH = 1000;

test.each(['yield', 'await'])(
  '5,000 connections are echoed at once, and leave neither descriptors nor tasks (%s)',
  async (style) => {
    // One process may have 20,000 descriptors where this is developed, and fewer elsewhere: the clients are processes of their own.
    const server = script(
      `
    const tasks = new Set();
    const track = (task) => { tasks.add(task); return task; };
    function* echo(conn) {
      for (let chunk = yield* conn.read(); chunk !== null; chunk = yield* conn.read()) yield* conn.write(chunk);
      yield* conn.close();
    }
    async function echoAsync(conn) {
      for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) await conn.write(chunk);
      await conn.close();
    }
    await run(function* () {
      const listener = yield* tcp.listen();
      console.log('port', listener.address.port);
      process.on('SIGUSR2', () => {
        for (const task of tasks) if (task.state === 'done') tasks.delete(task);
        console.log('tasks', tasks.size);
      });
      for (;;) {
        const conn = yield* listener.accept();
        track(spawn(${style === 'yield' ? 'echo(conn)' : '() => echoAsync(conn)'}, { name: 'echo' }));
      }
    });
  `,
      { wrap: ['prlimit', '--nofile=8000:8000'] },
    );
    const port = (await server.says(/^port (\d+)$/m))[1]!;
    const before = socketCount(server.pid);
    const clients = Array.from({ length: CLIENTS }, () =>
      script(
        `
      import { connect } from 'node:net';
      const [port, count] = process.argv.slice(1).map(Number);
      let echoed = 0;
      const sockets = [];
      const open = (i) => new Promise((resolve, reject) => {
        const message = 'connection ' + process.pid + '.' + i;
        let heard = '';
        const socket = connect(port, '127.0.0.1');
        socket.write(message);
        socket.on('error', reject);
        socket.on('data', (data) => {
          heard += data;
          if (heard === message) { echoed++; resolve(); }
        });
        sockets.push(socket);
      });
      await Promise.all(Array.from({ length: count }, (_, i) => open(i)));
      console.log('echoed', echoed);
      process.stdin.resume();
      await new Promise((resolve) => process.stdin.once('end', resolve));
      // Half end politely, half are reset.
      for (const [i, socket] of sockets.entries()) i % 2 ? socket.end() : socket.resetAndDestroy();
    `,
        { args: [port, String(EACH)] },
      ),
    );
    for (const client of clients) expect((await client.says(/^echoed (\d+)$/m))[1]).toBe(String(EACH));
    expect(socketCount(server.pid)).toBe(before + CLIENTS * EACH);
    for (const client of clients) client.process.stdin!.end();
    for (const client of clients) expect(await client.end()).toMatchObject({ code: 0, stderr: '' });
    await until('the descriptors are gone', () => socketCount(server.pid) === before);
    server.process.kill('SIGUSR2');
    // A reset is told to the task, whose failure is reported: half of them failed, and none is left.
    const [, tasks] = await server.says(/^tasks (\d+)$/m);
    expect(Number(tasks)).toBe((CLIENTS * EACH) / 2);
    expect(server.stderr.match(/^onewait: task echo#\d+ failed on fd \d+: Error: read ECONNRESET/gm)).toHaveLength(
      (CLIENTS * EACH) / 2,
    );
  },
);
