// The writes and the reads of a turn that are made in one system call, and what nobody may notice of it: order, results, errors, and a kernel
// without it.

import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { COMPLETION, READ_PAGE } from '../src/driver.ts';
import { type NativeTurn, native } from '../src/native.ts';
import { Kind, SYSCALLS } from '../src/trace/record.ts';
import { recorded, type Sockets, sockets } from './helpers.ts';
import { ringOffered, withoutRing } from './io-uring.ts';
import { type Child, folder, needs, onewait, script } from './processes.ts';
import { systemCalls } from './strace.ts';

const EBADF = -9;
const NOT_OPEN = 50_000;
const EAGAIN = -11;
const ECONNRESET = -104;
const IN = 1;
const IN_BY_EDGE = 5;
const READ = 1;
const WRITE = 2;

/** A turn, and what it is given to write. */
class Writer {
  readonly turn: NativeTurn;
  private readonly head: Int32Array;
  private readonly submissions: Int32Array;
  private readonly unwritten: Int32Array;
  private readonly out: Uint8Array;
  private used = 0;

  constructor(together: boolean) {
    const poller = new native.Poller('epoll');
    onTestFinished(() => poller.close());
    this.turn = new native.Turn(poller, together);
    const shared = this.turn.shared();
    const events = 64 + 4096 * 5 * 4;
    this.head = new Int32Array(shared, 0, 16);
    this.submissions = new Int32Array(shared, 64, 4096 * 5);
    this.unwritten = new Int32Array(shared, events + 1024 * COMPLETION * 4, 4096 * COMPLETION);
    this.out = new Uint8Array(shared, shared.byteLength - 256 * 1024, 256 * 1024);
  }

  write(fd: number, data: Uint8Array): void {
    this.submissions.set([WRITE, fd, this.used, data.length, 1], this.head[4]! * 5);
    this.head[4]!++;
    this.out.set(data, this.used);
    this.used += data.length;
  }

  /** Carries them out: what was left of them, by descriptor, the first first. */
  flush(): Array<{ fd: number; result: number; length: number }> {
    const count = this.turn.flush();
    this.used = 0;
    return Array.from({ length: count }, (_, i) => {
      const [, fd, , result, , length] = this.unwritten.subarray(i * COMPLETION);
      return { fd: fd!, result: result!, length: length! };
    });
  }
}

/** What has come, once there are `count` bytes, or as many as are there by now. */
function received({ far }: Sockets, count = 0): Buffer {
  const deadline = performance.now() + 10_000;
  const pieces: Buffer[] = [];
  for (let length = 0; ; ) {
    const memory = Buffer.alloc(65536);
    const result = native.recv(far, memory, 0, memory.length);
    if (result > 0) {
      pieces.push(memory.subarray(0, result));
      length += result;
    } else if (length >= count || performance.now() > deadline) return Buffer.concat(pieces);
  }
}

const pairs = (count: number): Sockets[] => Array.from({ length: count }, sockets);
const names = (action: () => void): string[] =>
  recorded(action)
    .filter(({ kind }) => kind === Kind.syscall)
    .map(({ code }) => SYSCALLS[code]!);

