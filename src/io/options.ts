// What TCP and Unix sockets are both asked for.

import { integer } from '../validate.ts';
import { HIGH_WATER_MARK } from './stream.ts';

const DEFAULT_BACKLOG = 4096;

export interface StreamOptions {
  /** Bytes that a connection may queue before its writer waits. 64 KiB by default. */
  highWaterMark?: number | undefined;
}

export interface BacklogOption {
  /** Connections that the kernel holds until they are accepted; it has a limit of its own (net.core.somaxconn). */
  backlog?: number | undefined;
}

export function highWaterMarkOf(options: StreamOptions): number {
  return integer(options.highWaterMark ?? HIGH_WATER_MARK, 'highWaterMark', 1);
}

export function backlogOf(options: BacklogOption): number {
  return integer(options.backlog ?? DEFAULT_BACKLOG, 'backlog', 0, 0x7fffffff);
}
