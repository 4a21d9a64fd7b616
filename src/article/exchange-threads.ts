// The exchange with threads: what blocks is passed to a thread of its own, and nobody else waits for it. JavaScript runs on one thread, so the
// threads are native, and what is passed to them is connect, send and recv. (A pool of workers, which could block in JavaScript, answered a
// sixth of the requests: each has an engine of its own to warm up.)

import { systemError } from '../errors.ts';
import { readable, spawn, TimeoutError } from '../index.ts';
import { checked, type NativeBlockingThreads, native } from '../native.ts';
import { conversionOf, converted } from './conversion.ts';
import { formatRequest, type Request, type Response, ResponseParser } from './http.ts';
import { serveHttp } from './http-server.ts';
import { RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';

interface Connection {
  fd: number;
  readonly parser: ResponseParser;
}

type Finished = (fd: number, result: number, bytes: Uint8Array) => void;

/** Asks the rates service on threads. A request that finds no thread free waits for one. */
class ThreadedRatesClient {
  readonly #host: string;
  readonly #port: number;
  readonly #threads: NativeBlockingThreads;
  readonly #idle: Connection[] = [];
  readonly #calls = new Map<number, Finished>();
  #lastId = 0;

  constructor(host: string, port: number, threads: number) {
    this.#host = host;
    this.#port = port;
    this.#threads = new native.BlockingThreads(threads, RATES_PATIENCE_MS);
    checked(`cannot start ${threads} threads; choose fewer (--threads): pthread_create`, this.#threads.fd());
    spawn(() => this.#deliver(), { name: 'threads' });
  }

  /** Units of `target` for one of `base`. @throws HttpError 400, 502, 504 */
  async rate(base: string, target: string): Promise<string> {
    try {
      const { status, body } = await this.#ask(ratePath(base, target));
      return rateFrom(status, body, base, target);
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  async #ask(path: string): Promise<{ status: number; body: unknown }> {
    const request = Buffer.from(formatRequest(path, this.#host));
    for (;;) {
      const used = this.#idle.pop();
      const connection = used ?? { fd: -1, parser: new ResponseParser() };
      const { parser } = connection;
      try {
        parser.begin();
        for (let done = false, rest = request; !done; rest = Buffer.alloc(0)) {
          const bytes = await this.#call(connection, rest);
          if (bytes.length === 0) throw new Error('it closed the connection');
          done = parser.push(bytes);
        }
        const answer = { status: parser.status, body: parser.json() };
        if (parser.keepAlive) this.#idle.push(connection);
        else native.close(connection.fd);
        return answer;
      } catch (error) {
        if (connection.fd >= 0) native.close(connection.fd);
        // One that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (used === undefined || error instanceof TimeoutError) throw error;
      }
    }
  }

  /** Has a thread send `request` and receive what comes, on a connection that it makes if there is none. */
  #call(connection: Connection, request: Uint8Array): Promise<Uint8Array> {
    this.#lastId = (this.#lastId + 1) % 0x7fffffff;
    const id = this.#lastId;
    this.#threads.call(this.#host, this.#port, id, connection.fd, request, 0, request.length);
    return new Promise((resolve, reject) => {
      this.#calls.set(id, (fd, result, bytes) => {
        connection.fd = fd;
        if (result >= 0) resolve(bytes);
        else {
          const error = systemError('connect', result, { address: this.#host, port: this.#port });
          reject(error.code === 'ETIMEDOUT' ? new TimeoutError(RATES_PATIENCE_MS) : error);
        }
      });
    });
  }

  /** Hands out what the threads have finished. */
  async #deliver(): Promise<never> {
    for (;;) {
      await readable(this.#threads.fd());
      for (const [id, fd, result, bytes] of this.#threads.take()) {
        const finished = this.#calls.get(id);
        this.#calls.delete(id);
        finished?.(fd, result, bytes);
      }
    }
  }
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
