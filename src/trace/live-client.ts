// The other end of live.ts: asks a running program, one question at a time, and believes no more of its answers than it must.

import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { OnewaitError } from '../errors.ts';
import type { About, CostsHead } from './live.ts';
import { printable } from './names.ts';

/** Longer than any answer is. */
const MAX_ANSWER = 64 << 20;

const NO_CONNECTION: Record<string, string> = {
  ENOENT: 'there is no such socket: start the program with ONEWAIT_TRACE_LISTEN set to this path',
  ECONNREFUSED: 'nobody listens there: the program that did has ended',
  EACCES: 'only its owner may connect to it',
  ENOTDIR: 'there is no such socket: a part of the path is no directory',
};

export class LiveError extends OnewaitError {
  constructor(path: string, message: string) {
    super('ERR_LIVE', `${path}: ${message}`);
  }
}

/** The line of an answer. */
interface Head {
  bytes: number;
  error?: unknown;
  tasks?: unknown;
  fds?: unknown;
}

interface Question {
  resolve(answer: { head: Head; body: Buffer }): void;
  reject(error: Error): void;
}

export class LiveClient {
  private readonly path: string;
  private readonly socket: Socket;
  private readonly questions: Question[] = [];
  private parts: Buffer[] = [];
  private length = 0;
  /** Of the answer that is coming in, once its line is there. */
  private head: Head | null = null;
  private error: Error | null = null;
  private tellEnd: (error: Error) => void = () => {};
  /** Rejects when there is nobody to ask any more. */
  readonly ended: Promise<never> = new Promise((_, reject) => {
    this.tellEnd = reject;
  });

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.socket = socket;
    this.ended.catch(() => {});
    socket.on('data', (bytes: Buffer) => {
      this.parts.push(bytes);
      this.length += bytes.length;
      try {
        while (this.take());
      } catch (error) {
        this.fail(error as Error);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => this.fail(new LiveError(path, 'the program has ended')));
  }

  /** @throws LiveError when there is nobody to ask */
  static connect(path: string): Promise<LiveClient> {
    return new Promise((resolve, reject) => {
      const refuse = (error: NodeJS.ErrnoException): void => {
        const isFile = error.code === 'ECONNREFUSED' && statSync(path, { throwIfNoEntry: false })?.isSocket() === false;
        const why = isFile ? 'it is no socket' : (NO_CONNECTION[error.code ?? ''] ?? error.message);
        reject(new LiveError(path, why));
      };
      if (path === '') throw new LiveError("''", 'the name of a socket is missing');
      const socket = connect({ path });
      socket.once('error', refuse);
      socket.once('connect', () => {
        socket.removeListener('error', refuse);
        resolve(new LiveClient(path, socket));
      });
    });
  }

  /** What was recorded since the last time, as a trace. @throws LiveError */
  async costs(): Promise<{ head: CostsHead; trace: Buffer }> {
    const { head, body } = await this.ask({ ask: 'costs' });
    const costs = head as unknown as CostsHead;
    for (const name of ['pid', 'thread', 'now', 'records', 'skipped', 'tasks'] as const)
      if (typeof costs[name] !== 'number') throw this.foreign();
    return { head: costs, trace: body };
  }

  /** What tasks and descriptors are now. @throws LiveError */
  async about(tasks: readonly number[], fds: readonly number[]): Promise<About> {
    const { head } = await this.ask({ ask: 'about', tasks, fds });
    if (!head.tasks || typeof head.tasks !== 'object' || !head.fds || typeof head.fds !== 'object')
      throw this.foreign();
    return head as unknown as About;
  }

  /** The tree of tasks, line by line. @throws LiveError */
  async tree(): Promise<string[]> {
    const { body } = await this.ask({ ask: 'tree' });
    return body.toString('utf8').split('\n').map(printable);
  }

  close(): void {
    this.socket.destroy();
  }

  private ask(request: object): Promise<{ head: Head; body: Buffer }> {
    return new Promise((resolve, reject) => {
      if (this.error !== null) {
        reject(this.error);
        return;
      }
      this.questions.push({ resolve, reject });
      this.socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Takes one answer, if it has come in whole. */
  private take(): boolean {
    if (this.head === null) {
      const bytes = this.joined();
      const end = bytes.indexOf('\n');
      if (end < 0) {
        if (bytes.length > MAX_ANSWER) throw this.foreign();
        return false;
      }
      this.head = this.parse(bytes.toString('utf8', 0, end));
      this.keep(bytes.subarray(end + 1));
    }
    const size = this.head.bytes;
    if (this.length < size) return false;
    const bytes = this.joined();
    const { head } = this;
    this.head = null;
    this.keep(bytes.subarray(size));
    // A copy, for numbers in it must be aligned.
    this.questions.shift()?.resolve({ head, body: Buffer.from(bytes.subarray(0, size)) });
    return this.length > 0;
  }

  private parse(line: string): Head {
    let head: Head | null;
    try {
      head = JSON.parse(line) as Head | null;
    } catch {
      throw this.foreign();
    }
    const bytes = head?.bytes ?? -1;
    if (!head || !Number.isInteger(bytes) || bytes < 0 || bytes > MAX_ANSWER) throw this.foreign();
    if (typeof head.error === 'string')
      throw new LiveError(this.path, `the program does not understand: ${printable(head.error)}`);
    return head;
  }

  private foreign(): LiveError {
    return new LiveError(
      this.path,
      "whoever listens there does not speak as onewait does: it is another program's socket",
    );
  }

  private joined(): Buffer {
    if (this.parts.length !== 1) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0]!;
  }

  private keep(rest: Buffer): void {
    this.parts = [rest];
    this.length = rest.length;
  }

  private fail(error: Error): void {
    this.error ??= error;
    this.tellEnd(this.error);
    this.socket.destroy();
    for (const { reject } of this.questions.splice(0)) reject(this.error);
  }
}
