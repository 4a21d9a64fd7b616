// A socket whose calls block, as everybody learns them first: whoever calls does nothing else until they return, or until the patience is over.

import { EAGAIN, systemError } from '../errors.ts';
import { TimeoutError } from '../index.ts';
import { checked, native } from '../native.ts';
import { EVENT_READ, EVENT_WRITE, PollSelector } from '../selectors.ts';

export class BlockingSocket {
  readonly #fd: number;
  readonly #selector = new PollSelector();
  #patienceMs = 0;
  #deadline = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** `host` is an address: names cannot be looked up without libuv. @throws SystemError of connect(2), TimeoutError */
  static connect(host: string, port: number, patienceMs: number): BlockingSocket {
    const where = { address: host, port };
    const socket = new BlockingSocket(checked('connect', native.connect(host, port), where));
    try {
      socket.allow(patienceMs);
      socket.#block(EVENT_WRITE);
      const error = native.socketError(socket.#fd);
      if (error < 0) throw systemError('connect', error, where);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** What follows must be done within this time, all of it together. */
  allow(patienceMs: number): void {
    this.#patienceMs = patienceMs;
    this.#deadline = performance.now() + patienceMs;
  }

  /** What has come, in `memory`; nothing is the end. @throws SystemError of recv(2), TimeoutError */
  receive(memory: Uint8Array): Uint8Array {
    for (;;) {
      const count = native.recv(this.#fd, memory, 0, memory.length);
      if (count !== EAGAIN) return memory.subarray(0, checked('recv', count, { fd: this.#fd }));
      this.#block(EVENT_READ);
    }
  }

  /** @throws SystemError of send(2), TimeoutError */
  send(text: string): void {
    for (let rest: Uint8Array = Buffer.from(text); rest.length > 0; ) {
      const count = native.send(this.#fd, rest, 0, rest.length);
      if (count === EAGAIN) this.#block(EVENT_WRITE);
      else rest = rest.subarray(checked('send', count, { fd: this.#fd }));
    }
  }

  close(): void {
    this.#selector.close();
    native.close(this.#fd);
  }

  /** Here the thread stands still. */
  #block(events: number): void {
    this.#selector.register(this.#fd, events);
    const ready = this.#selector.select(this.#deadline - performance.now());
    this.#selector.unregister(this.#fd);
    if (ready.length === 0) throw new TimeoutError(this.#patienceMs);
  }
}
