// The trace in memory: numbers in typed arrays, no object per span, so a million of them cost what they weigh.
//
// Items (spans, marks and arrows) are ordered by lane, then kind, then begin. All of one lane and kind are a series, a range of indices. In a series
//   reach[i]  is the latest end among the items up to i, and
//   cover[i]  is how much time the items up to i cover together.
// Both only grow, so what is in view is found by halving, and how much of any stretch of time is covered costs two searches, however many items
// there are in it (`coveredUntil`). Zoomed out, a pixel is drawn by that.

/** Kinds of items by number, as src/trace/timeline-data.ts writes them. */
export const Item = {
  blocked: 0,
  awaited: 1,
  syscall: 2,
  suspended: 3,
  runnable: 4,
  running: 5,
  ready: 6,
  spawn: 7,
  end: 8,
  timer: 9,
  libuv: 10,
  lost: 11,
  flow: 12,
  closed: 13,
} as const;
const KINDS = 14;

export interface Lane {
  readonly index: number;
  readonly kind: 'wait' | 'fd' | 'task';
  readonly thread: number;
  readonly name: string;
  readonly fd: number;
  readonly begin: number;
  /** When it was closed or had ended; the end of the trace when it had not. */
  end: number;
  /** Of a descriptor: the lane of the task that waits for it first; -1 without one. */
  mate: number;
}

export interface About {
  name: string;
  wallClockMs: number;
  pid: number;
  records: number;
  lanes: number;
  items: number;
  end: number;
  errors: Array<[errno: number, name: string]>;
  transfers: string[];
}

type LaneRow = [id: number, kind: Lane['kind'], thread: number, name: string, fd: number, begin: number];

interface Columns {
  kinds: Uint8Array;
  lanes: Uint32Array;
  begins: Float64Array;
  durations: Float64Array;
  names: Uint32Array;
  others: Uint32Array;
  results: Float64Array;
  asked: Float64Array;
}

export class Trace {
  readonly about: About;
  readonly lanes: Lane[];
  readonly texts: string[];
  readonly errors: Map<number, string>;
  readonly count: number;
  readonly kind: Uint8Array;
  readonly lane: Uint32Array;
  readonly begin: Float64Array;
  readonly end: Float64Array;
  readonly reach: Float64Array;
  readonly cover: Float64Array;
  readonly name: Uint32Array;
  /** The lane of the other party; -1 without one. */
  readonly other: Int32Array;
  readonly result: Float64Array;
  readonly asked: Float64Array;
  /** Where series begin, by lane * KINDS + kind. */
  private readonly starts: Uint32Array;
  /** System calls and arrows by the lane of their other party: the calls that a task makes, the arrows that lead to it. */
  private readonly byOther: Uint32Array;
  private readonly byOtherStarts: Uint32Array;

