// What is told of a span: in a few lines at the pointer, and at the side with links to the other party. All as text, never as HTML.

import { Item, type Trace } from './data.ts';
import { formatBytes, formatCount, formatDuration, formatMoment, plural } from './format.ts';
import { counterpart } from './pick.ts';

/** How many calls of a step are listed. */
const MAX_CALLS = 12;

/** A line: what, and its value; with a place to go to, a link. */
export interface Fact {
  label: string;
  value: string;
  to?: { lane: number; item: number };
}

const TITLES: Record<number, string> = {
  [Item.blocked]: 'blocked: the one blocking call',
  [Item.awaited]: 'a task waits for it',
  [Item.syscall]: 'system call',
  [Item.suspended]: 'suspended',
  [Item.runnable]: 'runnable: woken, not running yet',
  [Item.running]: 'running',
  [Item.ready]: 'became ready',
  [Item.spawn]: 'spawned',
  [Item.end]: 'ended',
  [Item.timer]: 'timer fired',
  [Item.libuv]: 'libuv has its turn',
  [Item.lost]: 'records lost: the ring or the disk was full',
};

/** 'recvfrom = 64', 'waits for fd 9 IN'. */
export function titleOf(trace: Trace, item: number): string {
  const kind = trace.kind[item]!;
  const text = trace.text(item);
  if (kind === Item.syscall) return `${text} = ${outcome(trace, item)}`;
  if (kind === Item.suspended) return `waits for ${text}`;
  if (kind === Item.awaited) return `awaited by ${text}`;
  if (kind === Item.ready) return `ready ${text}`;
  return text;
}

export function kindOf(trace: Trace, item: number): string {
  return TITLES[trace.kind[item]!] ?? '';
}

/** '64', or '-1 ECONNRESET'. */
function outcome(trace: Trace, item: number): string {
  const result = trace.result[item]!;
  return result < 0 ? `-1 ${trace.errors.get(result) ?? result}` : String(result);
}

/** What is known of an item. */
export function factsOf(trace: Trace, item: number): Fact[] {
  const kind = trace.kind[item]!;
  const lane = trace.lanes[trace.lane[item]!]!;
  const facts: Fact[] = [
    { label: 'lane', value: lane.name, to: { lane: lane.index, item: -1 } },
    { label: 'begins', value: formatMoment(trace.begin[item]!) },
  ];
  if (kind <= Item.running) facts.push({ label: 'takes', value: formatDuration(trace.duration(item)) });
  const result = trace.result[item]!;
  if (kind === Item.syscall) {
    if (trace.asked[item]! > 0 && isTransfer(trace, item))
      facts.push({ label: 'asked', value: formatBytes(trace.asked[item]!) });
    if (result < 0) facts.push({ label: 'failed', value: trace.errors.get(result) ?? String(result) });
    else facts.push({ label: 'result', value: isTransfer(trace, item) ? formatBytes(result) : String(result) });
  } else if (kind === Item.blocked) {
    const asked = trace.asked[item]!;
    facts.push({ label: 'time-out', value: asked < 0 ? 'none' : formatDuration(asked) });
    facts.push({ label: 'brought', value: result < 0 ? outcome(trace, item) : `${formatCount(result)} ready` });
  } else if (kind === Item.end && trace.text(item) !== '') facts.push({ label: 'how', value: trace.text(item) });
  const other = counterpart(trace, item);
  if (other !== null) facts.push({ label: relation(kind), value: trace.lanes[other.lane]!.name, to: other });
  return facts;
}

