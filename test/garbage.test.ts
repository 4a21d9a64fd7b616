// What an operation leaves behind is young garbage: V8 collects it without looking at it. Where something in the old generation refers to it,
// it is copied there instead, and stays until the whole heap is marked.

import { expect, test } from 'vitest';
import { script } from './processes.ts';

const CONNECTIONS = 3_000;

/** Every kind of operation that is made of steps, once for each connection. */
const PROGRAMS = {
  yield: `
    function* serve(conn) {
      yield* timeout(60_000, conn.readExactly(4));
      yield* race([conn.readUntil('\\n'), sleep(60_000)]);
      for (const lines = conn.lines(); !(yield* lines.next()).done; ) {}
      yield* all([conn.write('pong'), sleep(0)]);
      yield* conn.close();
    }
    function* accept(connections) {
      for (;;) spawn(serve((yield* connections.next()).value));
    }
    function* ask(port) {
      const conn = yield* tcp.connect({ port });
      yield* conn.write('ping and more\\na line\\n');
      yield* conn.shutdown();
      while ((yield* conn.read()) !== null) {}
      yield* conn.close();
    }`,
  await: `
    async function serve(conn) {
      await timeout(60_000, conn.readExactly(4));
      await race([conn.readUntil('\\n'), sleep(60_000)]);
      for await (const line of conn.lines()) {}
      await all([conn.write('pong'), sleep(0)]);
      await conn.close();
    }
    async function accept(connections) {
      for await (const conn of connections) spawn(() => serve(conn));
    }
    async function ask(port) {
      const conn = await tcp.connect({ port });
      await conn.write('ping and more\\na line\\n');
      await conn.shutdown();
      for await (const chunk of conn) {}
      await conn.close();
    }`,
};

test.each(Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[])(
  'operations that are made of steps leave young garbage only, in %s style',
  { timeout: 60_000 },
  async (style) => {
    const child = script(`
      import { setFlagsFromString } from 'node:v8';
      ${PROGRAMS[style]}
      await run(function* () {
        const listener = yield* tcp.listen();
        spawn(() => accept(listener[Symbol.asyncIterator]()));
        const askAll = function* (count) {
          for (let asked = 0; asked < count; asked += 50)
            yield* all(Array.from({ length: 50 }, () => () => ask(listener.address.port)));
        };
        // Code and hidden classes are made, and are there to stay.
        yield* askAll(1_000);
        for (const flag of ['--trace-gc', '--trace-gc-nvp']) setFlagsFromString(flag);
        yield* askAll(${CONNECTIONS});
      });`);
    const { code, stdout, stderr } = await child.end(60_000);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const promoted = [...stdout.matchAll(/ gc=s .* promoted=(\d+)/g)].map(([, bytes]) => Number(bytes));
    expect(promoted.length).toBeGreaterThan(2);
    expect(promoted.reduce((sum, bytes) => sum + bytes) / CONNECTIONS).toBeLessThan(200);
  },
);
