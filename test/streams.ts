// Streams for tests, with a peer of Node's, and a writer that is stuck.

import { connect as netConnect, type Socket } from 'node:net';
import { expect } from 'vitest';
import { type Stream, type Task, tcp } from '../src/index.ts';
import { on, type Scenario, type Style } from './styles.ts';
import { until } from './until.ts';

export const KIB = 1024;

/** A stream of ours and a socket of Node's, connected to each other. */
export function* withPeer(options: { highWaterMark?: number } = {}): Scenario<[Stream, Socket]> {
  const listener = yield* on(tcp.listen(options));
  const peer = netConnect({ port: listener.address.port, allowHalfOpen: true, noDelay: true });
  peer.on('error', () => {});
  const conn = yield* on(listener.accept());
  listener.close();
  if (peer.connecting) yield* on(new Promise((resolve) => peer.once('connect', resolve)));
  return [conn, peer];
}

/** Lets everything that is ready happen, in our loop and in Node's. */
export function* settle(): Scenario<void> {
  for (let i = 0; i < 3; i++) yield* on(new Promise((resolve) => setImmediate(resolve)));
}

export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}

/** Whether a write waits for the peer to read, and not only for the end of the turn. */
export function isStuck({ outgoing }: Stream): boolean {
  return outgoing?.writer?.queued === false;
}

/** Starts a writer that gets stuck because nobody reads. */
export function* stuckWriter(style: Style, conn: Stream, chunk: number): Scenario<Task<unknown>> {
  const writer = style.spawn(function* (): Scenario<unknown> {
    try {
      for (;;) yield* on(conn.write(Buffer.alloc(chunk)));
    } catch (error) {
      return error;
    }
  }, 'writer');
  yield* on(until('the writer is stuck', () => isStuck(conn)));
  expect(writer.waitingFor).toBe(`fd ${conn.fd} OUT`);
  return writer;
}