describe('the writes of a turn', () => {
  test.each([
    [3, true, 'sendto'],
    [4, true, 'io_uring_send'],
    [100, true, 'io_uring_send'],
    [100, false, 'sendto'],
  ])('%d to different descriptors are made as they should (together: %s)', (count, together, name) => {
    const writer = new Writer(together);
    const ends = pairs(count);
    for (const [i, { near }] of ends.entries()) writer.write(near, Buffer.from(`message ${i}`));
    let left: unknown[] = [];
    const calls = names(() => {
      left = writer.flush();
    });
    expect(calls).toEqual(Array.from({ length: count }, () => (ringOffered() ? name : 'sendto')));
    expect(left).toEqual([]);
    expect(ends.map((end) => received(end, 9).toString())).toEqual(ends.map((_, i) => `message ${i}`));
  });

  test('to the same descriptor keep their order', () => {
    const writer = new Writer(true);
    const ends = pairs(6);
    const text = ends.map(() => '');
    for (let i = 0; i < 300; i++) {
      const to = (i * i + 3 * i) % 6;
      const data = `${i},`;
      text[to] += data;
      writer.write(ends[to]!.near, Buffer.from(data));
    }
    expect(writer.flush()).toEqual([]);
    expect(ends.map((end, i) => received(end, text[i]!.length).toString())).toEqual(text);
  });

  test('fail alone', () => {
    const writer = new Writer(true);
    const ends = pairs(6);
    for (const [i, { near }] of ends.entries()) {
      writer.write(near, Buffer.from(`message ${i}`));
      if (i % 2 === 0) writer.write(NOT_OPEN + i, Buffer.from('nobody'));
    }
    expect(writer.flush()).toEqual([0, 2, 4].map((i) => ({ fd: NOT_OPEN + i, result: EBADF, length: 6 })));
    expect(ends.map((end) => received(end, 9).toString())).toEqual(ends.map((_, i) => `message ${i}`));
  });

  test('to a peer that is gone are EPIPE, and no signal', () => {
    const writer = new Writer(true);
    const ends = pairs(5);
    ends[2]!.close(ends[2]!.far);
    // The first tells the peer's kernel, which answers with a reset; the one that hears of it first is told so.
    while (native.send(ends[2]!.near, Buffer.from('x'), 0, 1) > 0);
    let signals = 0;
    const count = () => void signals++;
    process.on('SIGPIPE', count);
    onTestFinished(() => void process.off('SIGPIPE', count));
    for (const { near } of ends) writer.write(near, Buffer.from('hello'));
    expect(writer.flush()).toEqual([{ fd: ends[2]!.near, result: -32, length: 5 }]);
    for (const { near } of ends) writer.write(near, Buffer.from(' again'));
    expect(writer.flush()).toEqual([{ fd: ends[2]!.near, result: -32, length: 6 }]);
    expect(signals).toBe(0);
    expect(received(ends[0]!, 11).toString()).toBe('hello again');
  });

  test.each([true, false])('lose, double and swap nothing, however full the sockets are (together: %s)', (together) => {
    const ends = pairs(5);
    const writer = new Writer(together);
    const chunk = Buffer.alloc(65536);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(4), fc.integer({ min: 1, max: 3000 })), { maxLength: 80 }),
        fc.uniqueArray(fc.nat(4)),
        (writes, full) => {
          const filled = ends.map(({ near }, i) => {
            let count = 0;
            for (let result = 1; full.includes(i) && result > 0; count += Math.max(0, result))
              result = native.send(near, chunk, 0, chunk.length);
            return count;
          });
          const wanted = ends.map(() => Buffer.alloc(0));
          for (const [n, [to, length]] of writes.entries()) {
            const data = Buffer.alloc(length, n + 1);
            wanted[to] = Buffer.concat([wanted[to]!, data]);
            writer.write(ends[to]!.near, data);
          }
          const left = writer.flush();
          for (const [i, end] of ends.entries()) {
            const mine = left.filter(({ fd }) => fd === end.near);
            const unwritten = mine.reduce((sum, { length, result }) => sum + length - result, 0);
            // Only the first of those that are left may have been taken in part.
            expect(mine.slice(1).every(({ result }) => result === 0)).toBe(true);
            const taken = wanted[i]!.length - unwritten;
            const got = received(end, filled[i]! + taken);
            expect(got.subarray(filled[i]!).equals(wanted[i]!.subarray(0, taken))).toBe(true);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  /** The place where a turn is told to whom large writes go. */
  function large(writer: Writer, to: readonly number[]): Int32Array {
    const shared = writer.turn.shared();
    const sends = new Int32Array(shared, shared.byteLength - 256 * 1024 - 1024 * 3 * 4, 1024 * 3);
    for (const [i, fd] of to.entries()) sends.set([fd, 1, -1], i * 3);
    return sends;
  }

  test('are not made where they would overtake one that the kernel did not take whole', () => {
    const writer = new Writer(true);
    const [a, b, c, d, e] = pairs(5).map(({ near }) => near) as [number, number, number, number, number];
    const sends = large(writer, [b, c, d, a, a, e]);
    const some = Buffer.from('some');
    const calls = names(() => writer.turn.send([some, some, some, Buffer.alloc(64 * 1024 * 1024), some, some]));
    expect(calls.length).toBe(5);
    expect([0, 1, 2, 4, 5].map((i) => sends[i * 3 + 2])).toEqual([4, 4, 4, 0, 4]);
  });

  test('that are large leave together, too', () => {
    const writer = new Writer(true);
    const ends = pairs(5);
    const sends = large(
      writer,
      ends.map(({ near }) => near),
    );
    const calls = names(() => writer.turn.send(ends.map((_, i) => Buffer.alloc(10_000, i + 1))));
    expect(calls).toEqual(ends.map(() => (ringOffered() ? 'io_uring_send' : 'sendto')));
    expect(ends.map((_, i) => sends[i * 3 + 2])).toEqual(ends.map(() => 10_000));
    expect(ends.every((end, i) => received(end, 10_000).equals(Buffer.alloc(10_000, i + 1)))).toBe(true);
  });
});

/** A turn, and readers that are suspended on its descriptors. */
class Reader {
  readonly turn: NativeTurn;
  readonly page = Buffer.alloc(32 * 1024);
  readonly slab = Buffer.alloc(512 * 1024);
  private readonly poller = new native.Poller('epoll');
  private readonly head: Int32Array;
  private readonly submissions: Int32Array;
  private readonly events: Int32Array;

  constructor(ends: readonly Sockets[], together = true, events = IN) {
    onTestFinished(() => this.poller.close());
    this.turn = new native.Turn(this.poller, together);
    const shared = this.turn.shared();
    this.head = new Int32Array(shared, 0, 16);
    this.submissions = new Int32Array(shared, 64, 4096 * 5);
    this.events = new Int32Array(shared, 64 + 4096 * 5 * 4, 1024 * COMPLETION);
    this.turn.setAreas(this.page.buffer as ArrayBuffer, this.slab.buffer as ArrayBuffer);
    for (const { near } of ends) this.poller.add(near, events, 1);
  }

  /** Arms a read of each, with fresh memory, and says what one turn brings them: their bytes, or a number below 0. */
  read(ends: readonly Sockets[], length = 65_536): Map<number, Buffer | number> {
    this.head[8] = 0;
    this.head[9] = 0;
    for (const { near } of ends) this.submissions.set([READ, near, 0, length, 1], this.head[4]!++ * 5);
    const brought = new Map<number, Buffer | number>();
    this.head[7] = 1; // runnable: does not block
    const count = this.turn.run();
    for (let i = 0; i < count; i++) {
      const [kind, fd, , result, offset] = this.events.subarray(i * COMPLETION) as unknown as number[];
      const memory = kind === READ_PAGE ? this.page : this.slab;
      brought.set(fd!, result! < 0 ? result! : Buffer.from(memory.subarray(offset!, offset! + result!)));
    }
    return brought;
  }
}

const tell = ({ far }: Sockets, data: Uint8Array): void => {
  expect(native.send(far, data, 0, data.length)).toBe(data.length);
};
const bytes = (length: number, seed: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) % 256));

