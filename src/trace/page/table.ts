// The table beside the lanes: all lanes with what they add up to, or the spans of one. It says what the picture shows, for those who read rather
// than look. Only the rows in view exist; the rest is room.

import { Item, type Lane, type Trace } from './data.ts';
import { titleOf } from './details.ts';
import { formatBytesShort, formatCount, formatDuration, formatMoment, formatShort } from './format.ts';

const ROW_PX = 24;
const SPARE_ROWS = 6;
/** Most browsers have no higher elements. */
const MAX_HEIGHT = 8_000_000;

interface Column {
  title: string;
  cell(row: number): string;
  /** What rows are ordered by when its head is clicked. */
  order?(row: number): number | string;
}

export class Table {
  private readonly trace: Trace;
  private readonly scroller: HTMLElement;
  private readonly table: HTMLTableElement;
  private readonly head: HTMLTableSectionElement;
  private readonly body: HTMLTableSectionElement;
  private readonly choose: (to: { lane: number; item: number }) => void;
  private readonly calls: Float64Array;
  private readonly bytes: Float64Array;
  private columns: Column[] = [];
  /** Lanes, or items of one lane: what each row shows. */
  private rows: ArrayLike<number> & { length: number } = [];
  private lane = -1;
  private chosen = -1;
  private orderedBy = -1;
  private falling = true;

  constructor(scroller: HTMLElement, trace: Trace, choose: (to: { lane: number; item: number }) => void) {
    this.trace = trace;
    this.scroller = scroller;
    this.table = scroller.querySelector('table')!;
    this.head = this.table.tHead!;
    this.body = this.table.tBodies[0]!;
    this.choose = choose;
    this.calls = new Float64Array(trace.lanes.length);
    this.bytes = new Float64Array(trace.lanes.length);
    this.addUp();
    scroller.addEventListener('scroll', () => this.fill());
    new ResizeObserver(() => this.fill()).observe(scroller);
    this.showLanes();
  }

  /** All lanes. */
  showLanes(): void {
    const { trace } = this;
    this.lane = -1;
    this.rows = trace.lanes.map(({ index }) => index);
    this.columns = [
      { title: 'Lane', cell: (lane) => trace.lanes[lane]!.name },
      { title: 'Calls', cell: (lane) => formatCount(this.calls[lane]!), order: (lane) => this.calls[lane]! },
      { title: 'Bytes', cell: (lane) => formatBytesShort(this.bytes[lane]!), order: (lane) => this.bytes[lane]! },
      { title: 'Waits', cell: (lane) => this.time(lane, waits), order: (lane) => waits(trace, lane) },
      { title: 'Runnable', cell: (lane) => this.time(lane, runnable), order: (lane) => runnable(trace, lane) },
      { title: 'Busy', cell: (lane) => this.time(lane, busy), order: (lane) => busy(trace, lane) },
    ];
    this.begin();
  }

  /** The spans of a lane, as they began. */
  showLane(lane: number): void {
    const { trace } = this;
    if (this.lane === lane) return;
    const [first] = trace.series(lane, 0);
    const [last] = trace.series(lane, Item.flow);
    const items = Uint32Array.from({ length: last - first }, (_, i) => first + i);
    items.sort((a, b) => trace.begin[a]! - trace.begin[b]!);
    this.lane = lane;
    this.rows = items;
    this.columns = [
      { title: 'Begins', cell: (item) => formatMoment(trace.begin[item]!), order: (item) => trace.begin[item]! },
      { title: 'What', cell: (item) => titleOf(trace, item), order: (item) => trace.kind[item]! },
      {
        title: 'Takes',
        cell: (item) => (trace.kind[item]! <= Item.running ? formatDuration(trace.duration(item)) : ''),
        order: (item) => trace.duration(item),
      },
    ];
    this.begin();
  }

  /** Marks a row and brings it into view. */
  mark(chosen: number): void {
    this.chosen = chosen;
    const row = Array.prototype.indexOf.call(this.rows, chosen);
    if (row >= 0) {
      const top = this.offsetOf(row);
      const { scrollTop, clientHeight } = this.scroller;
      if (top < scrollTop || top > scrollTop + clientHeight - 3 * ROW_PX)
        this.scroller.scrollTop = top - clientHeight / 2;
    }
    this.fill();
  }

  /** The item of the lane that comes after one in the table's order, or before it; -1 at its ends. */
  beside(item: number, direction: 1 | -1): number {
    if (this.lane < 0) return -1;
    const row = Array.prototype.indexOf.call(this.rows, item);
    return this.rows[row < 0 ? 0 : row + direction] ?? -1;
  }

  private begin(): void {
    this.orderedBy = -1;
    this.chosen = -1;
    this.scroller.scrollTop = 0;
    this.heads();
    this.fill();
  }

