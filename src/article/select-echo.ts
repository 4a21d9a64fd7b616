// An echo server that is nothing but the loop: `input()` has become `select()`, and letters have become descriptors.
//
// `native` stands for the system calls, which Python has in its `socket` module; they return a negative errno when they fail.

import { native } from '../native.ts';
import { EpollSelector, EVENT_READ, EVENT_WRITE, PollSelector, SelectSelector } from '../selectors.ts';

const EAGAIN = -11;
const ECONNABORTED = -103;

export function main(options: { host: string; port: number; poller: 'epoll' | 'poll' | 'select' }): void {
  const { host, port, poller } = options;
  const selector = new { epoll: EpollSelector, poll: PollSelector, select: SelectSelector }[poller]();
  const mostDescriptors = poller === 'select' ? 1023 : Number.POSITIVE_INFINITY;
  const listener = native.listen(host, port, 4096, false);
  if (listener < 0) throw new Error(`cannot listen on ${host}:${port} (errno ${-listener}): choose another --port`);
  const chunk = new Uint8Array(64 * 1024);
  let full = false;
  let pause: number | null = null;

  /** The listener is ready: somebody has connected. */
  function accept(): void {
    const fd = native.accept(listener);
    if (fd === EAGAIN || fd === ECONNABORTED) return;
    if (fd >= 0) selector.register(fd, EVENT_READ, () => echo(fd));
    if (fd >= 0 && fd < mostDescriptors) return;
    // There is no more room, and the listener would be ready for ever: it is not looked at again before a client has left, or, if the kernel
    // had none, a moment has passed.
    selector.unregister(listener);
    full = true;
    if (fd < 0) pause = 100;
  }

  function resume(): void {
    if (full) selector.register(listener, EVENT_READ, accept);
    full = false;
    pause = null;
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
    resume();
  }

  selector.register(listener, EVENT_READ, accept);
  const { address, port: bound } = native.socketName(listener, false) as { address: string; port: number };
  const line = Buffer.from(`listening on ${address}:${bound}\n`);
  native.write(1, line, 0, line.length);
  for (;;) {
    const ready = selector.select(pause);
    if (ready.length === 0) resume();
    for (const [key] of ready) (key.data as () => void)();
  }
}