describe('the reads of a turn', () => {
  test.each([
    [3, true, 'recvfrom'],
    [4, true, 'io_uring_recv'],
    [20, true, 'io_uring_recv'],
    [20, false, 'recvfrom'],
  ])('%d of different descriptors are made as they should (together: %s)', (count, together, name) => {
    const ends = pairs(count);
    const reader = new Reader(ends, together);
    for (const [i, end] of ends.entries()) tell(end, Buffer.from(`message ${i}`));
    let brought = new Map<number, Buffer | number>();
    const calls = names(() => {
      brought = reader.read(ends);
    });
    expect(calls.filter((call) => !call.startsWith('epoll'))).toEqual(
      Array.from({ length: count }, () => (ringOffered() ? name : 'recvfrom')),
    );
    expect(ends.map(({ near }) => `${brought.get(near)}`)).toEqual(ends.map((_, i) => `message ${i}`));
  });

  test('end and fail alone', () => {
    const ends = pairs(6);
    const reader = new Reader(ends);
    for (const [i, end] of ends.entries()) if (i !== 1 && i !== 4) tell(end, Buffer.from(`message ${i}`));
    ends[1]!.close(ends[1]!.far);
    // A peer that closes with something unread resets the connection.
    native.send(ends[4]!.near, Buffer.from('unread'), 0, 6);
    ends[4]!.close(ends[4]!.far);
    const brought = reader.read(ends);
    expect(
      ends.map(({ near }) => brought.get(near)).map((what) => (typeof what === 'number' ? what : `${what}`)),
    ).toEqual(['message 0', '', 'message 2', 'message 3', ECONNRESET, 'message 5']);
  });

  test('that find nothing wait for what comes', () => {
    const ends = pairs(5);
    const reader = new Reader(ends, true, IN_BY_EDGE);
    for (const end of ends) tell(end, Buffer.from('hello'));
    expect([...reader.read(ends, 5).values()].map(String)).toEqual(ends.map(() => 'hello'));
    // They brought all that was asked for, so there may be more: it is looked for without waiting.
    let brought = new Map<number, Buffer | number>();
    const asked = recorded(() => {
      brought = reader.read(ends);
    }).filter(({ kind }) => kind === Kind.syscall);
    expect(asked.map(({ code }) => SYSCALLS[code])).toEqual(
      ends.map(() => (ringOffered() ? 'io_uring_recv' : 'recvfrom')),
    );
    expect(asked.every(({ result }) => result === EAGAIN)).toBe(true);
    expect(brought.size).toBe(0);
    for (const [i, end] of ends.entries()) tell(end, bytes(3000, i));
    brought = reader.read([]);
    const more = reader.read(ends);
    for (const [i, { near }] of ends.entries()) {
      expect(Buffer.concat([brought.get(near) as Buffer, more.get(near) as Buffer])).toEqual(bytes(3000, i));
    }
  });

  test('bring no more than their readers want', () => {
    const ends = pairs(5);
    const reader = new Reader(ends);
    for (const end of ends) tell(end, Buffer.from('hello'));
    for (const piece of ['he', 'll', 'o']) {
      const brought = reader.read(ends, 2);
      expect(ends.map(({ near }) => `${brought.get(near)}`)).toEqual(ends.map(() => piece));
    }
  });

  test('that find more than their places hold have all the room the next time, until there is little again', () => {
    const ends = pairs(8);
    const reader = new Reader(ends);
    const lengths = () => [...reader.read(ends).values()].map((what) => (what as Buffer).length);
    for (const [i, end] of ends.entries()) tell(end, bytes(10_000, i));
    const first = reader.read(ends);
    const rest = reader.read(ends);
    for (const [i, { near }] of ends.entries()) {
      expect(Buffer.concat([first.get(near) as Buffer, rest.get(near) as Buffer])).toEqual(bytes(10_000, i));
    }
    if (!ringOffered()) return;
    expect((first.get(ends[0]!.near) as Buffer).length).toBe(2048);
    const said = (): Set<string> => {
      for (const end of ends) tell(end, bytes(100, 1));
      return new Set(
        names(() => void expect(lengths()).toEqual(ends.map(() => 100))).filter((call) => !call.startsWith('epoll')),
      );
    };
    for (let i = 0; i < 16; i++) expect(said()).toEqual(new Set(['recvfrom']));
    expect(said()).toEqual(new Set(['io_uring_recv']));
  });

  test('bring all bytes when there are more than the page has room for', () => {
    const ends = pairs(20);
    const reader = new Reader(ends);
    for (const [i, end] of ends.entries()) tell(end, bytes(2047, i));
    const brought = reader.read(ends);
    expect(brought.size).toBe(20);
    for (const [i, { near }] of ends.entries()) expect(brought.get(near)).toEqual(bytes(2047, i));
  });
});

