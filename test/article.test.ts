// The article's programs: what they print is what Python prints, whatever standard input is.

import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PROGRAMS } from '../src/article/programs.ts';
import { Child, cli, type Ended, folder, needs, onewait, root } from './processes.ts';
import { until } from './until.ts';

const NAMES = PROGRAMS.map(({ name }) => name);
const WITH_EVENTS = [
  'manual-async-simple',
  'manual-async-with-state',
  'yield-based-coroutines',
  'await-based-coroutines',
];
const WITHOUT = ['print-fibonacci', 'yield-fibonacci', 'yield-twice', 'returning-generator', 'failing-generator'];
const REFERENCE = join(root, 'test/reference.py');

/** Runs a program with `input` on a pipe. */
function article(name: string, input: string, ...args: string[]): Promise<Ended> {
  const child = onewait(['article', name, ...args]);
  child.process.stdin!.end(input);
  return child.end();
}

/** Runs a line of bash in which `$A` is `onewait article`. */
function bash(line: string): Promise<Ended> {
  needs('bash');
  const env = { ...process.env, A: `${process.execPath} ${cli} article` };
  return new Child('bash', ['-c', line], { env, stdio: ['ignore', 'pipe', 'pipe'] }).end();
}

/** What the reference program prints for each input. */
function python(name: string, inputs: readonly string[]): string[] {
  needs('python3');
  const pairs = JSON.stringify(inputs.map((input) => [name, input]));
  return JSON.parse(execFileSync('python3', [REFERENCE], { input: pairs, encoding: 'utf8' }));
}

/** What a person sees, who types the letters and Enter. */
const TRANSCRIPTS: Record<string, [events: string, output: string]> = {
  'manual-async-simple': ['A\nB\nC\n', '> Processing event A\n> Processing event B\n> Processing event C\n> '],
  'manual-async-with-state': [
    'A\nA\nB\nC\nB\nC\n',
    'Task queue size 0\n' +
      '> 0 Processing event A, blocking on B\nTask queue size 1\n' +
      '> 1 Processing event A, blocking on B\nTask queue size 2\n' +
      '> 0 Processing event B, blocking on C\nTask queue size 2\n' +
      '> 0 Processing event C, task done\nTask queue size 1\n' +
      '> 1 Processing event B, blocking on C\nTask queue size 1\n' +
      '> 1 Processing event C, task done\nTask queue size 0\n> ',
  ],
  'yield-based-coroutines': [
    'A\nA\nB\nB\nC\nC\n',
    'Task queue size 0\n' +
      '> 0 Processing event A, blocking on B\nTask queue size 1\n' +
      '> 1 Processing event A, blocking on B\nTask queue size 2\n' +
      '> 0 Processing event B, blocking on C\nTask queue size 2\n' +
      '> 1 Processing event B, blocking on C\nTask queue size 2\n' +
      '> 0 Processing event C, task done\nTask queue size 1\n' +
      '> 1 Processing event C, task done\nTask queue size 0\n> ',
  ],
  'print-fibonacci': ['', '1\n1\n2\n3\n5\n'],
  'yield-fibonacci': ['', '1\n1\n2\n3\n5\n'],
  'yield-twice': ['', '0\n1\n2\n3\n4\n5\n4\n3\n2\n1\n'],
  'returning-generator': ['', '0\n2\n4\n6\n8\nGenerated 5 numbers\n'],
  'failing-generator': ['', '0\nSomething went wrong\n'],
};
TRANSCRIPTS['await-based-coroutines'] = TRANSCRIPTS['yield-based-coroutines']!;

describe('`onewait article`', () => {
  test('lists the programs in the order of the article, with a line each', async () => {
    const { code, stdout } = await onewait(['article']).end();
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toEqual(NAMES.map((name) => expect.stringMatching(`^${name} +\\S`)));
  });

  test.each(NAMES)('prints the code of %s', async (name) => {
    const { code, stdout } = await onewait(['article', name, '--source']).end();
    expect(code).toBe(0);
    expect(stdout).toBe(readFileSync(join(root, `src/article/${name}.ts`), 'utf8'));
  });

  test.each([
    [['no-such-program'], "there is no program 'no-such-program': 'onewait article' lists them"],
    [['print-fibonacci', '--port', '7000'], "option '--port' is not for print-fibonacci"],
    [['exchange-coroutines', '--rates', 'localhost:7070'], 'it must be an IP address and a port'],
    [['exchange-rates', '--port', ' '], 'a port is a whole number'],
    [['exchange-rates', '--delay', '-1'], 'it must be a whole number from 0'],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stdout, stderr } = await onewait(['article', ...args]).end();
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^[^\n]+\n$/);
    expect([code, stdout]).toEqual([2, '']);
  });
});

