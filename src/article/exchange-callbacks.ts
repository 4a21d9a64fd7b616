// The exchange without coroutines and without blocking: one loop, and for every connection a state and callbacks that move it on. What
// `exchange-coroutines` says in three lines is all of this file: who waits for what, and what is to be done then, has to be kept by hand.

import { EAGAIN, systemError } from '../errors.ts';
import { TimeoutError } from '../index.ts';
import { checked, native, type SocketAddress } from '../native.ts';
import { EpollSelector, EVENT_READ, EVENT_WRITE } from '../selectors.ts';
import { type Conversion, conversionOf, converted } from './conversion.ts';
import {
  CLIENT_PATIENCE_MS,
  failure,
  format,
  formatRequest,
  type HttpError,
  inUrl,
  LAST,
  LATE,
  LINGER_MS,
  type Request,
  RequestParser,
  ResponseParser,
} from './http.ts';
import { RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';
import { announce } from './terminal.ts';

/** How long accepting pauses at most, when there is no room for another client. */
const RETRY_MS = 100;

/** Who must do something by a certain time. All that share a patience are kept in the order in which it began, so the first is due first. */
class Deadlines<T extends { readonly late: () => void }> {
  readonly #since = new Map<T, number>();
  readonly #patienceMs: number;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }
  start(who: T): void {
    this.#since.delete(who);
    this.#since.set(who, performance.now());
  }
  stop(who: T): void {
    this.#since.delete(who);
  }
  /** Tells those that are late; milliseconds until the next one is. */
  expire(): number {
    const now = performance.now();
    for (const [who, since] of this.#since) {
      if (since + this.#patienceMs > now) return since + this.#patienceMs - now;
      this.#since.delete(who);
      who.late();
    }
    return Number.POSITIVE_INFINITY;
  }
}

interface Exchange {
  readonly selector: EpollSelector;
  readonly rates: readonly [string, number];
  readonly clients: Deadlines<Client>;
  readonly lingering: Deadlines<Client>;
  readonly asked: Deadlines<Upstream>;
  /** Connections to the rates service that nobody uses. */
  readonly idle: Upstream[];
  readonly chunk: Uint8Array;
  onLeave(): void;
}

/** A descriptor that waits for one thing at a time. */
abstract class Connection {
  protected readonly exchange: Exchange;
  protected readonly fd: number;
  private interest = 0;
  private out: Uint8Array = new Uint8Array(0);

  constructor(exchange: Exchange, fd: number) {
    this.exchange = exchange;
    this.fd = fd;
  }

  /** Whether it is to be read from now. What it has sent meanwhile makes it ready; then it is not looked at until it is. */
  protected abstract get listening(): boolean;
  protected abstract onBytes(bytes: Uint8Array): void;
  protected abstract onSent(): void;
  protected abstract onGone(error: Error): void;

  protected wait(events: number): void {
    if (events === this.interest) return;
    const { selector } = this.exchange;
    if (this.interest === 0) selector.register(this.fd, events, this.ready);
    else if (events === 0) selector.unregister(this.fd);
    else selector.modify(this.fd, events, this.ready);
    this.interest = events;
  }

  protected send(text: string): void {
    this.out = Buffer.from(text);
    this.proceed();
  }

  protected close(): void {
    this.wait(0);
    native.close(this.fd);
  }

  protected readonly ready = (): void => {
    if (this.interest === EVENT_WRITE) this.writable();
    else if (this.listening) this.receive();
    else this.wait(0);
  };

  protected writable(): void {
    this.proceed();
  }

  private proceed(): void {
    const count = native.send(this.fd, this.out, 0, this.out.length);
    this.out = this.out.subarray(Math.max(count, 0));
    if (count < 0 && count !== EAGAIN) this.onGone(systemError('send', count));
    else if (this.out.length > 0) this.wait(EVENT_WRITE);
    else this.onSent();
  }

  private receive(): void {
    const { chunk } = this.exchange;
    const count = native.recv(this.fd, chunk, 0, chunk.length);
    if (count === EAGAIN) return;
    if (count > 0) this.onBytes(chunk.subarray(0, count));
    else this.onGone(count === 0 ? new Error('it closed the connection') : systemError('recv', count));
  }
}

/** A client: 'reading' a request, 'asking' for the rate, 'answering', or 'leaving' after the last answer. */
class Client extends Connection {
  private state: 'reading' | 'asking' | 'answering' | 'leaving' = 'reading';
  private readonly parser = new RequestParser();
  private request: Pick<Request, 'method' | 'keepAlive'> = LAST;
  private conversion: Conversion | null = null;
  private upstream: Upstream | null = null;
  private advancing = false;

  start(): void {
    this.exchange.clients.start(this);
    this.wait(EVENT_READ);
  }

  protected get listening(): boolean {
    return this.state === 'reading' || this.state === 'leaving';
  }

  protected onBytes(bytes: Uint8Array): void {
    if (this.state === 'leaving') return;
    this.parser.push(bytes);
    this.next();
  }

  /** Answers what is there. A loop: an answer that needs no waiting comes back here, and a thousand requests in one piece must not go as deep. */
  private next(): void {
    if (this.advancing) return;
    this.advancing = true;
    while (this.state === 'reading' && this.begin());
    this.advancing = false;
  }

  /** Begins with the next request; false if there is none. */
  private begin(): boolean {
    const request = this.parser.requests.shift();
    if (request === undefined) {
      if (this.parser.error !== null) this.fail(this.parser.error);
      else this.wait(EVENT_READ);
      return false;
    }
    this.request = request;
    try {
      this.conversion = conversionOf(request);
      this.state = 'asking';
      this.exchange.clients.stop(this);
      this.upstream = this.exchange.idle.pop() ?? Upstream.connect(this.exchange);
      this.upstream.ask(this, this.conversion);
    } catch (error) {
      this.upstream?.abandon();
      this.upstream = null;
      this.answer(failure(error));
    }
    return true;
  }

  /** The rates service has answered. */
  onRate(rate: string): void {
    this.upstream = null;
    this.answer(converted(this.conversion!, rate));
  }

  onRatesFailure(error: Error): void {
    this.upstream = null;
    this.answer(failure(ratesFailure(error, this.exchange.rates.join(':'))));
  }

  private answer(response: Parameters<typeof format>[0]): void {
    this.state = 'answering';
    this.exchange.clients.start(this);
    this.send(format(response, this.request));
  }

  private fail(error: HttpError): void {
    this.request = LAST;
    this.answer(failure(error));
  }

  protected onSent(): void {
    if (this.request.keepAlive) {
      this.state = 'reading';
      this.next();
    } else this.linger();
  }

  /** What it still sends is swallowed for a while: closing at once could take the answer from it (RFC 9112, 9.6). */
  private linger(): void {
    this.state = 'leaving';
    native.shutdown(this.fd);
    this.exchange.clients.stop(this);
    this.exchange.lingering.start(this);
    this.wait(EVENT_READ);
  }

  protected onGone(): void {
    this.state = 'leaving';
    this.upstream?.abandon();
    this.exchange.clients.stop(this);
    this.exchange.lingering.stop(this);
    this.parser.close();
    this.close();
    this.exchange.onLeave();
  }

  readonly late = (): void => {
    if (this.state === 'reading' && this.parser.started) this.fail(LATE);
    else this.onGone();
  };
}

/** A connection to the rates service: connecting, asking for one client, or idle. */
class Upstream extends Connection {
  private client: Client | null = null;
  private conversion: Conversion | null = null;
  private connected = false;
  private used = false;
  private readonly parser = new ResponseParser();

  static connect(exchange: Exchange): Upstream {
    return new Upstream(exchange, native.connect(...exchange.rates));
  }

  ask(client: Client, conversion: Conversion): void {
    this.client = client;
    this.conversion = conversion;
    if (this.fd < 0) {
      client.onRatesFailure(systemError('connect', this.fd));
      return;
    }
    this.exchange.asked.start(this);
    this.parser.begin();
    if (this.connected) this.sendRequest();
    else this.wait(EVENT_WRITE);
  }

  private sendRequest(): void {
    const { base, target } = this.conversion!;
    this.send(formatRequest(ratePath(base, target), ...this.exchange.rates));
  }

  protected override writable(): void {
    const error = this.connected ? 0 : native.socketError(this.fd);
    if (error < 0) this.onGone(systemError('connect', error));
    else if (this.connected) super.writable();
    else {
      this.connected = true;
      this.sendRequest();
    }
  }

  protected get listening(): boolean {
    return true;
  }

  protected onSent(): void {
    this.wait(EVENT_READ);
  }

  protected onBytes(bytes: Uint8Array): void {
    if (this.client === null) {
      this.onGone(new Error('it has answered what it was not asked'));
      return;
    }
    try {
      if (!this.parser.push(bytes)) return;
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    this.answered();
  }

  private answered(): void {
    const { client, conversion, exchange, parser } = this;
    let rate: string;
    try {
      rate = rateFrom(parser.status, parser.json(), conversion!.base, conversion!.target);
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    exchange.asked.stop(this);
    this.client = null;
    this.used = true;
    if (parser.keepAlive) exchange.idle.push(this);
    else this.abandon();
    client?.onRate(rate);
  }

  protected onGone(error: Error): void {
    const { client, conversion, used, exchange } = this;
    if (client === null) exchange.idle.splice(exchange.idle.indexOf(this), 1);
    else if (this.endsAnswer()) {
      this.answered();
      return;
    }
    if (client === null || !used) this.fail(error);
    else {
      // It was idle and may have been closed meanwhile. To ask again is safe: a GET changes nothing.
      this.abandon();
      Upstream.connect(exchange).ask(client, conversion!);
    }
  }

  /** Whether the end of the connection is the end of the answer: HTTP/1.0 has them so. */
  private endsAnswer(): boolean {
    try {
      return this.parser.push(new Uint8Array(0));
    } catch {
      return false;
    }
  }

  private fail(error: Error): void {
    const client = this.client;
    this.abandon();
    client?.onRatesFailure(error);
  }

  /** Nobody waits for its answer any more. */
  abandon(): void {
    this.client = null;
    this.exchange.asked.stop(this);
    this.parser.close();
    this.close();
  }

  readonly late = (): void => this.fail(new TimeoutError(RATES_PATIENCE_MS));
}

export function main({ host, port, rates }: { host: string; port: number; rates: [string, number] }): void {
  const selector = new EpollSelector();
  const listener = checked('listen', native.listen(host, port, 4096, false), { address: host, port });
  let full = false;
  const exchange: Exchange = {
    selector,
    rates,
    clients: new Deadlines<Client>(CLIENT_PATIENCE_MS),
    lingering: new Deadlines<Client>(LINGER_MS),
    asked: new Deadlines<Upstream>(RATES_PATIENCE_MS),
    idle: [],
    chunk: new Uint8Array(64 * 1024),
    onLeave: resume,
  };

  function resume(): void {
    if (full) selector.register(listener, EVENT_READ, accept);
    full = false;
  }

  function accept(): void {
    const fd = native.accept(listener);
    if (fd >= 0) new Client(exchange, fd).start();
    else if (fd !== EAGAIN && fd !== -103) {
      // No descriptor is left (-103, ECONNABORTED, would be another matter): the listener is not looked at before a client has left, or a
      // moment has passed.
      selector.unregister(listener);
      full = true;
    }
  }

  selector.register(listener, EVENT_READ, accept);
  const address = native.socketName(listener, false) as SocketAddress;
  announce(`listening on http://${inUrl(address.address)}:${address.port}`);
  const registered = selector.getMap();
  for (;;) {
    // In this order: who is late in one may begin to be waited for in the next.
    const wait = Math.min(exchange.asked.expire(), exchange.clients.expire(), exchange.lingering.expire());
    // A callback may close what is ready in the same batch, and its number may be another's by now: only what is still registered counts.
    const ready = selector.select(full ? Math.min(wait, RETRY_MS) : wait);
    if (ready.length === 0) resume();
    for (const [key] of ready) if (registered.get(key.fd) === key) (key.data as () => void)();
  }
}
