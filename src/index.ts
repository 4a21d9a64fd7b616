// onewait: one blocking call in the whole program, and every coroutine suspended on it.

export { all, type Contender, race } from './combine.ts';
export type { PollerName } from './driver.ts';
export { BusyError, Cancelled, ClosedError, OnewaitError, type SystemError, TimeoutError } from './errors.ts';
export type { OperationIterator } from './io/iterate.ts';
export type { Listener } from './io/listener.ts';
export type { Stream } from './io/stream.ts';
export { type ConnectOptions, type ListenOptions, tcp } from './io/tcp.ts';
export { type UnixConnectOptions, type UnixListenOptions, unix } from './io/unix.ts';
export type { SocketAddress } from './native.ts';
export type { Coroutine, Operation, Trap } from './operation.ts';
export { type RunOptions, run, runBlocking, spawn } from './run.ts';
export { type Scope, type ScopeBody, scope, shield, timeout } from './scope.ts';
export type { Main, Task, TaskErrorHandler, TaskState } from './task.ts';
export { readable, sleep, writable, yieldNow } from './traps.ts';
export type { WaitOptions } from './validate.ts';
