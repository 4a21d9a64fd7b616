// How a test waits: for a condition, with a deadline that only a hang can reach. Nothing here decides by how long something took.

import { setTimeout as pause } from 'node:timers/promises';

const LOOK_EVERY_MS = 5;

/** Looks until `condition` gives something truthy, and returns that. @throws an error that names `what` after `deadlineMs` */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  deadlineMs = 20_000,
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value as Exclude<T, false | null | undefined | 0 | ''>;
    if (performance.now() > deadline) throw new Error(`${what}: still not so after ${deadlineMs} ms`);
    await pause(LOOK_EVERY_MS);
  }
}

/** What `promise` brings, or an error that names `what` if nothing has come by the deadline. */
export async function within<T>(what: string, promise: PromiseLike<T>, deadlineMs = 20_000): Promise<T> {
  const clock = new AbortController();
  const late = pause(deadlineMs, undefined, { signal: clock.signal }).then(() => {
    throw new Error(`${what}: did not happen within ${deadlineMs} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    clock.abort();
  }
}
