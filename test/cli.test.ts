// The command line as a whole: help, wrong usage, and how it ends.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Child, cli, folder, needs, onewait } from './processes.ts';

describe('help', () => {
  test.each([
    [['--help'], ['echo', 'trace', '--help']],
    [['help'], ['echo', 'trace']],
    [
      ['echo', '--help'],
      ['--port', '--host', '--style', '--poller', '--trace', 'yield', 'await', 'epoll', 'select'],
    ],
    [['trace', '--help'], ['show']],
    [['trace', 'show', '--help'], ['file']],
    [
      ['trace', 'timeline', '--help'],
      ['file', '--output'],
    ],
  ])('onewait %j is complete', async (args, words) => {
    const { code, stdout, stderr } = await onewait(args).end();
    expect(code).toBe(0);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^Usage: onewait /);
    for (const word of words) expect(stdout).toContain(word);
  });
});

describe('wrong usage', () => {
  test.each([
    [['nonsense'], "unknown command 'nonsense'"],
    [['trace', 'nonsense'], "unknown command 'nonsense'"],
    [['--nonsense'], "unknown option '--nonsense'"],
    [['echo', '--prt', '5'], "unknown option '--prt' (Did you mean --port?)"],
    [['echo', 'superfluous'], 'too many arguments'],
    [['echo', '--port'], 'argument missing'],
    [['echo', '--port', '65536'], 'a port is a whole number from 0 to 65535'],
    [['echo', '--port', '-1'], 'a port is a whole number from 0 to 65535'],
    [['echo', '--port', '1.5'], 'a port is a whole number from 0 to 65535'],
    [['echo', '--port', 'http'], 'a port is a whole number from 0 to 65535'],
    [['echo', '--style', 'callback'], 'Allowed choices are yield, await'],
    [['echo', '--poller', 'kqueue'], 'Allowed choices are epoll, poll, select'],
    [['trace', 'show'], "missing required argument 'file'"],
    [['trace', 'show', 'a', 'b'], 'too many arguments'],
  ])('onewait %j exits 2 with one line', async (args, message) => {
    const { code, stdout, stderr } = await onewait(args).end();
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^[^\n]+\n$/);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('no command at all exits 2 and shows the help', async () => {
    const { code, stdout, stderr } = await onewait([]).end();
    expect(stderr).toMatch(/^Usage: onewait /);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

test('a reader that goes away early is no error, for help and for a trace', async () => {
  needs('bash');
  const trace = join(folder(), 'trace');
  // Long enough to fill any pipe: a header and 20,000 turns of libuv.
  const header = Buffer.alloc(48);
  header.write('1WAITTRC');
  header.writeUInt32LE(2, 8);
  header.writeUInt32LE(48, 12);
  const record = Buffer.alloc(48);
  record[8] = 10;
  writeFileSync(trace, Buffer.concat([header, ...Array.from({ length: 20_000 }, () => record)]));
  for (const [args, count] of [
    ['--help', 1],
    [`trace show ${trace}`, 1],
  ] as const) {
    const command = `${process.execPath} ${cli} ${args} | head -${count}; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await new Child('bash', ['-c', command]).end();
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^[^\n]+\n0\n$/);
  }
  // A reader that is slow gets all of it.
  const slow = `${process.execPath} ${cli} trace show ${trace} | (read line; sleep 0.5; wc -l)`;
  const { stdout, stderr } = await new Child('bash', ['-c', slow]).end();
  expect(stderr).toBe('');
  expect(Number(stdout)).toBe(19_999);
});
