// The exchange that blocks on the rates service: one request at a time, and while that waits, everybody does.

import { conversionOf, converted } from './conversion.ts';
import type { Request, Response } from './http.ts';
import { serveHttp } from './http-server.ts';
import { BlockingRatesClient } from './rates-client-blocking.ts';

export function main({ host, port, rates }: { host: string; port: number; rates: [string, number] }): Promise<never> {
  const client = new BlockingRatesClient(...rates);
  return serveHttp(host, port, (request: Request): Response => {
    const conversion = conversionOf(request);
    const rate = client.rate(conversion.base, conversion.target);
    return converted(conversion, rate);
  });
}
