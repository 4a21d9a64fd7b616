// `onewait echo`: the echo server, in both styles, as a user would write it. These are the coroutines that the README shows and the
// benchmark measures.

import { announce } from '../article/terminal.ts';
import type { PollerName } from '../driver.ts';
import { type Coroutine, type Listener, type Stream, spawn, tcp, unix } from '../index.ts';
import { runUntilSignal } from './signals.ts';

function* echo(conn: Stream): Coroutine<void> {
  for (let chunk = yield* conn.read(); chunk !== null; chunk = yield* conn.read()) {
    yield* conn.write(chunk);
  }
  yield* conn.close();
}

/** A coroutine for each connection. */
export function* serve(listener: Listener): Coroutine<void> {
  for (;;) {
    const conn = yield* listener.accept();
    spawn(echo(conn), { name: 'echo' });
  }
}

async function echoAsync(conn: Stream): Promise<void> {
  for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) {
    await conn.write(chunk);
  }
  await conn.close();
}

async function serveAsync(listener: Listener): Promise<void> {
  for (;;) {
    const conn = await listener.accept();
    spawn(() => echoAsync(conn), { name: 'echo' });
  }
}

export interface EchoOptions {
  port: number;
  host: string;
  style: 'yield' | 'await';
  poller: PollerName;
  reusePort?: boolean | undefined;
  path?: string | undefined;
  trace?: string | undefined;
}

/** Serves until SIGINT or SIGTERM. Returns the signal's exit code. */
export function echoServer(options: EchoOptions): Promise<number> {
  const { port, host, poller, reusePort, path, trace } = options;
  const main = function* (stop: AbortSignal): Coroutine<void> {
    const listener = yield* path === undefined ? tcp.listen({ host, port, reusePort }) : unix.listen({ path });
    const server = spawn(options.style === 'yield' ? serve(listener) : () => serveAsync(listener), { name: 'accept' });
    const { address } = listener;
    announce(`listening on ${address.address}${path === undefined ? `:${address.port}` : ''}`);
    try {
      yield* server.join({ signal: stop });
    } finally {
      server.cancel();
      listener.close();
    }
  };
  return runUntilSignal(main, { poller, trace });
}
