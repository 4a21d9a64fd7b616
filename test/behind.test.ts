// A loop that is behind reads for those who have waited longest without asking the kernel whether they are ready (native/turn.h). Here the turn alone:
// every connection has sent its next message before the next turn begins, so each wait brings all it may.

import { readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { COMPLETION, NativeDriver, READ_PAGE, READY } from '../src/driver.ts';
import { EVENT_EDGE, EVENT_READ } from '../src/selectors.ts';
import { Kind } from '../src/trace/record.ts';
import { pipe, recorded, type Sockets, sockets } from './helpers.ts';
import { root, script } from './processes.ts';

/** What a turn says of a descriptor: the bytes that were read for it, '' at the end; null that it is ready. */
type Said = [fd: number, what: string | number | null];

/** All that has come for a descriptor. */
function received(fd: number): string {
  const buffer = Buffer.alloc(65536);
  let text = '';
  for (;;) {
    try {
      text += buffer.toString('latin1', 0, readSync(fd, buffer));
    } catch {
      return text;
    }
  }
}

class Load {
  readonly driver: NativeDriver = new NativeDriver();
  readonly busy: readonly Sockets[];
  /** Those of them that send nothing more. */
  silent: ReadonlySet<Sockets> = new Set();
  /** How long it computes in each turn. */
  stepMs = 0;
  /** Length of the messages. */
  bytes = 0;
  /** Chunks that were read, and what was in them then. */
  readonly kept: Array<[chunk: Buffer, text: string]> = [];
  /** Numbers of the messages that each is to be given next. */
  readonly #sent = new Map<number, number>();

  constructor(busy: number) {
    onTestFinished(() => this.driver.selector.close());
    this.busy = Array.from({ length: busy }, () => sockets());
    for (const connection of this.busy) {
      this.watch(connection.near, EVENT_READ | EVENT_EDGE);
      this.read(connection.near);
      this.send(connection);
    }
  }

  watch(fd: number, events: number): void {
    this.driver.selector.watch(fd, events, { generation: 0 });
  }

  read(fd: number): void {
    this.driver.submitRead(fd, 65536, 1);
  }

  send(connection: Sockets): void {
    const number = this.#sent.get(connection.near) ?? 0;
    this.#sent.set(connection.near, number + 1);
    connection.send(connection.far, `${number} of ${connection.near}`.padEnd(this.bytes));
  }

  turn(): Said[] {
    const { driver } = this;
    driver.setRunnable(true); // it does not block
    expect(driver.run()).toBeGreaterThanOrEqual(0);
    const said: Said[] = [];
    for (let at = 0; at < driver.completions * COMPLETION; at += COMPLETION) {
      const [kind, fd, , result, offset] = driver.events.subarray(at, at + COMPLETION) as unknown as number[];
      const memory = kind === READ_PAGE ? driver.page : driver.slab;
      if (kind === READY) said.push([fd!, null]);
      else said.push([fd!, result! < 0 ? result! : this.#keep(Buffer.from(memory, offset, result))]);
    }
    driver.refill();
    return said;
  }

  #keep(chunk: Buffer): string {
    const text = chunk.toString();
    this.kept.push([chunk, text]);
    return text;
  }

  /** A turn, after which whoever of the busy was read for answers the same, in two writes, waits again, and has been sent more. */
  busyTurn(): Said[] {
    const said = this.turn();
    for (const [fd, what] of said) {
      const connection = this.busy.find(({ near }) => near === fd);
      if (connection === undefined || what === null) continue;
      this.driver.submitWrite(fd, Buffer.from(String(what).slice(0, 1)), 1);
      this.read(fd);
      if (!this.silent.has(connection)) this.send(connection);
    }
    for (const [fd, what] of said)
      if (what !== null) this.driver.submitWrite(fd, Buffer.from(String(what).slice(1)), 1);
    for (const end = performance.now() + this.stepMs; performance.now() < end; );
    return said;
  }

  /** Turns until the loop is behind, and takes for ready what it has not been told of. */
  fallBehind(): void {
    for (let i = 0; i < 5; i++) expect(this.busyTurn()).toHaveLength(24);
  }

  /** How many turns pass until one of them says something of `fd`. */
  turnsUntilSaid(fd: number): number {
    for (let turns = 1; turns < 1000; turns++) if (this.busyTurn().some(([who]) => who === fd)) return turns;
    throw new Error(`nothing was said of ${fd}`);
  }
}

describe('a loop that is behind', () => {
  test('gives each of its readers what was sent to it, in order, and all as often as the others', () => {
    const load = new Load(60);
    const messages = new Map<number, string[]>();
    for (let i = 0; i < 250; i++)
      for (const [fd, what] of load.busyTurn()) messages.set(fd, [...(messages.get(fd) ?? []), what as string]);
    expect(messages.size).toBe(60);
    for (const [fd, texts] of messages) {
      expect(texts).toEqual(texts.map((_, i) => `${i} of ${fd}`));
      expect(texts.length).toBeGreaterThanOrEqual(90);
    }
  });

  test.each([true, false])(
    'loses nothing where a turn has no memory for the last of its readers (together: %s)',
    (together) => {
      vi.stubEnv('ONEWAIT_IO_URING', together ? '1' : '0');
      onTestFinished(() => void vi.unstubAllEnvs());
      const load = new Load(60);
      load.bytes = 280; // a page is used up after 103 of them, in the fifth turn, and takes 117
      // What is written to them leaves little room for the reads that leave with it: sixteen in a call of 64.
      const others = Array.from({ length: 24 }, () => sockets());
      const messages = new Map(load.busy.map(({ near }) => [near, [] as string[]]));
      for (let i = 0; i < 250; i++) {
        for (const [fd, what] of load.busyTurn()) messages.get(fd)!.push(what as string);
        for (const { near } of others) load.driver.submitWrite(near, Buffer.from('.'), 1);
      }
      load.driver.flush();
      for (const [chunk, text] of load.kept) expect(chunk.toString()).toBe(text);
      for (const { near, far } of load.busy) {
        const texts = messages.get(near)!;
        expect(texts).toEqual(texts.map((_, i) => `${i} of ${near}`.padEnd(i === 0 ? 0 : load.bytes)));
        expect(texts.length).toBeGreaterThanOrEqual(85);
        expect(received(far)).toBe(texts.join(''));
      }
    },
  );

  test('does not ask in some turns who is ready, and then of all', () => {
    const load = new Load(48);
    const other = pipe();
    other.write();
    // A round of waits is of three here, of which the last reports what the first has. The turns between two rounds are over after two milliseconds,
    // which on a busy machine may be none of them.
    const waited = Array.from({ length: 100 }, () => {
      load.busyTurn();
      load.watch(other.reader, EVENT_READ);
      const turns = load.turnsUntilSaid(other.reader);
      load.driver.selector.unregister(other.reader);
      for (let i = 0; i < 5; i++) load.busyTurn();
      return turns;
    });
    expect(Math.max(...waited)).toBeGreaterThan(3);
  });

  test('asks in every turn while others than readers of small messages are ready', () => {
    const load = new Load(48);
    load.fallBehind();
    const other = pipe();
    load.watch(other.reader, EVENT_READ);
    other.write();
    load.turnsUntilSaid(other.reader);
    for (let i = 0; i < 100; i++) expect(load.turnsUntilSaid(other.reader)).toBeLessThanOrEqual(3);
  });

  test('asks again when two milliseconds are over, however few turns that was', () => {
    const load = new Load(48);
    load.fallBehind();
    const other = pipe();
    other.write();
    load.stepMs = 2.1;
    load.busyTurn();
    for (let i = 0; i < 20; i++) {
      load.watch(other.reader, EVENT_READ);
      expect(load.turnsUntilSaid(other.reader)).toBeLessThanOrEqual(3);
      load.driver.selector.unregister(other.reader);
    }
  });

  test('treats more of them than it knows the order of all alike', () => {
    const load = new Load(1100);
    const reads = new Map<number, number>();
    for (let i = 0; i < 200; i++) for (const [fd] of load.busyTurn()) reads.set(fd, (reads.get(fd) ?? 0) + 1);
    expect(reads.size).toBe(1100);
    expect(Math.max(...reads.values()) - Math.min(...reads.values())).toBeLessThanOrEqual(1);
  });

  test('reads for nobody who does not wait', () => {
    const load = new Load(48);
    load.fallBehind();
    const [silent] = load.busy;
    // From here on it is read for once, and does not wait again.
    const heard: Said[] = [];
    for (let i = 0; i < 40; i++) {
      for (const said of load.turn()) {
        if (said[0] === silent!.near) {
          heard.push(said);
          continue;
        }
        load.read(said[0]);
        load.send(load.busy.find(({ near }) => near === said[0])!);
      }
      if (heard.length === 1) load.send(silent!);
    }
    expect(heard.filter(([, what]) => what !== null)).toHaveLength(1);
    load.read(silent!.near);
    load.turnsUntilSaid(silent!.near);
  });

  test('lets those wait on for whom nothing has come', () => {
    const load = new Load(48);
    load.fallBehind();
    const quiet = Array.from({ length: 4 }, () => sockets());
    for (const { near } of quiet) {
      load.watch(near, EVENT_READ | EVENT_EDGE);
      load.read(near);
    }
    const fds = new Set(quiet.map(({ near }) => near));
    for (let i = 0; i < 40; i++) expect(load.busyTurn().filter(([fd]) => fds.has(fd))).toEqual([]);
    for (const connection of quiet) load.send(connection);
    const heard: Said[] = [];
    for (let i = 0; i < 40; i++) heard.push(...load.busyTurn().filter(([fd]) => fds.has(fd)));
    expect(heard.sort(([a], [b]) => a - b)).toEqual(quiet.map(({ near }) => [near, `0 of ${near}`]));
  });

  test.each([0, 47])('is told of the end that came with the last bytes, by reader %i of 48', (which) => {
    const load = new Load(48);
    load.fallBehind();
    const leaving = load.busy[which];
    const others = load.busy.filter((connection) => connection !== leaving);
    received(leaving!.far); // who closes with anything unread resets the connection, of which the next write may hear, or the next read
    leaving!.close(leaving!.far);
    const heard: Said[] = [];
    for (let i = 0; i < 40; i++) {
      for (const [fd, what] of load.turn()) {
        if (fd === leaving!.near) heard.push([fd, what]);
        if (what !== '') load.read(fd);
        const connection = others.find(({ near }) => near === fd);
        if (connection !== undefined) load.send(connection);
      }
    }
    expect(heard.map(([, what]) => what)).toEqual([expect.stringMatching(/^\d+ of \d+$/), '']);
  });

  test('takes a number that is closed and opened anew for another', () => {
    const load = new Load(48);
    load.fallBehind();
    const [closed] = load.busy;
    const number = closed!.near;
    load.driver.selector.unregister(number);
    load.driver.forget(number);
    closed!.close();
    const next = sockets();
    expect([next.near, next.far]).toContain(number);
    for (let i = 0; i < 40; i++) expect(load.busyTurn().filter(([fd]) => fd === number)).toEqual([]);
  });

  test('asks in every turn while it is traced', () => {
    const load = new Load(48);
    load.fallBehind();
    const records = recorded(() => {
      for (let i = 0; i < 50; i++) load.busyTurn();
    });
    expect(records.filter(({ kind }) => kind === Kind.wait)).toHaveLength(50);
  });

  test('asks again when nothing has come for many of those whom it reads for', () => {
    const load = new Load(48);
    load.fallBehind();
    load.silent = new Set(load.busy.filter((_, i) => i % 2 === 0));
    const other = pipe();
    load.watch(other.reader, EVENT_READ);
    other.write();
    // Two turns bring what had been sent before.
    expect(load.turnsUntilSaid(other.reader)).toBeLessThanOrEqual(6);
  });

  test('never waits for one of them, also where a child process was given the socket and has had it made blocking', async () => {
    const child = script(
      `import { spawnSync } from 'node:child_process';
       import { NativeDriver } from ${JSON.stringify(join(root, 'dist/src/driver.js'))};
       import { native } from ${JSON.stringify(join(root, 'dist/src/native.js'))};
       const listener = native.listen('127.0.0.1', 0, 1000, false);
       const { port } = native.socketName(listener, false);
       const driver = new NativeDriver();
       const farEnds = new Map();
       const read = (fd) => driver.submitRead(fd, 65536, 1);
       const connect = () => {
         const near = native.connect('127.0.0.1', port);
         farEnds.set(near, native.accept(listener));
         driver.selector.watch(near, 5, { generation: 0 });
         read(near);
         return near;
       };
       const send = (fd) => native.send(farEnds.get(fd), new Uint8Array(9), 0, 9);
       for (let i = 0; i < 48; i++) send(connect());
       for (let round = 0; round < 20; round++) {
         spawnSync('true', { stdio: [connect(), 'ignore', 'ignore'] });
         for (let turn = 0; turn < 20; turn++) {
           driver.setRunnable(true);
           driver.run();
           for (let at = 0; at < driver.completions * 6; at += 6) {
             read(driver.events[at + 1]);
             send(driver.events[at + 1]);
           }
           driver.refill();
         }
       }
       console.log('went on');
       process.exit();`,
      { env: { ONEWAIT_IO_URING: '0' } },
    );
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'went on\n', stderr: '' });
  });
});
