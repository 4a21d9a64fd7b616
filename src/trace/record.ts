// The layout of a trace file: one header, then records of 48 bytes. native/trace.h explains it; this mirrors it.
//
//   0  t           float64   nanoseconds since the trace began
//   8  kind        uint8     what it tells, see Kind
//   9  code        uint8     which one: a system call, a way to end, ...
//  10  mask        uint16    events; in a text the bytes of this piece
//  12  fd          int32     -1: none
//  16  generation  uint32    of the descriptor's registration; 0: not registered
//  20  task        uint32    0: none, or code of Node's own
//  24  result      float64   \
//  32  duration    float64    } numbers; in a text 24 bytes of it
//  40  arg         float64   /

export const HEADER_BYTES = 48;
export const RECORD_BYTES = 48;
export const MAGIC = '1WAITTRC';
export const VERSION = 2;

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
  thread: 15,
} as const;

/** What a text names. `payload` is what a system call took or brought, and is only there when
 * it was asked for; `localAddress` is the socket's own, where its name is that of its peer. */
export const TextKind = { taskName: 1, descriptorName: 2, waitName: 3, error: 4, payload: 5, localAddress: 6 } as const;

/** A text is cut into pieces of this size, each a record. */
export const PIECE_BYTES = 24;
/** In `mask` of a piece: more follow, and: it goes on with the piece before. The rest is its number of bytes. */
export const PIECE_MORE = 0x8000;
export const PIECE_CONTINUES = 0x4000;
/** Longest text, in bytes. */
export const MAX_TEXT = 4096;

/** `code` of suspend and resume records: what is waited for. */
export const WaitKind = { start: 0, descriptor: 1, other: 2 } as const;

/** `code` of end records. */
export const EndKind = { done: 0, failed: 1, cancelled: 2 } as const;

/** `code` of open records: how the program came by the descriptor. `found`: it was open when somebody waited for it. */
export const OpenKind = { accepted: 0, connected: 1, listening: 2, found: 3 } as const;

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
  // One of the sends or receives of an io_uring_enter(2), which have no names of their own.
  'io_uring_send',
  'io_uring_recv',
];
/** Those of them that move bytes. */
export const READS: ReadonlySet<string> = new Set(['read', 'recvfrom', 'io_uring_recv']);
export const WRITES: ReadonlySet<string> = new Set(['write', 'sendto', 'io_uring_send']);
export const TRANSFERS: ReadonlySet<string> = new Set([...READS, ...WRITES]);