  private heads(): void {
    const row = document.createElement('tr');
    for (const [number, { title, order }] of this.columns.entries()) {
      const cell = document.createElement('th');
      cell.scope = 'col';
      if (order === undefined) cell.textContent = title;
      else {
        const button = document.createElement('button');
        button.type = 'button';
        button.textContent = title;
        button.addEventListener('click', () => this.orderBy(number));
        cell.append(button);
        if (this.orderedBy === number) cell.ariaSort = this.falling ? 'descending' : 'ascending';
      }
      row.append(cell);
    }
    this.head.replaceChildren(row);
  }

  private orderBy(number: number): void {
    this.falling = this.orderedBy === number ? !this.falling : true;
    this.orderedBy = number;
    const order = this.columns[number]!.order as (row: number) => number;
    const sign = this.falling ? -1 : 1;
    this.rows = Array.from(this.rows).sort((a, b) => sign * (order(a) - order(b)) || a - b);
    this.heads();
    this.fill();
  }

  /** Where a row is, in pixels from the first; very many rows are nearer to each other than they are high. */
  private offsetOf(row: number): number {
    const full = this.rows.length * ROW_PX;
    return full <= MAX_HEIGHT ? row * ROW_PX : (row / this.rows.length) * MAX_HEIGHT;
  }

  private fill(): void {
    const { scroller, rows, body, trace, columns } = this;
    const height = Math.min(MAX_HEIGHT, rows.length * ROW_PX);
    const visible = Math.ceil(scroller.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const at = height === 0 ? 0 : Math.floor((scroller.scrollTop / height) * rows.length);
    const first = Math.max(0, Math.min(rows.length - visible, at - SPARE_ROWS));
    const last = Math.min(rows.length, first + visible);
    const parts: HTMLTableRowElement[] = [];
    const above = Math.min(this.offsetOf(first), Math.max(0, height - visible * ROW_PX));
    parts.push(room(above, columns.length));
    for (let row = first; row < last; row++) {
      const key = rows[row]!;
      const element = document.createElement('tr');
      element.ariaRowIndex = String(row + 2);
      if (key === this.chosen) element.ariaSelected = 'true';
      for (const [number, column] of columns.entries()) {
        const cell = document.createElement('td');
        const text = column.cell(key);
        if (number === 0) {
          const button = document.createElement('button');
          button.type = 'button';
          button.className = 'link';
          button.textContent = text;
          cell.append(button);
        } else cell.textContent = text;
        cell.title = text;
        element.append(cell);
      }
      element.addEventListener('click', () =>
        this.choose(this.lane < 0 ? { lane: key, item: -1 } : { lane: trace.lane[key]!, item: key }),
      );
      parts.push(element);
    }
    parts.push(room(Math.max(0, height - above - (last - first) * ROW_PX), columns.length));
    this.table.ariaRowCount = String(rows.length + 1);
    this.table.className = this.lane < 0 ? 'lanes' : 'items';
    const focused = body.contains(document.activeElement) ? focusedRow(document.activeElement!) : null;
    body.replaceChildren(...parts);
    if (focused !== null)
      body.querySelector<HTMLElement>(`tr[aria-rowindex="${focused}"] button`)?.focus({ preventScroll: true });
  }

  private time(lane: number, of: (trace: Trace, lane: number) => number): string {
    const ns = of(this.trace, lane);
    return ns === 0 ? '' : formatShort(ns);
  }

  /** Calls and bytes of each descriptor, and of each task what it did with descriptors. */
  private addUp(): void {
    const { trace, calls, bytes } = this;
    const transfers = new Set(trace.about.transfers);
    const moves = Uint8Array.from(trace.texts, (text) => Number(transfers.has(text)));
    for (const lane of trace.lanes as readonly Lane[]) {
      const [first, last] = trace.series(lane.index, Item.syscall);
      for (let i = first; i < last; i++) {
        const moved = moves[trace.name[i]!] === 1 ? Math.max(0, trace.result[i]!) : 0;
        const task = trace.other[i]!;
        calls[lane.index]!++;
        bytes[lane.index]! += moved;
        if (task < 0) continue;
        calls[task]!++;
        bytes[task]! += moved;
      }
      if (lane.kind === 'wait') {
        const [begin, end] = trace.series(lane.index, Item.blocked);
        calls[lane.index] = end - begin;
      }
    }
  }
}

function waits(trace: Trace, lane: number): number {
  return trace.total(lane, Item.blocked) + trace.total(lane, Item.awaited) + trace.total(lane, Item.suspended);
}

function runnable(trace: Trace, lane: number): number {
  return trace.total(lane, Item.runnable);
}

function busy(trace: Trace, lane: number): number {
  return trace.total(lane, Item.running) + trace.total(lane, Item.syscall);
}

function focusedRow(element: Element): string | null {
  return element.closest('tr')?.ariaRowIndex ?? null;
}

function room(height: number, columns: number): HTMLTableRowElement {
  const row = document.createElement('tr');
  row.ariaHidden = 'true';
  row.className = 'room';
  const cell = document.createElement('td');
  cell.colSpan = columns;
  cell.style.height = `${height}px`;
  row.append(cell);
  return row;
}
