// What the exchange does, whoever waits and however: a request in, an amount out. No I/O here, so that the five versions differ in nothing else.

import { Big } from 'big.js';
import { HttpError, type Request, type Response } from './http.ts';

export interface Conversion {
  readonly amount: string;
  readonly base: string;
  readonly target: string;
}

const LARGEST = new Big('1e15');
const MOST_DECIMALS = 6;

/** Reads the query of `GET path?...`. @throws HttpError 400, 404, 405 */
export function queryOf({ method, url }: Request, path: string): URLSearchParams {
  if (!/^(\/|https?:\/\/)[\x21-\x7e]*$/i.test(url) || url.includes('#'))
    throw new HttpError(400, 'bad_request', 'the request target must be a path or a URL of HTTP');
  let target: URL;
  try {
    target = new URL(url, 'http://localhost');
  } catch {
    throw new HttpError(400, 'bad_request', 'the request target is not a URL');
  }
  if (target.pathname !== path) throw new HttpError(404, 'not_found', `there is nothing here but ${path}`);
  if (method !== 'GET' && method !== 'HEAD')
    throw new HttpError(405, 'method_not_allowed', `${method} is not possible here: use GET`);
  return target.searchParams;
}

/** A parameter that must be there once. @throws HttpError 400 */
function parameter(query: URLSearchParams, name: string): string {
  const values = query.getAll(name);
  if (values.length === 1 && values[0] !== '') return values[0]!;
  throw new HttpError(400, `bad_${name}`, `the parameter '${name}' must be given once, as in ${EXAMPLE}`);
}

const EXAMPLE = '/convert?amount=12.50&base=EUR&target=PLN';

/** A currency's code. @throws HttpError 400 */
export function currency(query: URLSearchParams, name: 'base' | 'target'): string {
  const code = parameter(query, name);
  if (/^[A-Za-z]{3}$/.test(code)) return code.toUpperCase();
  throw new HttpError(400, `bad_${name}`, `'${name}' must be a currency of three letters (ISO 4217), as in ${EXAMPLE}`);
}

function amount(query: URLSearchParams): string {
  const text = parameter(query, 'amount');
  const wrong = (message: string) => new HttpError(400, 'bad_amount', `'amount' ${message}`);
  if (!/^-?\d+(\.\d+)?$/.test(text)) throw wrong('must be a decimal number, as in 12.50');
  if (text.startsWith('-')) throw wrong('must not be negative');
  const [, decimals = ''] = text.split('.');
  if (decimals.length > MOST_DECIMALS) throw wrong(`must have no more than ${MOST_DECIMALS} decimal places`);
  if (text.length > 40 || LARGEST.lt(text)) throw wrong(`must be no more than ${LARGEST.toFixed()}`);
  return text;
}

/** What a client of the exchange asks for. @throws HttpError 400, 404, 405 */
export function conversionOf(request: Request): Conversion {
  const query = queryOf(request, '/convert');
  return { amount: amount(query), base: currency(query, 'base'), target: currency(query, 'target') };
}

/** Decimal places of a currency's smallest unit: two of most, none of the yen (ISO 4217, as Intl knows it). */
const decimalsOf = new Map<string, number>();
function decimals(code: string): number {
  let places = decimalsOf.get(code);
  if (places === undefined) {
    const format = new Intl.NumberFormat('en', { style: 'currency', currency: code });
    places = format.resolvedOptions().maximumFractionDigits ?? 2;
    decimalsOf.set(code, places);
  }
  return places;
}

/** The answer, in decimal arithmetic; halves go to the even neighbour, as bankers round. `rate` is of `target` for one of `base`. */
export function converted({ amount, base, target }: Conversion, rate: string): Response {
  const result = new Big(amount).times(rate).round(decimals(target), Big.roundHalfEven);
  return { status: 200, body: { amount, base, target, rate, result: result.toFixed(decimals(target)) } };
}
