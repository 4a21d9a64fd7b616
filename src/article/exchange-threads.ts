// The exchange with threads: what blocks is passed to a thread of its own, and nobody else waits for it. JavaScript runs on one thread, so the
// threads are native, and what is passed to them is connect, send and recv. (A pool of workers, which could block in JavaScript, answered a
// sixth of the requests: each has an engine of its own to warm up.)

import { systemError } from '../errors.ts';
import { readable, sleep, spawn, TimeoutError } from '../index.ts';
import { checked, type NativeBlockingThreads, native } from '../native.ts';
import { conversionOf, converted } from './conversion.ts';
import { formatRequest, type Request, type Response, ResponseParser } from './http.ts';
import { serveHttp } from './http-server.ts';
import { IDLE_MS, RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';

const ETIMEDOUT = -110;

interface Connection {
  fd: number;
  readonly parser: ResponseParser;
  /** When it was used last. */
  since: number;
}

interface Call {
  readonly connection: Connection;
  readonly began: number;
  readonly done: (bytes: Uint8Array) => void;
  readonly failed: (error: Error) => void;
}

const NOTHING = new Uint8Array(0);

/** Asks the rates service on threads. A request that finds no thread free waits for one, as long as its patience lasts. */
class ThreadedRatesClient {
  readonly #host: string;
  readonly #port: number;
  readonly #threads: NativeBlockingThreads;
  /** Connections that nobody uses, the last used on top. */
  readonly #idle: Connection[] = [];
  /** By number, the oldest first. */
  readonly #calls = new Map<number, Call>();
  #lastId = 0;

  constructor(host: string, port: number, threads: number) {
    this.#host = host;
    this.#port = port;
    this.#threads = new native.BlockingThreads(threads, RATES_PATIENCE_MS);
    checked(`cannot start ${threads} threads; choose fewer (--threads): pthread_create`, this.#threads.fd());
    spawn(() => this.#deliver(), { name: 'threads' });
    spawn(() => this.#tidy(), { name: 'tidy' });
  }

  /** Units of `target` for one of `base`. @throws HttpError 400, 502, 504 */
  async rate(base: string, target: string): Promise<string> {
    try {
      return await this.#ask(base, target, performance.now());
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  async #ask(base: string, target: string, began: number): Promise<string> {
    const request = Buffer.from(formatRequest(ratePath(base, target), this.#host, this.#port));
    for (;;) {
      const used = this.#idle.pop();
      const connection = used ?? { fd: -1, parser: new ResponseParser(), since: 0 };
      const { parser } = connection;
      let reusable = false;
      try {
        parser.begin();
        for (let done = false, rest: Uint8Array = request; !done; rest = NOTHING)
          done = parser.push(await this.#call(connection, rest, began));
        const rate = rateFrom(parser.status, parser.json(), base, target);
        reusable = parser.keepAlive;
        return rate;
      } catch (error) {
        // The thread is still at it, and its connection is closed when it has returned.
        if (error instanceof TimeoutError) throw error;
        // One that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (used === undefined) throw error;
      } finally {
        if (reusable) this.#keep(connection);
        else if (!this.#isBusy(connection)) close(connection);
      }
    }
  }

  /** Has a thread send `request` and receive what comes, on a connection that it makes if there is none. */
  #call(connection: Connection, request: Uint8Array, began: number): Promise<Uint8Array> {
    this.#lastId = (this.#lastId + 1) % 0x7fffffff;
    const id = this.#lastId;
    this.#threads.call(this.#host, this.#port, id, connection.fd, request, 0, request.length);
    return new Promise((done, failed) => this.#calls.set(id, { connection, began, done, failed }));
  }

  /** Hands out what the threads have finished. */
  async #deliver(): Promise<never> {
    for (;;) {
      await readable(this.#threads.fd());
      for (const [id, fd, result, bytes] of this.#threads.take()) {
        const { connection, began, done, failed } = this.#calls.get(id)!;
        this.#calls.delete(id);
        connection.fd = fd;
        const isLate = performance.now() - began > RATES_PATIENCE_MS;
        if (isLate) close(connection);
        if (isLate || result === ETIMEDOUT) failed(new TimeoutError(RATES_PATIENCE_MS));
        else if (result < 0) failed(systemError('connect', result, { address: this.#host, port: this.#port }));
        else done(bytes);
      }
    }
  }

  #isBusy(connection: Connection): boolean {
    for (const call of this.#calls.values()) if (call.connection === connection) return true;
    return false;
  }

  #keep(connection: Connection): void {
    connection.since = performance.now();
    this.#idle.push(connection);
  }

  /** Tells those that have waited long enough, and gives up connections that have not been used for a while. */
  async #tidy(): Promise<never> {
    for (;;) {
      await sleep(100);
      const now = performance.now();
      for (const { began, failed } of this.#calls.values()) {
        if (now - began <= RATES_PATIENCE_MS) break;
        failed(new TimeoutError(RATES_PATIENCE_MS));
      }
      while (this.#idle.length > 0 && this.#idle[0]!.since < now - IDLE_MS) close(this.#idle.shift()!);
    }
  }
}

/** Closes a connection that no thread uses; once. */
function close(connection: Connection): void {
  if (connection.fd >= 0) native.close(connection.fd);
  connection.fd = -1;
  connection.parser.close();
}

export function main(options: {
  host: string;
  port: number;
  rates: [string, number];
  threads: number;
}): Promise<never> {
  const client = new ThreadedRatesClient(...options.rates, options.threads);
  return serveHttp(options.host, options.port, async (request: Request): Promise<Response> => {
    const conversion = conversionOf(request);
    const rate = await client.rate(conversion.base, conversion.target);
    return converted(conversion, rate);
  });
}
