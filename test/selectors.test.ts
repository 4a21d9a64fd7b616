// The contract of the selectors: one list of scenarios, for epoll, poll and select alike.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  DefaultSelector,
  EpollSelector,
  EVENT_READ,
  EVENT_WRITE,
  type FileObj,
  PollSelector,
  type Selector,
  SelectorError,
  SelectSelector,
} from '../src/selectors.ts';
import { Kind } from '../src/trace/record.ts';
import { open, openDescriptors, Pipe, pipe, recorded, Sockets, sockets, thrown } from './helpers.ts';
import { until } from './until.ts';

const BOTH = EVENT_READ | EVENT_WRITE;
const EINTR = -4;
/** A number that no test reaches and that select can hold. */
const NOT_OPEN = 1001;

type SelectorClass = new () => Selector;
const SELECTORS: readonly SelectorClass[] = [EpollSelector, PollSelector, SelectSelector];

/** What is ready now, as [fd, events] by fd. */
function readyNow(selector: Selector): Array<[number, number]> {
  const ready = selector.select(0).map(([key, events]): [number, number] => [key.fd, events]);
  return ready.sort((a, b) => a[0] - b[0]);
}

/** Another process that holds a duplicate of `fd`: the same open file, whatever this process does. */
async function duplicate(fd: number): Promise<ChildProcess> {
  const child = spawn('sleep', ['1000'], { stdio: [fd, 'ignore', 'ignore'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await until('the start of sleep', () => child.pid);
  return child;
}

describe.each(SELECTORS.map((type) => ({ name: type.name, type })))('$name', ({ type }) => {
  function make(): Selector {
    const selector = new type();
    onTestFinished(() => selector.close());
    return selector;
  }

  describe('registering', () => {
    test('gives a key with what was registered', () => {
      const selector = make();
      const { reader } = pipe();
      const data = { any: 'thing' };
      const key = selector.register(reader, EVENT_READ, data);
      expect(key).toMatchObject({ fileobj: reader, fd: reader, events: EVENT_READ });
      expect(key.data).toBe(data);
      expect(selector.getKey(reader)).toBe(key);
    });

    test('gives a key that cannot be changed', () => {
      const key = make().register(pipe().reader, EVENT_READ);
      expect(() => Object.assign(key, { fd: 0 })).toThrow(TypeError);
    });

    test('takes an object with an fd, and one with a fileno method', () => {
      const selector = make();
      const { reader, writer } = pipe();
      const withFd = { fd: reader };
      const withFileno = { fileno: () => writer };
      expect(selector.register(withFd, EVENT_READ)).toMatchObject({ fd: reader, fileobj: withFd });
      expect(selector.register(withFileno, EVENT_WRITE)).toMatchObject({ fd: writer, fileobj: withFileno });
      expect(selector.getKey(withFd)).toBe(selector.getKey(reader));
      expect(selector.unregister(withFileno).fd).toBe(writer);
    });

    test('the same descriptor twice is ERR_FD_REGISTERED, also through another object, and changes nothing', () => {
      const selector = make();
      const { reader } = pipe();
      const key = selector.register(reader, EVENT_READ);
      for (const again of [reader, { fd: reader }, { fileno: () => reader }]) {
        const error = thrown(() => selector.register(again, EVENT_WRITE));
        expect(error).toBeInstanceOf(SelectorError);
        expect(error).toMatchObject({ name: 'SelectorError', code: 'ERR_FD_REGISTERED' });
      }
      expect(selector.getKey(reader)).toBe(key);
    });

    test('a number that is not open is EBADF, and registers nothing', () => {
      const selector = make();
      expect(thrown(() => selector.register(NOT_OPEN, EVENT_READ))).toMatchObject({
        code: 'EBADF',
        errno: -9,
        fd: NOT_OPEN,
      });
      expect(selector.getMap().size).toBe(0);
    });

    test.each([0, 4, 5, 7, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32 + 1])(
      'for events %d is a RangeError',
      (events) => {
        const selector = make();
        const { reader } = pipe();
        expect(() => selector.register(reader, events)).toThrow(RangeError);
        selector.register(reader, EVENT_READ);
        expect(() => selector.modify(reader, events)).toThrow(RangeError);
        expect(selector.getKey(reader).events).toBe(EVENT_READ);
      },
    );

    test.each(['1', null, undefined, true, 1n, {}])('for events that are no number (%s) is a TypeError', (events) => {
      expect(() => make().register(pipe().reader, events as number)).toThrow(TypeError);
    });

    test.each([-1, Number.NaN, 1.5, 2 ** 31, 2 ** 32 + 5, -(2 ** 32), Number.POSITIVE_INFINITY])(
      'of descriptor %d is a RangeError',
      (fd) => {
        const selector = make();
        for (const fileobj of [fd, { fd }, { fileno: () => fd }]) {
          expect(() => selector.register(fileobj, EVENT_READ)).toThrow(RangeError);
          expect(() => selector.modify(fileobj, EVENT_READ)).toThrow(RangeError);
          expect(() => selector.unregister(fileobj)).toThrow(RangeError);
          expect(() => selector.getKey(fileobj)).toThrow(RangeError);
        }
      },
    );

    test.each([
      '3',
      null,
      undefined,
      true,
      3n,
      {},
      { fd: '3' },
      { fileno: 3 },
      { fileno: () => '3' },
      () => 3,
      Symbol('3'),
    ])('of something that is no descriptor (%s) is a TypeError', (fileobj) => {
      const selector = make();
      expect(() => selector.register(fileobj as unknown as FileObj, EVENT_READ)).toThrow(TypeError);
      expect(() => selector.unregister(fileobj as unknown as FileObj)).toThrow(TypeError);
    });
  });

  describe('modifying', () => {
    test('replaces events and data, and returns the new key', () => {
      const selector = make();
      const { near } = sockets();
      const before = selector.register(near, EVENT_READ, 'before');
      expect(readyNow(selector)).toEqual([]);
      const after = selector.modify(near, EVENT_WRITE, 'after');
      expect(after).toMatchObject({ fd: near, events: EVENT_WRITE, data: 'after' });
      expect(before).toMatchObject({ events: EVENT_READ, data: 'before' });
      expect(selector.select(0)).toEqual([[after, EVENT_WRITE]]);
    });

    test('what is unknown is ERR_FD_NOT_REGISTERED', () => {
      const selector = make();
      const { reader } = pipe();
      for (const call of [
        () => selector.modify(reader, EVENT_READ),
        () => selector.unregister(reader),
        () => selector.getKey(reader),
      ]) {
        expect(thrown(call)).toMatchObject({ name: 'SelectorError', code: 'ERR_FD_NOT_REGISTERED' });
      }
    });

    test('a descriptor that was closed meanwhile is EBADF, and leaves the key as it was', () => {
      const selector = make();
      const ends = pipe();
      const key = selector.register(ends.reader, EVENT_READ);
      ends.close(ends.reader);
      expect(thrown(() => selector.modify(ends.reader, EVENT_READ, 'new'))).toMatchObject({
        code: 'EBADF',
        fd: ends.reader,
      });
      expect(selector.getKey(ends.reader)).toBe(key);
      expect(selector.unregister(ends.reader)).toBe(key);
    });

    test('a number that means another file by now watches that file', () => {
      const selector = make();
      const old = pipe();
      selector.register(old.reader, EVENT_READ);
      old.close();
      const reused = pipe();
      expect(reused.reader).toBe(old.reader);
      selector.modify(reused.reader, EVENT_READ);
      expect(readyNow(selector)).toEqual([]);
      reused.write();
      expect(readyNow(selector)).toEqual([[reused.reader, EVENT_READ]]);
    });

    test('a number that means another file by now never brings events of the old one, though a duplicate keeps it open', async () => {
      const selector = make();
      const old = pipe();
      selector.register(old.reader, EVENT_READ);
      await duplicate(old.reader);
      old.close(old.reader);
      const reused = pipe();
      expect(reused.reader).toBe(old.reader);
      selector.modify(reused.reader, EVENT_READ);
      old.write();
      expect(readyNow(selector)).toEqual([]);
      reused.write();
      expect(readyNow(selector)).toEqual([[reused.reader, EVENT_READ]]);
    });

    test('between a file that cannot be polled and one that can, under one number, follows the file', () => {
      const selector = make();
      const file = openSync('/dev/null', 'r');
      selector.register(file, EVENT_READ);
      closeSync(file);
      const ends = pipe();
      expect(ends.reader).toBe(file);
      selector.modify(ends.reader, EVENT_READ);
      expect(readyNow(selector)).toEqual([]);
      selector.modify(ends.reader, BOTH);
      ends.close(ends.reader);
      expect(open('/dev/null')).toBe(file);
      selector.modify(file, EVENT_READ);
      expect(readyNow(selector)).toEqual([[file, EVENT_READ]]);
    });
  });

  describe('unregistering', () => {
    test('returns the key, and nothing is reported any more', () => {
      const selector = make();
      const ends = pipe();
      const key = selector.register(ends.reader, EVENT_READ);
      ends.write();
      expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
      expect(selector.unregister(ends.reader)).toBe(key);
      expect(readyNow(selector)).toEqual([]);
      expect(thrown(() => selector.unregister(ends.reader))).toMatchObject({ code: 'ERR_FD_NOT_REGISTERED' });
    });

    test('works on a descriptor that is closed', () => {
      const selector = make();
      const ends = pipe();
      const key = selector.register(ends.reader, EVENT_READ);
      ends.close();
      expect(selector.unregister(ends.reader)).toBe(key);
      expect(selector.getMap().size).toBe(0);
    });

    test('works on a number that is in use again, and the new file can be registered', () => {
      const selector = make();
      const old = pipe();
      selector.register(old.reader, EVENT_READ, 'old');
      old.close();
      const reused = pipe();
      expect(reused.reader).toBe(old.reader);
      reused.write();
      expect(selector.unregister(old.reader).data).toBe('old');
      expect(readyNow(selector)).toEqual([]);
      selector.register(reused.reader, EVENT_READ, 'new');
      expect(selector.select(0).map(([key]) => key.data)).toEqual(['new']);
    });

    test('finds an object that has lost its number', () => {
      const selector = make();
      const ends = pipe();
      const file = { fd: ends.reader };
      const key = selector.register(file, EVENT_READ);
      file.fd = -1;
      expect(selector.getKey(file)).toBe(key);
      expect(selector.unregister(file)).toBe(key);
    });

    test('ends it although a duplicate keeps the file open: no stale event, and no spin', async () => {
      const selector = make();
      const ends = pipe();
      selector.register(ends.reader, EVENT_READ);
      await duplicate(ends.reader);
      ends.close(ends.reader);
      selector.unregister(ends.reader);
      ends.write();
      // One may be interrupted: another child of ours has ended.
      const waits = recorded(() => expect(selector.select(30)).toEqual([])).filter(
        ({ kind, result }) => kind === Kind.wait && result !== EINTR,
      );
      // epoll reports it once more and is rebuilt; the second wait blocks to the end.
      expect(waits.length).toBeLessThanOrEqual(2);
      const again = recorded(() => expect(selector.select(30)).toEqual([])).filter(({ kind }) => kind === Kind.wait);
      expect(again.length).toBe(1);
    });

    test('leaves what else is registered alone when a duplicate had to be got rid of', async () => {
      const selector = make();
      const ends = pipe();
      const other = sockets();
      selector.register(ends.reader, EVENT_READ);
      selector.register(other.near, EVENT_READ, 'other');
      await duplicate(ends.reader);
      ends.close(ends.reader);
      selector.unregister(ends.reader);
      ends.write();
      expect(selector.select(0)).toEqual([]);
      other.send(other.far, 'x');
      expect(selector.select(1000).map(([key]) => key.data)).toEqual(['other']);
      expect(selector.modify(other.near, BOTH).events).toBe(BOTH);
      expect(readyNow(selector)).toEqual([[other.near, BOTH]]);
    });
  });

  describe('the map', () => {
    test('is a live view of the keys by descriptor', () => {
      const selector = make();
      const { reader, writer } = pipe();
      const map = selector.getMap();
      expect(map.size).toBe(0);
      const first = selector.register(reader, EVENT_READ);
      const second = selector.register(writer, EVENT_WRITE);
      expect([...map]).toEqual([
        [reader, first],
        [writer, second],
      ]);
      expect([...map.keys()]).toEqual([reader, writer]);
      expect([...map.values()]).toEqual([first, second]);
      expect([...map.entries()]).toEqual([...map]);
      expect(map.get(reader)).toBe(first);
      expect(map.has(NOT_OPEN)).toBe(false);
      const visited: unknown[] = [];
      map.forEach((key, fd, view) => void visited.push(key, fd, view));
      expect(visited).toEqual([first, reader, map, second, writer, map]);
      selector.unregister(reader);
      expect(map.has(reader)).toBe(false);
      expect(map.size).toBe(1);
    });

    test('cannot be written', () => {
      const map = make().getMap() as Map<number, unknown>;
      expect(map).not.toBeInstanceOf(Map);
      expect(() => map.set(1, null)).toThrow(TypeError);
      expect(() => Map.prototype.set.call(map, 1, null)).toThrow(TypeError);
      expect(() => map.clear()).toThrow(TypeError);
    });
  });

  describe('closing', () => {
    test('makes every method throw ERR_SELECTOR_CLOSED, empties the map, and may be repeated', () => {
      const selector = make();
      const { reader } = pipe();
      selector.register(reader, EVENT_READ);
      const map = selector.getMap();
      selector.close();
      selector.close();
      expect(map.size).toBe(0);
      const calls = [
        () => selector.register(reader, EVENT_READ),
        () => selector.modify(reader, EVENT_READ),
        () => selector.unregister(reader),
        () => selector.getKey(reader),
        () => selector.getMap(),
        () => selector.select(0),
        () => selector.select(),
        () => selector.fileno(),
      ];
      for (const call of calls)
        expect(thrown(call)).toMatchObject({ name: 'SelectorError', code: 'ERR_SELECTOR_CLOSED' });
    });

    test('leaves the descriptors open, and none of its own', () => {
      const ends = pipe();
      const before = openDescriptors();
      const selector = new type();
      selector.register(ends.reader, EVENT_READ);
      selector[Symbol.dispose]();
      expect(thrown(() => selector.select(0))).toMatchObject({ code: 'ERR_SELECTOR_CLOSED' });
      expect(openDescriptors()).toBe(before);
      ends.write('still open');
      expect(ends.read()).toBe('still open');
    });
  });

  describe('select', () => {
    test('reports readiness again until it is consumed', () => {
      const selector = make();
      const ends = pipe();
      selector.register(ends.reader, EVENT_READ);
      ends.write('ab');
      for (let i = 0; i < 3; i++) expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
      ends.read(1);
      expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
      ends.read(1);
      expect(readyNow(selector)).toEqual([]);
    });

    test('reports what was asked for and is so, never more', () => {
      const selector = make();
      const { near, far, send } = Object.assign(sockets(), { send: Sockets.prototype.send });
      send(far, 'x');
      selector.register(near, EVENT_READ);
      expect(selector.select(1000).map(([, events]) => events)).toEqual([EVENT_READ]);
      selector.modify(near, EVENT_WRITE);
      expect(readyNow(selector)).toEqual([[near, EVENT_WRITE]]);
      selector.modify(near, BOTH);
      expect(readyNow(selector)).toEqual([[near, BOTH]]);
    });

    test('returns the keys themselves', () => {
      const selector = make();
      const key = selector.register(pipe().writer, EVENT_WRITE, 'mine');
      expect(selector.select()[0]![0]).toBe(key);
    });

    test.each([undefined, null, Number.POSITIVE_INFINITY])(
      'with timeout %s blocks until something is ready',
      async (timeout) => {
        const selector = make();
        const ends = pipe();
        selector.register(ends.reader, EVENT_READ);
        const child = spawn('sh', ['-c', 'sleep 0.05; echo >&3'], {
          stdio: ['ignore', 'ignore', 'ignore', ends.writer],
        });
        onTestFinished(() => void child.kill('SIGKILL'));
        expect(selector.select(timeout).map(([key, events]) => [key.fd, events])).toEqual([[ends.reader, EVENT_READ]]);
      },
    );

    test.each([0, -0, -1, -0.5, -1e300, Number.NEGATIVE_INFINITY])(
      'with timeout %d looks once and does not block',
      (timeout) => {
        const selector = make();
        const ends = pipe();
        selector.register(ends.reader, EVENT_READ);
        const waits = recorded(() => expect(selector.select(timeout)).toEqual([])).filter(
          ({ kind }) => kind === Kind.wait,
        );
        expect(waits.map(({ arg }) => arg)).toEqual([0]);
        ends.write();
        expect(selector.select(timeout).length).toBe(1);
      },
    );

    test.each([0.001, 0.4, 1, 1.5, 3.7, 12])('with timeout %d ms is never early', (timeout) => {
      const selector = make();
      selector.register(pipe().reader, EVENT_READ);
      for (let i = 0; i < 10; i++) {
        const start = process.hrtime.bigint();
        expect(selector.select(timeout)).toEqual([]);
        expect(Number(process.hrtime.bigint() - start)).toBeGreaterThanOrEqual(timeout * 1e6);
      }
    });

    test('with less than the least that the kernel resolves rounds up, and does not turn it into 0', () => {
      const waits = recorded(() => make().select(1e-9)).filter(({ kind }) => kind === Kind.wait);
      expect(waits.map(({ arg }) => arg)).toEqual([1]);
    });

    test.each([2 ** 31, 2 ** 32 + 5, 1e15, Number.MAX_VALUE])(
      'with timeout %d still wakes for what is ready',
      (timeout) => {
        const selector = make();
        const { writer } = pipe();
        selector.register(writer, EVENT_WRITE);
        const waits = recorded(() => expect(selector.select(timeout).length).toBe(1)).filter(
          ({ kind }) => kind === Kind.wait,
        );
        expect(waits[0]!.arg).toBe(Math.min(timeout, 1e12) * 1e6);
      },
    );

    test('refuses a timeout that is no number of milliseconds', () => {
      const selector = make();
      expect(() => selector.select(Number.NaN)).toThrow(RangeError);
      for (const timeout of ['1', true, {}, 1n])
        expect(() => selector.select(timeout as unknown as number)).toThrow(TypeError);
    });

    test('goes on after signals until its deadline, and is never early', async () => {
      const selector = make();
      const ends = pipe();
      selector.register(ends.reader, EVENT_READ);
      const ignore = (): void => {};
      process.on('SIGUSR2', ignore);
      // Without a sanitizer's library, which would make each sleep last longer than the wait.
      const child = spawn('sh', ['-c', `while kill -USR2 ${process.pid}; do sleep 0.003; done`], {
        stdio: 'ignore',
        env: { ...process.env, LD_PRELOAD: '' },
      });
      onTestFinished(async () => {
        child.kill('SIGKILL');
        await until('the end of the signals', () => child.signalCode);
        process.off('SIGUSR2', ignore);
      });
      await until('an interrupted wait', () => {
        const waits = recorded(() => {
          const start = process.hrtime.bigint();
          expect(selector.select(100.5)).toEqual([]);
          expect(Number(process.hrtime.bigint() - start)).toBeGreaterThanOrEqual(100.5e6);
        }).filter(({ kind }) => kind === Kind.wait);
        for (let i = 1; i < waits.length; i++) expect(waits[i]!.arg).toBeLessThan(waits[i - 1]!.arg);
        return waits.filter(({ result }) => result === EINTR).length >= 2;
      });
      // Without a deadline it goes on as well.
      const writer = spawn('sh', ['-c', 'sleep 0.05; echo >&3'], {
        stdio: ['ignore', 'ignore', 'ignore', ends.writer],
      });
      onTestFinished(() => void writer.kill('SIGKILL'));
      expect(selector.select().length).toBe(1);
    });
  });

  describe('a hang-up', () => {
    test('wakes the reader of a pipe whose writer is gone, without a byte', () => {
      const selector = make();
      const ends = pipe();
      selector.register(ends.reader, EVENT_READ);
      ends.close(ends.writer);
      expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
      expect(ends.read()).toBe('');
    });

    test('wakes the writer of a full pipe whose reader is gone', () => {
      const selector = make();
      const ends = pipe();
      ends.fill();
      selector.register(ends.writer, EVENT_WRITE);
      expect(readyNow(selector)).toEqual([]);
      ends.close(ends.reader);
      expect(readyNow(selector)).toEqual([[ends.writer, EVENT_WRITE]]);
      expect(thrown(() => ends.write())).toMatchObject({ code: 'EPIPE' });
    });

    test.each([EVENT_READ, EVENT_WRITE, BOTH])('of a socket wakes who asked for %d', (events) => {
      const selector = make();
      const ends = sockets();
      selector.register(ends.near, events);
      ends.send(ends.near, 'unread, so that closing resets the connection');
      ends.close(ends.far);
      expect(selector.select(1000).map(([key, ready]) => [key.fd, ready])).toEqual([[ends.near, events]]);
    });
  });

  describe('a file that the kernel cannot poll', () => {
    test.each(['/proc/self/exe', '/tmp', '/dev/null'])('such as %s is always ready for what was asked', (path) => {
      const selector = make();
      const fd = open(path);
      for (const events of [EVENT_READ, EVENT_WRITE, BOTH]) {
        selector.register(fd, events);
        for (let i = 0; i < 2; i++) expect(readyNow(selector)).toEqual([[fd, events]]);
        expect(selector.select().map(([key]) => key.fd)).toEqual([fd]);
        selector.unregister(fd);
        expect(readyNow(selector)).toEqual([]);
      }
    });

    test('does not hide what else is ready', () => {
      const selector = make();
      const ends = pipe();
      const file = open('/proc/self/exe');
      selector.register(file, EVENT_READ);
      selector.register(ends.reader, EVENT_READ);
      expect(readyNow(selector)).toEqual([[file, EVENT_READ]]);
      ends.write();
      expect(readyNow(selector).length).toBe(2);
    });
  });

  describe('a descriptor closed behind its back', () => {
    test.each(['a pipe', 'a file that cannot be polled'])(
      'is not reported, does not spin, and can be unregistered: %s',
      (what) => {
        const selector = make();
        let fd = -1;
        // Closed while recording, for the file of the record would take the number.
        const waits = recorded(() => {
          if (what === 'a pipe') {
            const ends = pipe();
            fd = ends.reader;
            ends.write();
            selector.register(fd, EVENT_READ);
            ends.close(fd);
          } else {
            fd = openSync('/proc/self/exe', 'r');
            selector.register(fd, EVENT_READ);
            closeSync(fd);
          }
          expect(selector.select(20)).toEqual([]);
        }).filter(({ kind }) => kind === Kind.wait);
        expect(waits.length).toBeLessThanOrEqual(2);
        expect(selector.getKey(fd).fd).toBe(fd);
        expect(selector.unregister(fd).fd).toBe(fd);
        expect(thrown(() => selector.register(fd, EVENT_READ))).toMatchObject({ code: 'EBADF' });
      },
    );

    test('does not hide what else is ready', () => {
      const selector = make();
      const gone = pipe();
      const ends = pipe();
      selector.register(gone.reader, EVENT_READ);
      selector.register(gone.writer, EVENT_WRITE);
      selector.register(ends.reader, EVENT_READ);
      gone.close();
      ends.write();
      expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
      selector.unregister(gone.writer);
      expect(readyNow(selector)).toEqual([[ends.reader, EVENT_READ]]);
    });
  });

  test('a thousand descriptors are each reported', () => {
    const selector = make();
    const pipes = Array.from({ length: 450 }, () => new Pipe());
    try {
      for (const { reader, writer } of pipes) {
        selector.register(reader, EVENT_READ);
        selector.register(writer, EVENT_WRITE);
      }
      expect(readyNow(selector).length).toBe(450);
      for (const ends of pipes) ends.write();
      expect(readyNow(selector).length).toBe(900);
      for (const { reader } of pipes) selector.unregister(reader);
      expect(readyNow(selector)).toEqual(pipes.map(({ writer }) => [writer, EVENT_WRITE]));
    } finally {
      for (const ends of pipes) ends.close();
    }
  });
});

describe('what only one of them has', () => {
  test('the default is epoll', () => {
    expect(DefaultSelector).toBe(EpollSelector);
  });

  test('epoll has a descriptor of its own, which is readable when something is ready; the others say ENOSYS', () => {
    const inner = new EpollSelector();
    const outer = new PollSelector();
    const ends = pipe();
    inner.register(ends.reader, EVENT_READ);
    outer.register(inner, EVENT_READ);
    expect(readyNow(outer)).toEqual([]);
    ends.write();
    expect(readyNow(outer)).toEqual([[inner.fileno(), EVENT_READ]]);
    outer.close();
    inner.close();
    for (const type of [PollSelector, SelectSelector]) {
      const selector = new type();
      expect(thrown(() => selector.fileno())).toMatchObject({ code: 'ENOSYS' });
      selector.close();
    }
  });

  test('select refuses descriptors from 1024 on with a RangeError that says what to use, poll and epoll look whether they are open', () => {
    for (const type of SELECTORS) {
      const selector = new type();
      const error = thrown(() => selector.register(1024, EVENT_READ));
      if (type === SelectSelector) {
        expect(error).toBeInstanceOf(RangeError);
        expect(error).toMatchObject({ message: expect.stringContaining('EpollSelector') });
      } else expect(error).toMatchObject({ code: 'EBADF' });
      selector.close();
    }
  });

  test('poll serves those at the end of a large set although more are ready than it reports at once', () => {
    const selector = new PollSelector();
    const pipes = Array.from({ length: 1100 }, () => new Pipe());
    try {
      for (const { writer } of pipes) selector.register(writer, EVENT_WRITE);
      const seen = new Set<number>();
      for (let i = 0; i < 2; i++) for (const [key] of selector.select(0)) seen.add(key.fd);
      expect(seen.size).toBe(pipes.length);
    } finally {
      for (const ends of pipes) ends.close();
      selector.close();
    }
  });
});

// One random history, told to all three at once.

type Step =
  | { do: 'register' | 'modify'; end: number; events: number }
  | { do: 'unregister' | 'write' | 'drain' | 'fill' | 'close'; end: number };

const ends = fc.nat({ max: 7 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constantFrom('register' as const, 'modify' as const),
      end: ends,
      events: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({
      do: fc.constantFrom('unregister' as const, 'write' as const, 'drain' as const, 'fill' as const, 'close' as const),
      end: ends,
    }),
  ),
  { maxLength: 40 },
);

/** Two pipes and two pairs of sockets: eight ends. */
class World {
  private readonly pipes = [new Pipe(), new Pipe()];
  private readonly pairs = [new Sockets(), new Sockets()];

  fd(end: number): number {
    const two = end >> 1;
    if (two < 2) return end & 1 ? this.pipes[two]!.writer : this.pipes[two]!.reader;
    return end & 1 ? this.pairs[two - 2]!.far : this.pairs[two - 2]!.near;
  }

  /** select(2) has no hang-up for writers, and the read end of a pipe knows nothing else about writing. */
  events(end: number, events: number): number {
    return end < 4 && !(end & 1) ? EVENT_READ : events;
  }

  act(action: Step['do'], end: number): void {
    const two = end >> 1;
    try {
      if (two < 2) {
        const ends = this.pipes[two]!;
        if (action === 'write') ends.write();
        else if (action === 'fill') ends.fill();
        else if (action === 'drain') ends.read();
        else ends.close(this.fd(end));
      } else {
        const ends = this.pairs[two - 2]!;
        if (action === 'write') ends.send(this.fd(end), 'x');
        else if (action === 'close') ends.close(this.fd(end));
      }
    } catch {
      // Full, empty, gone: that is what histories are made of.
    }
  }

  close(): void {
    for (const ends of [...this.pipes, ...this.pairs]) ends.close();
  }
}

function outcome(action: () => { fd: number; events: number }): unknown {
  try {
    const { fd, events } = action();
    return { fd, events };
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

test('all three tell the same story of any history', () => {
  fc.assert(
    fc.property(steps, (history) => {
      const world = new World();
      const selectors = SELECTORS.map((type) => new type());
      try {
        for (const step of history) {
          const fd = world.fd(step.end);
          const results = selectors.map((selector) => {
            if (step.do === 'register')
              return outcome(() => selector.register(fd, world.events(step.end, step.events)));
            if (step.do === 'modify') return outcome(() => selector.modify(fd, world.events(step.end, step.events)));
            if (step.do === 'unregister') return outcome(() => selector.unregister(fd));
            return undefined;
          });
          expect(results[1]).toEqual(results[0]);
          expect(results[2]).toEqual(results[0]);
          if (step.do !== 'register' && step.do !== 'modify' && step.do !== 'unregister') world.act(step.do, step.end);
          const [epoll, poll, select] = selectors.map(readyNow);
          expect(poll).toEqual(epoll);
          expect(select).toEqual(epoll);
        }
      } finally {
        for (const selector of selectors) selector.close();
        world.close();
      }
    }),
    { numRuns: 300 },
  );
});
