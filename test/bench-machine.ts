// A machine that reports are made for.

import type { Machine } from '../bench/machine.ts';

export const MACHINE: Machine = {
  cpuModel: 'a processor',
  cores: 2,
  kernel: '6.1',
  congestionControl: 'cubic',
  node: 'v20',
  memoryBytes: 2 ** 34,
  descriptorLimit: 20_000,
  date: '2025-01-01T00:00:00Z',
  commandLine: 'bench',
  pinning: { serverCpu: 0, generatorCpu: 1, otherCpus: [0] },
};
