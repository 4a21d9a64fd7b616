// A task that has to wait twice, without coroutines: it is cut where it waits, and what it needs to go on is kept in between.

import type { Coroutine } from '../index.ts';
import { input, print, reject } from './terminal.ts';

class Task {
  static count = 0;
  readonly id = Task.count++;
  state: 'awaiting A' | 'awaiting B' | 'awaiting C' | 'done' = 'awaiting A';

  /** Whether the event was for this task. */
  process(event: string): boolean {
    if (this.state === 'awaiting A' && event === 'A') return this.processA();
    if (this.state === 'awaiting B' && event === 'B') return this.processB();
    if (this.state === 'awaiting C' && event === 'C') return this.processC();
    return false;
  }

  private processA(): boolean {
    print(`${this.id} Processing event A, blocking on B`);
    this.state = 'awaiting B';
    return true;
  }

  private processB(): boolean {
    print(`${this.id} Processing event B, blocking on C`);
    this.state = 'awaiting C';
    return true;
  }

  private processC(): boolean {
    print(`${this.id} Processing event C, task done`);
    this.state = 'done';
    return true;
  }
}

export function* main(): Coroutine<void> {
  let tasks: Task[] = [];
  for (;;) {
    print(`Task queue size ${tasks.length}`);
    const event = yield* input('> ');
    if (event === null) return;
    if (!['A', 'B', 'C'].includes(event)) yield* reject(event);
    if (event === 'A') tasks.push(new Task());
    tasks.find((task) => task.process(event));
    tasks = tasks.filter((task) => task.state !== 'done');
  }
}
