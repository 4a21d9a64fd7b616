// Asks the rates service, as a coroutine: it reads like the blocking client, and suspends where that one blocks.

import { Cancelled, type Stream, tcp, timeout } from '../index.ts';
import { formatRequest, ResponseParser } from './http.ts';
import { RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';

interface Connection {
  readonly stream: Stream;
  readonly parser: ResponseParser;
}

export class RatesClient {
  readonly #host: string;
  readonly #port: number;
  /** Connections that nobody uses, the last used on top. */
  readonly #idle: Connection[] = [];

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** Units of `target` for one of `base`. @throws HttpError 400, 502, 504 */
  async rate(base: string, target: string): Promise<string> {
    try {
      const { status, body } = await timeout(RATES_PATIENCE_MS, () => this.#ask(ratePath(base, target)));
      return rateFrom(status, body, base, target);
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  async #ask(path: string): Promise<{ status: number; body: unknown }> {
    for (;;) {
      const used = this.#idle.pop();
      const { stream, parser } = used ?? (await this.#connect());
      try {
        parser.begin();
        await stream.write(formatRequest(path, this.#host));
        for (let done = false; !done; ) {
          const chunk = await stream.read();
          if (chunk === null) throw new Error('it closed the connection');
          done = parser.push(chunk);
        }
        const answer = { status: parser.status, body: parser.json() };
        if (parser.keepAlive) this.#idle.push({ stream, parser });
        else stream.destroy();
        return answer;
      } catch (error) {
        stream.destroy();
        // One that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (used === undefined || error instanceof Cancelled) throw error;
      }
    }
  }

  async #connect(): Promise<Connection> {
    return { stream: await tcp.connect({ host: this.#host, port: this.#port }), parser: new ResponseParser() };
  }
}
