// `onewait trace show`: filters, following, explanations, colours and threads. What the lines say of real programs is in trace.test.ts.

import { appendFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readTrace } from '../src/trace/reader.ts';
import { EndKind, Kind, OpenKind, SYSCALLS, TextKind, WaitKind } from '../src/trace/record.ts';
import { type ShowOptions, TraceFormatter } from '../src/trace/show.ts';
import { Child, cli, folder, needs, onewait, script } from './processes.ts';
import { header, record, text } from './trace-file.ts';
import { until } from './until.ts';

const MS = 1e6;
const RECV = SYSCALLS.indexOf('recvfrom');
const ACCEPT = SYSCALLS.indexOf('accept4');

/** An accepting task, and two that echo on fd 9 and fd 10; 1 ms between turns. */
const RECORDS: Buffer[] = [
  text(TextKind.taskName, { task: 1 }, 'accept'),
  record({ kind: Kind.wait, code: 1, t: 0, arg: -1, result: 1, duration: MS }),
  text(TextKind.descriptorName, { fd: 7 }, 'tcp listening on 127.0.0.1:7000'),
  record({ kind: Kind.ready, fd: 7, mask: 1, t: MS }),
  record({ kind: Kind.resume, code: WaitKind.descriptor, task: 1, fd: 7, mask: 1, t: MS, arg: 1000 }),
  record({ kind: Kind.syscall, code: ACCEPT, fd: 7, task: 1, result: 9, t: MS }),
  text(TextKind.descriptorName, { fd: 9 }, 'tcp 127.0.0.1:41514'),
  record({ kind: Kind.open, code: OpenKind.accepted, fd: 9, task: 1, t: MS }),
  ...[2, 3].flatMap((task) => [
    text(TextKind.taskName, { task }, 'echo'),
    record({ kind: Kind.spawn, task, arg: 1, t: 1.5 * MS }),
  ]),
  record({ kind: Kind.suspend, code: WaitKind.descriptor, task: 1, fd: 7, mask: 1, t: 1.6 * MS, result: 1 }),
  record({ kind: Kind.wait, code: 1, t: 2 * MS, arg: -1, result: 2, duration: MS }),
  text(TextKind.payload, {}, Buffer.from('hello\n"\\\u00019\u0001z')),
  record({ kind: Kind.syscall, code: RECV, fd: 9, mask: 1, task: 2, arg: 65_536, result: 12, t: 3 * MS }),
  record({ kind: Kind.syscall, code: RECV, fd: 10, mask: 1, task: 3, arg: 65_536, result: -11, t: 3.5 * MS }),
  record({ kind: Kind.resume, code: WaitKind.descriptor, task: 2, fd: 9, mask: 1, t: 4 * MS, arg: 2000 }),
  record({ kind: Kind.end, code: EndKind.done, task: 2, t: 5 * MS }),
];

function file(parts: Buffer[] = RECORDS): string {
  const path = join(folder(), 'trace');
  writeFileSync(path, Buffer.concat([header(), ...parts]));
  return path;
}

function lines(parts: Buffer[], options: ShowOptions = {}): string[] {
  const formatter = new TraceFormatter(options);
  const found: string[] = [];
  for (const one of readTrace(file(parts)).records) found.push(...formatter.push(one));
  return [...found, ...formatter.end()];
}

/** What `trace show` prints, without the times. */
async function shown(...options: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await onewait(['trace', 'show', ...options, file()]).end();
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.slice(14).replace(/ {2,}/g, '  '));
}

const ACCEPTED = 'accept4(7) = 9  <0.0 us>  accept#1';
const OPENED = 'fd 9 opened: tcp 127.0.0.1:41514 accepted by accept#1';
const WOKEN = 'fd 9 tcp 127.0.0.1:41514  IN  => resume echo#2  runnable 0.002 ms';
const READ = 'recvfrom(9, "hello\\n\\"\\\\\\0019\\1z", 65536) = 12  <0.0 us>  echo#2';

