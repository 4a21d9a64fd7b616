// Values from whoever sends to whoever receives: in order, each to one of them, and none is lost.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  all,
  Cancelled,
  ClosedError,
  type Coroutine,
  type Operation,
  race,
  run,
  runBlocking,
  sleep,
  spawn,
  timeout,
  yieldNow,
} from '../src/index.ts';
import { Channel, Event, Semaphore } from '../src/sync/index.ts';
import { givenUp, suspended, thrown, turnsUntil } from './helpers.ts';
import { simulate } from './simulated-driver.ts';
import { both, byAwait, byYield, on, type Scenario, thrownBy } from './styles.ts';

/** What is left in a channel that is closed, or has no more senders. */
function* rest<T>(channel: Channel<T>): Scenario<T[]> {
  channel.close();
  const values: T[] = [];
  for (;;) {
    const { done, value } = yield* on(channel.next());
    if (done) return values;
    values.push(value!);
  }
}

describe('a channel', () => {
  both('hands each value to one receiver, first come first served', function* (style) {
    const channel = new Channel<number>();
    const got: string[] = [];
    const receivers = ['a', 'b', 'c'].map((name) =>
      style.spawn(function* () {
        got.push(`${name}${yield* on(channel.receive())}`);
      }),
    );
    for (const receiver of receivers) yield* suspended(receiver);
    for (const value of [1, 2, 3]) yield* on(channel.send(value));
    for (const receiver of receivers) yield* on(receiver);
    expect(got).toEqual(['a1', 'b2', 'c3']);
  });

  both('without room lets a sender go on when somebody has the value', function* (style) {
    const channel = new Channel<string>();
    const order: string[] = [];
    const sender = style.spawn(function* () {
      for (const value of ['a', 'b']) {
        yield* on(channel.send(value));
        order.push(`sent ${value}`);
      }
    });
    yield* suspended(sender);
    expect([channel.capacity, channel.size]).toEqual([0, 0]);
    expect(order).toEqual([]);
    expect(yield* on(channel.receive())).toBe('a');
    yield* turnsUntil(() => order.length === 1);
    yield* suspended(sender);
    expect(channel.tryReceive()).toBe('b');
    yield* on(sender);
    expect(order).toEqual(['sent a', 'sent b']);
  });

  both('with room holds up who sends more than it has room for', function* (style) {
    const channel = new Channel<number>(2);
    let sent = 0;
    const sender = style.spawn(function* () {
      for (let i = 0; i < 5; i++, sent++) yield* on(channel.send(i));
    });
    yield* suspended(sender);
    expect([sent, channel.size]).toEqual([2, 2]);
    expect(yield* on(channel.receive())).toBe(0);
    yield* turnsUntil(() => sent === 3);
    yield* suspended(sender);
    expect(channel.size).toBe(2);
    const values: number[] = [];
    for (let i = 0; i < 4; i++) values.push(yield* on(channel.receive()));
    expect(values).toEqual([1, 2, 3, 4]);
    yield* on(sender);
  });

  both('of any size lets nobody wait who sends', function* () {
    const channel = new Channel<number>(Number.POSITIVE_INFINITY);
    for (let i = 0; i < 100_000; i++) expect(channel.trySend(i)).toBe(true);
    yield* on(channel.send(100_000));
    expect(channel.size).toBe(100_001);
    let next = 0;
    for (let value = channel.tryReceive(); value !== undefined; value = channel.tryReceive()) {
      if (value !== next++) throw new Error(`${value} where ${next - 1} was expected`);
    }
    expect(next).toBe(100_001);
  });

  both('takes what can be had without waiting, and says so if nothing can', function* (style) {
    const channel = new Channel<string>(1);
    expect(channel.tryReceive()).toBeUndefined();
    expect(channel.trySend('a')).toBe(true);
    expect(channel.trySend('b')).toBe(false);
    expect(channel.tryReceive()).toBe('a');
    const receiver = style.spawn(() => on(channel.receive()));
    yield* suspended(receiver);
    expect(channel.trySend('c')).toBe(true);
    expect(channel.size).toBe(0);
    expect(yield* on(receiver)).toBe('c');
  });

  both("brings what callbacks of Node's own have to say", function* () {
    const channel = new Channel<number>(10);
    setImmediate(() => {
      for (let i = 0; i < 3; i++) channel.trySend(i);
      channel.close();
    });
    const values: number[] = [];
    for (let next = yield* on(channel.next()); !next.done; next = yield* on(channel.next())) values.push(next.value);
    expect(values).toEqual([0, 1, 2]);
  });

  both('carries anything, also what looks like nothing, an error or a promise', function* (style) {
    const values = [undefined, null, 0, '', new Error('as a value'), Promise.resolve(1)];
    const channel = new Channel<unknown>();
    const sender = style.spawn(function* () {
      for (const value of values) yield* on(channel.send([value]));
    });
    for (const value of values) expect((yield* on(channel.receive())) as unknown[]).toEqual([value]);
    yield* on(sender);
  });

  both('has lost nothing when who waits is cancelled, late, or gives up', function* (style) {
    const channel = new Channel<string>();
    yield* givenUp(style, (options) => channel.receive(options));
    yield* givenUp(style, (options) => channel.next(options));
    expect(channel.waitingToReceive).toBe(0);
    expect(channel.trySend('nobody waits')).toBe(false);
    const patient = style.spawn(() => on(channel.send('patient')));
    yield* suspended(patient);
    yield* givenUp(style, (options) => channel.send('given up', options));
    expect(channel.waitingToSend).toBe(1);
    expect(yield* on(channel.receive())).toBe('patient');
    expect(channel.tryReceive()).toBeUndefined();
    yield* on(patient);
  });

  both('can be raced, to send as to receive: only one of them happens', function* (style) {
    const [one, other] = [new Channel<string>(), new Channel<string>()];
    const racer = style.spawn(() => on(race([one.receive(), other.receive()])));
    yield* suspended(racer);
    expect(other.trySend('to other')).toBe(true);
    expect(one.trySend('to one')).toBe(false);
    expect(yield* on(racer)).toBe('to other');

    const sender = style.spawn(() => on(race([one.send('a'), other.send('b')])));
    yield* suspended(sender);
    expect(one.tryReceive()).toBe('a');
    expect(other.tryReceive()).toBeUndefined();
    yield* on(sender);
  });

  both('has back, before all others, what was received for nobody', function* (style) {
    const channel = new Channel<string>();
    const late = new Event();
    const compounds: Array<() => Operation<unknown>> = [
      () => all<unknown>([race([channel.receive(), late.wait() as never]), late.wait()]),
      () => timeout(1e6, all<unknown>([channel.receive(), late.wait()])),
      () => all<unknown>([all([channel.next()]), late.wait()]),
      () => race<unknown>([timeout(1e6, channel.receive()), late.wait()]),
    ];
    for (const [i, compound] of compounds.entries()) {
      const task = style.spawn(() => on(compound()));
      yield* turnsUntil(() => channel.waitingToReceive === 1);
      expect(channel.trySend(`value ${i}`)).toBe(true);
      const next = style.spawn(() => on(channel.send('next')));
      task.cancel();
      expect(yield* thrownBy(() => task)).toBeInstanceOf(Cancelled);
      yield* suspended(next);
      expect(yield* on(channel.receive())).toBe(`value ${i}`);
      expect(next.ended).toBe(false);
      expect(yield* on(channel.receive())).toBe('next');
      yield* on(next);
    }
  });

  both('has several values back in their order', function* () {
    const channel = new Channel<number>(5);
    for (const value of [1, 2, 3, 4, 5]) channel.trySend(value);
    const failing = function* (): Coroutine<never> {
      yield* sleep(1);
      throw new Error('expected');
    };
    const parts: Array<Operation<unknown>> = [
      channel.receive(),
      channel.next(),
      timeout(9, all<unknown>([channel.receive(), channel.next()])),
    ];
    yield* thrownBy(() => all<unknown>([...parts, failing]));
    expect(yield* rest(channel)).toEqual([1, 2, 3, 4, 5]);
  });

  both('has back what came for a race that another had won by then', function* (style) {
    const channel = new Channel<string>();
    const stop = new Event();
    const task = style.spawn(() => on(race<unknown>([timeout(1e6, channel.receive()), stop.wait()])));
    yield* turnsUntil(() => channel.waitingToReceive === 1);
    channel.trySend('value');
    stop.set();
    expect(yield* on(task)).toBeUndefined();
    expect(channel.tryReceive()).toBe('value');
  });

  both('loses nothing in a race of both its ends, nor to a coroutine that is ended from outside', function* () {
    const channel = new Channel<string>();
    yield* on(race<unknown>([channel.send('a'), channel.receive()]));
    expect(channel.tryReceive()).toBe('a');
    expect(yield* on(race<unknown>([channel.receive(), channel.send('b')]))).toBe('b');
    expect(channel.tryReceive()).toBeUndefined();
    const coroutine = (function* (): Coroutine<void> {
      yield* channel.receive();
    })();
    const task = spawn(coroutine);
    yield* turnsUntil(() => channel.waitingToReceive === 1);
    channel.trySend('c');
    coroutine.return();
    yield* on(task);
    expect(channel.tryReceive()).toBe('c');
  });

  both('that is closed brings what is in it, and then its end', function* () {
    const channel = new Channel<string>(3);
    for (const value of ['a', 'b', 'c']) yield* on(channel.send(value));
    channel.close();
    channel.close(new Error('too late'));
    expect(channel.closed).toBe(true);
    expect(yield* thrownBy(() => channel.send('d'))).toBeInstanceOf(ClosedError);
    expect(() => channel.trySend('d')).toThrow(ClosedError);
    expect(yield* on(channel.receive())).toBe('a');
    expect(channel.tryReceive()).toBe('b');
    expect(yield* on(channel.next())).toEqual({ done: false, value: 'c' });
    expect(yield* on(channel.next())).toEqual({ done: true, value: undefined });
    expect(yield* thrownBy(() => channel.receive())).toBeInstanceOf(ClosedError);
    expect(channel.tryReceive()).toBeUndefined();
  });

  both('wakes all who wait when it is closed', function* (style) {
    const channel = new Channel<string>();
    const receiver = style.spawn(() => on(channel.receive()));
    const iterating = style.spawn(() => on(channel.next()));
    yield* suspended(receiver);
    yield* suspended(iterating);
    channel[Symbol.dispose]();
    expect(yield* thrownBy(() => receiver)).toBeInstanceOf(ClosedError);
    expect(yield* on(iterating)).toEqual({ done: true, value: undefined });

    const full = new Channel<string>(1);
    yield* on(full.send('in it'));
    const sender = style.spawn(() => on(full.send('not in it')));
    yield* suspended(sender);
    full.close();
    expect(yield* thrownBy(() => sender)).toBeInstanceOf(ClosedError);
    expect(yield* rest(full)).toEqual(['in it']);
  });

  both('closed with an error gives receivers what is in it, and then that', function* (style) {
    const failure = new Error('the source is gone');
    const channel = new Channel<string>(1);
    const waiting = new Channel<string>();
    const receiver = style.spawn(() => on(waiting.next()));
    yield* suspended(receiver);
    waiting.close(failure);
    expect(yield* thrownBy(() => receiver)).toBe(failure);
    yield* on(channel.send('a'));
    channel.close(failure);
    expect(yield* on(channel.receive())).toBe('a');
    expect(yield* thrownBy(() => channel.receive())).toBe(failure);
    expect(yield* thrownBy(() => channel.next())).toBe(failure);
  });

  both('tells who waits for what, by its name', function* (style) {
    const channel = new Channel<string>(0, { name: 'jobs' });
    const receiver = style.spawn(() => on(channel.receive()));
    yield* suspended(receiver);
    expect(receiver.waitingFor).toBe("channel 'jobs' to have a value");
    yield* on(channel.send('a'));
    yield* on(receiver);
    const sender = style.spawn(() => on(channel.send('b')));
    yield* suspended(sender);
    expect(sender.waitingFor).toBe("channel 'jobs' to take a value");
    channel.close();
    yield* thrownBy(() => sender);
  });

  both('that never makes anybody wait keeps nobody else from running', function* (style) {
    const channel = new Channel<number>(1);
    let goes = true;
    const busy = style.spawn(function* () {
      while (goes) {
        yield* on(channel.send(1));
        yield* on(channel.receive());
      }
    });
    yield* on(sleep(1));
    goes = false;
    yield* on(busy);
  });

  test('checks how much room it is to have, and its name, as all of them do', () => {
    for (const capacity of [-1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY])
      expect(() => new Channel(capacity)).toThrow(RangeError);
    for (const make of [Event, Channel.bind(null, 0), Semaphore.bind(null, 1)] as Array<
      new (
        options?: never,
      ) => object
    >) {
      for (const name of [5, null, {}, Symbol('name')])
        expect(() => new make({ name } as never)).toThrow(/name must be a string/);
      for (const options of [null, undefined, 5, 'x']) new make(options as never);
    }
    for (const capacity of ['1', null, {}]) expect(() => new Channel(capacity as unknown as number)).toThrow(TypeError);
  });

  test('is iterated by several async functions at once, each with a part of it', async () => {
    await run(async () => {
      const channel = new Channel<number>(4);
      const shares = [0, 1, 2].map(async () => {
        const share: number[] = [];
        for await (const value of channel) {
          share.push(value);
          await yieldNow();
        }
        return share;
      });
      for (let i = 0; i < 100; i++) await channel.send(i);
      channel.close();
      const got = await Promise.all(shares);
      expect(got.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
      for (const share of got) {
        expect(share.length).toBeGreaterThan(10);
        expect(share).toEqual(share.toSorted((a, b) => a - b));
      }
    });
  });

  test('with nobody at its other end is a deadlock, and runBlocking() says which', () => {
    const error = thrown(() =>
      runBlocking(function* (): Coroutine<void> {
        yield* new Channel<string>(0, { name: 'jobs' }).send('a');
      }),
    );
    expect(error).toMatchObject({ code: 'ERR_DEADLOCK' });
    expect((error as Error).message).toContain("main#1 on channel 'jobs' to take a value");
  });

  test('brings each value that was sent to one receiver, in order, and none that was not, whoever was cancelled, late or raced', async () => {
    const how = fc.constantFrom('plain', 'timeout', 'race', 'cancelled', 'try', 'next');
    const party = fc.record({
      how,
      awaits: fc.boolean(),
      count: fc.integer({ min: 1, max: 4 }),
      begin: fc.integer({ min: 0, max: 4 }),
      patience: fc.integer({ min: 0, max: 4 }),
    });
    const parties = fc.array(party, { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 3 }), parties, parties, async (capacity, senders, receivers) => {
        await simulate(function* (): Coroutine<void> {
          const channel = new Channel<string>(capacity);
          const sent: string[] = [];
          const received: string[] = [];

          const send = function* ({ how, patience }: { how: string; patience: number }, value: string): Scenario<void> {
            if (how === 'timeout') yield* on(timeout(patience, channel.send(value)));
            else if (how === 'race') {
              const clock = new Channel<string>();
              spawn(function* () {
                yield* sleep(patience);
                clock.trySend('late');
              });
              if ((yield* on(race<unknown>([channel.send(value), clock.receive()]))) === 'late') return;
            } else if (how === 'try') {
              if (!channel.trySend(value)) return;
            } else yield* on(channel.send(value));
            sent.push(value);
          };
          const receive = function* ({ how, patience }: { how: string; patience: number }): Scenario<void> {
            let value: string | undefined;
            if (how === 'timeout') value = yield* on(timeout(patience, channel.receive()));
            else if (how === 'race')
              value = (yield* on(race<unknown>([channel.receive(), sleep(patience), channel.receive()]))) as string;
            else if (how === 'try') value = channel.tryReceive();
            else if (how === 'next') value = (yield* on(channel.next())).value;
            else value = yield* on(channel.receive());
            if (value !== undefined) received.push(value);
          };
          const tasks = [
            ...senders.map((party, i) => ({ party, step: (n: number) => send(party, `${i}.${n}`) })),
            ...receivers.map((party) => ({ party, step: () => receive(party) })),
          ].map(({ party, step }) => {
            const body = function* (): Scenario<void> {
              yield* on(sleep(party.begin));
              for (let n = 0; n < party.count; n++) {
                try {
                  yield* step(n);
                } catch {}
              }
            };
            const task = spawn(party.awaits ? () => byAwait(body()) : () => byYield(body()));
            if (party.how === 'cancelled') {
              spawn(function* () {
                yield* sleep(party.patience);
                task.cancel();
              });
            }
            return task;
          });
          yield* sleep(1000);
          const left: string[] = [];
          const drain = (): void => {
            for (let value = channel.tryReceive(); value !== undefined; value = channel.tryReceive()) left.push(value);
          };
          drain();
          yield* sleep(1); // who waited to send may send more
          channel.close();
          drain();
          for (const task of tasks) {
            try {
              yield* task;
            } catch {}
          }
          const arrived = [...received, ...left];
          expect(new Set(arrived).size).toBe(arrived.length);
          expect(arrived.toSorted()).toEqual(sent.toSorted());
          if (receivers.length > 1) return; // several may tell in another order what they were given in this
          for (const i of senders.keys()) {
            const ofOne = arrived.filter((value) => value.startsWith(`${i}.`));
            expect(ofOne).toEqual(ofOne.toSorted());
          }
        });
      }),
      { numRuns: 300 },
    );
  });
});
