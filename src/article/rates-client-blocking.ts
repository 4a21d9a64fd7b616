// Asks the rates service and blocks until it has answered, as a function call does.

import { TimeoutError } from '../index.ts';
import { BlockingSocket } from './blocking-socket.ts';
import { formatRequest, ResponseParser } from './http.ts';
import { RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';

export class BlockingRatesClient {
  readonly #host: string;
  readonly #port: number;
  readonly #memory = new Uint8Array(64 * 1024);
  #parser = new ResponseParser();
  #socket: BlockingSocket | null = null;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** Units of `target` for one of `base`. @throws HttpError 400, 502, 504 */
  rate(base: string, target: string): string {
    try {
      const body = this.#ask(formatRequest(ratePath(base, target), this.#host));
      return rateFrom(this.#parser.status, body, base, target);
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  #ask(request: string): unknown {
    for (;;) {
      const used = this.#socket !== null;
      try {
        this.#socket ??= this.#connect();
        const socket = this.#socket;
        socket.allow(RATES_PATIENCE_MS);
        this.#parser.begin();
        socket.send(request);
        for (let done = false; !done; ) {
          const bytes = socket.receive(this.#memory);
          if (bytes.length === 0) throw new Error('it closed the connection');
          done = this.#parser.push(bytes);
        }
        if (!this.#parser.keepAlive) this.#close();
        return this.#parser.json();
      } catch (error) {
        this.#close();
        // A connection that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (!used || error instanceof TimeoutError) throw error;
      }
    }
  }

  #connect(): BlockingSocket {
    this.#parser = new ResponseParser();
    return BlockingSocket.connect(this.#host, this.#port, RATES_PATIENCE_MS);
  }

  #close(): void {
    this.#socket?.close();
    this.#socket = null;
  }
}
