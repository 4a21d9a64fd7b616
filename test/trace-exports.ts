// Reads exported traces back, as a viewer would: Chrome's JSON by the rules of its document, Perfetto's packets by a parser of Protocol Buffers
// and the rules of its importer. What is not as the formats ask throws.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { readTrace } from '../src/trace/reader.ts';
import { Spans } from '../src/trace/spans.ts';
import { root } from './processes.ts';

/** Everything that a timeline shows, each a line, sorted: two timelines that show the same are equal. */
export interface Timeline {
  spans: string[];
  marks: string[];
  flows: string[];
}

/** The original: what the spans of a trace are. Tracks have the names that they have at its end. */
export function timelineOf(path: string): Timeline {
  const timeline = { spans: [], marks: [], flows: [] } as Record<keyof Timeline, Array<() => string>>;
  const spans = new Spans({
    span({ track, kind, name, begin, duration, other }) {
      const [from, to] = [Math.round(begin), Math.round(begin + duration)];
      const otherName = other?.name;
      timeline.spans.push(() => line(track.name, kind, name, from, to, otherName));
    },
    mark: ({ track, kind, name, t }) => timeline.marks.push(() => line(track.name, kind, name, Math.round(t))),
    flow: ({ from, fromT, to }) => timeline.flows.push(() => line(from.name, Math.round(fromT), to.name)),
  });
  for (const record of readTrace(path).records) spans.push(record);
  spans.finish();
  const [a, b, c] = [timeline.spans, timeline.marks, timeline.flows].map((lines) => lines.map((made) => made()));
  return sorted({ spans: a!, marks: b!, flows: c! });
}

/** A timeline in which descriptors have no names but their numbers. In Perfetto's format one that gets a name gets a track, too. */
export function withoutNames({ spans, marks, flows }: Timeline): Timeline {
  const nameless = (text: string): string => {
    const fields = (JSON.parse(text) as Array<string | number>).map((field) =>
      typeof field === 'string' ? field.replace(/^((worker \d+: )?fd -?\d+) .*/s, '$1') : field,
    );
    return line(...fields);
  };
  return sorted({ spans: spans.map(nameless), marks: marks.map(nameless), flows: flows.map(nameless) });
}

function line(...fields: Array<string | number | undefined>): string {
  return JSON.stringify(fields);
}

function sorted({ spans, marks, flows }: Timeline): Timeline {
  return { spans: spans.sort(), marks: marks.sort(), flows: flows.sort() };
}

interface ChromeEvent {
  name: string;
  ph: string;
  pid: number;
  tid: number;
  cat?: string;
  ts?: number;
  dur?: number;
  id?: number;
  s?: string;
  bp?: string;
  args?: Record<string, string | number>;
}

interface Slice {
  kind: string;
  begin: number;
  end: number;
}

/** A timeline without the times of its arrows: they must be within slices in Chrome's format, whatever the trace says. */
export function withoutTimes({ flows, ...timeline }: Timeline): Timeline {
  return {
    ...timeline,
    flows: flows
      .map((flow) => {
        const [from, , to] = JSON.parse(flow) as [string, number, string];
        return line(from, to);
      })
      .sort(),
  };
}