test.each([true, false])(
  'streams get the bytes that were sent, however many at a time (together: %s)',
  async (together) => {
    const program = `
    const pieces = [1, 64, 2047, 2048, 2049, 4096, 100, 9000, 2048, 2048, 5, 70000, 1024, 3];
    function* hear(conn, seed) {
      const all = Buffer.from(Uint8Array.from({ length: pieces.reduce((sum, piece) => sum + piece, 0) }, (_, i) => (i * 13 + seed) % 251));
      let at = 0;
      for (let chunk = yield* conn.read(); chunk !== null; chunk = yield* conn.read()) {
        if (!all.subarray(at, at + chunk.length).equals(chunk)) throw new Error('other bytes at ' + at);
        at += chunk.length;
        yield* conn.write('.'.repeat(chunk.length));
      }
      if (at !== all.length) throw new Error(at + ' bytes of ' + all.length);
      conn.destroy();
    }
    await run(function* () {
      const listener = yield* tcp.listen();
      const near = [];
      const tasks = [];
      for (let i = 0; i < 12; i++) {
        near.push(yield* tcp.connect(listener.address));
        tasks.push(spawn(hear(yield* listener.accept(), i)));
      }
      let at = 0;
      for (const piece of pieces) {
        for (const [seed, conn] of near.entries()) {
          yield* conn.write(Buffer.from(Uint8Array.from({ length: piece }, (_, i) => ((at + i) * 13 + seed) % 251)));
        }
        for (const conn of near) yield* conn.readExactly(piece);
        at += piece;
      }
      for (const conn of near) conn.destroy();
      for (const task of tasks) yield* task.join();
      listener.close();
      return 0;
    });
    console.log('all of them');
    process.exit();
  `;
    const child = script(program, together ? {} : { env: { ONEWAIT_IO_URING: '0' } });
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'all of them\n', stderr: '' });
  },
);

