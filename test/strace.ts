// What strace(1) saw one thread do: its output, parsed into calls. Nothing here knows of traces.
//
// - A call that another thread's came between is printed in two parts, which are put together; it counts from when it began.
// - A call that a signal broke off says ERESTART..., which no program ever sees: where a handler ran the program got EINTR, and where none
//   did the kernel made the call once more, and the program knows of one only (signal(7)).
// - What cannot be parsed is an error, and never left out in silence.

import { readFileSync } from 'node:fs';
import { needs } from './processes.ts';

/** One system call. */
export interface SystemCall {
  readonly name: string;
  /** Its arguments as strace prints them. */
  readonly args: string;
  /** The return value; -1 where there is an error. */
  readonly result: number;
  /** The error's name, or ''. */
  readonly error: string;
  /** What strace prints behind the return value: the descriptors that were ready, for instance. */
  readonly notes: string;
}

/**
 * How to run a program so that `systemCalls` understands what comes out: every call on a descriptor, and what ends a signal's handler.
 * -D: the process that is started is the program and not strace, and gets the signals that are sent to it.
 */
export function strace(output: string): string[] {
  return ['strace', '-D', '-f', '-yy', '-qq', '-o', output, '-e', 'trace=%desc,%network,rt_sigreturn'];
}

/** How to run a program whose system calls fail ('accept4:error=EMFILE:when=1'), and are noted in `log`. */
export function injecting(what: string, log = '/dev/null'): string[] {
  needs('strace');
  return ['strace', '-f', '-qq', '-o', log, '-e', `trace=${what.split(':')[0]}`, '-e', `inject=${what}`];
}

/** The calls of thread `tid`, in order. One that did not return, because the process ended, is left out. */
export function systemCalls(output: string, tid: number): SystemCall[] {
  const calls: SystemCall[] = [];
  const prefix = `${tid} `;
  let begun = '';
  let interrupted = null as SystemCall | null;
  // While the program runs, the last line may be half of one.
  for (const line of readFileSync(output, 'utf8').split('\n').slice(0, -1)) {
    if (!line.startsWith(prefix)) continue;
    let text = line.slice(prefix.length).trimStart();
    if (/^(---|\+\+\+) /.test(text)) continue;
    const unfinished = text.indexOf(' <unfinished ...>');
    if (unfinished >= 0) {
      begun = text.slice(0, unfinished);
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>/.exec(text);
    if (resumed !== null) text = begun + text.slice(resumed[0].length);
    const parts = /^(\w+)\((.*)\) += (?:(-?\d+|0x[0-9a-f]+|\?)(?:<\S+>)?)(?: (E[A-Z]+))?(.*)$/.exec(text);
    if (parts === null) throw new Error(`strace says what is no system call: ${line}`);
    const call = {
      name: parts[1]!,
      args: parts[2]!,
      result: Number(parts[3]),
      error: parts[4] ?? '',
      notes: parts[5]!,
    };
    // Two signals may come one after the other: SIGSTOP breaks it off, and SIGCONT does so again.
    if (call.error.startsWith('ERESTART')) interrupted = interrupted?.name === call.name ? interrupted : call;
    else if (call.name === 'rt_sigreturn') {
      if (call.error !== 'EINTR' || interrupted === null) continue;
      calls.push({ ...interrupted, result: -1, error: 'EINTR' });
      interrupted = null;
    } else if (call.name === interrupted?.name) {
      // Made once more, for the time that was left of what the program had asked for.
      calls.push({ ...call, args: interrupted.args });
      interrupted = null;
    } else if (parts[3] !== '?') calls.push(call);
  }
  return calls;
}
