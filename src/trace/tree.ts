// The tasks of a loop as a tree in text: runs, their tasks, the tasks of their scopes, and what each waits for.
//
// It looks and changes nothing, and its size is bounded by how much there is to tell: of siblings that differ in numbers only, a few are shown and
// the rest are counted, and so is what lies very deep. Descriptors are looked up for lines that are shown, not for 5,000 that are not.

import { writeSync } from 'node:fs';
import type { Loop } from '../loop.ts';
import type { Task } from '../task.ts';
import { descriptorName } from './descriptor-name.ts';
import { printable } from './names.ts';

/** Siblings of one sort that are shown. */
const SHOWN = 8;
const MAX_DEPTH = 40;
const MAX_TEXT = 200;

/** The tree, a line each, without colours; `loop` is null where none runs. */
export function taskTree(loop: Loop | null): string[] {
  if (loop === null) return ['no loop runs on this thread'];
  const tasks = [...loop.tasks()];
  const states = new Map<string, number>();
  for (const { state } of tasks) states.set(state, (states.get(state) ?? 0) + 1);
  const counts = [...states].map(([state, count]) => `${count} ${state}`).join(', ');
  const lines = [tasks.length === 0 ? 'no tasks' : `${plural(tasks.length, 'task')}: ${counts}`];
  const describe = describer(loop);
  for (const { tasks: roots } of loop.runs) {
    lines.push('run');
    addSiblings(lines, '', roots, describe, 1);
  }
  // Code of Node's own may await what is ours.
  if (loop.guest.waitingFor !== null) lines.push(`node  ${describe(loop.guest)}`);
  return lines;
}

/** Prints it on standard error. */
export function printTree(heading: string, loop: Loop | null): void {
  try {
    let rest: Uint8Array = Buffer.from(`onewait: ${heading}${taskTree(loop).join('\n')}\n`);
    while (rest.length > 0) rest = rest.subarray(writeSync(2, rest));
  } catch {
    // Nobody listens, or a pipe is full, or a name of the program's cannot be had: it must not fail, or wait, for who looks on.
  }
}

/** Says what a task does: 'suspended on fd 22 IN, tcp 127.0.0.1:33678'. */
export function describer(loop: Loop): (task: Task) => string {
  const listening = new Set<number>();
  for (const { number: fd, listens } of loop.watched()) if (listens) listening.add(fd);
  return (task) => {
    const waits = waitsOf(task, (fd) => `, ${descriptorName(fd, listening.has(fd))}`);
    return printable(`${stateOf(task)}${waits}`);
  };
}

function stateOf(task: Task): string {
  return task.cancelled !== null && !task.ended ? `${task.state}, cancelled` : task.state;
}

/** ' on fd 22 IN' and what `naming` adds to a descriptor. */
function waitsOf(task: Task, naming: (fd: number) => string): string {
  const waits = task.waits();
  if (waits.length === 0) return task.state === 'suspended' ? " on a promise that is not onewait's" : '';
  const texts = waits.map((trap) => {
    const own = [...trap.within].length;
    // It would name them all.
    if (own > 1) return `${own} tasks of its scope`;
    const text = trap.describe();
    const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}...` : text;
    return trap.fd >= 0 ? cut + naming(trap.fd) : cut;
  });
  return ` on ${texts.join(' and ')}`;
}

function addSiblings(
  lines: string[],
  indent: string,
  tasks: Iterable<Task>,
  describe: (task: Task) => string,
  depth: number,
): void {
  const sorts = new Map<string, Task[]>();
  const shown: Task[] = [];
  for (const task of tasks) {
    const sort = sortOf(task);
    const alike = sorts.get(sort);
    if (alike === undefined) sorts.set(sort, [task]);
    else alike.push(task);
    if ((alike?.length ?? 1) <= SHOWN) shown.push(task);
  }
  const folded = [...sorts].filter(([, alike]) => alike.length > SHOWN);
  let left = shown.length + folded.length;
  for (const task of shown) {
    const isLast = --left === 0;
    lines.push(`${indent}${isLast ? '└─' : '├─'} ${printable(String(task))}  ${describe(task)}`);
    const children = [...task.children()];
    if (children.length === 0) continue;
    const inner = `${indent}${isLast ? '   ' : '│  '}`;
    if (depth < MAX_DEPTH) addSiblings(lines, inner, children, describe, depth + 1);
    else lines.push(`${inner}└─ ${plural(countAll(children), 'task')} below`);
  }
  for (const [sort, alike] of folded) {
    const hidden = alike.slice(SHOWN);
    const below = countAll(hidden) - hidden.length;
    const with_ = below === 0 ? '' : `, with ${plural(below, 'task')} below`;
    lines.push(`${indent}${--left === 0 ? '└─' : '├─'} and ${hidden.length} more: ${printable(sort)}${with_}`);
  }
}

/** What is the same in a task and in others like it: numbers are not. */
function sortOf(task: Task): string {
  return `${task.name}  ${stateOf(task)}${waitsOf(task, () => '')}`.replace(/\d+(\.\d+)?/g, 'N');
}

/** The tasks and all below them. */
function countAll(tasks: readonly Task[]): number {
  let count = 0;
  for (const rest = [...tasks]; rest.length > 0; count++) for (const child of rest.pop()!.children()) rest.push(child);
  return count;
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
