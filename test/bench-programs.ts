// The C++ programs of the benchmark, compiled for one file of tests.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { root } from './processes.ts';

export const main: string = join(root, 'dist/bench/main.js');

const SOURCES = {
  loadgen: 'bench/loadgen/loadgen.cc',
  'raw-epoll': 'bench/servers/raw_epoll.cc',
  'thread-per-connection': 'bench/servers/thread_per_connection.cc',
} as const;

/** A folder that is gone after the tests of the file. */
export function fileFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'onewait-bench-'));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Compiles a C++ program. */
export function compile(source: string, program: string): void {
  const flags = ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-pthread'];
  execFileSync(process.env.CXX ?? 'c++', [...flags, source, '-o', program]);
}

/** A folder with these programs, before the tests of the file. */
export function compiledPrograms(...names: ReadonlyArray<keyof typeof SOURCES>): string {
  const folder = fileFolder();
  beforeAll(() => {
    for (const name of names) compile(join(root, SOURCES[name]), join(folder, name));
  }, 120_000);
  return folder;
}
