// The layout of a trace file: one header, then records of 48 bytes. native/trace.h writes it, and explains it; this mirrors it.

export const HEADER_BYTES = 48;
export const RECORD_BYTES = 48;
export const MAGIC = '1WAITTRC';
export const VERSION = 1;

/** What a record tells. */
export const Kind = {
  wait: 1,
  control: 2,
  ready: 3,
  syscall: 4,
  spawn: 5,
  suspend: 6,
  resume: 7,
  end: 8,
  timer: 9,
  host: 10,
  open: 11,
  close: 12,
  lost: 13,
  text: 14,
} as const;

/** What a text names. */
export const TextKind = { taskName: 1, descriptorName: 2, waitName: 3, error: 4 } as const;

/** `code` of suspend and resume records: what is waited for. */
export const WaitKind = { start: 0, descriptor: 1, other: 2 } as const;

/** `code` of end records. */
export const EndKind = { done: 0, failed: 1, cancelled: 2 } as const;

/** `code` of open records. */
export const OpenKind = { accepted: 0, connected: 1, listening: 2 } as const;

/** The kernel's names of the system calls, by `code` of wait and syscall records. */
export const SYSCALLS: readonly string[] = [
  '?',
  'epoll_wait',
  'epoll_pwait2',
  'ppoll',
  'pselect6',
  'read',
  'write',
  'recvfrom',
  'sendto',
  'accept4',
  'connect',
  'shutdown',
  'close',
  'socket',
  'bind',
  'listen',
];
