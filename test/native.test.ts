// No argument from JavaScript can crash the addon, be coerced, or touch a descriptor that was not named: it is refused with a TypeError or a
// RangeError, or the kernel refuses it with a negative errno. Numbers that name something here are far above any descriptor of this process.

import { once } from 'node:events';
import { closeSync, existsSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type NativeBlockingThreads, type NativePoller, type NativeTurn, native } from '../src/native.ts';
import { openDescriptors, pipe, sockets, thrown } from './helpers.ts';
import { folder } from './processes.ts';
import { until } from './until.ts';

type Anything = (...args: unknown[]) => unknown;

const EBADF = -9;
const NOT_OPEN = 1_000_000;
const SHARED = new Uint8Array(new SharedArrayBuffer(16));

function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** Values that a careless binding takes for numbers, strings or memory. */
const hostile = fc.oneof(
  fc.constantFrom<unknown>(
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -0.5,
    1.5,
    -1,
    -(2 ** 31),
    2 ** 31,
    2 ** 32 + 5,
    2 ** 53,
    Number.MAX_VALUE,
    '3',
    '',
    'epoll',
    null,
    undefined,
    true,
    3n,
    Symbol('3'),
    [],
    [3],
    {},
    Object.create(null),
    () => 3,
    new Date(3),
    SHARED,
    new Float64Array(4),
    new DataView(new ArrayBuffer(4)),
    new Uint8Array(0),
    new Uint8Array(16),
    new ArrayBuffer(16),
    new SharedArrayBuffer(16),
    detached(),
    detached().buffer,
    new Proxy({}, {}),
    new Proxy(new Uint8Array(4), {}),
  ),
  fc.constant({
    valueOf(): never {
      throw new Error('valueOf must not be called');
    },
    toString(): never {
      throw new Error('toString must not be called');
    },
    [Symbol.toPrimitive](): never {
      throw new Error('toPrimitive must not be called');
    },
  }),
  fc.integer({ min: NOT_OPEN, max: 2 ** 31 - 1 }),
  fc.double({ max: -1 }),
);
const args = fc.array(hostile, { maxLength: 8 });

/** Calls with anything: what comes out is refused, or is an answer. */
function refusedOrAnswered(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    expect(error === null || typeof error !== 'object' ? error : error.constructor).toSatisfy(
      (type) => type === TypeError || type === RangeError,
    );
    return undefined;
  }
}

/** Descriptors that an answer may be. */
function closeAnswer(answer: unknown): void {
  if (typeof answer === 'number' && answer > 2) closeSync(answer);
}