  constructor(about: About, lanes: Lane[], texts: string[], columns: Columns) {
    this.about = about;
    this.lanes = lanes;
    this.texts = texts;
    this.errors = new Map(about.errors);
    const count = columns.kinds.length;
    this.count = count;

    const keys = new Uint32Array(count);
    for (let i = 0; i < count; i++) keys[i] = columns.lanes[i]! * KINDS + columns.kinds[i]!;
    const { starts, order } = grouped(keys, lanes.length * KINDS);
    this.starts = starts;
    // What ends first is written first, so series are in order of begin already, except where a task waits for several things at once.
    for (let series = 0; series + 1 < starts.length; series++) {
      const part = order.subarray(starts[series]!, starts[series + 1]!);
      if (!isSorted(part, columns.begins)) part.sort((a, b) => columns.begins[a]! - columns.begins[b]!);
    }

    this.kind = new Uint8Array(count);
    this.lane = new Uint32Array(count);
    this.begin = new Float64Array(count);
    this.end = new Float64Array(count);
    this.reach = new Float64Array(count);
    this.cover = new Float64Array(count);
    this.name = new Uint32Array(count);
    this.other = new Int32Array(count);
    this.result = new Float64Array(count);
    this.asked = new Float64Array(count);
    const place = new Uint32Array(count);
    let series = -1;
    let reach = 0;
    let cover = 0;
    for (let i = 0; i < count; i++) {
      const from = order[i]!;
      place[from] = i;
      const begin = columns.begins[from]!;
      const end = begin + columns.durations[from]!;
      if (keys[from] !== series) {
        series = keys[from]!;
        reach = begin;
        cover = 0;
      }
      cover += Math.max(0, end - Math.max(begin, reach));
      reach = Math.max(reach, end);
      this.kind[i] = columns.kinds[from]!;
      this.lane[i] = columns.lanes[from]!;
      this.begin[i] = begin;
      this.end[i] = end;
      this.reach[i] = reach;
      this.cover[i] = cover;
      this.name[i] = columns.names[from]!;
      this.other[i] = columns.others[from]! - 1;
      this.result[i] = columns.results[from]!;
      this.asked[i] = columns.asked[from]!;
    }

    // In the order of the file, which is that of time within a thread. What has no other party goes to a group of its own, at the end.
    const nobody = lanes.length * 2;
    for (let from = 0; from < count; from++) {
      const i = place[from]!;
      const kind = this.kind[i]!;
      const linked = this.other[i]! >= 0 && (kind === Item.syscall || kind === Item.flow);
      keys[from] = linked ? this.other[i]! * 2 + (kind === Item.flow ? 1 : 0) : nobody;
    }
    const links = grouped(keys, nobody + 1);
    this.byOtherStarts = links.starts;
    this.byOther = links.order;
    for (let i = 0; i < links.order.length; i++) links.order[i] = place[links.order[i]!]!;

    for (const lane of lanes) {
      const [first, last] = this.series(lane.index, Item.closed);
      if (last > first) lane.end = this.begin[first]!;
      const [awaited, awaitedEnd] = this.series(lane.index, Item.awaited);
      if (awaitedEnd > awaited) lane.mate = this.other[awaited]!;
    }
  }

  /** The items of a kind in a lane: from the first index up to, not including, the second. */
  series(lane: number, kind: number): [number, number] {
    const key = lane * KINDS + kind;
    return [this.starts[key]!, this.starts[key + 1]!];
  }

  /** How long the items of a series last together; those at the same time count once. */
  total(lane: number, kind: number): number {
    const [first, last] = this.series(lane, kind);
    return last > first ? this.cover[last - 1]! : 0;
  }

  /** The system calls that a task made, or the arrows that lead to it. */
  linked(lane: number, kind: typeof Item.syscall | typeof Item.flow): Uint32Array {
    const key = lane * 2 + (kind === Item.flow ? 1 : 0);
    return this.byOther.subarray(this.byOtherStarts[key]!, this.byOtherStarts[key + 1]!);
  }

  text(item: number): string {
    return this.texts[this.name[item]!]!;
  }

  duration(item: number): number {
    return this.end[item]! - this.begin[item]!;
  }

  /** How much of a series lies before `t`, when `after` is its first item that begins at or after `t`, and `first` its first of all. */
  coveredUntil(t: number, first: number, after: number): number {
    if (after === first) return 0;
    return this.cover[after - 1]! - Math.max(0, this.reach[after - 1]! - t);
  }

  /** The arrow that ends at `t` in a lane: what woke this task; -1 if nothing known did. */
  wokenBy(lane: number, t: number): number {
    const arrows = this.linked(lane, Item.flow);
    // Numbers pass through a sum on their way.
    return arrows.find((flow) => Math.abs(this.end[flow]! - t) < 2) ?? -1;
  }
}

/** The first index in [from, to) whose value is at least (or, with `after`, more than) `value`; `to` if none is. `values` grows there. */
export function lowerBound(values: Float64Array, value: number, from: number, to: number, after = false): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < value || (after && values[middle]! === value)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Indices by key, in their order, and where those of each key begin. */
function grouped(keys: Uint32Array, groups: number): { starts: Uint32Array; order: Uint32Array } {
  const starts = new Uint32Array(groups + 1);
  for (let i = 0; i < keys.length; i++) starts[keys[i]! + 1]!++;
  for (let group = 0; group < groups; group++) starts[group + 1]! += starts[group]!;
  const next = starts.slice();
  const order = new Uint32Array(keys.length);
  for (let i = 0; i < keys.length; i++) order[next[keys[i]!]!++] = i;
  return { starts, order };
}

