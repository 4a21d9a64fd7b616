// `onewait trace export`: a trace in the format of another tool.
//
// A file is written beside its place and then put there, so that it is never seen half done; what stood there before stays until then. What is
// no regular file (a FIFO, /dev/null) is written to as it is.

import { closeSync, openSync, realpathSync, renameSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isatty } from 'node:tty';
import { type Command, Option } from 'commander';
import { EXPORT_FORMATS, type ExportFormat, exportTrace } from '../trace/export.ts';
import { TraceError } from '../trace/reader.ts';
import { complain, say } from './say.ts';

const HELP = `
jsonl     one JSON object per record, a line each: t, kind (wait, ctl, ready, syscall, spawn, suspend, resume, end, timer, host, open, close,
          lost), thread and, where they apply, syscall, fd, generation, result, error, asked, mask (1 IN, 2 OUT; of ctl: that of
          epoll_ctl(2)), op, task, name, on, wait (the same in a suspend and its resume), parent, how, and durationNs, blockedNs,
          timeoutNs (-1: none), runnableNs, lateNs, agoNs (suspended that long before t).
chrome    JSON of the Trace Event Format, for chrome://tracing, ui.perfetto.dev and others
perfetto  Perfetto's own format, for ui.perfetto.dev and trace_processor; binary

Of a damaged trace it exports what comes before the damage, says where that is, and exits 1.`;

/** Adds `export` to the commands about traces. */
export function addExport(trace: Command): void {
  trace
    .command('export <file>')
    .description('Converts a trace for other tools: every record as JSON, or a timeline of descriptors and tasks.')
    .addOption(new Option('--to <format>', 'what to convert it to').choices(EXPORT_FORMATS).makeOptionMandatory())
    .option('-o, --output <file>', 'where to write it, instead of standard output')
    .addHelpText('after', HELP)
    .action(async (file: string, { to, output }: { to: ExportFormat; output?: string }, command: Command) => {
      if (output === undefined && to === 'perfetto' && isatty(1))
        command.error("error: perfetto's format is binary, and standard output is a terminal: add '-o FILE'");
      try {
        if (output !== undefined && isSameFile(file, output))
          command.error(`error: '${output}' is the trace itself: name another file after -o`);
        const pieces = exportTrace(file, to);
        if (output === undefined) for (const piece of pieces) say(piece);
        else await writeFile(output, pieces);
      } catch (error) {
        complain(error);
        process.exitCode = 1;
      }
    });
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }));
  return a?.ino !== undefined && a.ino === b?.ino && a.dev === b.dev;
}

/** Writes all pieces to a file; those before a damage of the trace, too, which is thrown then. */
async function writeFile(path: string, pieces: Generator<Uint8Array>): Promise<void> {
  // Nothing is touched when there is no trace to export.
  const first = pieces.next();
  const there = statSync(path, { throwIfNoEntry: false });
  const inPlace = there !== undefined && !there.isFile();
  const place = there === undefined || inPlace ? path : realpathSync(path);
  const temporary = inPlace ? path : join(dirname(place), `.${basename(place)}.${process.pid}.tmp`);
  // Before there is anything to leave behind.
  const cancel = inPlace ? () => {} : unlinkOnSignal(temporary);
  let fd = -1;
  try {
    fd = openFor(path, temporary, inPlace ? 'w' : 'wx');
    let damage: TraceError | null = null;
    try {
      for (let piece = first; !piece.done; piece = pieces.next()) {
        say(piece.value, fd);
        // For signals.
        await new Promise(setImmediate);
      }
    } catch (error) {
      if (!(error instanceof TraceError)) throw error;
      damage = error;
    }
    if (!inPlace) renameSync(temporary, place);
    if (damage !== null) throw damage;
  } catch (error) {
    if (!inPlace && fd >= 0 && !(error instanceof TraceError)) unlinkSync(temporary);
    throw error;
  } finally {
    cancel();
    if (fd >= 0) closeSync(fd);
  }
}

/** Opens what is to become `path`. */
function openFor(path: string, temporary: string, flags: string): number {
  try {
    return openSync(temporary, flags, 0o600);
  } catch (error) {
    // "ENOENT: no such file or directory, open '...'"
    throw new Error(`cannot write ${path}: ${(error as Error).message.split(', ')[0]}`);
  }
}

/** Ctrl-C leaves no half file behind. Returns its undo. */
function unlinkOnSignal(path: string): () => void {
  const stop = (signal: NodeJS.Signals): void => {
    rmSync(path, { force: true });
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  return () => process.off('SIGINT', stop).off('SIGTERM', stop);
}