describe('functions', () => {
  const functions = Object.entries(native).filter(
    ([name]) => !['Poller', 'Turn', 'BlockingThreads', 'getAsyncContext', 'setAsyncContext'].includes(name),
  );

  test('are all fuzzed below', () => {
    expect(functions.map(([name]) => name).sort()).toEqual([
      'accept',
      'close',
      'connect',
      'connectLocal',
      'isAwaited',
      'listen',
      'listenLocal',
      'openSpare',
      'read',
      'recv',
      'send',
      'shutdown',
      'socketError',
      'socketName',
      'takePage',
      'takeSlab',
      'traceClose',
      'traceDump',
      'traceMemory',
      'traceOpen',
      'traceRoom',
      'traceText',
      'traceTick',
      'unwatch',
      'watch',
      'write',
    ]);
  });

  test.each(functions)('%s refuses what it cannot use', (name, call) => {
    const before = openDescriptors();
    fc.assert(
      fc.property(args, hostile, (args, receiver) => {
        // These would make a file by the name that was made up.
        if (['traceOpen', 'traceDump', 'listenLocal'].includes(name) && typeof args[0] === 'string')
          args[0] = '/nonexistent/trace';
        const answer = refusedOrAnswered(() => Reflect.apply(call as Anything, receiver, args));
        if (['listen', 'connect', 'openSpare'].includes(name)) closeAnswer(answer);
        else if (name === 'watch') native.unwatch();
        else if (typeof answer === 'number') expect(answer).toBeLessThanOrEqual(0);
      }),
      { numRuns: 500 },
    );
    expect(openDescriptors()).toBe(before);
  });

  test.each(['accept', 'shutdown', 'close', 'socketError', 'socketName'] as const)(
    '%s says EBADF for what is not open',
    (name) => {
      expect((native[name] as Anything)(NOT_OPEN, false)).toBe(EBADF);
    },
  );

  const bad: [unknown, ErrorConstructor][] = [
    [Number.NaN, RangeError],
    [-1, RangeError],
    [1.5, RangeError],
    [2 ** 32 + 5, RangeError],
    [2 ** 31, RangeError],
    ['3', TypeError],
    [null, TypeError],
    [undefined, TypeError],
    [true, TypeError],
    [{ valueOf: () => 3 }, TypeError],
  ];
  test.each(bad)('no descriptor is made of %s', (fd, type) => {
    for (const name of ['accept', 'shutdown', 'close', 'socketError', 'socketName'] as const) {
      expect(thrown(() => (native[name] as Anything)(fd, false))).toBeInstanceOf(type);
    }
    for (const name of ['recv', 'send', 'read', 'write'] as const) {
      expect(thrown(() => (native[name] as Anything)(fd, new Uint8Array(1), 0, 1))).toBeInstanceOf(type);
    }
  });

  describe.each(['recv', 'send', 'read', 'write'] as const)('%s', (name) => {
    const call = native[name] as Anything;

    test('refuses what does not lie in the memory', () => {
      for (const [offset, length] of [
        [0, 17],
        [17, 0],
        [16, 1],
        [-1, 1],
        [0, -1],
        [1, 16],
        [2 ** 32, 1],
        [0, 2 ** 32],
        [0.5, 1],
        [0, 0.5],
        [Number.NaN, 1],
      ]) {
        expect(thrown(() => call(NOT_OPEN, new Uint8Array(16), offset, length))).toBeInstanceOf(RangeError);
      }
      expect(call(NOT_OPEN, new Uint8Array(16), 16, 0)).toBe(EBADF);
      expect(call(NOT_OPEN, new Uint8Array(16), 0, 16)).toBe(EBADF);
    });

    test('refuses memory that is shared, of another kind, or gone', () => {
      for (const memory of [
        SHARED,
        new Float64Array(2),
        new DataView(new ArrayBuffer(16)),
        new ArrayBuffer(16),
        'x',
        [1],
        null,
      ]) {
        expect(thrown(() => call(NOT_OPEN, memory, 0, 1))).toBeInstanceOf(TypeError);
      }
      expect(thrown(() => call(NOT_OPEN, detached(), 0, 1))).toBeInstanceOf(RangeError);
    });

    test('sees how long resizable memory is now', () => {
      const buffer = new (
        ArrayBuffer as unknown as new (
          length: number,
          options: { maxByteLength: number },
        ) => ArrayBuffer
      )(16, {
        maxByteLength: 64,
      });
      const bytes = new Uint8Array(buffer);
      expect(call(NOT_OPEN, bytes, 0, 16)).toBe(EBADF);
      (buffer as unknown as { resize(length: number): void }).resize(4);
      expect(thrown(() => call(NOT_OPEN, bytes, 0, 16))).toBeInstanceOf(RangeError);
    });
  });

  test('a path or an address is not cut short at a NUL', () => {
    const path = join(folder(), 'trace');
    expect(thrown(() => native.traceOpen(`${path}\0.txt`, 16, false, 0, 0))).toBeInstanceOf(TypeError);
    expect(existsSync(path)).toBe(false);
    for (const name of ['listen', 'connect'] as const) {
      expect(thrown(() => (native[name] as Anything)('127.0.0.1\0evil', 0, 1, false))).toBeInstanceOf(TypeError);
    }
  });

  test.each(['localhost', '', '127.1', '::1%', '::1%nosuchinterface', '1.2.3.4.5', 'ffff:::1', '\ud800'])(
    '%j is no numeric address',
    (host) => {
      expect(thrown(() => native.connect(host, 1))).toBeInstanceOf(TypeError);
    },
  );

  test.each([-1, 65536, 1.5, Number.NaN])('%d is no port', (port) => {
    expect(thrown(() => native.listen('127.0.0.1', port, 1, false))).toBeInstanceOf(RangeError);
    expect(thrown(() => native.connect('127.0.0.1', port))).toBeInstanceOf(RangeError);
  });
});

