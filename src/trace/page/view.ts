// What part of the trace is in view: a stretch of time, and how far down the lanes. In pixels of CSS; the names of the lanes are beside it.

const MIN_NS_PER_PX = 0.02;
/** How much of the view may lie beside the trace. */
const MARGIN = 0.04;

export class View {
  /** The time at the left edge, and how much a pixel is. */
  from = 0;
  nsPerPx = 1;
  scrollTop = 0;
  width = 1;
  height = 1;
  private readonly traceEnd: number;
  private contentHeight = 0;

  constructor(traceEnd: number) {
    // Also an empty trace has a length.
    this.traceEnd = Math.max(1000, traceEnd);
  }

  get to(): number {
    return this.from + this.width * this.nsPerPx;
  }

  resize(width: number, height: number): void {
    const { from, to } = this;
    const first = this.width === 1;
    this.width = Math.max(50, width);
    this.height = Math.max(1, height);
    if (first) this.fit();
    else this.show(from, to);
  }

  /** The whole trace. */
  fit(): void {
    this.show(0, this.traceEnd);
    this.nsPerPx = (this.traceEnd / this.width) * (1 + 2 * MARGIN);
    this.from = -MARGIN * this.traceEnd;
  }

  show(from: number, to: number): void {
    this.nsPerPx = (to - from) / this.width;
    this.from = from;
    this.clamp();
  }

  /** Shows a stretch of time with room at both sides. */
  frame(from: number, to: number): void {
    const room = Math.max((to - from) * 0.35, 50);
    this.show(from - room, to + room);
  }

  /** Makes a pixel `factor` times as long; what is at `px` stays there. */
  zoom(factor: number, px: number = this.width / 2): void {
    const at = this.timeAt(px);
    const longest = (this.traceEnd / this.width) * (1 + 2 * MARGIN);
    this.nsPerPx = Math.min(longest, Math.max(MIN_NS_PER_PX, this.nsPerPx * factor));
    this.from = at - px * this.nsPerPx;
    this.clamp();
  }

  pan(px: number): void {
    this.from += px * this.nsPerPx;
    this.clamp();
  }

  /** Moves so that `t` is in view, in the middle if it was not. */
  reveal(t: number): void {
    if (t < this.from || t > this.to) this.from = t - (this.width * this.nsPerPx) / 2;
    this.clamp();
  }

  setContentHeight(height: number): void {
    this.contentHeight = height;
    this.clamp();
  }

  scrollTo(top: number): void {
    this.scrollTop = top;
    this.clamp();
  }

  timeAt(px: number): number {
    return this.from + px * this.nsPerPx;
  }

  pxAt(t: number): number {
    return (t - this.from) / this.nsPerPx;
  }

  private clamp(): void {
    const longest = (this.traceEnd / this.width) * (1 + 2 * MARGIN);
    this.nsPerPx = Math.min(longest, Math.max(MIN_NS_PER_PX, this.nsPerPx));
    const length = this.width * this.nsPerPx;
    // Something of the trace is always in view.
    this.from = Math.min(this.traceEnd - length * MARGIN, Math.max(-length * (1 - MARGIN), this.from));
    this.scrollTop = Math.round(Math.max(0, Math.min(this.contentHeight - this.height, this.scrollTop)));
  }
}
