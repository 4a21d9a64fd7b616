// The shapes of load: closed loop, open loop, churn, flood and silent company, against servers of this process and the raw epoll one. How fast
// anything is decides nothing here; where a figure has a bound, it is one that no machine can miss.

import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { compile, compiledPrograms } from './bench-programs.ts';
import { hasRing, ringOffered, withoutRing } from './io-uring.ts';
import { Child, type Ended } from './processes.ts';
import { until } from './until.ts';

const programs = compiledPrograms('loadgen', 'raw-epoll');
const generator = join(programs, 'loadgen');

beforeAll(() => {
  writeFileSync(join(programs, 'hog.cc'), HOG);
  compile(join(programs, 'hog.cc'), join(programs, 'hog'));
}, 120_000);

/** Has its core to itself for a third of a second. */
const HOG = `
  #include <ctime>
  int main() {
    timespec begin, time;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &time);
    while ((time.tv_sec - begin.tv_sec) * 1000 + (time.tv_nsec - begin.tv_nsec) / 1000000 < 333);
  }
`;

/** An echo server that has its core to itself for 200 ms after a hundred messages. */
const COMPUTING_SERVER = `
  let received = 0;
  const server = require('node:net').createServer((socket) => socket.on('data', (chunk) => {
    const before = received;
    received += chunk.length;
    const end = performance.now() + 200;
    if (before < 6400 && received >= 6400) while (performance.now() < end);
    socket.write(chunk);
  }).on('error', () => {}));
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

/** A server of this process; ends with the test. Returns its port. */
async function serve(onConnection: (socket: Socket, index: number) => void): Promise<number> {
  let accepted = 0;
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket, accepted++);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

const echo = (socket: Socket) => void socket.pipe(socket);

/** Starts the generator, and waits until a message of its window has reached the server. */
async function startAndBegin(args: string): Promise<Child> {
  let received = 0;
  const port = await serve((socket) => {
    socket.on('data', (chunk) => {
      received += chunk.length;
      socket.write(chunk);
    });
  });
  const child = start(port, args);
  await child.says(/"begin"/);
  const before = received;
  await until('a message of the window has come', () => received > before);
  return child;
}

/** A server that does nothing for 200 ms after a hundred messages. */
function serveWithStall(): Promise<number> {
  let received = 0;
  return serve((socket) => {
    socket.on('data', (chunk) => {
      const before = received;
      received += chunk.length;
      if (before < 64 * 100 && received >= 64 * 100) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      socket.write(chunk);
    });
  });
}

interface Result {
  readonly event: string;
  readonly established: number;
  readonly roundTrips: number;
  readonly seconds: number;
  readonly roundTripsPerSecond: number;
  readonly generatorBusy: number;
  readonly intendedRate: number;
  readonly achievedRate: number;
  readonly lateMicrosP99: number;
  readonly unsent: number;
  readonly unanswered: number;
  readonly disturbed?: number;
  readonly processesSeen?: boolean;
  readonly idleEstablished: number;
  readonly firstIdleConnectionError: string | null;
  readonly connectionErrors: number;
  readonly firstConnectionError: string | null;
  readonly floodBytesPerSecond: number;
  readonly latencyMicros: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly latencyCounts: ReadonlyArray<readonly [nanos: number, count: number]>;
}

const start = (port: number, args: string) => new Child(generator, ['--port', `${port}`, ...args.split(' ')]);

const events = (ended: Ended): Result[] =>
  ended.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

async function resultOf(child: Child): Promise<Result> {
  const ended = await child.end();
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  const reported = events(ended);
  expect(reported.map(({ event }) => event)).toEqual(['connected', 'begin', 'end', 'result']);
  return reported.at(-1)!;
}

const recorded = (result: Result) => result.latencyCounts.reduce((sum, [, count]) => sum + count, 0);

describe.each([
  ['io_uring', ''],
  ['epoll', ' --no-ring'],
])('closed loop through %s', (_, way) => {
  const run = (port: number, args: string) => start(port, `--warmup 0 ${args}${way}`);

  test.each(['', '--spin'])('every message that was sent comes back and is counted %s', async (spin) => {
    let received = 0;
    const port = await serve((socket) => {
      socket.on('data', (chunk) => {
        received += chunk.length;
        socket.write(chunk);
      });
    });
    const result = await resultOf(run(port, `--connections 20 --size 100 --in-flight 3 --seconds 0.2 ${spin}`.trim()));
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(recorded(result)).toBe(result.roundTrips);
    // The first echoes, and what was in flight when the window began and ended.
    expect(received % 100).toBe(0);
    expect(received / 100).toBeGreaterThanOrEqual(result.roundTrips + 20);
    expect(received / 100).toBeLessThanOrEqual(result.roundTrips + 20 + 2 * 60);
  });

  test('a message counts from when it was sent until its last byte is back', async () => {
    let answers = 0;
    const port = await serve((socket) => {
      socket.on('data', (chunk) => {
        if (answers++ === 0) return void socket.write(chunk);
        socket.write(chunk.subarray(0, 99));
        setTimeout(() => socket.write(chunk.subarray(99)), 30);
      });
    });
    const result = await resultOf(run(port, '--connections 1 --size 100 --seconds 0.2'));
    // A timer may be a millisecond early.
    expect(result.latencyCounts[0]![0]).toBeGreaterThan(28e6);
  });

  test.each(['--size 16384', '--size 4096 --in-flight 4', '--size 1 --in-flight 4096', '--size 100000 --in-flight 2'])(
    'verifies streams of %s',
    async (size) => {
      const port = await serve(echo);
      expect((await resultOf(run(port, `--connections 9 --seconds 0.2 ${size}`))).roundTrips).toBeGreaterThan(0);
    },
  );

  test('asks and verifies answers that are no echo', async () => {
    const port = await serve((socket) => {
      socket.on('data', (chunk) => socket.write('hello'.repeat(chunk.toString().split('?').length - 1)));
    });
    const args = '--connections 3 --in-flight 2 --seconds 0.1 --request hm? --response hello';
    expect((await resultOf(run(port, args))).roundTrips).toBeGreaterThan(0);
  });

  test('a wrong byte ends it, and so does one that nobody sent', async () => {
    const damaging = (damage: (chunk: Buffer) => Buffer) =>
      serve((socket) => {
        let received = 0;
        socket.on('data', (chunk) => {
          received += chunk.length;
          socket.write(received === 100 * 50 ? damage(chunk) : chunk);
        });
      });
    const wrong = await damaging((chunk) => {
      chunk[7]! ^= 1;
      return chunk;
    });
    const first = await run(wrong, '--connections 1 --size 100 --seconds 5').end();
    expect(first.code).toBe(3);
    expect(first.stderr).toMatch(/^loadgen: connection 1: byte 4907 came back as 0x.., not as 0x..\n$/);
    const more = await damaging((chunk) => Buffer.concat([chunk, chunk]));
    const second = await run(more, '--connections 1 --size 100 --seconds 5').end();
    expect(second.code).toBe(3);
    expect(second.stderr).toContain('connection 1: the server sent more bytes than it was given');
  });

  test.each([
    ['closes', 'ended after 5000 bytes: the server closed it', (socket: Socket) => void socket.end()],
    ['resets', 'ended after 5000 bytes: read: Connection reset', (socket: Socket) => void socket.resetAndDestroy()],
  ])('gives up on a server that %s a connection', async (_, message, finish) => {
    const port = await serve((socket) => {
      let received = 0;
      socket.on('data', (chunk) => {
        received += chunk.length;
        if (received > 5000) finish(socket);
        else socket.write(chunk);
      });
    });
    const ended = await run(port, '--connections 1 --size 100 --seconds 5').end();
    expect(ended.code).toBe(4);
    expect(ended.stderr).toContain(message);
  });

  test('goes on with the connections that had their first echo', async () => {
    const port = await serve((socket, index) => {
      if (index % 2 === 0) socket.destroy();
      else echo(socket);
    });
    const child = run(port, '--connections 10 --seconds 0.05');
    expect((await resultOf(child)).roundTrips).toBeGreaterThan(0);
    expect(events(await child.end())[0]).toMatchObject({ established: 5, connectionErrors: 5 });
  });

  test('leaves no connection behind', async () => {
    let open = 0;
    const port = await serve((socket) => {
      open++;
      socket.on('close', () => open--);
      echo(socket);
    });
    await resultOf(run(port, '--connections 200 --seconds 0.05'));
    await until('all connections are closed', () => open === 0);
  });
});

describe('io_uring', () => {
  const args = '--connections 4 --warmup 0 --seconds 0.2';

  test.each([
    ['small messages use it', args, true],
    ['large ones do not', `${args} --size 20000`, false],
    ['many small ones that are large together do not', `${args} --size 5000 --in-flight 4`, false],
    ['--no-ring forbids it', `${args} --no-ring`, false],
  ])('%s', async (_, line, wanted) => {
    const child = start(await serve(echo), line);
    await child.says(/"begin"/);
    expect(hasRing(child)).toBe(wanted && ringOffered('of Linux 6.1'));
    await resultOf(child);
  });

  test('where a sandbox refuses it, epoll does the work', async () => {
    const port = await serve(echo);
    const child = new Child(withoutRing(), [generator, '--port', `${port}`, ...args.split(' ')]);
    await child.says(/"begin"/);
    expect(hasRing(child)).toBe(false);
    expect((await resultOf(child)).roundTrips).toBeGreaterThan(0);
  });
});

describe('open loop', () => {
  test('every message whose moment lies in the window is sent and counted', async () => {
    const perSocket: number[] = [];
    const port = await serve((socket, index) => {
      perSocket[index] = 0;
      socket.on('data', (chunk) => {
        perSocket[index]! += chunk.length;
        socket.write(chunk);
      });
    });
    const result = await resultOf(start(port, '--connections 4 --rate 500 --size 100 --warmup 0.02 --seconds 0.4'));
    expect(result).toMatchObject({ roundTrips: 200, intendedRate: 500, unsent: 0, unanswered: 0 });
    expect(recorded(result)).toBe(200);
    expect(result.achievedRate).toBeGreaterThan(0);
    // Its first echo, a quarter of 10 of the warm-up, and a quarter of 200.
    expect(perSocket.reduce((sum, bytes) => sum + bytes)).toBe((4 + 10 + 200) * 100);
    expect(Math.max(...perSocket) - Math.min(...perSocket)).toBeLessThanOrEqual(100);
  });

  test('a stall of the server delays all messages that were meant to leave meanwhile', async () => {
    const port = await serveWithStall();
    const result = await resultOf(start(port, '--connections 2 --rate 1000 --warmup 0 --seconds 0.5'));
    // 200 of 500 were meant to leave in the stall, the 5 that are one per cent in its first 5 ms.
    expect(result.roundTrips).toBe(500);
    expect(result.latencyMicros.p99).toBeGreaterThan(180_000);
  });

  test('a message that the generator sent late counts from when it should have left', async () => {
    const child = await startAndBegin('--connections 2 --rate 1000 --warmup 0 --seconds 4');
    child.process.kill('SIGSTOP');
    setTimeout(() => child.process.kill('SIGCONT'), 500);
    const result = await resultOf(child);
    expect(result.lateMicrosP99).toBeGreaterThan(200_000);
    expect(result.latencyMicros.p99).toBeGreaterThan(200_000);
  });

  test('what never comes back is recorded with its age, and no more than 10,000 of a connection are waited for', async () => {
    const port = await serve((socket) => {
      socket.once('data', (chunk) => {
        socket.write(chunk);
        socket.on('data', () => {});
      });
    });
    const result = await resultOf(start(port, '--connections 1 --rate 50000 --warmup 0 --seconds 0.3'));
    expect(result).toMatchObject({ roundTrips: 0, achievedRate: 0, unsent: 5000, unanswered: 10_000 });
    expect(recorded(result)).toBe(10_000);
    expect(result.latencyCounts[0]![0]).toBeGreaterThan(2e9);
  });

  test('no more than 64 MiB are waited for, however many connections share them', async () => {
    const port = await serve((socket) => {
      let received = 0;
      socket.on('data', (chunk) => {
        received += chunk.length;
        if (received <= 2 ** 20) socket.write(chunk);
      });
    });
    const result = await resultOf(start(port, '--connections 8 --size 1048576 --rate 1000 --warmup 0 --seconds 0.1'));
    expect(result).toMatchObject({ unanswered: 64, unsent: 36 });
  });

  describe.skipIf(spawnSync('chrt', ['-f', '1', 'taskset', '-c', '0', 'true']).status !== 0)(
    'that watches a core',
    () => {
      const args = '--connections 4 --rate 1000 --warmup 0 --seconds 2 --watch-core 0';

      test('counts messages apart that were under way when something took it away', async () => {
        const child = await startAndBegin(args);
        // It has a higher priority than whoever watches, for a third of a second.
        execFileSync('chrt', ['-f', '90', 'taskset', '-c', '0', join(programs, 'hog')]);
        const result = await resultOf(child);
        expect(result.disturbed).toBeGreaterThan(300);
        expect(recorded(result) + result.disturbed! + result.unsent).toBe(2000);
      });

      test('counts those apart, too, that were under way when another process had it', async ({ skip }) => {
        const child = await startAndBegin(`${args} --server-pid ${process.pid}`);
        execFileSync('taskset', ['-c', '0', join(programs, 'hog')]);
        const result = await resultOf(child);
        skip(!result.processesSeen, 'the kernel does not tell which processes run');
        expect(result.disturbed).toBeGreaterThan(300);
        expect(recorded(result) + result.disturbed! + result.unsent).toBe(2000);
      });

      test('does not mistake a server that computes for another process', async () => {
        const server = new Child('taskset', ['-c', '0', process.execPath, '--eval', COMPUTING_SERVER]);
        const port = Number((await server.says(/^\d+$/m))[0]);
        const result = await resultOf(start(port, `${args} --server-pid ${server.pid}`));
        expect(result.latencyMicros.max).toBeGreaterThan(100_000);
      });

      test('does not mistake a server that stalls for a machine that does', async () => {
        const port = await serveWithStall();
        const result = await resultOf(start(port, args));
        expect(result.latencyMicros.max).toBeGreaterThan(100_000);
      });

      test('counts all of them where it may not', async () => {
        const port = await serve(echo);
        const line = ['--bounding-set=-sys_nice', generator, '--port', `${port}`, ...args.split(' ')];
        const result = await resultOf(new Child('setpriv', line));
        expect(result.disturbed).toBeUndefined();
        expect(recorded(result) + result.unsent).toBe(2000);
      });
    },
  );

  test('says which byte was corrupted', async () => {
    let received = 0;
    const port = await serve((socket) => {
      socket.on('data', (chunk) => {
        if (received <= 1000 && received + chunk.length > 1000) chunk[1000 - received]! ^= 1;
        received += chunk.length;
        socket.write(chunk);
      });
    });
    const ended = await start(port, '--connections 1 --rate 2000 --warmup 0 --seconds 5').end();
    expect(ended.code).toBe(3);
    expect(ended.stderr).toMatch(/^loadgen: connection 1: byte 1000 came back as 0x.., not as 0x..\n$/);
  });

  test('gives up on a server that closes its connections', async () => {
    let chunks = 0;
    const port = await serve((socket) => {
      socket.on('data', (chunk) => (++chunks > 20 ? socket.destroy() : socket.write(chunk)));
    });
    const ended = await start(port, '--connections 1 --rate 500 --warmup 0 --seconds 5').end();
    expect(ended.code).toBe(4);
    expect(ended.stderr).toContain('connection 1 of 1 ended after');
  });

  test('asks and verifies answers that are no echo', async () => {
    const port = await serve((socket) => {
      socket.on('data', (chunk) => socket.write('hello'.repeat(chunk.toString().split('?').length - 1)));
    });
    const result = await resultOf(
      start(port, '--connections 2 --rate 200 --warmup 0 --seconds 0.1 --request hm? --response hello'),
    );
    expect(result).toMatchObject({ roundTrips: 20, unanswered: 0 });
  });
});

describe('churn', () => {
  test('a cycle is a connection with one message, which the client closes normally', async () => {
    let accepted = 0;
    let resets = 0;
    let ends = 0;
    const sizes: number[] = [];
    const port = await serve((socket) => {
      const index = accepted++;
      sizes[index] = 0;
      socket.on('error', () => resets++);
      socket.on('data', (chunk) => {
        sizes[index]! += chunk.length;
        socket.write(chunk);
      });
      socket.on('end', () => {
        ends++;
        socket.end();
      });
    });
    const result = await resultOf(start(port, '--connections 3 --churn --size 100 --warmup 0 --seconds 0.3'));
    // Before the window each slot has one, at its end another may be under way.
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(accepted).toBeGreaterThanOrEqual(result.roundTrips + 3);
    expect(accepted).toBeLessThanOrEqual(result.roundTrips + 6);
    expect(new Set(sizes)).toEqual(new Set([100]));
    expect(resets).toBe(0);
    expect(ends).toBeGreaterThan(0);
    expect(recorded(result)).toBe(result.roundTrips);
    expect(result).toMatchObject({ connectionErrors: 0, firstConnectionError: null });
  });

  test('on loopback the cycles come from many addresses, so that no port is missing', async () => {
    const sources = new Set<string>();
    const port = await serve((socket) => {
      sources.add(socket.remoteAddress!);
      echo(socket);
    });
    await resultOf(start(port, '--connections 32 --churn --warmup 0 --seconds 0.05'));
    expect([...sources].sort()).toEqual(Array.from({ length: 16 }, (_, i) => `127.0.1.${i + 1}`).sort());
  });

  test('a cycle that fails is counted, and its slot goes on', async () => {
    const port = await serve((socket, index) => {
      if (index >= 4 && index % 3 === 0) socket.destroy();
      else echo(socket);
    });
    const result = await resultOf(start(port, '--connections 4 --churn --warmup 0 --seconds 0.3'));
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(result.connectionErrors).toBeGreaterThan(0);
    expect(result.firstConnectionError).toMatch(/closed it|reset/);
  });

  test('notices a wrong byte, and a byte that nobody sent', async () => {
    const wrong = await serve((socket, index) => {
      socket.on('data', (chunk) => {
        if (index === 9) chunk[5]! ^= 1;
        socket.write(chunk);
      });
    });
    const first = await start(wrong, '--connections 1 --churn --warmup 0 --seconds 5').end();
    expect(first.code).toBe(3);
    expect(first.stderr).toMatch(/^loadgen: cycle 10: byte 5 came back as/);
    const more = await serve((socket) => {
      socket.on('data', (chunk) => socket.write(Buffer.concat([chunk, chunk])));
    });
    const second = await start(more, '--connections 1 --churn --warmup 0 --seconds 5').end();
    expect(second.code).toBe(3);
    expect(second.stderr).toContain('more bytes than it was given');
  });

  test('says so when nobody listens', async () => {
    const ended = await start(1, '--connections 3 --churn').end();
    expect(ended.code).toBe(5);
    expect(ended.stderr).toContain('connect: Connection refused');
  });
});

describe('idle connections', () => {
  test.each(['--in-flight 2', '--rate 300', '--churn'])(
    'come first, have one echo each and are silent during %s',
    async (shape) => {
      const bytes: number[] = [];
      const port = await serve((socket, index) => {
        bytes[index] = 0;
        socket.on('data', (chunk) => {
          bytes[index]! += chunk.length;
          socket.write(chunk);
        });
        socket.on('end', () => socket.end());
      });
      const args = `--connections 2 --idle-connections 20 --size 100 --warmup 0.02 --seconds 0.2 ${shape}`;
      const result = await resultOf(start(port, args));
      expect(result).toMatchObject({ idleEstablished: 20, firstIdleConnectionError: null });
      expect(result.roundTrips).toBeGreaterThan(0);
      expect(bytes.slice(0, 20)).toEqual(Array(20).fill(100));
    },
  );

  test('that cannot be made are missed and explained', async () => {
    const port = await serve((socket, index) => {
      if (index < 3) socket.destroy();
      else echo(socket);
    });
    const result = await resultOf(start(port, '--idle-connections 5 --warmup 0 --seconds 0.05'));
    expect(result.idleEstablished).toBe(2);
    expect(result.firstIdleConnectionError).toMatch(/closed it|reset/);
  });

  test.each([
    ['hears something', 3, 'idle connection 1: the server sent more bytes', (socket: Socket) => void socket.write('x')],
    ['is closed', 4, 'idle connection 1 of 1 ended after 64 bytes', (socket: Socket) => void socket.destroy()],
  ])('one that %s ends the generator', async (_, code, message, disturb) => {
    const sockets: Socket[] = [];
    const port = await serve((socket) => {
      sockets.push(socket);
      socket.on('data', (chunk) => {
        socket.write(chunk);
        if (sockets.length === 2 && socket === sockets[1]) disturb(sockets[0]!);
      });
    });
    const ended = await start(port, '--connections 1 --idle-connections 1 --warmup 0 --seconds 0.1').end();
    expect(ended.code).toBe(code);
    expect(ended.stderr).toContain(message);
  });
});

describe('flooders', () => {
  test('send without pause beside the measured messages, and get all of it back', async () => {
    const received: number[] = [];
    const port = await serve((socket, index) => {
      received[index] = 0;
      socket.on('data', (chunk) => {
        received[index]! += chunk.length;
      });
      echo(socket);
    });
    const args = '--connections 2 --rate 100 --flooders 2 --size 1000 --warmup 0.02 --seconds 0.3';
    const result = await resultOf(start(port, args));
    expect(result).toMatchObject({ roundTrips: 30, unsent: 0, unanswered: 0 });
    const [, , ...flood] = received;
    expect(flood).toHaveLength(2);
    for (const bytes of flood) {
      expect(bytes).toBeGreaterThan(64 * 1024);
      expect(bytes % 1000).toBe(0);
    }
    expect(result.floodBytesPerSecond).toBeGreaterThan(0);
    expect(result.floodBytesPerSecond * result.seconds).toBeLessThanOrEqual(flood[0]! + flood[1]!);
  });

  test('one that gets a wrong byte ends the generator', async () => {
    const port = await serve((socket) => {
      let at = 0;
      socket.on('data', (chunk) => {
        if (at <= 500_000 && at + chunk.length > 500_000) chunk[500_000 - at]! ^= 1;
        at += chunk.length;
        if (!socket.write(chunk)) socket.pause().once('drain', () => socket.resume());
      });
    });
    const ended = await start(port, '--connections 1 --rate 50 --flooders 1 --warmup 0 --seconds 5').end();
    expect(ended.code).toBe(3);
    expect(ended.stderr).toMatch(/^loadgen: flooder 1: byte 500000 came back as/);
  });

  test('must all connect', async () => {
    const port = await serve((socket, index) => {
      if (index === 1) socket.destroy();
      else echo(socket);
    });
    const ended = await start(port, '--connections 1 --rate 50 --flooders 1').end();
    expect(ended.code).toBe(5);
    expect(ended.stderr).toContain('1 of 1 flooders did not connect');
  });
});

describe('against raw epoll', () => {
  // Below the ephemeral ports, from which the connections of other tests come.
  const port = 9500 + (process.pid % 400);

  test.each([
    '',
    '--no-ring',
    '--in-flight 16',
    '--size 1000003 --in-flight 2',
    '--rate 2000',
    '--rate 50 --size 1000003',
    '--churn',
    '--churn --size 1000003',
    '--rate 500 --flooders 3 --idle-connections 10',
  ])('polling with %j verifies everything and says how busy it was', async (shape) => {
    const server = new Child(join(programs, 'raw-epoll'), ['--port', `${port}`]);
    await server.says(/listening/);
    const args = `--connections 4 --warmup 0.05 --seconds 0.2 --spin --server-pid ${server.pid} ${shape}`.trim();
    const result = await resultOf(start(port, args));
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(result.generatorBusy).toBeGreaterThan(0);
    expect(result.generatorBusy).toBeLessThanOrEqual(1);
    server.kill();
    await server.end();
  });
});

test.each([
  ['--rate 0', '--rate must be a number from 0.001'],
  ['--rate fast', '--rate must be a number from'],
  ['--rate', "'--rate' is unknown or lacks its value"],
  ['--rate 10 --churn', 'exclude each other'],
  ['--idle --churn', 'exclude each other'],
  ['--idle --idle-connections 5', 'accompany another load'],
  ['--flooders 2', '--flooders disturb the messages of --rate'],
  ['--churn --flooders 2', '--flooders disturb the messages of --rate'],
  ['--watch-core 0', '--watch-core is for the messages of --rate'],
  ['--rate 10 --watch-core one', '--watch-core must be a number from 0'],
  ['--rate 10 --in-flight 2', '--in-flight is for the closed loop'],
  ['--churn --in-flight 2', '--in-flight is for the closed loop'],
  ['--idle-connections -1', '--idle-connections must be a number from 0'],
])('wrong usage %j is one line and exit code 2', async (args, message) => {
  const ended = await start(1, args).end();
  expect(ended).toMatchObject({ code: 2, stdout: '' });
  expect(ended.stderr).toContain(message);
  expect(ended.stderr.trim().split('\n')).toHaveLength(1);
});
