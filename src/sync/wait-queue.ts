// Who waits for something that is no descriptor, first come first served.

import { Trap } from '../operation.ts';
import { inspect } from '../util.ts';
import { received } from '../validate.ts';

/** A queue, to who stands in it. */
interface Place {
  enter(wait: Queued<unknown>): void;
  remove(wait: Queued<unknown>): void;
  what(): string;
}

/** A wait in a queue. Only other tasks can end it, or code of Node's own, never the kernel: it does not keep the process alive. */
export class Queued<T> extends Trap<T> {
  private readonly queue: Place;
  /** @internal */
  before: this | null = null;
  /** @internal */
  after: this | null = null;

  constructor(queue: Place, signal: AbortSignal | undefined) {
    super(signal);
    this.queue = queue;
  }

  protected override begin(): void {
    this.queue.enter(this);
  }
  protected override undo(): void {
    this.queue.remove(this);
  }
  override describe(): string {
    return this.queue.what();
  }

  protected override get wakeable(): boolean {
    return false;
  }
}

/** In order, and whoever is cancelled leaves at once, wherever it stands: a hundred thousand may. */
export class WaitQueue<W extends Queued<unknown>> {
  /** Who stands here waits for what. */
  readonly what: () => string;
  /** Settles a wait that begins, or has it stand here. */
  readonly enter: (wait: W) => void;
  private first: W | null = null;
  private last: W | null = null;
  private count = 0;

  constructor(what: () => string, enter: (wait: W) => void) {
    this.what = what;
    this.enter = enter;
  }

  /** How many wait. */
  get size(): number {
    return this.count;
  }

  push(wait: W): void {
    this.count++;
    wait.before = this.last;
    if (this.last === null) this.first = wait;
    else this.last.after = wait;
    this.last = wait;
  }

  shift(): W | null {
    const { first } = this;
    if (first !== null) this.remove(first);
    return first;
  }

  /** It must be in this queue. */
  remove(wait: W): void {
    this.count--;
    const { before, after } = wait;
    if (before === null) this.first = after;
    else before.after = after;
    if (after === null) this.last = before;
    else after.before = before;
    wait.before = null;
    wait.after = null;
  }
}

/** What all of `onewait/sync` take. */
export interface NameOption {
  /** For traces, the tree of tasks and messages. */
  name?: string | undefined;
}

/** ` 'name'`, or nothing. @throws TypeError when the name is no string */
export function named(options: NameOption | undefined): string {
  const name: unknown = options?.name;
  if (name === undefined) return '';
  if (typeof name === 'string') return ` ${inspect(name)}`;
  throw new TypeError(`options.name must be a string, and is ${received(name)}`);
}
