// Which lanes are shown, in which order: of each thread its one blocking call, then its tasks as they appear, each below the descriptors that it
// waits for. So most arrows are short, and lead down.

import type { Lane, Trace } from './data.ts';

export const ROW_HEIGHT = 26;

export class Lanes {
  /** Lanes by row. */
  rows: Lane[] = [];
  private readonly ordered: Lane[];
  private readonly rowOf: Int32Array;

  constructor(trace: Trace) {
    const group = (lane: Lane): number => (lane.kind === 'wait' ? -1 : lane.mate >= 0 ? lane.mate : lane.index);
    this.ordered = [...trace.lanes].sort(
      (a, b) =>
        a.thread - b.thread ||
        group(a) - group(b) ||
        Number(a.kind === 'task') - Number(b.kind === 'task') ||
        a.index - b.index,
    );
    this.rowOf = new Int32Array(trace.lanes.length);
    this.show(() => true);
  }

  /** Shows the lanes that pass. */
  show(passes: (lane: Lane) => boolean): void {
    this.rows = this.ordered.filter(passes);
    this.rowOf.fill(-1);
    for (const [row, lane] of this.rows.entries()) this.rowOf[lane.index] = row;
  }

  /** The row of a lane; -1 if it is not shown. */
  row(lane: number): number {
    return this.rowOf[lane]!;
  }

  get height(): number {
    return this.rows.length * ROW_HEIGHT;
  }
}