describe('onewait trace show', () => {
  test.each<[string[], string[]]>([
    [
      ['--fd', '9'],
      [ACCEPTED, OPENED, WOKEN, READ],
    ],
    [
      ['--fd', '9', '--kind', 'syscall'],
      [ACCEPTED, READ],
    ],
    [
      ['--fd', '10,8'],
      ['fd 10 ?  IN', 'recvfrom(10, 65536) = -1 EAGAIN  <0.0 us>  echo#3'],
    ],
    [
      ['--task', 'echo#2'],
      ['echo#2 spawned by accept#1', WOKEN, READ, 'echo#2 done'],
    ],
    [
      ['--task', '#3'],
      ['echo#3 spawned by accept#1', 'recvfrom(10, 65536) = -1 EAGAIN  <0.0 us>  echo#3'],
    ],
    [
      ['--task', 'echo', '--kind', 'spawn,end'],
      ['echo#2 spawned by accept#1', 'echo#3 spawned by accept#1', 'echo#2 done'],
    ],
    [['--task', 'accept', '--kind', 'suspend'], ['accept#1 suspends on fd 7 IN']],
    [['--task', 'accept#2'], []],
    [
      ['--kind', 'wait', '--kind', 'open'],
      ['wait(timeout=-1) = 1 ready  blocked 1.000 ms', OPENED, 'wait(timeout=-1) = 2 ready  blocked 1.000 ms'],
    ],
    [
      ['--kind', 'resume'],
      ['fd 7 tcp listening on 127.0.0.1:7000  IN  => resume accept#1  runnable 0.001 ms', WOKEN],
    ],
    [
      ['--from', '1.55', '--to', '2'],
      ['accept#1 suspends on fd 7 IN', 'wait(timeout=-1) = 2 ready  blocked 1.000 ms'],
    ],
    [['--from', '4.5'], ['echo#2 done']],
  ])('%j shows what meets all of it', async (options, expected) => {
    expect(await shown(...options)).toEqual(expected);
  });

  test.each<[string[], string]>([
    [['--fd', 'seven'], 'a descriptor is a whole number'],
    [['--fd', '-1'], 'a descriptor is a whole number'],
    [['--fd', '7,'], 'a descriptor is a whole number'],
    [['--task', ''], 'a task is a name and a number'],
    [['--task', '#99999999999'], 'a task is a name and a number'],
    [['--kind', 'waits'], 'there are wait, ctl, ready'],
    [['--from', 'noon'], 'a number of milliseconds'],
    [['--to', '-5'], 'a number of milliseconds'],
    [['--from', '5', '--to', '4'], 'there is nothing to show'],
    [['--color', 'pink'], 'auto, always, never'],
  ])('refuses %j in one line, as wrong usage', async (options, message) => {
    const { code, stdout, stderr } = await onewait(['trace', 'show', ...options, file()]).end();
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  test('names the thread on every line if there are several, and puts a wake where its own readiness is', async () => {
    const main = record({ kind: Kind.thread, fd: 0 });
    const worker = record({ kind: Kind.thread, fd: 3 });
    const ready = record({ kind: Kind.ready, fd: 9, mask: 1 });
    const resume = record({ kind: Kind.resume, code: WaitKind.descriptor, task: 1, fd: 9, mask: 1, arg: 1000 });
    const wait = record({ kind: Kind.wait, code: 1, arg: -1, result: 1 });
    const path = file([main, ready, worker, ready, main, resume, wait, worker, resume, wait]);
    const { stdout } = await onewait(['trace', 'show', path]).end();
    const text = stdout.replace(/ {2,}/g, '  ').trimEnd().split('\n');
    expect(text).toEqual(
      ['main', 'worker 3']
        .flatMap((thread) => [
          expect.stringContaining(`0.000000  ${thread}  fd 9 ?  IN  => resume task#1  runnable 0.001 ms`),
        ])
        .concat(['main', 'worker 3'].map((thread) => expect.stringContaining(`${thread}  wait(timeout=-1) = 1 ready`))),
    );
    expect((await onewait(['trace', 'show', file([main, wait])]).end()).stdout).toMatch(/^ +0\.000000 {2}wait/);
  });

  test('has colours on a terminal, or when they are asked for, and not with NO_COLOR', async () => {
    needs('script');
    const path = file();
    const show = `${process.execPath} ${cli} trace show ${path}`;
    const terminal = async (command: string, environment: NodeJS.ProcessEnv) => {
      const env = { ...process.env, NO_COLOR: '', TERM: 'xterm', ...environment };
      return (await new Child('script', ['-qec', command, '/dev/null'], { env }).end()).stdout;
    };
    const always = await onewait(['trace', 'show', '--color', 'always', path]).end();
    expect(always.stdout).toContain('\u001b[31m= -1 EAGAIN\u001b[39m');
    expect(await terminal(show, {})).toContain('\u001b[31m= -1 EAGAIN\u001b[39m');
    expect(await terminal(show, { NO_COLOR: '1' })).not.toContain('\u001b[3');
    expect(await terminal(`${show} --color never`, {})).not.toContain('\u001b[3');
    expect((await onewait(['trace', 'show', path]).end()).stdout).not.toContain('\u001b');
  });

  test('tells what each of several waits of a task was for', () => {
    const waits = [1, 2, 3].flatMap((number) => [
      text(TextKind.waitName, { task: 1 }, `${number}0 ms`),
      record({ kind: Kind.suspend, code: WaitKind.other, task: 1, result: number }),
    ]);
    const resumes = [2, 1, 3].map((number) =>
      record({ kind: Kind.resume, code: WaitKind.other, task: 1, result: number }),
    );
    const resumed = lines([...waits, ...resumes]).filter((line) => line.includes('resume'));
    expect(resumed.map((line) => line.slice(14, 19))).toEqual(['20 ms', '10 ms', '30 ms']);
  });

  test('prints what there is of a damaged file before it says so', async () => {
    const path = file([...RECORDS, Buffer.alloc(48)]);
    const { code, stdout, stderr } = await onewait(['trace', 'show', path]).end();
    expect(stdout).toContain('echo#2 done\n');
    expect(stderr).toMatch(/^onewait: .* is damaged at offset \d+: there is no kind 0 of record\n$/);
    expect(code).toBe(1);
  });
});

describe('turns in which only libuv has something to do', () => {
  const libuvs = (count: number, from: number): Buffer[] =>
    Array.from({ length: count }, (_, i) => [
      record({ kind: Kind.wait, code: 1, t: from + i * MS, arg: -1, result: 1 }),
      record({ kind: Kind.host, t: from + (i + 0.5) * MS }),
    ]).flat();
  const said = (parts: Buffer[], options: ShowOptions = {}): string[] =>
    lines(parts, options).map((line) => line.trim().replace(/ {2,}/g, '  '));
  const wait = (at: string): string => `${at}  wait(timeout=-1) = 1 ready  blocked 0.000 ms`;

  test('are one line from the third in a row on, and counted anew after each other thing that happens', () => {
    const other = [
      record({ kind: Kind.wait, code: 1, t: 1500 * MS, arg: -1, result: 0 }),
      record({ kind: Kind.timer, task: 1, t: 1500 * MS }),
    ];
    expect(said([...libuvs(1302, 0), ...other, ...libuvs(2, 2000 * MS), ...other, ...libuvs(3, 3000 * MS)])).toEqual([
      wait('0.000000'),
      '0.000500  turn of libuv',
      wait('0.001000'),
      '0.001500  turn of libuv',
      '0.002000  ... 1,300 more turns of libuv alone, in 1299.500 ms',
      '1.500000  wait(timeout=-1) = 0 ready  blocked 0.000 ms',
      '1.500000  timer of task#1  late 0.000 ms',
      wait('2.000000'),
      '2.000500  turn of libuv',
      wait('2.001000'),
      '2.001500  turn of libuv',
      '1.500000  wait(timeout=-1) = 0 ready  blocked 0.000 ms',
      '1.500000  timer of task#1  late 0.000 ms',
      wait('3.000000'),
      '3.000500  turn of libuv',
      wait('3.001000'),
      '3.001500  turn of libuv',
      '3.002000  ... 1 more turn of libuv alone, in 0.500 ms',
    ]);
  });

  test('are all there for who filters', () => {
    expect(said(libuvs(50, 0), { filter: { kinds: [Kind.host] } })).toHaveLength(50);
  });
});

describe('onewait trace show --follow', () => {
  test('goes on with what is added, also in halves of a record, until Ctrl-C', async () => {
    const path = file(RECORDS.slice(0, 6));
    const child = onewait(['trace', 'show', '--follow', path]);
    await child.says(/accept4\(7\) = 9/);
    const rest = Buffer.concat(RECORDS.slice(6));
    appendFileSync(path, rest.subarray(0, 30));
    appendFileSync(path, rest.subarray(30, 150));
    await child.says(/fd 9 opened: tcp 127\.0\.0\.1:41514 accepted by accept#1/);
    expect(child.stdout).not.toContain('spawned');
    appendFileSync(path, rest.subarray(150));
    await child.says(/echo#2 done/);
    child.process.kill('SIGINT');
    const { code, stdout, stderr } = await child.end();
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect(stdout.split('\n').filter((line) => line.includes('spawned by accept#1'))).toHaveLength(2);
  });

  test('shows an echo server while it serves', async () => {
    const path = join(folder(), 'trace');
    const server = new Child(process.execPath, [cli, 'echo', '--port', '0', '--trace', path]);
    const port = Number((await server.says(/:(\d+)$/m))[1]);
    const follower = onewait(['trace', 'show', '--follow', '--kind', 'syscall', path]);
    const socket = connect({ port, host: '127.0.0.1' }).on('data', () => {});
    for (const bytes of [17, 29]) {
      socket.write(Buffer.alloc(bytes));
      await follower.says(new RegExp(`recvfrom\\(\\d+, 65536\\) = ${bytes} `));
    }
    socket.destroy();
    server.process.kill('SIGINT');
    await server.end();
    follower.process.kill('SIGTERM');
    expect(await follower.end()).toMatchObject({ code: 143, stderr: '' });
  });

  test.each<[string, (path: string) => void, string]>([
    [
      'is begun anew and longer than before at once',
      (path) => {
        const other = header();
        other.writeBigUInt64LE(5n, 24);
        writeFileSync(path, Buffer.concat([other, ...RECORDS, ...RECORDS]));
      },
      'was begun anew meanwhile: another recording writes it; follow it again',
    ],
    [
      'is replaced',
      (path) => renameSync(file([...RECORDS, ...RECORDS]), path),
      'was begun anew meanwhile: another recording writes it; follow it again',
    ],
    ['is removed', (path) => unlinkSync(path), 'was removed meanwhile'],
  ])('says so when the file %s', async (_, change, message) => {
    const path = file();
    const child = onewait(['trace', 'show', '--follow', path]);
    await child.says(/echo#2 done/);
    change(path);
    const { code, stdout, stderr } = await child.end();
    expect({ code, stderr }).toEqual({ code: 1, stderr: `onewait: ${path}: ${message}\n` });
    expect(stdout.match(/echo#2 done/g)).toHaveLength(1);
  });

  test('says so when another recording begins the file anew', async () => {
    const path = file();
    const child = onewait(['trace', 'show', '--follow', path]);
    await child.says(/echo#2 done/);
    writeFileSync(path, header());
    expect(await child.end()).toMatchObject({
      code: 1,
      stderr: `onewait: ${path}: was begun anew meanwhile: another recording writes it; follow it again\n`,
    });
  });
});

describe('onewait trace show --explain', () => {
  const MARGIN = /^ {14}\| /;

  test('says at length what happens first, in short what happens again, and then nothing', () => {
    const turns = Array.from({ length: 6 }, (_, i) => [
      record({ kind: Kind.suspend, code: WaitKind.descriptor, task: 2, fd: 9, mask: 1, t: i * MS, result: i }),
      record({ kind: Kind.wait, code: 1, t: i * MS, arg: -1, result: 1, duration: MS / 2 }),
      record({ kind: Kind.ready, fd: 9, mask: 1, t: i * MS }),
      record({ kind: Kind.resume, code: WaitKind.descriptor, task: 2, fd: 9, mask: 1, t: i * MS, result: i }),
    ]).flat();
    const all = lines(turns, { explain: true });
    const waits = all.flatMap((line, i) => (line.includes(' wait(') ? [i] : []));
    const explained = waits.map((at) => {
      let end = at + 1;
      while (MARGIN.test(all[end] ?? '')) end++;
      return all
        .slice(at + 1, end)
        .map((line) => line.replace(MARGIN, ''))
        .join(' ');
    });
    expect(explained[0]).toContain('The one blocking call of the whole program.');
    expect(explained.slice(1, 3)).toEqual(Array(2).fill('Nobody could go on, so the program slept here for 0.500 ms.'));
    expect(explained.slice(3)).toEqual(['', '', '']);
    // Without them the lines are the same.
    expect(all.filter((line) => !MARGIN.test(line))).toEqual(lines(turns));
    for (const line of all) expect(line.length).toBeLessThanOrEqual(120);
  });

  test('says of readiness that is not taken in its turn nothing that is false of who waits for it', () => {
    const said = lines(
      [
        record({ kind: Kind.suspend, code: WaitKind.descriptor, task: 1, fd: 9, mask: 1, result: 1 }),
        record({ kind: Kind.wait, code: 1, arg: 0, result: 1 }),
        record({ kind: Kind.ready, fd: 9, mask: 1 }),
        record({ kind: Kind.wait, code: 1, arg: 0, result: 1 }),
      ],
      { explain: true },
    ).join(' ');
    expect(said).toMatch(/Nobody goes on for fd 9 IN in this turn/);
    expect(said).not.toMatch(/nobody waits for fd 9/i);
  });

  test('says nothing of what a filter leaves out', () => {
    const said = lines(RECORDS, { explain: true, filter: { kinds: [Kind.end] } });
    expect(said.filter((line) => !MARGIN.test(line))).toHaveLength(1);
    expect(said.join(' ')).toContain('echo#2 has returned');
    expect(said.join(' ')).not.toContain('blocking call');
  });

  test('teaches the article from a trace of its program, and from an echo server with two clients', async () => {
    const path = join(folder(), 'trace');
    const program = onewait(['article', 'yield-based-coroutines', '--trace', path]);
    program.process.stdin!.end('A\nB\nC\n');
    await program.end();
    const article = await explained(path);
    for (const said of [
      /The one blocking call of the whole program/,
      /stops right there, with its variables, and the loop keeps it in a map: fd \d OUT -> yield-based-coroutines#2/,
      /looks it up in its map from event to coroutine/,
    ])
      expect(article).toMatch(said);

    const server = new Child(process.execPath, [cli, 'echo', '--port', '0', '--trace', path]);
    const port = Number((await server.says(/:(\d+)$/m))[1]);
    for (let i = 0; i < 2; i++) {
      const socket = connect({ port, host: '127.0.0.1' }).on('data', () => {});
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.write('hello');
      await until('it comes back', () => socket.bytesRead === 5);
      socket.end();
      await until('it is closed', () => socket.closed);
    }
    await server.sleeps();
    server.process.kill('SIGINT');
    await server.end();
    const echo = await explained(path);
    for (const said of [
      /Registers fd \d+ with epoll, once in its life\. ET, edge-triggered/,
      /native code reads them for all that are ready, before any of their coroutines is resumed/,
      /sent here, at the start of the next turn/,
      /EAGAIN: the queue is empty/,
      /Zero bytes are the end/,
      /echo#3 has returned/,
      /A signal ended the wait/,
    ])
      expect(echo).toMatch(said);
    for (const page of [article, echo]) expect(page).not.toMatch(/undefined|NaN/);
  });

  test('says of who waits for another task how that ends, also where it is for an event, a permit or a value', async () => {
    const path = join(folder(), 'trace');
    const program = script(
      `import { Channel, Event, Semaphore } from 'onewait/sync';
      await run(function* () {
        const [begun, lock, jobs] = [new Event({ name: 'begun' }), new Semaphore(1, { name: 'lock' }), new Channel(0, { name: 'jobs' })];
        const permit = yield* lock.acquire();
        const other = spawn(function* other() {
          begun.set();
          yield* lock.acquire();
          yield* jobs.send(1);
          yield* sleep(1);
        });
        yield* begun.wait();
        yield* yieldNow();
        permit.release();
        yield* jobs.receive();
        yield* other;
      });`,
      { env: { ONEWAIT_TRACE: path } },
    );
    expect(await program.end()).toMatchObject({ code: 0, stderr: '' });
    const said = await explained(path);
    expect(said).toMatch(/main#1 suspends on event 'begun' /);
    expect(said).toMatch(/other#2 suspends on semaphore 'lock' of main#1\n/);
    expect(said).toMatch(/main#1 suspends on channel 'jobs' to have a value\n/);
    expect(said).toMatch(
      /main#1 waits for another task: for event 'begun'\. .* whoever sets the event, releases a permit, sends/,
    );
    expect(said).toMatch(/main#1 waits for another task, other#2\. /);
    expect(said.match(/stands in a queue/g)).toHaveLength(1);
  });

  async function explained(path: string): Promise<string> {
    const { code, stdout, stderr } = await onewait(['trace', 'show', '--explain', path]).end();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout.replace(/\n {14}\| /g, ' ');
  }
});
