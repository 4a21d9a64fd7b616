// Every error a person can meet is made here. Those of the system look like Node's (code, errno, syscall, fd, address, port); ours
// are one small family whose codes start with ERR_, and each message says what to do next.

import { constants } from 'node:os';
import { getSystemErrorName } from './util.ts';

/** Where an error of the system happened. */
export interface SystemErrorDetails {
  fd?: number;
  address?: string;
  port?: number;
}

/** An error number that a system call returned, in Node's form: `error.code` 'ECONNRESET', `error.errno` -104, `error.syscall` 'read'. */
export interface SystemError extends Error, SystemErrorDetails {
  code: string;
  errno: number;
  syscall: string;
}

/** The name of a negative errno, also of those that libuv has none for: 'EINPROGRESS'. */
export function errorName(errno: number): string {
  const [name] = Object.entries(constants.errno).find(([, value]) => value === -errno) ?? [];
  return name ?? (errno >= -4095 ? getSystemErrorName(errno) : `error ${errno}`);
}

/** Makes the error for a negative errno. See errno(3) for the codes. */
export function systemError(syscall: string, errno: number, details: SystemErrorDetails = {}): SystemError {
  const code = errorName(errno);
  const where =
    details.address === undefined ? '' : ` ${details.address}${details.port === undefined ? '' : `:${details.port}`}`;
  const on = details.fd === undefined || where !== '' ? '' : ` (fd ${details.fd})`;
  return Object.assign(new Error(`${syscall} ${code}${where}${on}`), { code, errno, syscall, ...details });
}

export function isSystemError(error: unknown): error is SystemError {
  return isA(Error, error) && typeof (error as SystemError).syscall === 'string';
}

/** `instanceof`, for what may be a proxy that throws. */
function isA<T>(type: abstract new (...args: never[]) => T, value: unknown): value is T {
  try {
    return value instanceof type;
  } catch {
    return false;
  }
}

/** The base of onewait's own errors. */
export class OnewaitError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Anything can be thrown, also what cannot be made a string of. */
function shown(value: unknown): string {
  try {
    return value instanceof Error ? String(value.message) : String(value);
  } catch {
    return 'something that cannot be shown';
  }
}

/** Thrown at every suspension point of a task or scope that was cancelled. `cause` is the reason that was given. */
export class Cancelled extends OnewaitError {
  constructor(reason?: unknown) {
    const why = reason === undefined ? '' : `: ${shown(reason)}`;
    super('ERR_CANCELLED', `cancelled${why}`, reason === undefined ? undefined : { cause: reason });
  }

  /** A cancellation that is passed on stays the same. @internal */
  static of(reason: unknown): Cancelled {
    return isA(Cancelled, reason) ? reason : new Cancelled(reason);
  }
}

/** A `timeout` ran out. `ms` is what it allowed. */
export class TimeoutError extends OnewaitError {
  readonly ms: number;

  constructor(ms: number) {
    super('ERR_TIMEOUT', `not done within ${ms} ms`);
    this.ms = ms;
  }
}

/** Somebody already waits where only one may: a stream has one reader and one writer at a time. */
export class BusyError extends OnewaitError {
  constructor(what: string, owner: string, intruder: string) {
    super(
      'ERR_BUSY',
      `${intruder} cannot ${what}: ${owner} is already waiting to. Let one task do it, or wait for the other first`,
    );
  }
}

/** The stream, listener or descriptor was closed, by us, before or while waiting on it; or it ended too early. */
export class ClosedError extends OnewaitError {
  constructor(message: string, code = 'ERR_CLOSED') {
    super(code, message);
  }
}

/** As a result; the kernel's numbers are the same on x64 and arm64 (asm-generic/errno.h). */
export const EAGAIN = -11;

/** Memory that was to stay as it is until an operation is done did not. */
export function detachedMemory(what: string): TypeError {
  return new TypeError(
    `the memory to ${what} was detached or shrunk while the operation waited; leave it alone until it is done`,
  );
}
