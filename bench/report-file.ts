// A report read from the file that `--json` wrote. What a comparison needs of it is checked, so that a file that is damaged, or is something
// else, is one clear line and not a comparison of nothing.

import { readFileSync } from 'node:fs';
import type { Report } from './results.ts';
import { RATIO_FIELDS } from './suite.ts';

/** The file is not there, or holds no report. */
export class Unreadable extends Error {
  override readonly name = 'Unreadable';
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const flag: Check = (value) => typeof value === 'boolean';
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const each =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const having =
  (fields: Readonly<Record<string, Check>>): Check =>
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    Object.entries(fields).every(([name, check]) => check((value as Record<string, unknown>)[name]));

const CHECKS: Readonly<Record<string, Check>> = {
  machine: having({
    cpuModel: text,
    cores: number,
    kernel: text,
    congestionControl: text,
    node: text,
    memoryBytes: number,
  }),
  method: having({}),
  complete: flag,
  suites: each(
    having({
      name: text,
      measure: oneOf('rate', 'capacity', 'p99'),
      ratios: each(having({ field: oneOf(...RATIO_FIELDS), label: text, server: orNull(text) })),
    }),
  ),
  results: each(
    having({
      suite: text,
      server: text,
      shape: text,
      connections: number,
      messageBytes: orNull(number),
      inFlight: number,
      idleConnections: number,
      flooders: number,
      churn: flag,
      rate: orNull(number),
    }),
  ),
  samples: each(
    having({
      suite: text,
      server: text,
      shape: text,
      round: number,
      valid: flag,
      seconds: number,
      roundTrips: number,
      roundTripsPerSecond: number,
      serverCpuSeconds: orNull(number),
      serverCpuMicrosPerRoundTrip: orNull(number),
      p99Micros: number,
    }),
  ),
  idle: each(
    having({
      suite: text,
      server: text,
      connections: number,
      rssBytesPerConnection: number,
      rssSamples: each(number),
      whyIncomplete: orNull(text),
    }),
  ),
};

/** @throws Unreadable */
export function readReport(file: string): Report {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const what = error instanceof SyntaxError ? 'is not JSON, or not all of it' : 'cannot be read';
    throw new Unreadable(`${file} ${what}: ${(error as Error).message}`);
  }
  const wrong = Object.entries(CHECKS).find(([name, check]) => !having({ [name]: check })(content));
  if (wrong !== undefined)
    throw new Unreadable(
      `${file} is not a report of this version of the benchmark (its '${wrong[0]}' is missing or different): write one with --json`,
    );
  return content as Report;
}
