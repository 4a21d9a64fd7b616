// A trace in Perfetto's own format: packets of Protocol Buffers, for ui.perfetto.dev and its trace processor.
//
// The process has a track for each thread, and under it the blocking call, a group of tasks and a group of descriptors. Lanes of one track
// have one name, so that the viewer draws them as one. Spans are pairs of begin and end, marks are instants; a flow runs from the instant at
// which a descriptor became ready to the slice in which the task that it woke runs. Packets are not sorted by time: whoever reads them does so.
// Times are nanoseconds of a clock of this file's own, which a snapshot ties to CLOCK_MONOTONIC and to the wall clock.
//
// Field numbers are those of protos/perfetto/trace/**/*.proto, and each is named once, here.
// https://perfetto.dev/docs/reference/synthetic-track-event

import { objectOf } from './jsonl.ts';
import { type Arrow, type Lane, type LaneSink, Lanes } from './lanes.ts';
import { threadName } from './names.ts';
import { ProtobufWriter } from './protobuf.ts';
import type { TraceHeader, TraceRecord } from './reader.ts';
import type { Mark, Span, Track } from './spans.ts';

const Trace = { packet: 1 } as const;
const TracePacket = {
  clockSnapshot: 6,
  timestamp: 8,
  trustedPacketSequenceId: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  tracePacketDefaults: 59,
  trackDescriptor: 60,
  firstPacketOnSequence: 87,
} as const;
const TracePacketDefaults = { timestampClockId: 58 } as const;
const ClockSnapshot = { clocks: 1, primaryTraceClock: 2 } as const;
const Clock = { clockId: 1, timestamp: 2 } as const;
const TrackDescriptor = {
  uuid: 1,
  name: 2,
  process: 3,
  parentUuid: 5,
  childOrdering: 11,
  siblingOrderRank: 12,
} as const;
const ProcessDescriptor = { pid: 1, processName: 6 } as const;
const TrackEvent = {
  categoryIids: 3,
  debugAnnotations: 4,
  type: 9,
  nameIid: 10,
  trackUuid: 11,
  name: 23,
  flowIds: 47,
  terminatingFlowIds: 48,
} as const;
const DebugAnnotation = { nameIid: 1, intValue: 4, doubleValue: 5, stringValue: 6 } as const;
const InternedData = { eventCategories: 1, eventNames: 2, debugAnnotationNames: 3 } as const;
const Interned = { iid: 1, name: 2 } as const;

const SLICE_BEGIN = 1;
const SLICE_END = 2;
const INSTANT = 3;
const INCREMENTAL_STATE_CLEARED = 1;
const NEEDS_INCREMENTAL_STATE = 2;
const CHILDREN_BY_RANK = 3;
const REALTIME = 1;
const MONOTONIC = 3;
/** The first of those that mean something within one sequence of packets only. */
const OUR_CLOCK = 64;
const SEQUENCE = 1;
const PROCESS = 1;
/** Names that are written once and referred to from then on; those beyond are written out. */
const MAX_INTERNED = 8192;
const MAX_RANK = 2 ** 31 - 1;

/** What numbers of a table stand for. */
class Interning {
  readonly field: number;
  private readonly numbers = new Map<string, number>();

  constructor(field: number) {
    this.field = field;
  }

  /** The number of a text, and whether it is a new one; 0 when the table is full. */
  number(text: string): { iid: number; isNew: boolean } {
    const iid = this.numbers.get(text);
    if (iid !== undefined) return { iid, isNew: false };
    if (this.numbers.size >= MAX_INTERNED) return { iid: 0, isNew: false };
    this.numbers.set(text, this.numbers.size + 1);
    return { iid: this.numbers.size, isNew: true };
  }
}

interface Group {
  readonly thread: number;
  readonly tasks: number;
  readonly descriptors: number;
}

