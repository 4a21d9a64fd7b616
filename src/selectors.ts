// Python's `selectors`, in TypeScript: which of these descriptors is ready? The layer that the loop stands on.
//
// A selector maps descriptors to keys (what was registered, for which events, with what data) and hands back the keys that are
// ready. It is level-triggered, owns none of the descriptors and knows neither tasks nor loops.
// Source: https://docs.python.org/3/library/selectors.html, epoll(7), poll(2), select(2).

import { OnewaitError, systemError } from './errors.ts';
import { type NativePoller, native } from './native.ts';
import { recordAsAsked } from './trace/recorder.ts';
import { fileDescriptor, integer } from './validate.ts';

/** Ready to read, or at its end, or failed: a read will not block. */
export const EVENT_READ: number = 1;
/** Ready to write, or failed: a write will not block. */
export const EVENT_WRITE: number = 2;

/** With EVENT_READ, between the loop and its turn only: new readiness is enough (native/poller.h, kEdge). */
export const EVENT_EDGE: number = 4;

/** A descriptor: its number, or an object that has one. */
export type FileObj = number | { readonly fd: number } | { fileno(): number };

/** What was registered for a descriptor. Immutable: `modify` returns a new one. */
export interface SelectorKey<T = unknown> {
  readonly fileobj: FileObj;
  readonly fd: number;
  /** EVENT_READ, EVENT_WRITE or both. */
  readonly events: number;
  readonly data: T;
  /** Tells this registration from earlier ones of the same number. */
  readonly generation: number;
}

/** A registration that cannot be; `code` is ERR_FD_REGISTERED, ERR_FD_NOT_REGISTERED or ERR_SELECTOR_CLOSED. */
export class SelectorError extends OnewaitError {}

type PollerKind = 'epoll' | 'poll' | 'select';

const ENOENT = -2;
const MAX_SELECT_FD = 1023;
const MAX_GENERATION = 0x7fffffff;

function descriptorOf(fileobj: FileObj): number {
  if (typeof fileobj === 'number') return fileDescriptor(fileobj);
  if (typeof fileobj === 'object' && fileobj !== null) {
    if ('fileno' in fileobj && typeof fileobj.fileno === 'function') return fileDescriptor(fileobj.fileno());
    if ('fd' in fileobj) return fileDescriptor(fileobj.fd);
  }
  throw new TypeError('a file object must be a descriptor number, an object with an fd, or one with a fileno() method');
}

/** What the three selectors have in common, which is everything but the poller. */
export abstract class Selector {
  /** The native poller; the loop hands it to its turn. @internal */
  readonly poller: NativePoller;
  readonly #kind: PollerKind;
  readonly #keys = new KeyTable();
  #generation = 0;
  #closed = false;

  constructor(kind: PollerKind) {
    recordAsAsked();
    this.#kind = kind;
    this.poller = new native.Poller(kind);
    const fd = this.poller.fileno();
    if (kind === 'epoll' && fd < 0) throw systemError('epoll_create1', fd);
  }

  /**
   * Starts watching `fileobj` for `events`.
   * @throws SelectorError ERR_FD_REGISTERED, SystemError EBADF when it is not an open descriptor, TypeError and RangeError for bad arguments
   */
  register<T>(fileobj: FileObj, events: number, data?: T): SelectorKey<T> {
    const fd = this.#check(fileobj, events);
    if (this.#keys.has(fd)) {
      throw new SelectorError(
        'ERR_FD_REGISTERED',
        `fd ${fd} is registered already; change it with modify(), or unregister() it first`,
      );
    }
    return this.#put({ fileobj, fd, events, data: data as T, generation: 0 });
  }

  /** Changes the events and the data of a registration. @throws SelectorError ERR_FD_NOT_REGISTERED, SystemError EBADF */
  modify<T>(fileobj: FileObj, events: number, data?: T): SelectorKey<T> {
    const fd = this.#check(fileobj, events);
    this.#known(fd);
    return this.#put({ fileobj, fd, events, data: data as T, generation: 0 });
  }

