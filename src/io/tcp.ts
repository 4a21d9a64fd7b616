// TCP: listening and connecting. Names are resolved by Node's dns.lookup, so /etc/hosts and nsswitch count as everywhere else.

import { type LookupAddress, lookup } from 'node:dns';
import { isIP } from 'node:net';
import { compose } from '../compose.ts';
import { currentTask } from '../current.ts';
import { OnewaitError, systemError } from '../errors.ts';
import { Descriptor } from '../loop.ts';
import { checked, native } from '../native.ts';
import { type Coroutine, type Operation, Trap } from '../operation.ts';
import { EVENT_WRITE } from '../selectors.ts';
import type { Task } from '../task.ts';
import { OpenKind } from '../trace/record.ts';
import { integer, signalOf, type WaitOptions } from '../validate.ts';
import { Listener } from './listener.ts';
import { type BacklogOption, backlogOf, highWaterMarkOf, type StreamOptions } from './options.ts';
import { hangUp, Stream } from './stream.ts';

const MAX_PORT = 65535;

export interface ListenOptions extends StreamOptions, BacklogOption {
  /** A name, or an IPv4 or IPv6 address. The loopback by default: who wants the world says so ('0.0.0.0', '::'). */
  host?: string | undefined;
  /** 0, the default, lets the kernel choose; see the listener's `address`. */
  port?: number | undefined;
  /** Lets several sockets listen on the port, and the kernel share connections out among them (SO_REUSEPORT, socket(7)). */
  reusePort?: boolean | undefined;
}

export interface ConnectOptions extends WaitOptions, StreamOptions {
  /** A name, or an IPv4 or IPv6 address. */
  host?: string | undefined;
  port: number;
}

function hostOf(host: unknown): string {
  if (host === undefined) return '127.0.0.1';
  if (typeof host === 'string' && host !== '') return host;
  throw new TypeError(`host must be a name or an address, and is ${String(host)}`);
}

function listen(options: ListenOptions = {}): Operation<Listener> {
  const host = hostOf(options.host);
  const port = integer(options.port ?? 0, 'port', 0, MAX_PORT);
  const backlog = backlogOf(options);
  const highWaterMark = highWaterMarkOf(options);
  return compose('listen', () => listening(host, port, backlog, options.reusePort === true, highWaterMark));
}

function* listening(
  host: string,
  port: number,
  backlog: number,
  reusePort: boolean,
  highWaterMark: number,
): Coroutine<Listener> {
  const task = currentTask();
  const { loop } = task;
  const [first] = yield* resolve(host, undefined);
  loop.observer?.onBehalfOf(task);
  const fd = checked('listen', native.listen(first!, port, backlog, reusePort), { address: host, port });
  const name = native.socketName(fd, false);
  if (typeof name === 'number') {
    native.close(fd);
    throw systemError('getsockname', name, { fd });
  }
  const listener = new Listener(loop, fd, name, highWaterMark);
  loop.observer?.open(fd, OpenKind.listening, task);
  return listener;
}

function connect(options: ConnectOptions): Operation<Stream> {
  const host = hostOf(options.host);
  const port = integer(options.port, 'port', 1, MAX_PORT);
  const highWaterMark = highWaterMarkOf(options);
  const signal = signalOf(options);
  return compose('connect', () => connecting(host, port, highWaterMark, signal), [], hangUp);
}

function* connecting(
  host: string,
  port: number,
  highWaterMark: number,
  signal: AbortSignal | undefined,
): Coroutine<Stream> {
  const { loop } = currentTask();
  let failure: unknown;
  // In the resolver's order of preference; the last failure tells.
  for (const address of yield* resolve(host, signal)) {
    try {
      const fd = yield* new Connect(address, port, signal);
      const stream = new Stream(loop, fd, highWaterMark);
      loop.observer?.open(stream.fd, OpenKind.connected, currentTask());
      return stream;
    } catch (error) {
      if ((error as { syscall?: unknown }).syscall !== 'connect') throw error;
      failure = error;
    }
  }
  throw failure;
}

