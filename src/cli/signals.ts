// How a program of the command line runs, and how it ends: by itself, or by a signal.

import { type Coroutine, type RunOptions, run } from '../index.ts';
import { inspect } from '../util.ts';
import { say } from './say.ts';

/** What a peer's sudden end looks like: its business, and not worth a report. */
const PEER_GONE = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT']);

/**
 * Runs `main` until it ends. SIGINT and SIGTERM abort its `stop`; what it throws then is no failure. Returns the exit code: 0, 130 or 143.
 * @throws what `main` throws otherwise
 */
export function runUntilSignal(main: (stop: AbortSignal) => Coroutine<void>, options: RunOptions): Promise<number> {
  const stop = new AbortController();
  let exitCode = 0;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      exitCode = code;
      stop.abort();
    });
  }
  return run(
    function* () {
      try {
        yield* main(stop.signal);
      } catch (error) {
        if (!stop.signal.aborted) throw error;
      }
      return exitCode;
    },
    {
      name: 'main',
      onTaskError(error, task) {
        if (!PEER_GONE.has((error as NodeJS.ErrnoException).code ?? '')) say(`${task} failed: ${inspect(error)}\n`, 2);
      },
      ...options,
    },
  );
}
