// What is asked of a server in one window. Servers are compared within a shape, never across shapes.

import { connectionsOf, sizeOf, whole } from './format.ts';

export interface Shape {
  /** Those that send. */
  readonly connections: number;
  /** Null where a message is what the suite asks: an HTTP request. */
  readonly messageBytes: number | null;
  readonly inFlight: number;
  /** Further ones, which had one echo and are silent. */
  readonly idleConnections: number;
  /** Further ones, which send without pause. */
  readonly flooders: number;
  /** Each message has a connection of its own. */
  readonly churn: boolean;
  /**
   * Open loop: messages per second, of all connections together, whether answers come or not. Null is a closed loop: the next message is sent
   * when an answer has come, so the server is never asked for more than it answers.
   */
  readonly rate: number | null;
}

const CLOSED_LOOP: Shape = {
  connections: 64,
  messageBytes: 64,
  inFlight: 1,
  idleConnections: 0,
  flooders: 0,
  churn: false,
  rate: null,
};

/** A closed loop of 64 connections with one message of 64 bytes in flight on each, but for what is given. */
export const shapeOf = (difference: Partial<Shape> = {}): Shape => ({ ...CLOSED_LOOP, ...difference });

/** One connection with one message in flight leaves the server asleep most of the time: what is measured are wakeups. */
export const isRanked = (shape: Shape): boolean => shape.connections > 1;

/** '64 connections, 64 bytes, 1 in flight': no two shapes have the same. */
export function titleOf({
  connections,
  messageBytes,
  inFlight,
  idleConnections,
  flooders,
  churn,
  rate,
}: Shape): string {
  const load =
    rate !== null ? `${whole(rate)} per second` : churn ? 'a connection for each message' : `${inFlight} in flight`;
  const flooding = flooders > 0 ? `, ${whole(flooders)} flooding` : '';
  const idle = idleConnections > 0 ? `, ${whole(idleConnections)} idle` : '';
  const message = messageBytes === null ? 'HTTP requests' : sizeOf(messageBytes);
  return `${connectionsOf(connections)}${idle}${flooding}, ${message}, ${load}`;
}
