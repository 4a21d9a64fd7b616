// Exchange rates: a table of sample values, and how the rates service is asked for one. Decimal strings throughout: money is no binary float.

import { Big } from 'big.js';
import { HttpError, type Response } from './http.ts';

/** Units of each currency for one euro. */
const PER_EURO: Readonly<Record<string, string>> = {
  EUR: '1',
  USD: '1.0847',
  GBP: '0.8426',
  CHF: '0.9412',
  PLN: '4.2571',
  CZK: '25.312',
  SEK: '11.3895',
  JPY: '163.45',
};

const DECIMAL_PLACES = 10;

/** How long a connection to the rates service is kept that nobody uses; that service keeps it twice as long. */
export const IDLE_MS = 5_000;

/** How long the exchange waits for the rates service. */
export const RATES_PATIENCE_MS = 2_000;

/** Units of `target` for one unit of `base`, as a decimal string. @throws HttpError 400 when there is no rate */
export function rateOf(base: string, target: string): string {
  const rate = TABLE.get(base)?.get(target);
  if (rate === undefined) throw unknownCurrency(base, target);
  return rate;
}

/** All pairs: computed once, so that looking one up costs nothing worth measuring. */
const TABLE: ReadonlyMap<string, ReadonlyMap<string, string>> = new Map(
  Object.entries(PER_EURO).map(([base, perBase]) => [
    base,
    new Map(
      Object.entries(PER_EURO).map(([target, perTarget]) => [
        target,
        new Big(perTarget).div(perBase).round(DECIMAL_PLACES).toString(),
      ]),
    ),
  ]),
);

/** What the rates service is asked. */
export function ratePath(base: string, target: string): string {
  return `/rates?base=${base}&target=${target}`;
}

/** What the rates service answers. @throws HttpError 400 */
export function rateResponse(base: string, target: string): Response {
  return { status: 200, body: { base, target, rate: rateOf(base, target) } };
}

/** What its answer says. @throws HttpError 400 when it knows no such rate, 502 when it does not answer as it should */
export function rateFrom(status: number, body: unknown, base: string, target: string): string {
  const { rate, error, ...of } = (body ?? {}) as Record<string, unknown>;
  if (error === 'unknown_currency') throw unknownCurrency(base, target);
  const isWhatWasAsked = of.base === base && of.target === target;
  if (status !== 200 || typeof rate !== 'string' || !/^\d+(\.\d+)?$/.test(rate) || !isWhatWasAsked)
    throw new HttpError(502, 'rates_failed', `the rates service answered with status ${status}, and not with the rate`);
  return rate;
}

function unknownCurrency(base: string, target: string): HttpError {
  const known = Object.keys(PER_EURO).join(', ');
  return new HttpError(400, 'unknown_currency', `there is no rate from ${base} to ${target}; known are ${known}`);
}

/** What a client of the exchange is told when the rates service does not do its part. */
export function ratesFailure(error: unknown, address: string): HttpError {
  if (error instanceof HttpError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_TIMEOUT')
    return new HttpError(504, 'rates_timeout', `the rates service at ${address} did not answer in time`);
  return new HttpError(502, 'rates_unavailable', `the rates service at ${address} cannot be asked: ${message}`);
}
