// A terminal that is drawn on in place: the alternate screen, keys one by one, and everything as it was before when this is over, however it ends.

import { isatty } from 'node:tty';
import { say } from './say.ts';

// xterm's control sequences, "XTerm Control Sequences". Without wrapping, a line that is too long ends at the edge.
const OPEN = '\x1b[?1049h\x1b[?25l\x1b[?7l';
const CLOSE = '\x1b[?7h\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_REST = '\x1b[J';

/** Signals that end the program, and its exit code then. In raw mode Ctrl-C is a key, unless the keyboard is no terminal. */
const ENDS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export class Screen {
  private readonly onKey: (key: string) => void;
  private readonly onResize: () => void;
  private isOpen = true;
  private readonly onData = (keys: Buffer): void => {
    for (const key of keys.toString('latin1')) {
      if (key === '\x03') process.exit(ENDS.SIGINT);
      this.onKey(key);
    }
  };
  private readonly onEnd = (signal: NodeJS.Signals): void => process.exit(ENDS[signal as keyof typeof ENDS]);
  private readonly closeAtExit = (): void => this.close();

  constructor(onKey: (key: string) => void, onResize: () => void) {
    this.onKey = onKey;
    this.onResize = onResize;
    process.on('exit', this.closeAtExit);
    for (const signal of Object.keys(ENDS)) process.on(signal, this.onEnd);
    process.stdout.on('resize', this.onResize);
    if (isatty(0)) process.stdin.setRawMode(true).on('data', this.onData);
    say(OPEN);
  }

  /** Lines that it has room for. Node's own stream is asked for its size only; for a terminal it opens a descriptor that is nobody else's. */
  get rows(): number {
    return process.stdout.rows;
  }

  draw(lines: readonly string[]): void {
    if (!this.isOpen) return;
    const shown = lines.slice(0, this.rows);
    say(`${HOME}${shown.map((line) => line + CLEAR_LINE).join('\r\n')}${CLEAR_REST}`);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    process.removeListener('exit', this.closeAtExit);
    for (const signal of Object.keys(ENDS)) process.removeListener(signal, this.onEnd);
    process.stdout.removeListener('resize', this.onResize);
    if (isatty(0)) process.stdin.removeListener('data', this.onData).setRawMode(false).pause();
    say(CLOSE);
  }
}