export class PerfettoWriter implements LaneSink {
  private readonly out = new ProtobufWriter();
  private readonly lanes = new Lanes(this);
  private readonly categories = new Interning(InternedData.eventCategories);
  private readonly eventNames = new Interning(InternedData.eventNames);
  private readonly annotationNames = new Interning(InternedData.debugAnnotationNames);
  private readonly groups = new Map<number, Group>();
  /** The track of each lane; a lane of an awaited descriptor hangs under the first of its track. */
  private readonly tracks = new WeakMap<Lane, number>();
  private readonly firsts = new WeakMap<Track, number>();
  private lastUuid = PROCESS;

  constructor(header: TraceHeader) {
    this.clocks(header);
    this.packet(() => {
      const { out } = this;
      const track = out.begin(TracePacket.trackDescriptor);
      out.integer(TrackDescriptor.uuid, PROCESS);
      const process = out.begin(TrackDescriptor.process);
      out.integer(ProcessDescriptor.pid, header.pid);
      out.string(ProcessDescriptor.processName, 'onewait');
      out.end(process);
      out.end(track);
    });
  }

  get size(): number {
    return this.out.size;
  }

  take(): Uint8Array {
    return this.out.take();
  }

  push(record: TraceRecord): void {
    this.lanes.push(record);
  }

  /** There is nothing to close: the format is a sequence of packets. */
  finish(): void {
    this.lanes.finish();
  }

  /** The name of a track cannot change: a socket that is being made has one, and another from when it is a connection or a listener. */
  lane(lane: Lane): void {
    const { track, awaited, number } = lane;
    const group = this.group(track.thread);
    const rank = Math.max(track.task, track.fd, 0);
    let uuid: number;
    if (awaited) uuid = this.track('awaited', this.firsts.get(track)!, number);
    else if (track.kind === 'wait') uuid = this.track(track.name, group.thread, 0);
    else uuid = this.track(track.name, track.kind === 'task' ? group.tasks : group.descriptors, rank);
    this.tracks.set(lane, uuid);
    if (!awaited && number === 0) this.firsts.set(track, uuid);
  }

  slice(lane: Lane, span: Span, begin: number, end: number, arrows: readonly Arrow[]): void {
    this.event(begin, SLICE_BEGIN, lane, span, (out) => {
      for (const { id } of arrows) out.fixed64(TrackEvent.terminatingFlowIds, id);
    });
    this.packet((out) => {
      out.integer(TracePacket.timestamp, end);
      const event = out.begin(TracePacket.trackEvent);
      out.integer(TrackEvent.type, SLICE_END);
      out.integer(TrackEvent.trackUuid, this.tracks.get(lane)!);
      out.end(event);
    });
  }

  mark(lane: Lane, mark: Mark, t: number, arrows: readonly number[]): void {
    this.event(t, INSTANT, lane, mark, (out) => {
      for (const id of arrows) out.fixed64(TrackEvent.flowIds, id);
    });
  }

  private event(t: number, type: number, lane: Lane, what: Span | Mark, flows: (out: ProtobufWriter) => void): void {
    const category = this.categories.number(what.kind);
    const name = this.eventNames.number(what.name);
    const {
      t: _t,
      kind: _kind,
      ...values
    } = (what.record && objectOf(what.record, this.lanes.names)) ?? { t: 0, kind: '' };
    const annotations = Object.entries<number | string>(values);
    if ('other' in what && what.other !== null) annotations.push(['other', what.other.name]);
    const numbers = annotations.map(([key]) => this.annotationNames.number(key));
    this.packet((out) => {
      if (category.isNew || name.isNew || numbers.some(({ isNew }) => isNew)) {
        const interned = out.begin(TracePacket.internedData);
        if (category.isNew) this.intern(this.categories, category.iid, what.kind);
        if (name.isNew) this.intern(this.eventNames, name.iid, what.name);
        for (const [i, { iid, isNew }] of numbers.entries())
          if (isNew) this.intern(this.annotationNames, iid, annotations[i]![0]);
        out.end(interned);
      }
      out.integer(TracePacket.timestamp, t);
      const event = out.begin(TracePacket.trackEvent);
      out.integer(TrackEvent.categoryIids, category.iid);
      for (const [i, [, value]] of annotations.entries()) {
        const annotation = out.begin(TrackEvent.debugAnnotations);
        out.integer(DebugAnnotation.nameIid, numbers[i]!.iid);
        if (typeof value === 'string') out.string(DebugAnnotation.stringValue, value);
        else if (Number.isSafeInteger(value)) out.integer(DebugAnnotation.intValue, value);
        else out.double(DebugAnnotation.doubleValue, value);
        out.end(annotation);
      }
      out.integer(TrackEvent.type, type);
      if (name.iid > 0) out.integer(TrackEvent.nameIid, name.iid);
      else out.string(TrackEvent.name, what.name);
      out.integer(TrackEvent.trackUuid, this.tracks.get(lane)!);
      flows(out);
      out.end(event);
    });
  }

