// What a plan is made of, if nothing in particular is wished for.

import type { Wishes } from '../bench/plan.ts';
import { SUITES } from '../bench/suite.ts';

export const WISHES: Wishes = {
  suite: SUITES[0]!,
  effort: 'standard',
  connections: null,
  messageBytes: null,
  inFlight: null,
  seconds: null,
  rounds: null,
  settleSeconds: 20,
  mostConnections: 19_000,
};
