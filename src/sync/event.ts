// Something that happens once, and whom it concerns.

import type { Operation } from '../operation.ts';
import { shownAs } from '../util.ts';
import { signalOf, type WaitOptions } from '../validate.ts';
import { type NameOption, named, type Place, Queued, WaitQueue } from './wait-queue.ts';

class Wait extends Queued<void> {
  private readonly awaited: Event;

  constructor(event: Event, queue: Place, signal: AbortSignal | undefined) {
    super(queue, signal);
    this.awaited = event;
  }

  protected override begin(): void {
    this.awaited.begin(this);
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
  private readonly name: string;
  private readonly waits: WaitQueue<Wait> = new WaitQueue();
  private happened = false;

  constructor(options?: NameOption) {
    this.name = named(options);
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
    return new Wait(this, this.waits, signalOf(options));
  }

  toString(): string {
    return `event${this.name}`;
  }

  /** @internal */
  begin(wait: Wait): void {
    if (this.happened) wait.succeed(undefined);
    else this.waits.push(wait);
  }
}

shownAs(Event, (event) => String(event));
