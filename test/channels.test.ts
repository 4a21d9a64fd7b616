// The channels of node:diagnostics_channel: what they say, that they are quiet when nobody listens, and that the trace goes on beside them.

import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Operation, race, run, sleep, spawn, tcp } from '../src/index.ts';
import { readTrace } from '../src/trace/reader.ts';
import { Kind } from '../src/trace/record.ts';
import { folder } from './processes.ts';
import { until } from './until.ts';

/** Everything that is published on a channel until the test is over. */
function listen(name: string): Array<Record<string, unknown>> {
  const messages: Array<Record<string, unknown>> = [];
  const take = (message: unknown): void => {
    messages.push(message as Record<string, unknown>);
  };
  subscribe(name, take);
  onTestFinished(() => void unsubscribe(name, take));
  return messages;
}

/** A client says 'hello' to an echo server of one message, in two tasks. */
async function hello(): Promise<void> {
  const listener = await tcp.listen();
  const server = spawn(
    function* () {
      const conn = yield* listener.accept();
      yield* conn.write((yield* conn.read())!);
      yield* conn.close();
    },
    { name: 'server' },
  );
  const conn = await tcp.connect({ port: listener.address.port });
  await conn.write('hello');
  await conn.read();
  await server;
  conn.destroy();
  listener.close();
}

