// The exchange with its rates in the program: nothing to wait for but requests.

import { conversionOf, converted } from './conversion.ts';
import type { Request, Response } from './http.ts';
import { serveHttp } from './http-server.ts';
import { rateOf } from './rates.ts';

export function main({ host, port }: { host: string; port: number }): Promise<never> {
  return serveHttp(host, port, (request: Request): Response => {
    const conversion = conversionOf(request);
    return converted(conversion, rateOf(conversion.base, conversion.target));
  });
}
