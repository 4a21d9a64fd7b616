// Something that happens once, and whom it concerns.

import type { Operation } from '../operation.ts';
import { shownAs } from '../util.ts';
import { signalOf, type WaitOptions } from '../validate.ts';
import { type NameOption, named, Queued, WaitQueue } from './wait-queue.ts';

/**
 * Something that happens once: whoever waits for it goes on then, and whoever waits later does not wait. It cannot be taken back, as in trio: for the
 * next time make another, and nobody misses either.
 */
export class Event {
  private readonly name: string;
  private readonly waits: WaitQueue<Queued<void>> = new WaitQueue(
    () => String(this),
    (wait) => {
      if (this.happened) wait.succeed(undefined);
      else this.waits.push(wait);
    },
  );
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
    return new Queued(this.waits, signalOf(options));
  }

  toString(): string {
    return `event${this.name}`;
  }
}

shownAs(Event, (event) => String(event));