/** The calls that a task made while it ran, the first of them. */
export function callsOf(trace: Trace, item: number): Fact[] {
  if (trace.kind[item] !== Item.running) return [];
  const calls = trace.linked(trace.lane[item]!, Item.syscall);
  const from = trace.begin[item]!;
  const to = trace.end[item]!;
  let at = 0;
  for (let high = calls.length; at < high; ) {
    const middle = (at + high) >>> 1;
    if (trace.begin[calls[middle]!]! < from) at = middle + 1;
    else high = middle;
  }
  const facts: Fact[] = [];
  for (let i = at; i < calls.length && trace.begin[calls[i]!]! <= to && facts.length < MAX_CALLS; i++) {
    const call = calls[i]!;
    const lane = trace.lane[call]!;
    facts.push({
      label: titleOf(trace, call),
      value: trace.lanes[lane]!.fd >= 0 ? `fd ${trace.lanes[lane]!.fd}` : trace.lanes[lane]!.name,
      to: { lane, item: call },
    });
  }
  return facts;
}

/** What is known of a lane. */
export function laneFacts(trace: Trace, index: number): Fact[] {
  const lane = trace.lanes[index]!;
  const facts: Fact[] = [
    { label: 'from', value: formatMoment(lane.begin) },
    { label: 'to', value: formatMoment(lane.end) },
  ];
  const time = (label: string, kind: number): void => {
    const [first, last] = trace.series(index, kind);
    if (last > first)
      facts.push({ label, value: `${formatDuration(trace.total(index, kind))} in ${plural(last - first, 'span')}` });
  };
  time('blocked', Item.blocked);
  time('awaited', Item.awaited);
  time('in calls', Item.syscall);
  time('suspended', Item.suspended);
  time('runnable', Item.runnable);
  time('running', Item.running);
  if (lane.mate >= 0)
    facts.push({ label: 'task', value: trace.lanes[lane.mate]!.name, to: { lane: lane.mate, item: -1 } });
  if (lane.kind === 'task')
    for (const other of trace.lanes) {
      if (other.mate !== index || facts.length > MAX_CALLS) continue;
      facts.push({ label: 'waits for', value: other.name, to: { lane: other.index, item: -1 } });
    }
  return facts;
}

function relation(kind: number): string {
  if (kind === Item.awaited || kind === Item.syscall) return 'task';
  if (kind === Item.suspended) return 'waits for';
  if (kind === Item.ready) return 'wakes';
  return 'woken by';
}

function isTransfer(trace: Trace, item: number): boolean {
  return trace.about.transfers.includes(trace.text(item));
}

/** The little box at the pointer. */
export class Tooltip {
  private readonly box: HTMLElement;

  constructor(box: HTMLElement) {
    this.box = box;
  }

  hide(): void {
    this.box.hidden = true;
  }

  show(trace: Trace, item: number, count: number, x: number, y: number): void {
    const title = document.createElement('strong');
    title.textContent = titleOf(trace, item);
    const kind = document.createElement('span');
    kind.textContent = count > 1 ? `one of ${formatCount(count)} here; zoom in` : kindOf(trace, item);
    const list = document.createElement('dl');
    for (const { label, value } of factsOf(trace, item)) list.append(term(label), description(value));
    this.box.replaceChildren(title, kind, list);
    this.box.hidden = false;
    const { offsetWidth, offsetHeight } = this.box;
    const left = x + 16 + offsetWidth > window.innerWidth ? x - offsetWidth - 12 : x + 16;
    const top = y + 16 + offsetHeight > window.innerHeight ? y - offsetHeight - 12 : y + 16;
    this.box.style.left = `${Math.max(4, left)}px`;
    this.box.style.top = `${Math.max(4, top)}px`;
  }
}

/** A list of facts, those with somewhere to go as buttons. */
export function factList(facts: Fact[], go: (to: { lane: number; item: number }) => void): HTMLElement {
  const list = document.createElement('dl');
  for (const { label, value, to } of facts) {
    const cell = description(value);
    if (to !== undefined) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'link';
      button.textContent = value;
      button.addEventListener('click', () => go(to));
      cell.replaceChildren(button);
    }
    list.append(term(label), cell);
  }
  return list;
}

function term(text: string): HTMLElement {
  const element = document.createElement('dt');
  element.textContent = text;
  return element;
}

function description(text: string): HTMLElement {
  const element = document.createElement('dd');
  element.textContent = text;
  return element;
}
