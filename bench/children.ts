// Every process that the benchmark starts, so that none outlives it.
//
// A child leads its own session: Ctrl-C at the terminal reaches the benchmark alone, which then ends its children in order.
// And the kernel kills it when the benchmark dies without doing so (PR_SET_PDEATHSIG, through setpriv(1)).

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const KILL_AFTER_MS = 5_000;
const STDERR_TAIL_CHARACTERS = 2_000;

export class Child {
  readonly pid: number;
  /** How it ended: 'exit code 3' or 'SIGSEGV'. Never rejects. */
  readonly ended: Promise<string>;
  /** Null while it runs. */
  ending: string | null = null;
  exitCode: number | null = null;
  stderrTail = '';
  readonly #process: ChildProcess;

  constructor(command: readonly string[], env: Readonly<Record<string, string>>, onLine: (line: string) => void) {
    this.#process = spawn(command[0]!, command.slice(1), {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...cleanEnvironment(), ...env },
    });
    this.pid = this.#process.pid ?? 0;
    this.#process.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderrTail = (this.stderrTail + text).slice(-STDERR_TAIL_CHARACTERS);
    });
    createInterface({ input: this.#process.stdout! }).on('line', onLine);
    // A write to a child that has just ended: its end is reported by `ended`.
    this.#process.stdin!.on('error', () => {});
    this.ended = new Promise((resolve) => {
      const end = (ending: string) => {
        this.ending = ending;
        resolve(ending);
      };
      this.#process.on('error', (error) => end(error.message));
      // 'close' and not 'exit': by then all that it wrote has been read.
      this.#process.on('close', (code, signal) => {
        this.exitCode = code;
        end(signal ?? `exit code ${code}`);
      });
    });
  }

  writeLine(): void {
    this.#process.stdin!.write('\n');
  }

  /** Asks it to end, insists after five seconds, and waits until it has. */
  async end(): Promise<void> {
    if (this.ending !== null) return;
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), KILL_AFTER_MS);
    await this.ended;
    clearTimeout(timer);
  }
}

/** What would change a measured Node process behind our back is not handed down. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('ONEWAIT_')),
  );
}

export class Children {
  readonly #running = new Set<Child>();

  /** Starts `command` on the given cores, or anywhere if none are given, with at most so many tasks of its user. */
  start(
    command: readonly string[],
    cpus: readonly number[],
    onLine: (line: string) => void,
    env: Readonly<Record<string, string>> = {},
    mostTasks: number | null = null,
  ): Child {
    const pinned = cpus.length === 0 ? [] : ['taskset', '--cpu-list', cpus.join()];
    // RLIMIT_NPROC counts the tasks of a user, and not root's: setrlimit(2).
    const user =
      mostTasks === null || process.getuid?.() !== 0 ? [] : ['--reuid=65534', '--regid=65534', '--clear-groups'];
    const limit = mostTasks === null ? [] : ['prlimit', `--nproc=${mostTasks}:${mostTasks}`];
    const child = new Child(['setpriv', ...user, '--pdeathsig', 'KILL', ...limit, ...pinned, ...command], env, onLine);
    this.#running.add(child);
    void child.ended.then(() => this.#running.delete(child));
    return child;
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#running].map((child) => child.end()));
  }
}
