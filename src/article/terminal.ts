// `print` and `input`, on the loop: waiting for standard input is the program's one blocking call.
//
// What is printed is collected, and handed over before the next wait for input and at the end. Descriptors 0 and 1 belong to others too (a shell,
// the rest of a pipeline), so they are never made non-blocking: a read follows readiness, and a write to a pipe is no larger than what its
// readiness promises (PIPE_BUF, pipe(7)).

import { isatty } from 'node:tty';
import { EAGAIN, systemError } from '../errors.ts';
import { type Coroutine, readable, writable } from '../index.ts';
import { checked, native } from '../native.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const PIPE_BUF = 4096;
/** More of a line is no event anyway. */
const LONGEST_LINE = 64 * 1024;

/** What Python's str.strip takes away. */
const SPACE = '[\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const AROUND = new RegExp(`^${SPACE}|${SPACE}$`, 'g');

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const chunk = new Uint8Array(LONGEST_LINE);
let printed = '';
let received = '';
let ended = false;

/** Prints a line. */
export function print(line: unknown): void {
  printed += `${line}\n`;
}

/** Hands over what was printed. @throws SystemError EPIPE when the reader is gone */
export function* flush(): Coroutine<void> {
  const text = printed;
  printed = '';
  yield* write(STDOUT, text);
}

function* write(fd: number, text: string): Coroutine<void> {
  for (let rest: Uint8Array = Buffer.from(text); rest.length > 0; ) {
    yield* writable(fd);
    const count = native.write(fd, rest, 0, Math.min(rest.length, PIPE_BUF));
    if (count !== EAGAIN) rest = rest.subarray(checked('write', count, { fd }));
  }
}

/** Prints a line at once, for a server that has nothing else to say: whether anybody reads it makes no difference. */
export function announce(line: string): void {
  const bytes = Buffer.from(`${line}\n`);
  native.write(STDOUT, bytes, 0, bytes.length);
}

/** Waits for a line and returns it without the space around it; null at the end of input. The last line counts without a newline, too. */
export function* input(prompt: string): Coroutine<string | null> {
  printed += prompt;
  yield* flush();
  for (;;) {
    const line = takeLine();
    if (line !== null) return line.replace(AROUND, '');
    if (ended) {
      // The prompt stands there unanswered; what comes next on the terminal is for the next line.
      if (isatty(STDOUT)) print('');
      return null;
    }
    yield* readable(STDIN);
    const count = native.read(STDIN, chunk, 0, chunk.length);
    if (count === EAGAIN) continue;
    if (count < 0) throw unreadable(count);
    ended = count === 0;
    received += decoder.decode(chunk.subarray(0, count), { stream: !ended });
  }
}

function unreadable(errno: number): Error {
  const error = systemError('read', errno, { fd: STDIN });
  error.message = `standard input cannot be read (${error.code}): give the program a terminal, a pipe or a file`;
  return error;
}

function takeLine(): string | null {
  const end = received.indexOf('\n');
  if (end < 0 && !(ended && received !== '')) {
    // What is left out must not make an event of the rest.
    if (received.length > LONGEST_LINE) received = `${received.slice(0, LONGEST_LINE)}\u2026`;
    return null;
  }
  const line = end < 0 ? received : received.slice(0, end);
  received = end < 0 ? '' : received.slice(end + 1);
  return line;
}

/** Answers a line that is no event; nothing else comes of it. */
export function* reject(line: string): Coroutine<void> {
  yield* flush();
  const shown = JSON.stringify(line.length > 40 ? `${line.slice(0, 40)}...` : line);
  yield* write(STDERR, `${shown} is no event: type A, B or C, or end the input with Ctrl-D\n`);
}
