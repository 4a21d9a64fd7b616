// Asks the rates service, as a coroutine: it reads like the blocking client, and suspends where that one blocks.

import { Cancelled, type Stream, sleep, spawn, tcp, timeout } from '../index.ts';
import { formatRequest, ResponseParser } from './http.ts';
import { IDLE_MS, RATES_PATIENCE_MS, rateFrom, ratePath, ratesFailure } from './rates.ts';

interface Connection {
  readonly stream: Stream;
  readonly parser: ResponseParser;
  /** When it was used last. */
  since: number;
}

const NOTHING = new Uint8Array(0);

export class RatesClient {
  readonly #host: string;
  readonly #port: number;
  /** Connections that nobody uses, the last used on top. */
  readonly #idle: Connection[] = [];

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    spawn(() => this.#tidy(), { name: 'tidy' });
  }

  /** Units of `target` for one of `base`. @throws HttpError 400, 502, 504 */
  async rate(base: string, target: string): Promise<string> {
    try {
      return await timeout(RATES_PATIENCE_MS, () => this.#ask(base, target));
    } catch (error) {
      throw ratesFailure(error, `${this.#host}:${this.#port}`);
    }
  }

  async #ask(base: string, target: string): Promise<string> {
    for (;;) {
      const used = this.#idle.pop();
      const connection = used ?? (await this.#connect());
      const { stream, parser } = connection;
      let reusable = false;
      try {
        parser.begin();
        await stream.write(formatRequest(ratePath(base, target), this.#host, this.#port));
        while (!parser.push((await stream.read()) ?? NOTHING));
        const rate = rateFrom(parser.status, parser.json(), base, target);
        reusable = parser.keepAlive;
        return rate;
      } catch (error) {
        // One that was idle may have been closed meanwhile. To ask again is safe: a GET changes nothing.
        if (used === undefined || error instanceof Cancelled) throw error;
      } finally {
        if (reusable) this.#keep(connection);
        else close(connection);
      }
    }
  }

  async #connect(): Promise<Connection> {
    const stream = await tcp.connect({ host: this.#host, port: this.#port });
    return { stream, parser: new ResponseParser(), since: 0 };
  }

  #keep(connection: Connection): void {
    connection.since = performance.now();
    this.#idle.push(connection);
  }

  /** Gives up what has not been used for a while. */
  async #tidy(): Promise<never> {
    for (;;) {
      await sleep(1000);
      const oldest = performance.now() - IDLE_MS;
      while (this.#idle.length > 0 && this.#idle[0]!.since < oldest) close(this.#idle.shift()!);
    }
  }
}

function close({ stream, parser }: Connection): void {
  stream.destroy();
  parser.close();
}
