// What tasks wait for of each other: something that happens, so many at a time, values.

export { Channel } from './channel.ts';
export { Event } from './event.ts';
export { type Permit, Semaphore } from './semaphore.ts';
export type { NameOption } from './wait-queue.ts';
