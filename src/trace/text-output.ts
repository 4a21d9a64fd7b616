// Text on its way out: collected until there is enough of it to be worth a write.

export class TextOutput {
  private pending = '';

  protected add(text: string): void {
    this.pending += text;
  }

  /** How much waits to be taken; characters, about. */
  get size(): number {
    return this.pending.length;
  }

  /** What was added since the last time. */
  take(): Uint8Array {
    const bytes = Buffer.from(this.pending);
    this.pending = '';
    return bytes;
  }
}
