// The exchange with coroutines: it reads like the one that blocks, and only the request that waits is suspended.

import { conversionOf, converted } from './conversion.ts';
import type { Request, Response } from './http.ts';
import { serveHttp } from './http-server.ts';
import { RatesClient } from './rates-client.ts';

export function main({ host, port, rates }: { host: string; port: number; rates: [string, number] }): Promise<never> {
  const client = new RatesClient(...rates);
  return serveHttp(host, port, async (request: Request): Promise<Response> => {
    const conversion = conversionOf(request);
    const rate = await client.rate(conversion.base, conversion.target);
    return converted(conversion, rate);
  });
}
