// `onewait article`: lists the article's programs, prints one, or runs it.

import { readFileSync } from 'node:fs';
import { isatty } from 'node:tty';
import { PROGRAMS, type Program, type ProgramOptions } from '../article/programs.ts';
import { flush } from '../article/terminal.ts';
import { type Coroutine, spawn } from '../index.ts';
import { record } from '../trace/recorder.ts';
import { say } from './say.ts';
import { runUntilSignal } from './signals.ts';

/** A line for each program. */
export function listPrograms(): string {
  const width = Math.max(...PROGRAMS.map(({ name }) => name.length));
  return PROGRAMS.map(({ name, shows }) => `${name.padEnd(width)}  ${shows}`).join('\n');
}

export function findProgram(name: string): Program | undefined {
  return PROGRAMS.find((program) => program.name === name);
}

/** A program's code, as TypeScript. */
export function sourceOf({ name }: Program): string {
  // From src/cli or dist/src/cli, alike.
  for (const root of ['../..', '../../..']) {
    try {
      return readFileSync(new URL(`${root}/src/article/${name}.ts`, import.meta.url), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`the source of ${name} is not here: install onewait anew, or read it in its repository`);
}

/** Runs a program until it ends, its input does, or a signal comes. Returns the exit code. */
export async function runProgram(
  program: Program,
  options: Omit<ProgramOptions, 'port'> & { port: number | undefined },
  trace: string | undefined,
): Promise<number> {
  const { main } = await program.load();
  const settings: ProgramOptions = { ...options, port: options.port ?? program.port ?? 0 };
  if (program.literal) {
    // Nothing of Node runs meanwhile, handlers of signals neither: the signal itself ends it.
    if (trace !== undefined) record(trace);
    await main(settings);
    return 0;
  }
  const start = (): Coroutine<void> | Promise<void> => {
    const running = main(settings);
    return running instanceof Promise ? running : toItsEnd(running);
  };
  try {
    const code = await runUntilSignal(
      function* (stop) {
        yield* spawn(start, { name: program.name }).join({ signal: stop });
      },
      { trace },
    );
    // The terminal has shown '^C'; what comes next is for the next line.
    if (code !== 0 && isatty(1)) say('\n');
    return code;
  } catch (error) {
    const { code, fd } = error as { code?: unknown; fd?: unknown };
    if (code === 'EPIPE' && fd === 1) return 0;
    throw error;
  }
}

function* toItsEnd(running: Coroutine<void> | void): Coroutine<void> {
  if (running !== undefined) yield* running;
  yield* flush();
}