describe.each([...WITH_EVENTS, ...WITHOUT])('%s', (name) => {
  const [events, output] = TRANSCRIPTS[name]!;

  test('prints what it must', async () => {
    expect(await article(name, events)).toEqual({ code: 0, signal: null, stdout: output, stderr: '' });
  });

  test('prints what Python prints', () => {
    needs('python3');
    expect(execFileSync('python3', [REFERENCE, name], { input: events, encoding: 'utf8' })).toBe(output);
  });

  test('can be recorded', async () => {
    const trace = join(folder(), 'trace');
    expect((await article(name, events, '--trace', trace)).stdout).toBe(output);
    const { code, stdout } = await onewait(['trace', 'show', trace]).end();
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`${name}#2 starts[\\s\\S]*${name}#2 done`));
  });
});

describe.each(WITH_EVENTS)('%s', (name) => {
  const [events, output] = TRANSCRIPTS[name]!;

  test('prints what Python prints for any 200 histories', { timeout: 300_000 }, async () => {
    const line = fc.constantFrom(
      'A',
      'A',
      'B',
      'B',
      'C',
      'C',
      ' B ',
      '',
      'x',
      'AB',
      'a',
      'Ω',
      '\t',
      '\ufeffA',
      'A\x85',
      '\x1cB\x1f',
      '\u3000C',
    );
    const ending = fc.constantFrom('\n', '\n', '\n', '\r\n', '\r');
    const history = fc
      .tuple(fc.array(fc.tuple(line, ending), { maxLength: 40 }), fc.boolean())
      .map(([lines, complete]) =>
        lines
          .flat()
          .slice(0, complete ? undefined : -1)
          .join(''),
      );
    const inputs = fc.sample(history, 200);
    const expected = python(name, inputs);
    const left = [...inputs.entries()];
    // Starting a process is most of the work; a few at a time.
    const worker = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        const [i, input] = next;
        const { code, stdout } = await article(name, input);
        expect({ input, code, stdout }).toEqual({ input, code: 0, stdout: expected[i] });
      }
    };
    await Promise.all(Array.from({ length: 4 }, worker));
  });

  test('answers a line that is no event, and nothing else comes of it', async () => {
    const { stdout, stderr, code } = await article(name, `${events}\u001b[31mX\nAA\n`);
    expect(code).toBe(0);
    expect(stdout.startsWith(output)).toBe(true);
    expect(stderr).toBe(
      '"\\u001b[31mX" is no event: type A, B or C, or end the input with Ctrl-D\n' +
        '"AA" is no event: type A, B or C, or end the input with Ctrl-D\n',
    );
  });

  test('a line without end is no event either, and is not kept', async () => {
    const { stdout, stderr, code } = await article(name, `${'A'.repeat(1_000_000)}\n${events}`);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^"A{40}\.\.\." is no event.*\n$/);
    expect(stdout.endsWith(output)).toBe(true);
  });

  test('reads a file, and nothing', async () => {
    const file = join(folder(), 'events');
    writeFileSync(file, events);
    expect((await bash(`$A ${name} < ${file}`)).stdout).toBe(output);
    const { code, stdout } = await bash(`$A ${name} < /dev/null`);
    expect([code, stdout]).toEqual([0, output.slice(0, output.indexOf('> ') + 2)]);
  });

  test('says what is wrong with a standard input that cannot be read', async () => {
    const { code, stderr } = await bash(`$A ${name} < /tmp`);
    expect(stderr).toBe(
      'onewait: standard input cannot be read (EISDIR): give the program a terminal, a pipe or a file\n',
    );
    expect(code).toBe(1);
  });

  test('counts the last line without a newline', async () => {
    expect((await bash(`printf '${events.trimEnd().replaceAll('\n', '\\n')}' | $A ${name}`)).stdout).toBe(output);
  });

  test('waits for a FIFO whose writer pauses in the middle of a line', async () => {
    const fifo = join(folder(), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const child = new Child('bash', ['-c', `exec ${process.execPath} ${cli} article ${name} < ${fifo}`]);
    const writer = openSync(fifo, constants.O_RDWR);
    for (const piece of [' ', 'A', '\n']) {
      writeSync(writer, piece);
      // It has read the piece when the FIFO is empty.
      await until('the piece has been read', () => pending(fifo) === 0);
    }
    await child.says(/Processing event A/);
    writeSync(writer, events.slice(2));
    await until('the rest has been read', () => pending(fifo) === 0);
    closeSync(writer);
    expect(await child.end()).toEqual({ code: 0, signal: null, stdout: output, stderr: '' });
  });

  test('takes ten thousand lines at once', async () => {
    const { stdout, code } = await bash(`yes A | head -10000 | $A ${name}`);
    expect(code).toBe(0);
    expect(stdout.match(/Processing event A/g)).toHaveLength(10_000);
  });

  test('leaves quietly when its reader does', async () => {
    const { stdout, stderr } = await bash(`yes A | head -10000 | $A ${name} | head -1; echo "\${PIPESTATUS[2]}" >&2`);
    expect(stdout.split('\n')).toHaveLength(2);
    expect(stderr).toBe('0\n');
  });

  test('never makes a descriptor non-blocking that others share', async () => {
    const running = onewait(['article', name]);
    await running.says(/> /);
    running.process.stdin!.write('A\nx\n');
    await running.says(/Processing event A/);
    await running.says(/is no event/, 'stderr');
    for (const fd of [0, 1, 2]) expect(flagsOf(running.pid, fd) & constants.O_NONBLOCK).toBe(0);
    running.process.stdin!.end();
    await running.end();
    // Flags are those of the open file: what the program did to them, the shell sees.
    const flags = 'grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1';
    const { stdout } = await bash(`printf 'A\\n' | { ${flags}; $A ${name}; echo; ${flags}; } | cat`);
    const seen = stdout.split('\n').filter((line) => line.startsWith('/proc'));
    expect(seen).toHaveLength(4);
    expect(seen.slice(2)).toEqual(seen.slice(0, 2));
  });
});

