// Arguments are checked when a method is called, not when it is awaited, and before any system call.

import { isSharedArrayBuffer } from 'node:util/types';

const MAX_FD = 0x7fffffff;

/** What was given instead, for people. */
export function received(value: unknown): string {
  if (typeof value === 'string') return `the string ${JSON.stringify(value)}`;
  return typeof value === 'object' ? Object.prototype.toString.call(value) : String(value);
}

/** A whole number within bounds. @throws TypeError when it is not a number, RangeError when it is not whole or out of bounds */
export function integer(
  value: unknown,
  name: string,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number') throw new TypeError(`${name} must be a number, and is ${received(value)}`);
  if (!Number.isInteger(value) || value < minimum || value > maximum) {
    throw new RangeError(`${name} must be a whole number from ${minimum} to ${maximum}, and is ${received(value)}`);
  }
  return value;
}

/** A descriptor number: whole, from 0 to 2^31 - 1. */
export function fileDescriptor(value: unknown): number {
  return integer(value, 'fd', 0, MAX_FD);
}

/** A duration in milliseconds: fractions count, infinity is never. @throws TypeError, RangeError (NaN or negative) */
export function milliseconds(value: unknown, name = 'ms'): number {
  if (typeof value !== 'number')
    throw new TypeError(`${name} must be a number of milliseconds, and is ${received(value)}`);
  if (!(value >= 0)) throw new RangeError(`${name} must be zero or more milliseconds, and is ${received(value)}`);
  return value;
}

/** Bytes to write: a string (as UTF-8), a typed array, a DataView or an ArrayBuffer, as the Uint8Array over the same memory. */
export function bytes(data: unknown, name = 'data'): Uint8Array {
  // Looking at `.buffer` would cost a small write 40 ns; it is copied at once, and a large one looks itself (src/io/writes.ts).
  return data instanceof Uint8Array ? data : otherBytes(data, name);
}

function otherBytes(data: unknown, name: string): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    if (isSharedArrayBuffer(data.buffer)) {
      throw new TypeError(
        `${name} must not be backed by a SharedArrayBuffer: another thread could change it under the kernel's hands; copy it first`,
      );
    }
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
  throw new TypeError(
    `${name} must be a string, a typed array, a DataView or an ArrayBuffer, and is ${received(data)}`,
  );
}

/** `{ signal }` of any operation. */
export interface WaitOptions {
  /** Aborting it ends the wait: the operation did not happen, and rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

export function signalOf(options: WaitOptions | undefined): AbortSignal | undefined {
  const signal: unknown = options?.signal;
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw new TypeError(`options.signal must be an AbortSignal, and is ${received(signal)}`);
}
