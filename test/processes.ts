// Other processes: programs that must be installed, servers of ours, and what /proc says about them.

import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, onTestFinished } from 'vitest';
import { until, within } from './until.ts';

export const root: string = fileURLToPath(new URL('..', import.meta.url));
export const cli: string = join(root, 'dist/src/cli/main.js');
export const library: string = join(root, 'dist/src/index.js');

/** Debian's names for the packages of the programs that tests talk to. */
const PACKAGES: Record<string, string> = {
  nc: 'netcat-openbsd',
  socat: 'socat',
  strace: 'strace',
  python3: 'python3',
  bash: 'bash',
  curl: 'curl',
  wrk: 'wrk',
  '/usr/bin/chromium': 'chromium',
  tmux: 'tmux',
  haproxy: 'haproxy',
};

/** Fails, saying what to install, unless every program is there. */
export function needs(...programs: string[]): void {
  const missing = programs.filter((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0);
  if (missing.length === 0) return;
  const packages = missing.map((program) => PACKAGES[program] ?? program).join(' ');
  throw new Error(
    `this test talks to ${missing.join(' and ')}, which is not installed: apt-get install -y ${packages}`,
  );
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const outliving: Child[] = [];
afterAll(() => {
  for (const child of outliving) child.kill();
});

/** A child process that does not outlive its test. */
export class Child {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.process.stdin?.on('error', () => {});
    this.ended = new Promise((resolve, reject) => {
      this.process.on('error', reject);
      this.process.on('close', (code, signal) => resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }));
    });
    outliving.push(this);
    try {
      onTestFinished(() => this.kill());
    } catch {
      // A hook has no test that could finish: what it starts lives as long as the file's tests.
    }
  }

  get pid(): number {
    return this.process.pid!;
  }

  /** Ends it if it has not ended. */
  kill(): void {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill('SIGKILL');
  }

  /** The first match of `pattern` in what it prints. */
  async says(pattern: RegExp, from: 'stdout' | 'stderr' = 'stdout'): Promise<RegExpMatchArray> {
    return until(`${this.process.spawnargs.join(' ')} says ${pattern}`, () => {
      const match = this[from].match(pattern);
      if (match === null && this.process.exitCode !== null)
        throw new Error(`it ended with ${this.process.exitCode}: ${this.stdout}${this.stderr}`);
      return match;
    });
  }

  /** Its main thread is in a call that blocks: between two looks it did not run. (In Node 22 and 24, V8's marking keeps a program that has just started turning.) */
  async sleeps(): Promise<void> {
    let before = '';
    await until(`${this.process.spawnargs.join(' ')} sleeps`, () => {
      const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
      const now = status.match(/^(State|voluntary_ctxt_switches|nonvoluntary_ctxt_switches):.*$/gm)!.join(' ');
      const slept = now === before && /^State:\s+S/.test(now);
      before = now;
      return slept;
    });
  }

  /** How it ended; it must do so within `deadlineMs`. */
  end(deadlineMs = 20_000): Promise<Ended> {
    return within(`the end of ${this.process.spawnargs.join(' ')}`, this.ended, deadlineMs);
  }
}

/** Runs JavaScript (an ES module) that may import `onewait` in a Node of its own. */
export function script(
  source: string,
  options: { wrap?: readonly string[]; args?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
): Child {
  const code = `import { all, race, readable, run, runBlocking, scope, sleep, spawn, tcp, timeout, yieldNow } from ${JSON.stringify(library)};\n${source}`;
  const command = [
    ...(options.wrap ?? []),
    process.execPath,
    '--input-type=module',
    '--eval',
    code,
    '--',
    ...(options.args ?? []),
  ];
  return new Child(command[0]!, command.slice(1), { cwd: root, env: { ...process.env, ...options.env } });
}

/** `onewait` with arguments. */
export function onewait(args: readonly string[], options: SpawnOptions = {}): Child {
  return new Child(process.execPath, [cli, ...args], options);
}

/** `onewait echo` on a port of the kernel's choice, once it listens. */
export async function echoServer(...args: string[]): Promise<{ child: Child; port: number }> {
  const child = onewait(['echo', '--port', '0', ...args]);
  const [, port] = await child.says(/^listening on 127\.0\.0\.1:(\d+)$/m);
  return { child, port: Number(port) };
}

/** What the descriptors of a process are: 'socket:[123]', '/dev/null', by number. */
export function descriptors(pid: number | 'self' = 'self'): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      found.set(Number(name), readlinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      // Closed since: the one that reads the directory, for instance.
    }
  }
  return found;
}

export function socketCount(pid: number | 'self' = 'self'): number {
  return [...descriptors(pid).values()].filter((target) => target.startsWith('socket:')).length;
}

export function residentBytes(pid: number | 'self' = 'self'): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

/** A folder of the test's own. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'onewait-test-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
