// What is being done and how long it still takes, on stderr: one line that is rewritten on a terminal, and a plain line
// every ten seconds elsewhere, so that a log stays short.

const PLAIN_EVERY_MS = 10_000;

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #started = Date.now();
  readonly #plannedSeconds: number;
  #doneSeconds = 0;
  #lastPlain = 0;

  constructor(stream: NodeJS.WriteStream, plannedSeconds: number) {
    this.#stream = stream;
    this.#plannedSeconds = plannedSeconds;
  }

  /** The plan's remainder, stretched by how much longer than planned everything took so far. */
  #secondsLeft(): number {
    const left = Math.max(0, this.#plannedSeconds - this.#doneSeconds);
    const elapsed = (Date.now() - this.#started) / 1000;
    return left * (this.#doneSeconds > 5 ? elapsed / this.#doneSeconds : 1);
  }

  /** Says what begins now. */
  begin(what: string): void {
    const line = `${what}  (about ${Math.ceil(this.#secondsLeft())} s left)`;
    if (this.#stream.isTTY) {
      this.#stream.write(`\r\x1b[K${line.slice(0, (this.#stream.columns ?? 80) - 1)}`);
    } else if (Date.now() - this.#lastPlain >= PLAIN_EVERY_MS) {
      this.#lastPlain = Date.now();
      this.#stream.write(`${line}\n`);
    }
  }

  /** So much of the plan is done. */
  advance(plannedSeconds: number): void {
    this.#doneSeconds += plannedSeconds;
  }

  /** A line that stays. */
  note(line: string): void {
    this.clear();
    this.#stream.write(`${line}\n`);
  }

  /** Leaves a terminal's line empty for what is printed next. */
  clear(): void {
    if (this.#stream.isTTY) this.#stream.write('\r\x1b[K');
  }
}
