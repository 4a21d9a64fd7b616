// A listening socket. Accepts for whoever waits, several per wake, and outlives every error that a connection can bring.
//
// When the process or the system has no descriptor left (EMFILE, ENFILE), a spare one is given up to accept and close the connections that wait, so that their
// peers learn of it, and accepting pauses for a moment: without both, a level-triggered loop would spin. Reported once per episode.

import { constants } from 'node:os';
import { currentTask } from '../current.ts';
import { ClosedError, EAGAIN, systemError } from '../errors.ts';
import { Descriptor, type Loop } from '../loop.ts';
import { native, type SocketAddress } from '../native.ts';
import { type Operation, Trap } from '../operation.ts';
import { EVENT_READ } from '../selectors.ts';
import type { Task } from '../task.ts';
import type { Timer } from '../timers.ts';
import { descriptorName } from '../trace/descriptor-name.ts';
import { OpenKind } from '../trace/record.ts';
import { remove, shownAs } from '../util.ts';
import { signalOf, type WaitOptions } from '../validate.ts';
import { iterate, type OperationIterator } from './iterate.ts';
import { Stream } from './stream.ts';

/** How long accepting pauses when there is no room for another connection. */
const BACK_OFF_MS = 100;
/** Connections in a row that could not be accepted, before accepting pauses. */
const MOST_FAILURES = 64;
const { errno } = constants;
// Two that have no name in Node (asm-generic/errno.h).
const ENONET = 64;
const EHOSTDOWN = 112;
/** The process, or the system, has no descriptor left. */
const OUT_OF_DESCRIPTORS = results(errno.EMFILE, errno.ENFILE);
/** There is no room for another connection. */
const EXHAUSTED = results(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS);
/** What accept4(2) tells of a connection that came to nothing: the next one may be well. */
const OF_ONE_CONNECTION = results(
  errno.ECONNABORTED,
  errno.EPERM,
  errno.EPROTO,
  errno.ENETDOWN,
  errno.ENETUNREACH,
  errno.EHOSTUNREACH,
  errno.ENOPROTOOPT,
  errno.EOPNOTSUPP,
  ENONET,
  EHOSTDOWN,
);
/** Connections shed in one go, when there is no descriptor left. */
const SHED_AT_ONCE = 64;

/** As results: negative. */
function results(...errnos: number[]): ReadonlySet<number> {
  return new Set(errnos.map((errno) => -errno));
}

class Accept extends Trap<Stream> {
  readonly listener: Listener;

  constructor(listener: Listener, signal: AbortSignal | undefined) {
    super(signal);
    this.listener = listener;
  }

  protected override begin(): void {
    this.listener.begin(this);
  }
  protected override undo(): void {
    this.listener.leave(this);
  }
  override giveBack(stream: Stream): boolean {
    this.listener.putBack(stream);
    return true;
  }
  override describe(): string {
    return `fd ${this.listener.fd} IN`;
  }
  override get fd(): number {
    return this.listener.fd;
  }
  override get event(): number {
    return EVENT_READ;
  }
}

/** A listening stream socket. Made by `tcp.listen` and `unix.listen`. */
export class Listener extends Descriptor {
  /** Where it listens: { address, family, port }; of a Unix socket `address` is the path. */
  readonly address: SocketAddress;

  private readonly loop: Loop;
  private readonly highWaterMark: number;
  /** Called when it is closed. */
  private readonly cleanUp: (() => void) | undefined;
  private readonly acceptors: Accept[] = [];
  /** Connections for whom comes next: who was to have them was not there any more. */
  private readonly returned: Stream[] = [];
  private readonly pause: Timer;
  private spare: number;
  /** The last accept brought a connection: there may be another without waiting. */
  private hot = false;
  private closed = false;
  private exhausted = false;

  /** @internal */
  constructor(loop: Loop, fd: number, address: SocketAddress, highWaterMark: number, cleanUp?: () => void) {
    super(fd);
    this.loop = loop;
    this.address = address;
    this.highWaterMark = highWaterMark;
    this.cleanUp = cleanUp;
    loop.attach(this);
    this.spare = native.openSpare();
    const expire = (): void => {
      loop.release();
      if (this.closed || this.acceptors.length === 0) return;
      try {
        loop.watch(this, EVENT_READ);
      } catch {
        this.wait();
      }
    };
    this.pause = { deadline: 0, place: -1, order: 0, expire };
  }

  /** The descriptor's number; -1 once it is closed. */
  get fd(): number {
    return this.closed ? -1 : this.number;
  }

  /** Waits for a connection. Any number of tasks may wait; they are served in order. @throws ClosedError, SystemError of accept4(2) */
  accept(options?: WaitOptions): Operation<Stream> {
    return new Accept(this, signalOf(options));
  }

  /** Closes at once. Whoever waits gets ClosedError; connections that were accepted live on. */
  close(): void {
    if (this.closed) return;
    const { number: fd } = this;
    this.loop.observer?.onBehalfOf(currentTask());
    this.loop.detach(this);
    this.end();
    native.close(fd);
    this.loop.observer?.close(fd);
  }