/**
 * A program of eight streams (or another number) that all write in the same turn, a hundred times, and hear it back. It says what it has heard, and
 * how many rings it has opened.
 */
const EIGHT_AT_ONCE = `
  import { readdirSync, readlinkSync } from 'node:fs';
  const streams = Number(process.argv[1] ?? 8);
  const rings = () => readdirSync('/proc/self/fd').filter((fd) => {
    try { return readlinkSync('/proc/self/fd/' + fd) === 'anon_inode:[io_uring]'; } catch { return false; }
  });
  function* main() {
    const listener = yield* tcp.listen();
    const near = [];
    const far = [];
    for (let i = 0; i < streams; i++) {
      near.push(yield* tcp.connect(listener.address));
      far.push(yield* listener.accept());
    }
    let bytes = 0;
    for (let round = 0; round < 100; round++) {
      for (const [i, conn] of near.entries()) yield* conn.write('message ' + i);
      for (const [i, conn] of far.entries()) {
        const text = Buffer.from(yield* conn.readExactly(9)).toString();
        if (text !== 'message ' + i) throw new Error(text);
        bytes += text.length;
      }
    }
    for (const conn of [...near, ...far]) conn.destroy();
    listener.close();
    return bytes;
  }
  const before = rings().length;
  const bytes = await run(main);
  console.log(bytes, 'bytes', rings().length - before, 'rings');
  // Node of itself may hang at its end while V8 still compiles what was just hot (nodejs/node#54918).
  process.exit();
`;

async function heard(child: Child, rings: number, bytes = 7200): Promise<void> {
  expect(await child.end()).toMatchObject({ code: 0, stdout: `${bytes} bytes ${rings} rings\n`, stderr: '' });
}

/** How many rings a program opens that has use for one. */
const one = () => Number(ringOffered());