describe('classes', () => {
  const poller = new native.Poller('poll');
  const turn = new native.Turn(poller);

  test('can only be constructed', () => {
    for (const type of [native.Poller, native.Turn])
      expect(thrown(() => (type as unknown as Anything)('epoll'))).toBeInstanceOf(TypeError);
  });

  test('take no other arguments for theirs', () => {
    fc.assert(
      fc.property(args, (args) => {
        if (args[0] === 'epoll') return;
        const error = thrown(() => Reflect.construct(native.Poller, args));
        expect(error).toBeInstanceOf(typeof args[0] === 'string' ? RangeError : TypeError);
        expect(thrown(() => Reflect.construct(native.Turn, args))).toBeInstanceOf(TypeError);
      }),
    );
  });

  test('are not taken for each other, whatever prototypes say', () => {
    const forged = Object.create(native.Poller.prototype);
    const disguised = Object.setPrototypeOf(new native.Turn(poller), native.Poller.prototype);
    for (const impostor of [forged, disguised, Object.create(poller), new Proxy(poller, {})]) {
      expect(thrown(() => new native.Turn(impostor))).toBeInstanceOf(TypeError);
    }
    const closed = new native.Poller('epoll');
    closed.close();
    expect(thrown(() => new native.Turn(closed))).toBeInstanceOf(TypeError);
  });

  const methods = (type: { prototype: object }): [string, Anything][] =>
    Object.getOwnPropertyNames(type.prototype)
      .filter((name) => name !== 'constructor')
      .map((name) => [name, (type.prototype as Record<string, Anything>)[name]!]);

  test.each([
    ...methods(native.Poller).map(([name, method]) => [`Poller.${name}`, method] as const),
    ...methods(native.Turn).map(([name, method]) => [`Turn.${name}`, method] as const),
  ])('%s refuses receivers that are no instance', (name, method) => {
    const other = name.startsWith('Poller') ? turn : poller;
    const own = name.startsWith('Poller') ? native.Poller : native.Turn;
    fc.assert(
      fc.property(
        fc.oneof(hostile, fc.constantFrom<unknown>(other, Object.create(own.prototype), new Proxy(other, {}))),
        args,
        (receiver, args) => {
          expect(thrown(() => Reflect.apply(method, receiver, args))).toBeInstanceOf(TypeError);
        },
      ),
    );
  });

  test.each(['epoll', 'poll', 'select'])('a %s poller refuses what it cannot use', (kind) => {
    const poller: NativePoller = new native.Poller(kind);
    fc.assert(
      fc.property(fc.constantFrom('add' as const, 'modify' as const, 'remove' as const), args, (name, args) => {
        const answer = refusedOrAnswered(() => Reflect.apply(poller[name], poller, args));
        if (answer !== undefined) expect(answer).toBeLessThan(0);
      }),
      { numRuns: 500 },
    );
    for (const timeout of [Number.NaN, -2, '1', null, undefined, {}]) {
      expect(thrown(() => poller.wait(timeout as number))).toSatisfy(
        (error) => error instanceof TypeError || error instanceof RangeError,
      );
    }
    poller.close();
    poller.close();
    expect(poller.wait(-1)).toBe(EBADF);
    expect(poller.fileno()).toBe(EBADF);
    expect(poller.add(0, 1, 1)).toBe(EBADF);
    expect(poller.modify(0, 1)).toBe(EBADF);
    expect(poller.remove(0)).toBe(EBADF);
  });

  test.each(['epoll', 'poll', 'select'])(
    'a %s poller refuses an interest in nothing, with which a hang-up would spin',
    (kind) => {
      const poller: NativePoller = new native.Poller(kind);
      const ends = pipe();
      for (const events of [0, 4, 6, 7, 8]) {
        expect(thrown(() => poller.add(ends.reader, events, 1))).toBeInstanceOf(RangeError);
      }
      expect(poller.add(ends.reader, 5, 1)).toBe(0);
      expect(thrown(() => poller.modify(ends.reader, 4))).toBeInstanceOf(RangeError);
      ends.close(ends.writer);
      expect([...(poller.wait(0) as Int32Array)]).toEqual([ends.reader, 1, 1]);
      poller.close();
    },
  );

  test('a turn refuses what it cannot use', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('setAreas' as const, 'forget' as const, 'start' as const, 'send' as const),
        args,
        (name, args) => {
          if (name === 'start' && typeof args[0] === 'function') return;
          expect(refusedOrAnswered(() => Reflect.apply(turn[name] as Anything, turn, args))).toBeUndefined();
        },
      ),
      { numRuns: 500 },
    );
    turn.stop();
    turn.ref();
    turn.unref();
  });

  test('a turn believes nothing that it finds in the memory it shares', () => {
    const poller = new native.Poller('epoll');
    const ends = pipe();
    poller.add(ends.reader, 1, 1);
    const turn: NativeTurn = new native.Turn(poller);
    const shared = turn.shared();
    const head = new Int32Array(shared, 0, 16);
    const submissions = new Int32Array(shared, 64, 4096 * 5);
    const integer = fc.oneof(fc.integer(), fc.constantFrom(0, -1, 2 ** 31 - 1, -(2 ** 31), 65536, 262144));
    // Writes go to descriptors that are not open; reads to a pipe, on which recv(2) fails.
    const submission = fc.oneof(
      fc.tuple(fc.constant(2), fc.integer({ min: NOT_OPEN, max: 2 ** 31 - 1 }), integer, integer, integer),
      fc.tuple(
        fc.constant(1),
        fc.oneof(fc.constant(ends.reader), fc.integer({ min: NOT_OPEN })),
        integer,
        integer,
        integer,
      ),
      fc.tuple(fc.integer({ min: 3 }), integer, integer, integer, integer),
    );
    ends.write();
    fc.assert(
      fc.property(
        fc.array(submission, { maxLength: 20 }),
        integer,
        integer,
        integer,
        fc.nat({ max: 70000 }),
        (queue, count, page, slab, length) => {
          submissions.fill(0);
          submissions.set(queue.flat());
          turn.setAreas(new ArrayBuffer(length), new ArrayBuffer(length));
          head[4] = count;
          head[8] = page;
          head[9] = slab;
          head[7] = 1; // runnable: does not block
          expect(turn.run()).toBeGreaterThanOrEqual(0);
          expect(head[4]).toBe(0);
          expect(head[5]).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 300 },
    );
    poller.close();
  });

  /** A turn with `count` sockets that its readers are suspended on, with a message to be read from each. */
  function turnWithReaders(
    name: 'epoll' | 'poll' | 'select',
    count: number,
    message: Uint8Array = Buffer.from('hello'),
    length = 65536,
  ) {
    const poller = new native.Poller(name);
    const turn: NativeTurn = new native.Turn(poller);
    const shared = turn.shared();
    const head = new Int32Array(shared, 0, 16);
    const submissions = new Int32Array(shared, 64, 4096 * 5);
    const readers = Array.from({ length: count }, (_, i) => {
      const ends = sockets();
      poller.add(ends.near, 1, i + 1);
      native.send(ends.far, message, 0, message.length);
      return ends.near;
    });
    const arm = () => {
      submissions.set(readers.flatMap((fd) => [1, fd, 0, length, 1]));
      head[4] = count;
    };
    arm();
    return { poller, turn, head, events: new Int32Array(shared, 64 + 4096 * 5 * 4, 1024 * 6), arm };
  }

  test('a turn reads into its page, whatever the cursor says', () => {
    for (const cursor of [0, -1, -(2 ** 31)]) {
      const { poller, turn, head, events } = turnWithReaders('epoll', 1);
      const page = new ArrayBuffer(32768);
      turn.setAreas(page, new ArrayBuffer(262144));
      head[8] = cursor;
      expect(turn.run()).toBe(1);
      expect([...events.subarray(3, 5)]).toEqual([5, 0]);
      expect(Buffer.from(page, 0, 5).toString()).toBe('hello');
      poller.close();
    }
  });

  test.each([
    ['small', 64, [24, 16]],
    ['large', 16 * 1024, [24, 12, 4]],
    ['as large as reads are', 64 * 1024, [24, 4, 4, 4, 4]],
  ])(
    'a turn of %s messages brings as many as the cache has room for, by what the one before brought',
    (_, bytes, turns) => {
      const { poller, turn, head } = turnWithReaders('epoll', 40, new Uint8Array(bytes));
      head[7] = 1; // runnable: does not block
      turn.setAreas(new ArrayBuffer(32768), new ArrayBuffer(41 * 65536));
      expect(turns.map(() => turn.run())).toEqual(turns);
      poller.close();
    },
  );

  test.each(['poll', 'select'] as const)('turns that have memory for some only serve all in turn, on %s', (name) => {
    const { poller, turn, head, events, arm } = turnWithReaders(name, 12, new Uint8Array(8000), 1000);
    turn.setAreas(new ArrayBuffer(32768), new ArrayBuffer(65536 + 2999));
    const served = new Map<number, number>();
    for (let i = 0; i < 8; i++) {
      head[7] = 1; // runnable: does not block
      head[8] = 0;
      head[9] = 0;
      const completions = turn.run();
      expect(completions).toBe(3);
      for (let at = 0; at < completions * 6; at += 6)
        served.set(events[at + 1]!, (served.get(events[at + 1]!) ?? 0) + 1);
      arm();
    }
    expect([...served.values()]).toEqual(Array(12).fill(2));
    poller.close();
  });

  test.each(['epoll', 'poll', 'select'] as const)('a turn that runs out of memory asks for more, on %s', (name) => {
    const { poller, turn, head } = turnWithReaders(name, 5);
    turn.setAreas(new ArrayBuffer(32768), new ArrayBuffer(262144));
    head[9] = 262144 - 65536; // room for one read, and were it of five bytes
    expect(turn.run()).toBe(1);
    expect(head[9]! + 65536).toBeGreaterThan(262144); // which has src/driver.ts replace the slab
    turn.setAreas(new ArrayBuffer(32768), new ArrayBuffer(262144));
    head[8] = head[9] = 0;
    expect(turn.run()).toBe(4);
    poller.close();
  });

  test('a turn sends nothing but what lies in the memory it shares', () => {
    const poller = new native.Poller('epoll');
    const turn: NativeTurn = new native.Turn(poller);
    const ends = sockets();
    const shared = turn.shared();
    const head = new Int32Array(shared, 0, 16);
    const submission = new Int32Array(shared, 64, 5);
    const OUT = 256 * 1024;
    const received = Buffer.alloc(16);
    for (const [offset, length] of [
      [OUT, 1],
      [OUT - 1, 2],
      [0, OUT + 1],
      [2 ** 31 - 1, 1],
      [-1, 1],
      [0, -1],
    ]) {
      submission.set([2, ends.near, offset!, length!, 1]);
      head[4] = 1;
      expect(turn.flush()).toBe(0);
      expect(native.recv(ends.far, received, 0, 16)).toBe(-11);
    }
    submission.set([2, ends.near, OUT - 1, 1, 1]);
    head[4] = 1;
    expect(turn.flush()).toBe(0);
    expect(native.recv(ends.far, received, 0, 16)).toBe(1);
    poller.close();
  });

  /** A turn that sends to one end of a pair of sockets. */
  function turnWithSender() {
    const poller = new native.Poller('epoll');
    const turn: NativeTurn = new native.Turn(poller);
    const ends = sockets();
    const sends = new Int32Array(turn.shared(), 64 + 4 * (4096 * 5 + 1024 * 6 + 4096 * 6), 1024 * 3);
    sends.set([ends.near, 1, -1, ends.near, 1, -1]);
    const received = (): string => {
      const memory = Buffer.alloc(64);
      return memory.toString('latin1', 0, Math.max(0, native.recv(ends.far, memory, 0, 64)));
    };
    return { poller, turn, sends, received, ends };
  }

  test('a turn sends the buffers that it is given, and says how much of each was taken', () => {
    const { poller, turn, sends, received } = turnWithSender();
    turn.send([Buffer.from('one'), Buffer.from('and two')]);
    expect([sends[2], sends[5]]).toEqual([3, 7]);
    expect(received()).toBe('oneand two');
    sends.set([NOT_OPEN, 1, -1]);
    turn.send([Buffer.from('lost'), Buffer.from('kept')]);
    expect([sends[2], sends[5]]).toEqual([EBADF, 4]);
    expect(received()).toBe('kept');
    poller.close();
  });

  test('a turn lets no later buffer overtake one that the kernel did not take whole', () => {
    const { poller, turn, sends, ends } = turnWithSender();
    const size = 64 * 1024 * 1024;
    turn.send([Buffer.alloc(size), Buffer.from('later')]);
    expect(sends[2]).toBeGreaterThan(0);
    expect(sends[2]).toBeLessThan(size);
    expect(sends[5]).toBe(0);
    const drain = Buffer.alloc(size);
    let drained = 0;
    for (let result = 1; result > 0; drained += Math.max(0, result)) result = native.recv(ends.far, drain, 0, size);
    expect(drained).toBe(sends[2]);
    poller.close();
  });

  test('a turn refuses buffers that it cannot send, and sends none of the others', () => {
    const { poller, turn, received } = turnWithSender();
    const good = Buffer.from('good');
    for (const bad of [
      'text',
      new ArrayBuffer(4),
      new Int8Array(4),
      new DataView(new ArrayBuffer(4)),
      new Uint8Array(new SharedArrayBuffer(4)),
    ])
      expect(thrown(() => turn.send([good, bad as Uint8Array]))).toBeInstanceOf(TypeError);
    expect(thrown(() => turn.send(Array.from({ length: 1025 }, () => good)))).toBeInstanceOf(TypeError);
    expect(thrown(() => turn.send(good as unknown as Uint8Array[]))).toBeInstanceOf(TypeError);
    expect(received()).toBe('');
    poller.close();
  });

  test('a turn does not read memory that a getter takes away while the buffers are collected', () => {
    const { poller, turn, sends, received } = turnWithSender();
    const victim = new Uint8Array(1024 * 1024);
    const buffers = [victim, Buffer.from('later')];
    Object.defineProperty(buffers, 1, {
      get: () => {
        structuredClone(victim.buffer, { transfer: [victim.buffer] });
        return Buffer.from('later');
      },
    });
    turn.send(buffers);
    expect([sends[2], sends[5]]).toEqual([0, 5]);
    expect(received()).toBe('later');
    Object.defineProperty(buffers, 1, {
      get: () => {
        throw new RangeError('no');
      },
    });
    expect(thrown(() => turn.send(buffers))).toBeInstanceOf(RangeError);
    poller.close();
  });

  test.each(['takePage', 'takeSlab'] as const)(
    '%s gives memory of its own, limited, which comes back when it was collected',
    async (name) => {
      const take = native[name];
      setFlagsFromString('--expose-gc');
      const collect = runInNewContext('gc') as () => void;
      const held: ArrayBuffer[] = [];
      for (let block = take(); block !== undefined; block = take()) {
        new Uint8Array(block).fill(held.length);
        held.push(block);
      }
      expect(held.length).toBeGreaterThan(16);
      for (const [i, block] of held.entries())
        expect(new Uint8Array(block).every((byte) => byte === (i & 0xff))).toBe(true);
      const size = held[0]!.byteLength;
      held.length = 0;
      // V8 sweeps on another thread.
      await until('a block has come back', () => {
        collect();
        return take()?.byteLength === size;
      });
    },
  );

  test('what is shared outlives the turn, and cannot be pulled from under it', () => {
    const poller = new native.Poller('poll');
    const turn: NativeTurn = new native.Turn(poller);
    const shared = turn.shared();
    try {
      structuredClone(shared, { transfer: [shared] });
    } catch {
      // Refused: as good.
    }
    expect(turn.flush()).toBe(0);
    expect(turn.shared().byteLength).toBeGreaterThan(0);
    poller.close();
  });

  test('a closed poller gives its descriptor back although a turn holds it', () => {
    const before = openDescriptors();
    const poller = new native.Poller('epoll');
    const turn: NativeTurn = new native.Turn(poller);
    expect(openDescriptors()).toBe(before + 1);
    poller.close();
    expect(openDescriptors()).toBe(before);
    expect(turn.run()).toBe(EBADF);
  });
});