  /**
   * Registers what is unknown, modifies what is known. For the loop, which has keys of its own, one per descriptor for life, and a selector
   * that nobody else asks for its keys; `events` may have EVENT_EDGE. Returns the generation, which is a new one when the number names another
   * file by now. @internal
   */
  watch(fd: number, events: number, key: Pick<SelectorKey, 'generation'>): number {
    this.#fits(fd);
    const known = this.#keys.get(fd);
    let generation = known?.generation ?? 0;
    let result = known === undefined ? ENOENT : this.poller.modify(fd, events);
    if (result === ENOENT) {
      // New, or another file than the one that was registered: what the kernel still says of that one must not be taken for this one's.
      if (known !== undefined) this.poller.remove(fd);
      generation = this.#generation === MAX_GENERATION ? 1 : this.#generation + 1;
      result = this.poller.add(fd, events, generation);
    }
    if (result < 0) throw this.#failed(result, fd);
    if (generation !== known?.generation) this.#generation = generation;
    if (known !== key) this.#keys.set(fd, key as SelectorKey);
    return generation;
  }

  /** Stops watching. Works on a descriptor that was closed meanwhile, also when its number is in use again. @throws SelectorError ERR_FD_NOT_REGISTERED */
  unregister(fileobj: FileObj): SelectorKey<unknown> {
    this.#open();
    const fd = this.#lookUp(fileobj);
    const key = this.#known(fd);
    this.poller.remove(fd);
    this.#keys.delete(fd);
    return key;
  }

  /**
   * Waits until something is ready and returns the keys with their ready events (some of those they asked for).
   * @param timeoutMs undefined or null: without end; 0 or less: look once; fractions count; never early, rounded up to what the kernel resolves.
   * A signal does not end the wait. An empty array means that the time is over.
   */
  select(timeoutMs?: number | null): Array<[SelectorKey<unknown>, number]> {
    this.#open();
    let timeout = -1;
    if (timeoutMs !== undefined && timeoutMs !== null) {
      if (typeof timeoutMs !== 'number')
        throw new TypeError('timeoutMs must be a number of milliseconds, null or undefined');
      if (Number.isNaN(timeoutMs)) throw new RangeError('timeoutMs must not be NaN');
      timeout = timeoutMs === Number.POSITIVE_INFINITY ? -1 : Math.max(0, timeoutMs);
    }
    const ready = this.poller.wait(timeout);
    if (typeof ready === 'number') throw this.#failed(ready);
    const result: Array<[SelectorKey<unknown>, number]> = [];
    for (let i = 0; i < ready.length; i += 3) {
      const key = this.#keys.get(ready[i]!);
      if (key !== undefined) result.push([key, ready[i + 2]!]);
    }
    return result;
  }

  /** @throws SelectorError ERR_FD_NOT_REGISTERED */
  getKey(fileobj: FileObj): SelectorKey<unknown> {
    this.#open();
    return this.#known(this.#lookUp(fileobj));
  }

  /** All keys by descriptor, in the order of their numbers: a live view, which cannot be written. */
  getMap(): ReadonlyMap<number, SelectorKey<unknown>> {
    this.#open();
    return new KeyView(this.#keys);
  }

  /** Forgets everything. The descriptors stay open, for they are not ours. Closing twice is the same as once. */
  close(): void {
    this.#closed = true;
    this.#keys.clear();
    this.poller.close();
  }

  /** The descriptor of the selector itself. @throws SystemError ENOSYS on poll and select, which have none */
  fileno(): number {
    this.#open();
    const fd = this.poller.fileno();
    if (fd < 0) throw systemError(`${this.#kind} has no descriptor: fileno`, -38);
    return fd;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #put<T>(key: { -readonly [K in keyof SelectorKey<T>]: SelectorKey<T>[K] }): SelectorKey<T> {
    key.generation = this.watch(key.fd, key.events, key);
    return Object.freeze(key);
  }

  #check(fileobj: FileObj, events: number): number {
    this.#open();
    integer(events, 'events', EVENT_READ, EVENT_READ | EVENT_WRITE);
    const fd = descriptorOf(fileobj);
    return fd;
  }

