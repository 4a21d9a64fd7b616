// Commands that get something ready: quiet, but never silent for long.

import { spawn } from 'node:child_process';

const SAY_EVERY_SECONDS = 10;

interface Outcome {
  readonly ok: boolean;
  /** What it printed, stdout and stderr as they came. */
  readonly output: string;
}

/**
 * Runs a command to its end, or until `signal` is aborted, which ends it and what it has started. stderr says what is being done, from time to time
 * that it still is, and how it ended.
 */
export async function carryOut(
  title: string,
  command: readonly string[],
  {
    signal,
    ...options
  }: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal | undefined } = {},
): Promise<Outcome> {
  const started = performance.now();
  const say = (text: string) => process.stderr.write(`onewait bench: ${title}${text}\n`);
  const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
  say(' ...');
  const timer = setInterval(() => say(` ... (${Math.round(Number(seconds()))} s so far)`), SAY_EVERY_SECONDS * 1000);
  // A process group of its own can be ended as a whole.
  const detached = signal !== undefined;
  const child = spawn(command[0]!, command.slice(1), { ...options, detached, stdio: ['ignore', 'pipe', 'pipe'] });
  const end = () => child.pid !== undefined && process.kill(-child.pid);
  signal?.addEventListener('abort', end);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const ok = await new Promise<boolean>((resolve) => {
    child.on('error', (error) => {
      output += `${error.message}\n`;
      resolve(false);
    });
    child.on('close', (code) => resolve(code === 0));
  });
  clearInterval(timer);
  signal?.removeEventListener('abort', end);
  say(`: ${ok ? 'done' : 'failed'} in ${seconds()} s`);
  return { ok, output };
}