describe('BlockingThreads', () => {
  /** Finished calls, as soon as there are some. */
  async function taken(threads: NativeBlockingThreads): Promise<ReturnType<NativeBlockingThreads['take']>> {
    return until('a call is finished', () => {
      const calls = threads.take();
      return calls.length > 0 && calls;
    });
  }

  test('refuses what it cannot use', () => {
    const threads = new native.BlockingThreads(1, 1000);
    fc.assert(
      fc.property(args, (args) => {
        refusedOrAnswered(
          () => new (native.BlockingThreads as unknown as new (...args: unknown[]) => unknown)(...args),
        );
        refusedOrAnswered(() => (threads.call as Anything)('127.0.0.1', 1, 1, NOT_OPEN, ...args));
        refusedOrAnswered(() => (threads.call as Anything).apply(threads, args));
      }),
    );
    expect(thrown(() => new native.BlockingThreads(0, 1))).toBeInstanceOf(RangeError);
    expect(thrown(() => new native.BlockingThreads(1, 0))).toBeInstanceOf(RangeError);
  });

  test('connects, sends, receives, and goes on with the connection', async () => {
    const server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const threads = new native.BlockingThreads(2, 5000);
    threads.call('127.0.0.1', port, 7, -1, Buffer.from('one'), 0, 3);
    const [[id, fd, result, bytes] = []] = await taken(threads);
    expect([id, result, Buffer.from(bytes!).toString()]).toEqual([7, 3, 'one']);
    threads.call('127.0.0.1', port, 8, fd!, Buffer.from('another'), 2, 5);
    const [[, same, , more] = []] = await taken(threads);
    expect([same, Buffer.from(more!).toString()]).toEqual([fd, 'other']);
    native.close(fd!);
  });

  test('says what went wrong, and leaves nothing open', async () => {
    const threads = new native.BlockingThreads(1, 1000);
    const before = openDescriptors();
    const listener = native.listen('127.0.0.1', 0, 1, false);
    const { port } = native.socketName(listener, false) as { port: number };
    native.close(listener);
    threads.call('127.0.0.1', port, 1, -1, new Uint8Array(1), 0, 1);
    expect(await taken(threads)).toEqual([[1, -1, -111, Buffer.alloc(0)]]);
    threads.call('127.0.0.1', port, 2, NOT_OPEN, new Uint8Array(1), 0, 1);
    expect(await taken(threads)).toEqual([[2, NOT_OPEN, EBADF, Buffer.alloc(0)]]);
    // Fewer, if threads of an earlier test were collected meanwhile.
    expect(openDescriptors()).toBeLessThanOrEqual(before);
  });

  test('gives up when its patience is over', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const threads = new native.BlockingThreads(1, 50);
    threads.call('127.0.0.1', (server.address() as AddressInfo).port, 1, -1, new Uint8Array(1), 0, 1);
    const [[, fd, result] = []] = await taken(threads);
    expect(result).toBe(-110);
    native.close(fd!);
  });
});
