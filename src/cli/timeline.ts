// `onewait trace timeline`: the command.

import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { writeTimeline } from '../trace/timeline.ts';
import { complain, say } from './say.ts';

const QUIET_MS = 1000;
const REPORT_EVERY_MS = 250;

/** Adds `timeline` to the commands of `onewait trace`. */
export function addTimeline(trace: Command): void {
  trace
    .command('timeline <file>')
    .description(
      'Makes a page of a trace, to be opened in a browser: a lane for each descriptor and task, and arrows from ready to resume.',
    )
    .requiredOption('-o, --output <page>', 'where the page goes, for instance out.html')
    .action(async (file: string, { output }: { output: string }) => {
      const progress = new Progress();
      let signalled = 0;
      process.once('SIGINT', () => {
        signalled = 130;
      });
      process.once('SIGTERM', () => {
        signalled = 143;
      });
      try {
        const { records, lanes, bytes } = await writeTimeline(file, output, async (count) => {
          progress.show(count);
          // For signals.
          await new Promise(setImmediate);
          if (signalled !== 0) throw new Error('interrupted');
        });
        progress.clear();
        say(`${output}: ${number(records)} records, ${number(lanes)} lanes, ${number(Math.ceil(bytes / 1024))} KiB\n`);
      } catch (error) {
        progress.clear();
        if (signalled === 0) complain(error);
        process.exitCode = signalled === 0 ? 1 : signalled;
      }
    });
}

/** A line on a terminal that says how far it is, from the second second on. */
class Progress {
  private readonly terminal = isatty(2);
  private next = performance.now() + QUIET_MS;
  private shown = false;

  show(records: number): void {
    if (!this.terminal || performance.now() < this.next) return;
    this.next = performance.now() + REPORT_EVERY_MS;
    this.shown = true;
    say(`\r${number(records)} records ...`, 2);
  }

  clear(): void {
    if (this.shown) say('\r\x1b[K', 2);
    this.shown = false;
  }
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}