  #fits(fd: number): void {
    if (this.#kind === 'select' && fd > MAX_SELECT_FD) {
      throw new RangeError(
        `select() cannot watch fd ${fd}: its sets end at ${MAX_SELECT_FD}. Use EpollSelector or PollSelector`,
      );
    }
  }

  /** The number under which an object was registered; an object that has lost its number meanwhile is found by identity. */
  #lookUp(fileobj: FileObj): number {
    try {
      return descriptorOf(fileobj);
    } catch (error) {
      for (const key of this.#keys.values()) if (key.fileobj === fileobj) return key.fd;
      throw error;
    }
  }

  #known(fd: number): SelectorKey<unknown> {
    const key = this.#keys.get(fd);
    if (key === undefined)
      throw new SelectorError('ERR_FD_NOT_REGISTERED', `fd ${fd} is not registered; register() it first`);
    return key;
  }

  #open(): void {
    if (this.#closed) throw new SelectorError('ERR_SELECTOR_CLOSED', 'the selector is closed; make a new one');
  }

  #failed(errno: number, fd?: number): Error {
    const call = { epoll: fd === undefined ? 'epoll_wait' : 'epoll_ctl', poll: 'poll', select: 'select' }[this.#kind];
    return systemError(call, errno, fd === undefined ? {} : { fd });
  }
}

/** By descriptor. Their numbers are small and dense, for the kernel hands out the lowest that is free; a Map would take 40 bytes for each. */
class KeyTable {
  readonly #keys: (SelectorKey<unknown> | undefined)[] = [];
  size = 0;

  get(fd: number): SelectorKey<unknown> | undefined {
    return this.#keys[fd];
  }
  has(fd: number): boolean {
    return this.#keys[fd] !== undefined;
  }
  set(fd: number, key: SelectorKey<unknown>): void {
    if (!this.has(fd)) this.size++;
    this.#keys[fd] = key;
  }
  delete(fd: number): void {
    if (this.has(fd)) this.size--;
    this.#keys[fd] = undefined;
  }
  clear(): void {
    this.#keys.length = this.size = 0;
  }
  *entries(): MapIterator<[number, SelectorKey<unknown>]> {
    for (const [fd, key] of this.#keys.entries()) if (key !== undefined) yield [fd, key];
  }
  *keys(): MapIterator<number> {
    for (const [fd] of this.entries()) yield fd;
  }
  *values(): MapIterator<SelectorKey<unknown>> {
    for (const [, key] of this.entries()) yield key;
  }
}

/** What can be read of it, and cannot be cast back into what can be written. */
class KeyView implements ReadonlyMap<number, SelectorKey<unknown>> {
  readonly #keys: KeyTable;

  constructor(keys: KeyTable) {
    this.#keys = keys;
  }
  get size(): number {
    return this.#keys.size;
  }
  get(fd: number): SelectorKey<unknown> | undefined {
    return this.#keys.get(fd);
  }
  has(fd: number): boolean {
    return this.#keys.has(fd);
  }
  keys(): MapIterator<number> {
    return this.#keys.keys();
  }
  values(): MapIterator<SelectorKey<unknown>> {
    return this.#keys.values();
  }
  entries(): MapIterator<[number, SelectorKey<unknown>]> {
    return this.#keys.entries();
  }
  forEach(
    visit: (key: SelectorKey<unknown>, fd: number, map: ReadonlyMap<number, SelectorKey<unknown>>) => void,
  ): void {
    for (const [fd, key] of this.#keys.entries()) visit(key, fd, this);
  }
  [Symbol.iterator](): MapIterator<[number, SelectorKey<unknown>]> {
    return this.#keys.entries();
  }
}

/** epoll(7): a wait costs what is ready, not what is registered. */
export class EpollSelector extends Selector {
  constructor() {
    super('epoll');
  }
}

/** poll(2): a wait costs what is registered. */
export class PollSelector extends Selector {
  constructor() {
    super('poll');
  }
}

/** select(2): descriptors up to 1023, and a wait costs the highest number. */
export class SelectSelector extends Selector {
  constructor() {
    super('select');
  }
}

/** The best selector of this platform. */
export const DefaultSelector: typeof EpollSelector = EpollSelector;