test('descriptors are told when they are opened, ready and closed', async () => {
  const [opened, ready, closed] = ['onewait:fd:open', 'onewait:fd:ready', 'onewait:fd:close'].map(listen);
  await run(hello, { name: 'client' });
  expect(opened!.map(({ how, task }) => [how, String(task).replace(/#\d+/, '')])).toEqual([
    ['listening', 'client'],
    ['connected', 'client'],
    ['accepted', 'server'],
  ]);
  const numbers = opened!.map(({ fd }) => fd);
  expect(new Set(closed!.map(({ fd }) => fd))).toEqual(new Set(numbers));
  for (const fd of numbers) expect(ready!.some((message) => message.fd === fd)).toBe(true);
});

test('a task that yields what another task made goes on, whether anybody listens or not', async () => {
  for (const listens of [false, true]) {
    if (listens) listen('onewait:task:resume');
    const outcome = await run(function* () {
      const operation = sleep(1);
      const task = spawn(function* () {
        yield operation as never;
        return 'went on';
      });
      return yield* task;
    });
    expect(outcome).toBe('went on');
  }
});

test('a subscriber may take back the read whose task is told to be resumed: its chunk is for the next, and nothing is rejected', async () => {
  const rejections: unknown[] = [];
  const note = (error: unknown): void => void rejections.push(error);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  await run(async () => {
    const listener = await tcp.listen();
    const peer = await tcp.connect({ port: listener.address.port });
    const conn = await listener.accept();
    const done = spawn(function* () {
      return 'first';
    });
    await done;
    let read: Operation<unknown> | null = null;
    let races: PromiseLike<unknown> | null = null;
    const takeBack = (): void => {
      if (read !== null) races ??= race<unknown>([done, read]).then((outcome) => outcome);
    };
    subscribe('onewait:task:resume', takeBack);
    await sleep(1); // from the next turn on it is told
    const writer = spawn(() => peer.write('chunk'));
    read = conn.read();
    await writer;
    await until('the subscriber is told', () => races !== null);
    unsubscribe('onewait:task:resume', takeBack);
    expect(await races).toBe('first');
    expect(Buffer.from((await conn.read())!).toString()).toBe('chunk');
    for (const end of [listener, conn, peer]) await end.close();
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(rejections).toEqual([]);
});

test('a subscriber may close a descriptor that is told to be ready: what was to follow does not reach it, or its successor', async () => {
  const controller = new AbortController();
  let successor = -1;
  await run(async () => {
    const listener = await tcp.listen();
    const take = (message: unknown): void => {
      if ((message as { fd: number }).fd === listener.fd || successor >= 0) return;
      controller.abort(new Error('not wanted'));
      successor = openSync('/dev/null', 'r');
    };
    subscribe('onewait:fd:ready', take);
    onTestFinished(() => void unsubscribe('onewait:fd:ready', take));
    const { port } = listener.address;
    await expect(tcp.connect({ port, signal: controller.signal }).then()).rejects.toThrow('not wanted');
    await sleep(1);
    listener.close();
  });
  fstatSync(successor);
  closeSync(successor);
});

test('tasks are told when they are spawned, suspended, resumed and ended, in both styles', async () => {
  const [spawned, suspended, resumed, ended] = ['spawn', 'suspend', 'resume', 'end'].map((event) =>
    listen(`onewait:task:${event}`),
  );
  await run(
    async () => {
      const yields = spawn(
        function* () {
          yield* sleep(2);
          return 7;
        },
        { name: 'yields' },
      );
      const awaits = spawn(
        async () => {
          await sleep(3);
          throw new Error('no');
        },
        { name: 'awaits' },
      );
      await yields;
      await awaits.join().then(undefined, () => {});
    },
    { name: 'parent' },
  );
  const names = (messages: Array<Record<string, unknown>>): string[] =>
    messages.map(({ task, on }) => `${(task as { name: string }).name}${on === undefined ? '' : ` ${on}`}`);
  expect(spawned!.map(({ parent }) => (parent as { name: string }).name)).toEqual(['node', 'parent', 'parent']);
  expect(names(spawned!)).toEqual(['parent', 'yields', 'awaits']);
  for (const messages of [suspended!, resumed!])
    expect(names(messages)).toEqual(expect.arrayContaining(['yields 2 ms', 'awaits 3 ms']));
  expect(ended!.map(({ task, state, outcome }) => [(task as { name: string }).name, state, outcome])).toEqual([
    ['yields', 'done', 7],
    ['awaits', 'failed', expect.objectContaining({ message: 'no' })],
    ['parent', 'done', undefined],
  ]);
});

test('a subscription in the middle of a run is heard from the next turn on, and an end of it too', async () => {
  const messages: unknown[] = [];
  const take = (message: unknown): void => {
    messages.push(message);
  };
  await run(async () => {
    await sleep(1);
    subscribe('onewait:task:suspend', take);
    await sleep(1);
    await sleep(1);
    const heard = messages.length;
    expect(heard).toBeGreaterThan(0);
    unsubscribe('onewait:task:suspend', take);
    await sleep(1);
    const after = messages.length;
    await sleep(1);
    expect(messages.length).toBe(after);
  });
  expect(channel('onewait:task:suspend').hasSubscribers).toBe(false);
});

test('a trace that is recorded meanwhile misses nothing', async () => {
  const path = join(folder(), 'trace');
  const suspended = listen('onewait:task:suspend');
  await run(hello, { trace: path });
  const records = [...readTrace(path).records];
  const resumes = records.filter(({ kind }) => kind === Kind.resume);
  expect(records.filter(({ kind }) => kind === Kind.suspend).length).toBeGreaterThanOrEqual(suspended.length);
  expect(resumes.length).toBeGreaterThan(3);
  expect(records.filter(({ kind }) => kind === Kind.end)).toHaveLength(2);
});

test('a subscriber that throws is reported by Node, and the loop goes on', async () => {
  const errors: unknown[] = [];
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const take = (error: unknown): void => {
    errors.push(error);
  };
  process.on('uncaughtException', take);
  const fail = (): void => {
    throw new Error('a bad subscriber');
  };
  subscribe('onewait:task:suspend', fail);
  try {
    await run(async () => {
      await sleep(1);
      await sleep(1);
    });
  } finally {
    unsubscribe('onewait:task:suspend', fail);
    process.removeListener('uncaughtException', take);
    for (const other of others) process.on('uncaughtException', other);
  }
  expect(errors.length).toBeGreaterThan(0);
});

test('a subscriber that cancels who is about to have a connection leaves it to the next', async () => {
  await run(async () => {
    const listener = await tcp.listen();
    const [first, second] = ['first', 'second'].map((name) => spawn(() => listener.accept(), { name }));
    await sleep(1);
    const cancel = (message: unknown): void => {
      if ((message as { how: string }).how === 'accepted') first!.cancel();
    };
    subscribe('onewait:fd:open', cancel);
    onTestFinished(() => void unsubscribe('onewait:fd:open', cancel));
    const client = await tcp.connect({ port: listener.address.port });
    unsubscribe('onewait:fd:open', cancel);
    await Promise.resolve(first).catch(() => {});
    const conn = await second!;
    await client.write('for the second');
    expect(String(Buffer.from((await conn.read())!))).toBe('for the second');
    for (const end of [client, conn, listener]) await end.close();
  });
});