/** Of Trace Event Format, its JSON Object Format. */
export function timelineOfChrome(json: string): Timeline & { events: ChromeEvent[] } {
  const file = JSON.parse(json) as { displayTimeUnit: string; traceEvents: ChromeEvent[] };
  assert.equal(file.displayTimeUnit, 'ns');
  const events = file.traceEvents;
  const timeline: Timeline = { spans: [], marks: [], flows: [] };
  const rows = new Map<number, string>();
  for (const { name, tid, args } of events) if (name === 'thread_name') rows.set(tid, String(args!.name));
  const described = new Set<number>();
  const slices = new Map<number, Slice[]>();
  const starts = new Map<number, ChromeEvent>();
  const ends: ChromeEvent[] = [];
  for (const event of events) {
    const { name, ph, pid, tid, args } = event;
    assert.equal(typeof name, 'string');
    assert.ok(Number.isInteger(pid) && Number.isInteger(tid));
    assert.equal(pid, events[0]!.pid);
    if (ph === 'M') {
      assert.ok(['process_name', 'thread_name', 'thread_sort_index'].includes(name));
      if (name === 'thread_name') described.add(tid);
      else if (name === 'thread_sort_index')
        assert.ok(Number.isInteger(args!.sort_index) && Math.abs(Number(args!.sort_index)) < 2 ** 31);
      continue;
    }
    assert.ok(described.has(tid), 'a row is described before it is used');
    const row = rows.get(tid)!.replace(/( awaited)?( \(\d+\))?$/, '');
    const kind = event.cat!;
    const ts = ns(event.ts!);
    if (ph === 'X') {
      const end = ts + ns(event.dur!);
      const taken = slices.get(tid) ?? [];
      taken.push({ kind, begin: ts, end });
      slices.set(tid, taken);
      timeline.spans.push(line(row, kind, name, ts, end, args!.other as string | undefined));
    } else if (ph === 'i') {
      assert.equal(event.s, 't');
      timeline.marks.push(line(row, kind, name, ts));
    } else if (ph === 's') {
      assert.ok(!starts.has(event.id!));
      starts.set(event.id!, event);
    } else {
      assert.equal(ph, 'f');
      assert.equal(event.bp, 'e');
      ends.push(event);
    }
  }
  for (const taken of slices.values()) follow(taken);
  for (const end of ends) {
    const start = starts.get(end.id!)!;
    starts.delete(end.id!);
    // Both parts of a flow have one name and category.
    assert.deepEqual([start.name, start.cat], [end.name, end.cat]);
    const [from, to] = [start, end].map(({ tid }) => rows.get(tid)!.replace(/( awaited)?( \(\d+\))?$/, ''));
    timeline.flows.push(line(from, to));
    // What a flow's ends are bound to is the slice that encloses them: the wait for a descriptor, and what the task did then.
    for (const [{ ts, tid }, kind] of [
      [start, 'awaited'],
      [end, 'running'],
    ] as const) {
      const t = ns(ts!);
      const enclosing = slices
        .get(tid)!
        .filter((slice) => slice.begin <= t && (t < slice.end || slice.begin === slice.end));
      assert.ok(enclosing.some((slice) => slice.kind === kind));
    }
  }
  assert.equal(starts.size, 0);
  return { ...sorted(timeline), events };
}

function ns(micros: number): number {
  assert.ok(micros >= 0);
  return Math.round(micros * 1000);
}

/** Slices of one row must not overlap: the next begins when the one before has ended. */
function follow(slices: Slice[]): void {
  slices.sort((a, b) => a.begin - b.begin || a.end - b.end);
  for (const [i, { begin }] of slices.entries()) if (i > 0) assert.ok(slices[i - 1]!.end <= begin);
}

interface Track {
  name: string;
  parent: number;
}

interface TrackEvent {
  categoryIids: number[];
  type: number;
  nameIid?: number;
  name?: string;
  trackUuid: number;
  flowIds?: number[];
  terminatingFlowIds?: number[];
  debugAnnotations?: Array<{ nameIid: number; intValue?: number; doubleValue?: number; stringValue?: string }>;
}

interface Packet {
  timestamp?: number;
  trustedPacketSequenceId: number;
  sequenceFlags: number;
  firstPacketOnSequence?: boolean;
  tracePacketDefaults?: { timestampClockId: number };
  clockSnapshot?: { clocks: Array<{ clockId: number; timestamp: number }>; primaryTraceClock: number };
  trackDescriptor?: { uuid: number; parentUuid?: number; name?: string; process?: { pid: number } };
  trackEvent?: TrackEvent;
  internedData?: Record<
    'eventCategories' | 'eventNames' | 'debugAnnotationNames',
    Array<{ iid: number; name: string }>
  >;
}

const definition = protobuf.parse(readFileSync(join(root, 'test/perfetto.proto'), 'utf8')).root;
const Trace = definition.lookupType('perfetto.protos.Trace');

