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
      return this.#ask(base, target);
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  #ask(base: string, target: string): string {
    for (;;) {
      const used = this.#socket !== null;
      let reusable = false;
      try {
        this.#socket ??= this.#connect();
        const socket = this.#socket;
        socket.allow(RATES_PATIENCE_MS);
        this.#parser.begin();
        socket.send(formatRequest(ratePath(base, target), this.#host, this.#port));
        while (!this.#parser.push(socket.receive(this.#memory)));
        const rate = rateFrom(this.#parser.status, this.#parser.json(), base, target);
        reusable = this.#parser.keepAlive;
        return rate;
      } catch (error) {
        // A connection that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (!used || error instanceof TimeoutError) throw error;
      } finally {
        if (!reusable) {
          this.#socket?.close();
          this.#socket = null;
        }
      }
    }
  }

  #connect(): BlockingSocket {
    this.#parser.close();
    this.#parser = new ResponseParser();
    return BlockingSocket.connect(this.#host, this.#port, RATES_PATIENCE_MS);
  }
}