describe('a program', () => {
  /** What strace sees of it: for each io_uring_enter how many it took, and how many sendto there were. */
  async function seen(env: NodeJS.ProcessEnv): Promise<{ together: number[]; alone: number }> {
    const output = `${folder()}/strace`;
    const wrap = ['strace', '-D', '-f', '-qq', '-o', output, '-e', 'trace=sendto,io_uring_enter,rt_sigreturn'];
    const child = script(EIGHT_AT_ONCE, { wrap, env });
    await heard(child, env.ONEWAIT_IO_URING === '0' ? 0 : one());
    // libuv has a ring as well, from 1.50 on, and waits for what it submits.
    const calls = systemCalls(output, child.pid).filter(({ args }) => !args.includes('GETEVENTS'));
    return {
      together: calls.filter(({ name }) => name === 'io_uring_enter').map(({ result }) => result),
      alone: calls.filter(({ name }) => name === 'sendto').length,
    };
  }

  test('that writes to eight streams in a turn makes one system call for them', async (context) => {
    needs('strace');
    if (!ringOffered()) context.skip('this machine has no io_uring');
    expect(await seen({})).toEqual({ together: Array.from({ length: 100 }, () => 8), alone: 0 });
  });

  test('makes one for each with ONEWAIT_IO_URING=0', async () => {
    needs('strace');
    expect(await seen({ ONEWAIT_IO_URING: '0' })).toEqual({ together: [], alone: 800 });
  });

  test('notices nothing of a sandbox that refuses io_uring', async () => {
    await heard(script(EIGHT_AT_ONCE, { wrap: [withoutRing()] }), 0);
  });

  test('notices nothing of one that lets it open a ring, and not use it', async (context) => {
    const sandbox = [withoutRing(), '--enter'] as const;
    // From Node 22 on, libuv opens a ring for its epoll_ctl, and ends the process when it cannot use it.
    const listen = "require('node:net').createServer().listen(0, '127.0.0.1', function () { this.close(); })";
    const { status } = spawnSync(sandbox[0], [sandbox[1], process.execPath, '--eval', listen]);
    context.skip(status !== 0, 'this Node does not run there by itself');
    await heard(script(EIGHT_AT_ONCE, { wrap: sandbox }), 0);
  });

  test('opens nothing for fewer than four', async () => {
    await heard(script(EIGHT_AT_ONCE, { args: ['3'] }), 0, 2700);
  });

  test('opens one for all loops of a thread', async () => {
    const again = `for (let i = 0; i < 20; i++) runBlocking(main);
      console.log(rings().length - before);`;
    const child = script(
      EIGHT_AT_ONCE.replace("console.log(bytes, 'bytes', rings().length - before, 'rings');", again),
    );
    expect(await child.end()).toMatchObject({ code: 0, stdout: `${one()}\n`, stderr: '' });
  });

  test.each(['closed', 'closed and used again'])('survives that its ring is %s behind its back', async (what) => {
    const trace = `${folder()}/trace`;
    const meddle = `
      import { closeSync, openSync } from 'node:fs';
      // libuv has some, too, from 1.50 on.
      const others = rings();
      await run(main);
      const fd = Number(rings().find((fd) => !others.includes(fd)));
      if (fd >= 0) closeSync(fd);
      if (${what !== 'closed'}) while (openSync('/dev/null') < fd);
    `;
    const source = EIGHT_AT_ONCE.replace('const before =', `${meddle}\nconst before =`);
    await heard(script(source, { env: { ONEWAIT_TRACE: trace } }), 0);
    const shown = await onewait(['trace', 'export', trace, '--to', 'jsonl']).end();
    // It is tried once more, and never again.
    expect(shown.stdout.match(/"syscall":"sendto"/g)?.length).toBe(ringOffered() ? 800 : 1600);
  });

  test('has each of them in its trace, whoever they left with', async () => {
    const trace = `${folder()}/trace`;
    await heard(script(EIGHT_AT_ONCE, { env: { ONEWAIT_TRACE: trace } }), one());
    const shown = await onewait(['trace', 'export', trace, '--to', 'jsonl']).end();
    const sends = shown.stdout
      .split('\n')
      .filter((line) => /"syscall":"(io_uring_send|sendto)"/.test(line))
      .map(
        (line) => JSON.parse(line) as { t: number; asked: number; result: number; durationNs: number; syscall: string },
      );
    expect(sends.length).toBe(800);
    expect(sends.every(({ asked, result, durationNs }) => asked === 9 && result === 9 && durationNs > 0)).toBe(true);
    // Each has its share of the time, one after the other.
    expect(sends.every(({ t }, i) => i === 0 || t + 1 >= sends[i - 1]!.t + sends[i - 1]!.durationNs)).toBe(true);
    if (ringOffered()) {
      const summary = await onewait(['trace', 'summary', trace]).end();
      // One call to send to all of them; to receive it may take a wait each, too.
      const [, perMessage] = /([\d.]+) calls? to each/.exec(summary.stdout)!;
      expect(Number(perMessage)).toBeLessThan(2.7);
    }
    expect(new Set(sends.map(({ syscall }) => syscall))).toEqual(new Set([ringOffered() ? 'io_uring_send' : 'sendto']));
  });
});
