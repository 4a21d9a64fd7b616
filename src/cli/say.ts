// What the command line prints. Not through `process.stdout` and `process.stderr`: for a pipe these make the descriptor non-blocking, and with
// it everybody else's who has the same (a shell, the rest of a pipeline).

import { writeSync } from 'node:fs';

const PAUSE_MS = 5;

/** Writes all of `text`, and waits as long as its reader takes. A reader who has gone wants no more, and no complaint either: that ends the process. */
export function say(text: string | Uint8Array, fd = 1): void {
  for (let rest = typeof text === 'string' ? Buffer.from(text) : text; rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') process.exit(0);
      if (code !== 'EAGAIN') throw error;
      // Somebody else has made it non-blocking.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
  }
}

/** Says what went wrong, in one line. */
export function complain(error: unknown): void {
  say(`onewait: ${(error as Error).message}\n`, 2);
}