  private intern({ field }: Interning, iid: number, text: string): void {
    const { out } = this;
    const entry = out.begin(field);
    out.integer(Interned.iid, iid);
    out.string(Interned.name, text);
    out.end(entry);
  }

  private group(thread: number): Group {
    let group = this.groups.get(thread);
    if (group === undefined) {
      const uuid = this.track(threadName(thread), PROCESS, thread, true);
      group = {
        thread: uuid,
        tasks: this.track('tasks', uuid, 1, true),
        descriptors: this.track('descriptors', uuid, 2, true),
      };
      this.groups.set(thread, group);
    }
    return group;
  }

  /** Describes a track, whose siblings are shown in order of rank. */
  private track(name: string, parent: number, rank: number, isGroup = false): number {
    const uuid = ++this.lastUuid;
    this.packet((out) => {
      const track = out.begin(TracePacket.trackDescriptor);
      out.integer(TrackDescriptor.uuid, uuid);
      out.string(TrackDescriptor.name, name);
      out.integer(TrackDescriptor.parentUuid, parent);
      if (isGroup) out.integer(TrackDescriptor.childOrdering, CHILDREN_BY_RANK);
      out.integer(TrackDescriptor.siblingOrderRank, Math.min(rank, MAX_RANK));
      out.end(track);
    });
    return uuid;
  }

  /** The first packet: which clock the others go by, and what other clocks showed when it began. */
  private clocks({ monotonicNs, wallClockMs }: TraceHeader): void {
    const { out } = this;
    const packet = out.begin(Trace.packet);
    out.integer(TracePacket.trustedPacketSequenceId, SEQUENCE);
    out.integer(TracePacket.sequenceFlags, INCREMENTAL_STATE_CLEARED);
    out.integer(TracePacket.firstPacketOnSequence, 1);
    const defaults = out.begin(TracePacket.tracePacketDefaults);
    out.integer(TracePacketDefaults.timestampClockId, OUR_CLOCK);
    out.end(defaults);
    const snapshot = out.begin(TracePacket.clockSnapshot);
    for (const [id, timestamp] of [
      [OUR_CLOCK, 0n],
      [MONOTONIC, monotonicNs],
      [REALTIME, BigInt(wallClockMs) * 1_000_000n],
    ] as const) {
      const clock = out.begin(ClockSnapshot.clocks);
      out.integer(Clock.clockId, id);
      out.bigInteger(Clock.timestamp, timestamp);
      out.end(clock);
    }
    out.integer(ClockSnapshot.primaryTraceClock, MONOTONIC);
    out.end(snapshot);
    out.end(packet);
  }

  private packet(fill: (out: ProtobufWriter) => void): void {
    const { out } = this;
    const packet = out.begin(Trace.packet);
    fill(out);
    out.integer(TracePacket.trustedPacketSequenceId, SEQUENCE);
    out.integer(TracePacket.sequenceFlags, NEEDS_INCREMENTAL_STATE);
    out.end(packet);
  }
}