  private end(): void {
    this.closed = true;
    this.cleanUp?.();
    this.resume();
    for (const accept of this.acceptors.splice(0)) accept.fail(new ClosedError('the listener was closed'));
    for (const stream of this.returned.splice(0)) stream.destroy();
    if (this.spare >= 0) native.close(this.spare);
    this.spare = -1;
  }

  /** The connections, for ever; closing the listener ends the iteration with ClosedError. */
  [Symbol.asyncIterator](): OperationIterator<Stream> {
    return iterate(() => this.accept());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  // --- for Accept ---------------------------------------------------------------------------------------------------------

  /** @internal */
  begin(accept: Accept): void {
    if (this.closed) throw new ClosedError('cannot accept: the listener is closed');
    const returned = this.returned.shift();
    if (returned !== undefined) {
      accept.succeed(returned);
      return;
    }
    this.acceptors.push(accept);
    if (this.hot && this.acceptors.length === 1) this.acceptAll();
    if (!this.acceptors.includes(accept) || this.pause.place >= 0) return;
    try {
      this.loop.watch(this, EVENT_READ);
    } catch (error) {
      this.leave(accept);
      throw error;
    }
  }

  /** @internal */
  leave(accept: Accept): void {
    remove(this.acceptors, accept);
  }

  /** It is for whom comes next. @internal */
  putBack(stream: Stream): void {
    const next = this.acceptors.shift();
    if (this.closed) stream.destroy();
    else if (next === undefined) this.returned.push(stream);
    else this.give(stream, next);
  }

  // --- for the loop -------------------------------------------------------------------------------------------------------

  /** @internal */
  override get owned(): boolean {
    return true;
  }

  /** @internal */
  override get listens(): boolean {
    return true;
  }

  /** @internal */
  override get actingFor(): Task | null {
    return this.acceptors[0]?.task ?? null;
  }

  /** @internal */
  override onReadable(): boolean {
    const wanted = this.acceptors.length > 0;
    this.acceptAll();
    return wanted;
  }

  /** @internal */
  override onLost(): void {
    this.end();
  }

  private acceptAll(): void {
    this.hot = true;
    if (this.spare < 0) this.spare = native.openSpare();
    let failures = 0;
    while (this.hot && this.acceptors.length > 0) {
      const accept = this.acceptors[0]!;
      this.loop.observer?.onBehalfOf(accept.task);
      const result = native.accept(this.number);
      if (result >= 0) {
        this.exhausted = false;
        this.acceptors.shift();
        this.give(this.adopt(result, accept), accept);
      } else if (result === EAGAIN) this.hot = false;
      else if (!OF_ONE_CONNECTION.has(result)) this.failed(result);
      else if (++failures === MOST_FAILURES) this.wait();
    }
  }

  /** Who looks on may have cancelled who was to have it: then it is for the next. */
  private give(stream: Stream, accept: Accept): void {
    accept.succeed(stream);
    if (!accept.succeeded) this.putBack(stream);
  }

  private adopt(fd: number, accept: Accept): Stream {
    const stream = new Stream(this.loop, fd, this.highWaterMark);
    this.loop.observer?.open(fd, OpenKind.accepted, accept.task);
    return stream;
  }

  /** Out of descriptors or memory, or a listener that is no more. */
  private failed(errno: number): void {
    const error = systemError('accept4', errno, { fd: this.number });
    if (!EXHAUSTED.has(errno)) {
      this.hot = false;
      this.acceptors.shift()?.fail(error);
      return;
    }
    if (!this.exhausted) {
      this.exhausted = true;
      process.emitWarning(
        `${error.message}: connections are turned away until there is room again. Raise the limit (ulimit -n), or close what is not needed`,
        { code: 'ONEWAIT_ACCEPT_EXHAUSTED' },
      );
    }
    if (this.spare >= 0 && OUT_OF_DESCRIPTORS.has(errno)) this.shed();
    this.wait();
  }

  /** Accepts nothing for a moment. */
  private wait(): void {
    this.hot = false;
    this.loop.narrow(this, 0);
    this.loop.hold();
    this.loop.setTimer(this.pause, this.loop.driver.now() + BACK_OFF_MS);
  }

  private shed(): void {
    native.close(this.spare);
    for (let i = 0; i < SHED_AT_ONCE; i++) {
      const fd = native.accept(this.number);
      if (fd < 0) break;
      native.close(fd);
    }
    this.spare = native.openSpare();
  }

  private resume(): void {
    if (this.pause.place < 0) return;
    this.loop.timers.remove(this.pause);
    this.loop.release();
  }
}

shownAs(Listener, (listener) =>
  listener.fd < 0 ? 'Listener, closed' : `Listener fd ${listener.fd}, ${descriptorName(listener.fd, true)}`,
);
