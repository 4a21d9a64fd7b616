/** First in, first out, at the same cost however many there are: `shift` of an array moves all that follow. */
export class Fifo<T> {
  private incoming: T[] = [];
  /** The oldest last. */
  private outgoing: T[] = [];

  get size(): number {
    return this.incoming.length + this.outgoing.length;
  }

  push(item: T): void {
    this.incoming.push(item);
  }

  /** Before all others. */
  unshift(item: T): void {
    this.outgoing.push(item);
  }

  /** There must be one. */
  shift(): T {
    if (this.outgoing.length === 0) {
      this.outgoing = this.incoming.reverse();
      this.incoming = [];
    }
    return this.outgoing.pop()!;
  }
}
