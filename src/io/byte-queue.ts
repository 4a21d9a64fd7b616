// Bytes in, bytes out: one growing buffer, so that many tiny pieces cost no more per byte than a few large ones.

const INITIAL = 4096;

export class ByteQueue {
  private buffer: Uint8Array = new Uint8Array(0);
  private start = 0;
  private end = 0;

  get length(): number {
    return this.end - this.start;
  }

  /** Copies `data` to the end. */
  push(data: Uint8Array): void {
    if (this.end + data.length > this.buffer.length) this.makeRoom(data.length);
    this.buffer.set(data, this.end);
    this.end += data.length;
  }

  /** Everything in it, as a view that holds until the next push. */
  peek(): Uint8Array {
    return this.buffer.subarray(this.start, this.end);
  }

  /** Forgets the first `count` bytes. */
  skip(count: number): void {
    this.start += count;
    if (this.start < this.end) return;
    this.start = this.end = 0;
    if (this.buffer.length > INITIAL) this.buffer = new Uint8Array(0);
  }

  /** Takes out the first `count` bytes, as a copy of their own. */
  take(count: number): Uint8Array {
    const data = this.buffer.slice(this.start, this.start + count);
    this.skip(count);
    return data;
  }

  /** Where `delimiter` first begins, at `from` or later; -1 if nowhere. */
  indexOf(delimiter: Uint8Array, from: number): number {
    return Buffer.from(this.buffer.buffer, this.start, this.length).indexOf(delimiter, from);
  }

  private makeRoom(count: number): void {
    const needed = this.length + count;
    // Moving what is there costs no more than what was taken out before: amortised, a byte is moved once.
    if (needed <= this.buffer.length && this.start >= this.length) this.buffer.copyWithin(0, this.start, this.end);
    else {
      const grown = new Uint8Array(Math.max(INITIAL, needed * 2));
      grown.set(this.peek());
      this.buffer = grown;
    }
    this.end -= this.start;
    this.start = 0;
  }
}
