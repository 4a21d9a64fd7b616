// `onewait/trace`: recording from within a program. ONEWAIT_TRACE=FILE and ONEWAIT_TRACE_RING=16MiB do the same without a line of code.
//
// A recording is of this thread: every worker starts its own. Those that name the same file share it.

import { getLoop } from '../current.ts';
import { OnewaitError } from '../errors.ts';
import type { FdClose, FdOpen, FdReady, TaskEnd, TaskSpawn, TaskWait } from './channels.ts';
import { activeRecording, type FlightOptions, type RecordOptions, record, recordFlight } from './recorder.ts';
import { observe } from './tracer.ts';

export type { FdClose, FdOpen, FdReady, FlightOptions, RecordOptions, TaskEnd, TaskSpawn, TaskWait };

function observeLoop(): void {
  const loop = getLoop();
  if (loop !== null) observe(loop);
}

/**
 * Records what this thread's descriptors and tasks do, from now on, into `file` (created with mode 0600; what was in it is gone).
 * @throws OnewaitError ERR_RECORDING when it is being recorded already; SystemError when the file cannot be made, EBUSY when another process writes
 * it; RangeError, TypeError
 */
export function start(file: string, options?: RecordOptions): void {
  record(file, options);
  observeLoop();
}

/**
 * Keeps the last moments in memory, and writes them out to `file` (then `file.2`, ...): on SIGUSR2, on an uncaught error or the failure of a task that
 * nobody joined, after a slow turn, and by `dump()`.
 * @throws OnewaitError ERR_RECORDING; RangeError, TypeError
 */
export function startFlightRecorder(file: string, options?: FlightOptions): void {
  recordFlight(file, options);
  observeLoop();
}

/**
 * Writes out what the flight recorder has, to `file` or where it was told to. Returns the name of the file.
 * @throws OnewaitError ERR_NOT_RECORDING when there is no flight recorder; SystemError when the file cannot be made
 */
export function dump(file?: string): string {
  const flight = activeRecording()?.flight;
  if (flight === undefined || flight === null)
    throw new OnewaitError(
      'ERR_NOT_RECORDING',
      'there is no flight recorder on this thread: call startFlightRecorder()',
    );
  return flight.dump(file);
}

/** Ends the recording; everything is in the file when this returns. Does nothing where there is none. */
export function stop(): void {
  activeRecording()?.stop();
  observeLoop();
}