/** The flags of an open file: see proc_pid_fdinfo(5). */
function flagsOf(pid: number, fd: number): number {
  return Number.parseInt(/^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))![1]!, 8);
}

/** How many bytes wait in a FIFO. */
function pending(fifo: string): number {
  const code = `import fcntl, os, struct, sys, termios
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)
print(struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, b'0000'))[0])`;
  return Number(execFileSync('python3', ['-c', code, fifo], { encoding: 'utf8' }));
}

describe('on a terminal', () => {
  /** A shell on a pseudo-terminal, to be typed at. */
  function shell(): Child {
    needs('bash', 'python3');
    const spawn = `import pty; pty.spawn(['bash', '--norc', '--noprofile', '-i'])`;
    const env = { ...process.env, TERM: 'dumb', A: `${process.execPath} ${cli} article` };
    return new Child('python3', ['-c', spawn], { env });
  }
  const type = (child: Child, keys: string) => child.process.stdin!.write(keys);

  test.each(WITH_EVENTS)('%s is what a person sees, and Ctrl-D ends it', async (name) => {
    const [events, output] = TRANSCRIPTS[name]!;
    const child = shell();
    await child.says(/[#$] /);
    type(
      child,
      'stty -a > before; $A NAME; echo "code $?"; stty -a > after; cmp before after && echo the s""ame\n'
        .replace('NAME', name)
        .replaceAll('before', join(folder(), 'before'))
        .replaceAll('after', join(folder(), 'after')),
    );
    // As often as it prompts, it is given an event; at last, the end.
    let prompts = 0;
    for (const event of [
      ...events
        .trimEnd()
        .split('\n')
        .map((letter) => `${letter}\n`),
      '\x04',
    ]) {
      prompts++;
      await until('a prompt', () => (child.stdout.match(/^> /gm) ?? []).length === prompts);
      type(child, event);
    }
    await child.says(/the same\r\n/);
    type(child, 'exit\n');
    await child.end();
    const begin = child.stdout.search(name === 'manual-async-simple' ? /^> /m : /^Task queue size 0/m);
    const seen = child.stdout.slice(begin).replaceAll('\r', '');
    const letters = events.trimEnd().split('\n');
    const expected = output.replace(/^> /gm, () => `> ${letters.length > 0 ? `${letters.shift()}\n` : ''}`);
    expect(seen.slice(0, expected.length + 17)).toBe(`${expected}\ncode 0\nthe same\n`);
  });

  test.each(WITH_EVENTS)('Ctrl-C ends %s', async (name) => {
    const child = shell();
    await child.says(/[#$] /);
    type(child, `$A ${name}; echo "code $?"\n`);
    await child.says(/^> /m);
    type(child, '\x03');
    await child.says(/\^C\r\ncode 130\r\n/);
    type(child, 'exit\n');
    await child.end();
  });
});

describe('the kernel sees', () => {
  test('that await-based-coroutines blocks in one call only', async () => {
    needs('strace');
    const log = join(folder(), 'strace');
    const child = new Child('strace', [
      '-o',
      log,
      '-e',
      'trace=%desc,accept4,recvfrom',
      '-T',
      process.execPath,
      cli,
      'article',
      'await-based-coroutines',
    ]);
    const [events, output] = TRANSCRIPTS['await-based-coroutines']!;
    let prompts = 0;
    for (const event of events.trimEnd().split('\n')) {
      prompts++;
      await until('a prompt', () => (child.stdout.match(/> /g) ?? []).length === prompts);
      child.process.stdin!.write(`${event}\n`);
    }
    child.process.stdin!.end();
    expect(await child.end()).toMatchObject({ code: 0, stdout: output });
    const lines = readFileSync(log, 'utf8').split('\n');
    const first = lines.findIndex((line) => line.startsWith('write(1, "Task queue size 0'));
    const last = lines.findLastIndex((line) => line.startsWith('read(0, ""'));
    const running = lines.slice(first, last + 1);
    const waits = running.filter(
      (line) => /^(epoll_|p?poll|p?select)\w*\(.*\) = /.test(line) && !line.startsWith('epoll_ctl'),
    );
    const blocking = waits.filter((line) => !/, 0(, NULL, 8)?\) = /.test(line));
    expect(blocking.length).toBeGreaterThan(0);
    // One call, on one descriptor.
    expect(new Set(blocking.map((line) => /^(\w+)\((\d+)/.exec(line)![0].replace('pwait2', 'wait'))).size).toBe(1);
    // Standard input is read only after that call, or another look, has said that it is ready.
    for (const [i, line] of running.entries()) {
      if (!line.startsWith('read(0')) continue;
      const before = running
        .slice(0, i)
        .findLast((earlier) => /^epoll_p?wait2?\(.*EPOLLIN.*u64=\d+|^epoll_p?wait2?\(.*\{events=EPOLL/.test(earlier));
      expect(before).toBeDefined();
    }
    expect(
      running.filter((line) => /^(read|readv|recvfrom)\(/.test(line)).every((line) => line.startsWith('read(0')),
    ).toBe(true);
  });
});

describe('select-echo', () => {
  test('is made of selectors and system calls only', () => {
    const source = readFileSync(join(root, 'src/article/select-echo.ts'), 'utf8');
    const imports = [...source.matchAll(/from '(\.[^']*)'/g)].map((match) => match[1]);
    expect(imports).toEqual(['../native.ts', '../selectors.ts']);
    expect(source.split('\n').length).toBeLessThan(75);
  });

  test.each(['epoll', 'poll', 'select'])('serves 500 clients at once (%s)', async (poller) => {
    const server = onewait(['article', 'select-echo', '--port', '0', '--poller', poller]);
    const [, port] = await server.says(/^listening on 127\.0\.0\.1:(\d+)$/m);
    const clients = await Promise.all(
      Array.from(
        { length: 500 },
        () =>
          new Promise<ReturnType<typeof connect>>((resolve, reject) => {
            const socket = connect(Number(port), '127.0.0.1', () => resolve(socket)).once('error', reject);
          }),
      ),
    );
    const echoed = await Promise.all(
      clients.map(
        (socket, i) =>
          new Promise<boolean>((resolve) => {
            // More than a socket's buffers hold, for some of them.
            const text = `${i} `.repeat(i % 50 === 0 ? 1_000_000 : 10);
            let received = '';
            socket.setEncoding('utf8').on('data', (data) => {
              received += data;
              if (received.length >= text.length) resolve(received === text);
            });
            socket.write(text);
          }),
      ),
    );
    expect(echoed.every((same) => same)).toBe(true);
    for (const socket of clients) socket.destroy();
    server.process.kill('SIGINT');
    expect(await server.end()).toMatchObject({ signal: 'SIGINT', stderr: '' });
  });

  test('a port that is taken is one clear line', async () => {
    const server = onewait(['article', 'select-echo', '--port', '0']);
    const [, port] = await server.says(/:(\d+)$/m);
    const { code, stderr } = await onewait(['article', 'select-echo', '--port', port!]).end();
    expect(stderr).toBe(`onewait: cannot listen on 127.0.0.1:${port} (errno 98): choose another --port\n`);
    expect(code).toBe(1);
  });
});
