// An echo server that is nothing but the loop: `input()` has become `select()`, and letters have become descriptors.
//
// `native` stands for the system calls, which Python has in its `socket` module; they return a negative errno when they fail.

import { writeSync } from 'node:fs';
import { native } from '../native.ts';
import { EpollSelector, EVENT_READ, EVENT_WRITE, PollSelector, SelectSelector } from '../selectors.ts';

const EAGAIN = -11;
const ECONNABORTED = -103;

export function main({
  host,
  port,
  poller,
}: {
  host: string;
  port: number;
  poller: 'epoll' | 'poll' | 'select';
}): void {
  const selector = new { epoll: EpollSelector, poll: PollSelector, select: SelectSelector }[poller]();
  const mostDescriptors = poller === 'select' ? 1023 : Number.POSITIVE_INFINITY;
  const listener = native.listen(host, port, 4096, false);
  if (listener < 0) throw new Error(`cannot listen on ${host}:${port} (errno ${-listener}): choose another --port`);
  const chunk = new Uint8Array(64 * 1024);
  let full = false;

  /** The listener is ready: somebody has connected. */
  function accept(): void {
    const fd = native.accept(listener);
    if (fd === EAGAIN || fd === ECONNABORTED) return;
    if (fd >= 0 && fd <= mostDescriptors) {
      selector.register(fd, EVENT_READ, () => echo(fd));
      return;
    }
    // There is no room, and the listener would be ready for ever: it is not looked at again before a client has left.
    if (fd >= 0) native.close(fd);
    selector.unregister(listener);
    full = true;
  }

  /** A client is ready: it has sent something, or it has gone. */
  function echo(fd: number): void {
    const count = native.recv(fd, chunk, 0, chunk.length);
    if (count > 0) write(fd, chunk.subarray(0, count));
    else if (count !== EAGAIN) leave(fd);
  }

  /** Writes what the kernel takes. While something is left the client is not read from, only waited for until it takes more. */
  function write(fd: number, bytes: Uint8Array): void {
    const count = native.send(fd, bytes, 0, bytes.length);
    const rest = bytes.slice(Math.max(count, 0));
    if (count < 0 && count !== EAGAIN) leave(fd);
    else if (rest.length > 0) selector.modify(fd, EVENT_WRITE, () => write(fd, rest));
    else if (selector.getKey(fd).events === EVENT_WRITE) selector.modify(fd, EVENT_READ, () => echo(fd));
  }

  function leave(fd: number): void {
    selector.unregister(fd);
    native.close(fd);
    if (full) selector.register(listener, EVENT_READ, accept);
    full = false;
  }

  selector.register(listener, EVENT_READ, accept);
  const { address, port: bound } = native.socketName(listener, false) as { address: string; port: number };
  writeSync(1, `listening on ${address}:${bound}\n`);
  for (;;) {
    for (const [key] of selector.select()) (key.data as () => void)();
  }
}
