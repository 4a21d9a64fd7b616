// The heap of timers, against a sorted array.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Timer, TimerHeap } from '../src/timers.ts';

interface Named extends Timer {
  readonly name: string;
}

function timer(name = ''): Named {
  return { name, deadline: 0, place: -1, order: 0, expire: () => {} };
}

/** Takes out everything that is due, in order. */
function take(heap: TimerHeap, now: number = Number.POSITIVE_INFINITY): string[] {
  const names: string[] = [];
  for (let due = heap.takeDue(now); due !== undefined; due = heap.takeDue(now)) names.push((due as Named).name);
  return names;
}

describe('timers', () => {
  test('an empty heap is never due', () => {
    const heap = new TimerHeap();
    expect(heap.size).toBe(0);
    expect(heap.next).toBe(Number.POSITIVE_INFINITY);
    expect(heap.takeDue(Number.MAX_VALUE)).toBeUndefined();
  });

  test('come out by deadline, and not before it', () => {
    const heap = new TimerHeap();
    for (const deadline of [5, 1, 4, 2, 3]) heap.add(timer(`${deadline}`), deadline);
    expect(heap.next).toBe(1);
    expect(take(heap, 0.999)).toEqual([]);
    expect(take(heap, 3)).toEqual(['1', '2', '3']);
    expect(heap.next).toBe(4);
    expect(take(heap)).toEqual(['4', '5']);
    expect(heap.size).toBe(0);
  });

  test('with equal deadlines come out in the order in which they were set', () => {
    const heap = new TimerHeap();
    for (let i = 0; i < 100; i++) heap.add(timer(`${i}`), 7);
    expect(take(heap, 7)).toEqual(Array.from({ length: 100 }, (_, i) => `${i}`));
  });

  test('set again move, to the back of those with the same deadline', () => {
    const heap = new TimerHeap();
    const moved = timer('moved');
    heap.add(moved, 1);
    heap.add(timer('other'), 5);
    heap.add(moved, 5);
    expect(heap.size).toBe(2);
    expect(take(heap)).toEqual(['other', 'moved']);
  });

  test('can be removed from anywhere, twice, and after they came out', () => {
    const heap = new TimerHeap();
    const timers = Array.from({ length: 10 }, (_, i) => timer(`${i}`));
    for (const [i, each] of timers.entries()) heap.add(each, i);
    for (const i of [9, 0, 4]) {
      heap.remove(timers[i]!);
      heap.remove(timers[i]!);
      expect(timers[i]!.place).toBe(-1);
    }
    expect(take(heap, 2)).toEqual(['1', '2']);
    heap.remove(timers[1]!);
    expect(take(heap)).toEqual(['3', '5', '6', '7', '8']);
  });

  test('at infinity are kept, and never due before it', () => {
    const heap = new TimerHeap();
    heap.add(timer('never'), Number.POSITIVE_INFINITY);
    expect(heap.size).toBe(1);
    expect(take(heap, Number.MAX_VALUE)).toEqual([]);
  });

  test('a million set and cancelled leave nothing behind', () => {
    const heap = new TimerHeap();
    const timers: Timer[] = [];
    for (let i = 0; i < 1_000_000; i++) {
      const each = timer();
      heap.add(each, (i * 7919) % 1_000_003);
      timers.push(each);
    }
    expect(heap.size).toBe(1_000_000);
    for (let i = 0; i < timers.length; i++) heap.remove(timers[(i * 7919) % timers.length]!);
    expect(heap.size).toBe(0);
    expect(heap.next).toBe(Number.POSITIVE_INFINITY);
    expect(timers.every(({ place }) => place === -1)).toBe(true);
  });

  test('do what a stably sorted array does, whatever is set, moved, removed and taken', () => {
    const deadline = fc.integer({ min: 0, max: 9 });
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const), which: fc.nat({ max: 15 }), deadline }),
      fc.record({ do: fc.constant('remove' as const), which: fc.nat({ max: 15 }) }),
      fc.record({ do: fc.constant('take' as const), now: deadline }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const heap = new TimerHeap();
        const timers = Array.from({ length: 16 }, (_, i) => timer(`${i}`));
        let model: { name: string; deadline: number }[] = [];
        for (const step of steps) {
          if (step.do === 'take') {
            const due = model.filter((entry) => entry.deadline <= step.now);
            model = model.filter((entry) => entry.deadline > step.now);
            expect(take(heap, step.now)).toEqual(due.map(({ name }) => name));
          } else {
            model = model.filter(({ name }) => name !== `${step.which}`);
            if (step.do === 'add') {
              heap.add(timers[step.which]!, step.deadline);
              model.push({ name: `${step.which}`, deadline: step.deadline });
              model.sort((a, b) => a.deadline - b.deadline);
            } else heap.remove(timers[step.which]!);
          }
          expect(heap.size).toBe(model.length);
          expect(heap.next).toBe(model[0]?.deadline ?? Number.POSITIVE_INFINITY);
        }
      }),
      { numRuns: 500 },
    );
  });
});
