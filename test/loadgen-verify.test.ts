// What the load generator counts, and that it notices each byte that is not what it sent.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { mergeCounts } from '../bench/stats.ts';
import { compile, compiledPrograms } from './bench-programs.ts';
import { Child, type Ended, root } from './processes.ts';

const programs = compiledPrograms('loadgen');

const events = (stdout: string): Array<Record<string, unknown>> =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** Runs the generator against a server of this process. */
async function generate(onConnection: (socket: Socket) => void, args: readonly string[]): Promise<Ended> {
  const server: Server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const ended = await new Child(join(programs, 'loadgen'), ['--port', `${port}`, ...args]).ended;
  server.close();
  return ended;
}

describe('histogram', () => {
  const driver = `
    #include <cstdio>
    #include <iostream>
    #include "${join(root, 'bench/loadgen/histogram.h')}"
    int main() {
      Histogram histogram;
      for (uint64_t value; std::cin >> value;) histogram.record(value);
      std::printf("[%llu,%llu,%llu,%llu,[", (unsigned long long)histogram.total(), (unsigned long long)histogram.max(),
                  (unsigned long long)histogram.at(0.5), (unsigned long long)histogram.at(0.99));
      const char* comma = "";
      histogram.each([&](uint64_t value, uint64_t count) {
        std::printf("%s[%llu,%llu]", comma, (unsigned long long)value, (unsigned long long)count);
        comma = ",";
      });
      std::printf("]]");
    }`;

  type Summary = [total: number, max: number, p50: number, p99: number, counts: Array<[number, number]>];

  function summarize(values: readonly number[]): Summary {
    return JSON.parse(execFileSync(join(programs, 'histogram'), { input: values.join('\n'), encoding: 'utf8' }));
  }

  beforeAll(() => {
    writeFileSync(join(programs, 'histogram.cc'), driver);
    compile(join(programs, 'histogram.cc'), join(programs, 'histogram'));
  }, 60_000);

  test('keeps small values exactly', () => {
    const values = Array.from({ length: 2048 }, (_, i) => i);
    const [total, max, p50, , counts] = summarize(values);
    expect([total, max, p50]).toEqual([2048, 2047, 1023]);
    expect(counts).toEqual(values.map((value) => [value, 1]));
  });

  test('is never off by more than a 1024th, from nanoseconds to hours', () => {
    for (let value = 2048; value < 2 ** 44; value = Math.floor(value * 1.37)) {
      const [, , , , counts] = summarize([value, 2 ** 45]);
      const rounded = counts[0]![0];
      expect(rounded).toBeGreaterThanOrEqual(value);
      expect(rounded - value).toBeLessThanOrEqual(value / 1024);
    }
  });

  test('agrees with sorting on percentiles, and knows the maximum exactly', () => {
    const values = Array.from({ length: 5000 }, (_, i) => ((i * 7919) % 5000) ** 2 + 17);
    const sorted = [...values].sort((a, b) => a - b);
    const [total, max, p50, p99] = summarize(values);
    expect([total, max]).toEqual([5000, sorted.at(-1)]);
    expect(p50 / sorted[2499]!).toBeCloseTo(1, 2);
    expect(p99 / sorted[4949]!).toBeCloseTo(1, 2);
  });

  test('has the same counts when two of them are merged as when all was recorded into one', () => {
    const values = Array.from({ length: 3000 }, (_, i) => 1000 + i * i);
    // The highest bucket ends at the maximum, which is the same in all three.
    const [top] = values.slice(-1);
    const counts = (part: readonly number[]) => summarize(part)[4];
    const merged = mergeCounts([counts([...values.slice(0, 1000), top!]), counts(values.slice(1000))]);
    expect(merged).toEqual(counts([...values, top!]));
  });
});

describe('load generator', () => {
  const short = ['--connections', '5', '--size', '100', '--in-flight', '3', '--warmup', '0.02', '--seconds', '0.1'];

  test('counts, verifies and reports what an echo server returns', async () => {
    const ended = await generate((socket) => socket.pipe(socket), short);
    expect(ended.stderr).toBe('');
    expect(ended.code).toBe(0);
    const reported = events(ended.stdout);
    expect(reported.map((event) => event.event)).toEqual(['connected', 'begin', 'end', 'result']);
    const result = reported.at(-1) as { roundTrips: number; latencyCounts: Array<[number, number]> };
    expect(result.roundTrips).toBeGreaterThan(0);
    expect(result.latencyCounts.reduce((sum, [, count]) => sum + count, 0)).toBe(result.roundTrips);
  });

  test('verifies messages that are longer than any buffer', async () => {
    const large = ['--connections', '2', '--size', '1000003', '--in-flight', '2', '--warmup', '0', '--seconds', '0.2'];
    const ended = await generate((socket) => socket.pipe(socket), large);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });

  test('says which byte was corrupted', async () => {
    let received = 0;
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => {
          const at = 1000 - received;
          if (at >= 0 && at < chunk.length) chunk[at]! ^= 1;
          received += chunk.length;
          socket.write(chunk);
        });
      },
      ['--connections', '1', '--size', '100', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
    expect(ended.stderr).toMatch(/^loadgen: connection 1: byte 1000 came back as 0x.., not as 0x..\n$/);
  });

  test('notices two connections that are mixed up', async () => {
    const sockets: Socket[] = [];
    const ended = await generate(
      (socket) => {
        sockets.push(socket);
        socket.on('data', (chunk) => sockets.at(-1)!.write(chunk));
      },
      ['--connections', '2', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
  });

  test('notices bytes that nobody sent', async () => {
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => socket.write(Buffer.concat([chunk, chunk])));
      },
      ['--connections', '1', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain('more bytes than it was given');
  });

  test('gives up on a server that closes its connections', async () => {
    let echoes = 0;
    const ended = await generate(
      (socket) => {
        socket.on('data', (chunk) => (++echoes > 50 ? socket.destroy() : socket.write(chunk)));
      },
      ['--connections', '1', '--warmup', '0', '--seconds', '5'],
    );
    expect(ended.code).toBe(4);
    expect(ended.stderr).toContain('connection 1 of 1 ended after');
  });

  test('counts connections that fail before their first echo, and goes on with the others', async () => {
    let accepted = 0;
    const ended = await generate(
      (socket) => {
        if (++accepted % 2 === 0) socket.destroy();
        else socket.pipe(socket);
      },
      ['--connections', '10', '--warmup', '0', '--seconds', '0.3'],
    );
    expect(ended.code).toBe(0);
    expect(events(ended.stdout)[0]).toMatchObject({ established: 5, connectionErrors: 5 });
  });

  test('says so when nobody listens', async () => {
    const ended = await new Child(join(programs, 'loadgen'), ['--port', '1', '--connections', '3']).ended;
    expect(ended.code).toBe(5);
    expect(ended.stderr).toContain('Connection refused');
  });
});
