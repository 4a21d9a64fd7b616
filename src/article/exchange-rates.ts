// The rates service that the exchange asks: it knows the rates, and takes its time.

import { sleep } from '../index.ts';
import { currency, queryOf } from './conversion.ts';
import type { Request, Response } from './http.ts';
import { serveHttp } from './http-server.ts';
import { rateResponse } from './rates.ts';

export function main({ host, port, delay }: { host: string; port: number; delay: number }): Promise<never> {
  return serveHttp(host, port, async (request: Request): Promise<Response> => {
    const query = queryOf(request, '/rates');
    const response = rateResponse(currency(query, 'base'), currency(query, 'target'));
    await sleep(delay);
    return response;
  });
}