/** TCP servers and clients. */
export const tcp: {
  /**
   * Listens. Bound to the loopback unless told otherwise.
   * @throws SystemError EADDRINUSE, EADDRNOTAVAIL, EACCES (listen(2), bind(2)), ENOTFOUND (dns.lookup); TypeError, RangeError
   */
  listen(options?: ListenOptions): Operation<Listener>;
  /**
   * Connects; a name's addresses are tried in turn.
   * @throws SystemError ECONNREFUSED, ETIMEDOUT, ENETUNREACH, ... (connect(2)), ENOTFOUND (dns.lookup); TypeError, RangeError
   */
  connect(options: ConnectOptions): Operation<Stream>;
} = { listen, connect };

function* resolve(host: string, signal: AbortSignal | undefined): Coroutine<string[]> {
  if (isIP(host.split('%')[0]!) !== 0) return [host];
  return yield* new Lookup(host, signal);
}

/** dns.lookup(3 in libuv's pool): the one wait that Node does for us. */
class Lookup extends Trap<string[]> {
  private readonly host: string;

  constructor(host: string, signal: AbortSignal | undefined) {
    super(signal);
    this.host = host;
  }

  protected override begin(): void {
    if (this.task.loop.blocking) {
      throw new OnewaitError(
        'ERR_LOOP_BLOCKING',
        `'${this.host}' cannot be looked up inside runBlocking(): use an IP address, or run()`,
      );
    }
    lookup(this.host, { all: true }, (error: Error | null, addresses: LookupAddress[]) => {
      if (error !== null) this.fail(error);
      else this.succeed(addresses.map(({ address }) => address));
    });
  }
  protected override undo(): void {}
  override describe(): string {
    return `the address of ${this.host}`;
  }
}

/** One attempt: writable means decided, SO_ERROR says how (connect(2), EINPROGRESS). */
class Connect extends Trap<number> {
  private readonly address: string;
  private readonly port: number;
  private connecting: Connecting | null = null;

  constructor(address: string, port: number, signal: AbortSignal | undefined) {
    super(signal);
    this.address = address;
    this.port = port;
  }

  protected override begin(): void {
    const { loop } = this.task;
    loop.observer?.onBehalfOf(this.task);
    const fd = checked('connect', native.connect(this.address, this.port), { address: this.address, port: this.port });
    this.connecting = new Connecting(fd, this);
    loop.attach(this.connecting);
    try {
      loop.watch(this.connecting, EVENT_WRITE);
    } catch (error) {
      this.undo();
      throw error;
    }
  }

  decided(fd: number): void {
    this.task.loop.observer?.onBehalfOf(this.task);
    const result = native.socketError(fd);
    if (result === 0) {
      this.connecting!.connected = true;
      this.succeed(fd);
      return;
    }
    this.undo();
    this.fail(systemError('connect', result, { address: this.address, port: this.port }));
  }

  protected override undo(): void {
    const { loop } = this.task;
    const connecting = this.connecting!;
    loop.observer?.onBehalfOf(this.task);
    loop.detach(connecting);
    native.close(connecting.number);
  }
  override describe(): string {
    return `fd ${this.fd} OUT`;
  }
  override get fd(): number {
    return this.connecting?.number ?? -1;
  }
  override get event(): number {
    return EVENT_WRITE;
  }
}

/** A socket that is not connected yet. */
class Connecting extends Descriptor {
  connected = false;
  private readonly attempt: Connect;

  constructor(fd: number, attempt: Connect) {
    super(fd);
    this.attempt = attempt;
  }

  override get owned(): boolean {
    return true;
  }
  override get handsOver(): boolean {
    return this.connected;
  }
  override get actingFor(): Task {
    return this.attempt.task;
  }
  override onWritable(): boolean {
    this.attempt.decided(this.number);
    return false;
  }
}
