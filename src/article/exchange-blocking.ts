// The exchange that blocks on the rates service: one request at a time, and while that waits, everybody does.

import { yieldNow } from '../index.ts';
import { conversionOf, converted } from './conversion.ts';
import type { Request, Response } from './http.ts';
import { serveHttp } from './http-server.ts';
import { BlockingRatesClient } from './rates-client-blocking.ts';

export function main({ host, port, rates }: { host: string; port: number; rates: [string, number] }): Promise<never> {
  const client = new BlockingRatesClient(...rates);
  let before: Promise<unknown> = Promise.resolve();

  function answer(request: Request): Response {
    const conversion = conversionOf(request);
    const rate = client.rate(conversion.base, conversion.target);
    return converted(conversion, rate);
  }

  return serveHttp(host, port, (request: Request): Promise<Response> => {
    // Between two requests the loop has a turn; otherwise nobody would hear Ctrl-C while requests queue up.
    const mine = before.then(() => yieldNow()).then(() => answer(request));
    before = mine.catch(() => {});
    return mine;
  });
}
