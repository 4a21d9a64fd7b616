// What the timeline's page shows, packed. Lanes, names and items (spans, marks and arrows) are written as they are found, in blocks that are each
// compressed, so the memory is that of one block whatever the length of the trace. src/trace/page/data.ts reads it.
//
// A block of items is a column for each field, as numbers of variable length: 7 bits in a byte, the lowest first, and the highest bit says that
// more follow. A signed number is folded: 0, -1, 1, -2 are 0, 1, 2, 3. Lanes and begins are differences to the item before.

import { deflateRawSync } from 'node:zlib';
import { Kind } from './record.ts';
import type { Flow, Mark, Span, SpanSink, Track } from './spans.ts';

/** Kinds of items, by number. The page has the same list. */
const ITEM_KINDS = [
  'blocked',
  'awaited',
  'syscall',
  'suspended',
  'runnable',
  'running',
  'ready',
  'spawn',
  'end',
  'timer',
  'libuv',
  'lost',
  'flow',
  'closed',
] as const;
type ItemKind = (typeof ITEM_KINDS)[number];
const NUMBER_OF = Object.fromEntries(ITEM_KINDS.map((kind, number) => [kind, number])) as Record<ItemKind, number>;

const ITEMS_PER_BLOCK = 65_536;
const TEXTS_PER_BLOCK = 16_384;
/** Texts that are known again; after so many it begins anew, and some are written twice. */
const MAX_TEXTS = 65_536;
const CONTROLS = ['?', 'ADD', 'DEL', 'MOD'];

/** What a block holds: lanes and texts as JSON. */
export type BlockKind = 'lanes' | 'texts' | 'items';

/** Takes what Spans finds, and hands on compressed blocks. */
export class TimelineData implements SpanSink {
  lanes = 0;
  items = 0;
  /** When the last item ends; ns since the trace began. */
  end = 0;
  /** Negative results of system calls, to be named. */
  readonly errnos: Set<number> = new Set();
  private readonly write: (kind: BlockKind, bytes: Uint8Array) => void;
  private readonly kinds = new Column();
  private readonly tracks = new Column();
  private readonly begins = new Column();
  private readonly durations = new Column();
  private readonly names = new Column();
  private readonly others = new Column();
  private readonly results = new Column();
  private readonly asked = new Column();
  private lastTrack = 0;
  private lastBegin = 0;
  private inBlock = 0;
  private newLanes: Array<[id: number, kind: string, thread: number, name: string, fd: number, begin: number]> = [];
  private newTexts: string[] = [];
  private readonly textNumbers = new Map<string, number>();
  private texts = 0;

  constructor(write: (kind: BlockKind, bytes: Uint8Array) => void) {
    this.write = write;
  }

  /** A lane that is written again has got another name. */
  track({ id, kind, thread, name, fd, begin }: Track): void {
    this.lanes = Math.max(this.lanes, id);
    this.newLanes.push([id, kind, thread, name, fd, Math.round(begin)]);
    if (this.newLanes.length >= TEXTS_PER_BLOCK) this.flushLanes();
  }

  span({ track, kind, begin, duration, name, other, record }: Span): void {
    let result = 0;
    let asked = 0;
    if (record !== null && (kind === 'syscall' || kind === 'blocked')) {
      ({ result, arg: asked } = record);
      if (result < 0) this.errnos.add(result);
    }
    const called = record?.kind === Kind.control ? `epoll_ctl ${CONTROLS[record.code] ?? '?'}` : name;
    this.item(kind, track, begin, duration, called, other, result, asked);
  }

  mark({ track, kind, t, name, record }: Mark): void {
    this.item(kind, track, t, 0, name, null, kind === 'lost' ? record.result : record.code, 0);
  }

  flow({ from, fromT, to, toT }: Flow): void {
    this.item('flow', from, fromT, Math.max(0, toT - fromT), '', to, 0, 0);
  }

  ended(track: Track, t: number): void {
    this.item('closed', track, t, 0, '', null, 0, 0);
  }

  /** Writes what is left. */
  finish(): void {
    this.flushItems();
    this.flushTexts();
    this.flushLanes();
  }

  private item(
    kind: ItemKind,
    track: Track,
    begin: number,
    duration: number,
    name: string,
    other: Track | null,
    result: number,
    asked: number,
  ): void {
    const from = Math.round(begin);
    const length = Math.round(duration);
    this.kinds.unsigned(NUMBER_OF[kind]);
    this.tracks.signed(track.id - this.lastTrack);
    this.begins.signed(from - this.lastBegin);
    this.durations.unsigned(length);
    this.names.unsigned(this.text(name));
    this.others.unsigned(other === null ? 0 : other.id);
    this.results.signed(result);
    this.asked.signed(asked);
    this.lastTrack = track.id;
    this.lastBegin = from;
    this.end = Math.max(this.end, from + length);
    this.items++;
    if (++this.inBlock >= ITEMS_PER_BLOCK) this.flushItems();
  }

  private text(text: string): number {
    let number = this.textNumbers.get(text);
    if (number !== undefined) return number;
    if (this.textNumbers.size >= MAX_TEXTS) this.textNumbers.clear();
    number = this.texts++;
    this.textNumbers.set(text, number);
    this.newTexts.push(text);
    if (this.newTexts.length >= TEXTS_PER_BLOCK) this.flushTexts();
    return number;
  }

  private flushItems(): void {
    if (this.inBlock === 0) return;
    const { kinds, tracks, begins, durations, names, others, results, asked } = this;
    const columns = [kinds, tracks, begins, durations, names, others, results, asked].map((column) => column.take());
    const head = new Column();
    head.unsigned(this.inBlock);
    for (const column of columns) head.unsigned(column.length);
    this.emit('items', Buffer.concat([head.take(), ...columns]));
    this.inBlock = 0;
    this.lastTrack = 0;
    this.lastBegin = 0;
  }

  private flushTexts(): void {
    if (this.newTexts.length > 0) this.emit('texts', Buffer.from(JSON.stringify(this.newTexts)));
    this.newTexts = [];
  }

  private flushLanes(): void {
    if (this.newLanes.length > 0) this.emit('lanes', Buffer.from(JSON.stringify(this.newLanes)));
    this.newLanes = [];
  }

  private emit(kind: BlockKind, bytes: Uint8Array): void {
    this.write(kind, deflateRawSync(bytes));
  }
}

/** Numbers of variable length, one after the other. */
class Column {
  private bytes = new Uint8Array(ITEMS_PER_BLOCK);
  private length = 0;

  /** A whole number from 0; also one beyond 2 ** 32, so the arithmetic is that of doubles. */
  unsigned(value: number): void {
    if (this.length + 160 > this.bytes.length) {
      const larger = new Uint8Array(this.bytes.length * 2);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    let rest = value;
    while (rest >= 128) {
      this.bytes[this.length++] = 128 | (rest % 128);
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.length++] = rest;
  }

  signed(value: number): void {
    this.unsigned(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** What was put in so far; it is empty then. The next numbers overwrite it. */
  take(): Uint8Array {
    const taken = this.bytes.subarray(0, this.length);
    this.length = 0;
    return taken;
  }
}