/** Packets of Perfetto, with numbers of 64 bits as text. */
export function packetsOf(bytes: Uint8Array): object[] {
  return (Trace.toObject(Trace.decode(bytes), { longs: String }) as { packet: object[] }).packet;
}

/** Of Perfetto's packets. */
export function timelineOfPerfetto(bytes: Uint8Array): Timeline & { packets: Packet[] } {
  const trace = Trace.decode(bytes);
  // A field that the definition does not know would be missing here.
  assert.equal(Trace.encode(trace).finish().length, bytes.length);
  const { packet: packets } = Trace.toObject(trace, { longs: Number, enums: Number }) as { packet: Packet[] };
  const timeline: Timeline = { spans: [], marks: [], flows: [] };
  const tracks = new Map<number, Track>();
  const names = { eventCategories: new Map(), eventNames: new Map(), debugAnnotationNames: new Map() };
  interface Event {
    t: number;
    event: TrackEvent;
    kind: string;
    name: string;
    other: string | undefined;
  }
  const events: Event[] = [];
  for (const [i, packet] of packets.entries()) {
    assert.equal(packet.trustedPacketSequenceId, packets[0]!.trustedPacketSequenceId);
    // Only after a packet that clears what is remembered (1) may others need what is (2).
    assert.equal(packet.sequenceFlags, i === 0 ? 1 : 2);
    for (const table of ['eventCategories', 'eventNames', 'debugAnnotationNames'] as const) {
      for (const { iid, name } of packet.internedData?.[table] ?? []) {
        assert.ok(iid > 0 && !names[table].has(iid));
        names[table].set(iid, name);
      }
    }
    const { trackDescriptor: track, trackEvent: event } = packet;
    if (track !== undefined) {
      assert.ok(track.uuid > 0 && !tracks.has(track.uuid));
      assert.ok(track.process !== undefined || tracks.has(track.parentUuid!));
      tracks.set(track.uuid, { name: track.name ?? '', parent: track.parentUuid ?? 0 });
    }
    if (event === undefined) continue;
    assert.ok(tracks.has(event.trackUuid));
    const [category] = event.categoryIids ?? [];
    const annotations = new Map<string, string>();
    for (const { nameIid, stringValue } of event.debugAnnotations ?? []) {
      assert.ok(names.debugAnnotationNames.has(nameIid));
      annotations.set(names.debugAnnotationNames.get(nameIid), stringValue ?? '');
    }
    const name = event.name ?? names.eventNames.get(event.nameIid);
    const kind = names.eventCategories.get(category);
    events.push({ t: packet.timestamp!, event, kind, name, other: annotations.get('other') });
  }
  const trackName = (uuid: number): string => {
    const { name, parent } = tracks.get(uuid)!;
    return name === 'awaited' ? trackName(parent) : name;
  };
  // As the importer does: sorted by time, in the order of the file where that is the same; an end ends what began last.
  const open = new Map<number, Event>();
  const flows = new Map<number, Event>();
  const ends: Array<[number, Event]> = [];
  for (const item of events.sort((a, b) => a.t - b.t)) {
    const { event, t } = item;
    const { trackUuid: uuid, type } = event;
    if (type === 1) {
      assert.ok(!open.has(uuid), 'slices do not nest');
      open.set(uuid, item);
    } else if (type === 2) {
      const begin = open.get(uuid)!;
      open.delete(uuid);
      timeline.spans.push(line(trackName(uuid), begin.kind, begin.name, begin.t, t, begin.other));
    } else {
      assert.equal(type, 3);
      timeline.marks.push(line(trackName(uuid), item.kind, item.name, t));
    }
    for (const id of event.flowIds ?? []) {
      assert.ok(!flows.has(id));
      flows.set(id, item);
    }
    for (const id of event.terminatingFlowIds ?? []) ends.push([id, item]);
  }
  assert.equal(open.size, 0);
  for (const [id, { event }] of ends) {
    const from = flows.get(id)!;
    flows.delete(id);
    timeline.flows.push(line(trackName(from.event.trackUuid), from.t, trackName(event.trackUuid)));
  }
  assert.equal(flows.size, 0);
  return { ...sorted(timeline), packets };
}
