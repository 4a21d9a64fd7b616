// Something that happens once, and whom it concerns.

import type { Operation } from '../operation.ts';
import { shownAs } from '../util.ts';
import { signalOf, type WaitOptions } from '../validate.ts';
import { type NameOption, Queued, quoted, WaitQueue } from './wait-queue.ts';

class Wait extends Queued<void> {
  private readonly awaited: Event;

  constructor(event: Event, signal: AbortSignal | undefined) {
    super(signal);
    this.awaited = event;
  }

  protected override begin(): void {
    this.awaited.begin(this);
  }
  protected override undo(): void {
    this.awaited.leave(this);
  }
  override describe(): string {
    return String(this.awaited);
  }
}

/**
 * Something that happens once: whoever waits for it goes on then, and whoever waits later does not wait. It cannot be taken back, as in trio: for the
 * next time make another, and nobody misses either.
 */
export class Event {
  private readonly name: string | undefined;
  private readonly waits: WaitQueue<Wait> = new WaitQueue();
  private happened = false;

  constructor({ name }: NameOption = {}) {
    this.name = name;
  }

  get isSet(): boolean {
    return this.happened;
  }

  /** How many wait for it. */
  get waiting(): number {
    return this.waits.size;
  }

  /** It has happened: wakes all who wait for it. From anywhere, also from a callback of Node's. Again: changes nothing. */
  set(): void {
    this.happened = true;
    for (let wait = this.waits.shift(); wait !== null; wait = this.waits.shift()) wait.succeed(undefined);
  }

  /** Waits until it has happened. */
  wait(options?: WaitOptions): Operation<void> {
    return new Wait(this, signalOf(options));
  }

  toString(): string {
    return `event${quoted(this.name)}`;
  }

  /** @internal */
  begin(wait: Wait): void {
    if (this.happened) wait.succeed(undefined);
    else this.waits.push(wait);
  }

  /** @internal */
  leave(wait: Wait): void {
    this.waits.remove(wait);
  }
}

shownAs(Event, (event) => String(event));