function isSorted(indices: Uint32Array, values: Float64Array): boolean {
  for (let i = 1; i < indices.length; i++) if (values[indices[i - 1]!]! > values[indices[i]!]!) return false;
  return true;
}

/** Reads the blocks of the page. `progress` is told which part of them has been read. */
export async function loadTrace(progress: (part: number) => void): Promise<Trace> {
  const blocks = [...document.querySelectorAll<HTMLScriptElement>('script[data-block]')];
  const about = JSON.parse(new TextDecoder().decode(fromBase64(blocks.pop()!.textContent))) as About;
  const columns: Columns = {
    kinds: new Uint8Array(about.items),
    lanes: new Uint32Array(about.items),
    begins: new Float64Array(about.items),
    durations: new Float64Array(about.items),
    names: new Uint32Array(about.items),
    others: new Uint32Array(about.items),
    results: new Float64Array(about.items),
    asked: new Float64Array(about.items),
  };
  const lanes: Lane[] = [];
  const texts: string[] = [];
  let items = 0;
  for (const [done, block] of blocks.entries()) {
    const bytes = await inflate(fromBase64(block.textContent));
    block.remove();
    if (block.dataset.block === 'items') items += readItems(bytes, columns, items);
    else if (block.dataset.block === 'texts') for (const text of jsonIn<string[]>(bytes)) texts.push(text);
    // A lane that comes again has got another name.
    else
      for (const [id, kind, thread, name, fd, begin] of jsonIn<LaneRow[]>(bytes))
        lanes[id - 1] = { index: id - 1, kind, thread, name, fd, begin, end: about.end, mate: -1 };
    progress((done + 1) / blocks.length);
  }
  return new Trace(about, lanes, texts, columns);
}

function jsonIn<T>(bytes: Uint8Array): T {
  return JSON.parse(new TextDecoder().decode(bytes)) as T;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads a block of items into the columns, from index `at` on. Returns how many it held. */
function readItems(bytes: Uint8Array, columns: Columns, at: number): number {
  const head = new Numbers(bytes, 0);
  const count = head.unsigned();
  const lengths = Array.from({ length: 8 }, () => head.unsigned());
  let offset = head.offset;
  const numbers = lengths.map((length) => {
    const column = new Numbers(bytes, offset);
    offset += length;
    return column;
  });
  const [kinds, lanes, begins, durations, names, others, results, asked] = numbers as [
    Numbers,
    Numbers,
    Numbers,
    Numbers,
    Numbers,
    Numbers,
    Numbers,
    Numbers,
  ];
  let lane = -1;
  let begin = 0;
  for (let i = at; i < at + count; i++) {
    columns.kinds[i] = kinds.unsigned();
    columns.lanes[i] = lane += lanes.signed();
    columns.begins[i] = begin += begins.signed();
    columns.durations[i] = durations.unsigned();
    columns.names[i] = names.unsigned();
    columns.others[i] = others.unsigned();
    columns.results[i] = results.signed();
    columns.asked[i] = asked.signed();
  }
  return count;
}

/** Numbers of variable length, one after the other. */
class Numbers {
  offset: number;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, offset: number) {
    this.bytes = bytes;
    this.offset = offset;
  }

  unsigned(): number {
    let byte = this.bytes[this.offset++]!;
    if (byte < 128) return byte;
    let value = byte - 128;
    for (let scale = 128; ; scale *= 128) {
      byte = this.bytes[this.offset++]!;
      if (byte < 128) return value + byte * scale;
      value += (byte - 128) * scale;
    }
  }

  signed(): number {
    const folded = this.unsigned();
    return folded % 2 === 0 ? folded / 2 : -(folded + 1) / 2;
  }
}
