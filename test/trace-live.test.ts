// Looking at a running program: its tree of tasks, its costs, and `onewait trace top`, on real processes and, for the terminal, in a real one.

import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Costs, type Window } from '../src/trace/costs.ts';
import { LiveClient } from '../src/trace/live-client.ts';
import { memorySource, TraceReader } from '../src/trace/reader.ts';
import { Kind } from '../src/trace/record.ts';
import { type Child, folder, library, needs, onewait, script } from './processes.ts';
import { until, within } from './until.ts';

interface Server {
  child: Child;
  port: number;
  /** The socket that it is looked at through. */
  path: string;
}

async function server(env: NodeJS.ProcessEnv = {}): Promise<Server> {
  const path = join(folder(), 'live');
  const child = onewait(['echo', '--port', '0'], { env: { ...process.env, ONEWAIT_TRACE_LISTEN: path, ...env } });
  const [, port] = await child.says(/^listening on 127\.0\.0\.1:(\d+)$/m);
  return { child, port: Number(port), path };
}

/** Clients that send back what they get, for as long as the test lasts. */
async function load(port: number, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1'));
  for (const socket of sockets) {
    socket.on('error', () => {});
    socket.on('data', (data) => socket.write(data));
    onTestFinished(() => void socket.destroy());
  }
  await within(
    'every client has had an echo',
    Promise.all(
      sockets.map(
        (socket) =>
          new Promise((resolve) => {
            socket.once('data', resolve);
            socket.write('x'.repeat(64));
          }),
      ),
    ),
  );
  return sockets;
}

async function live(path: string): Promise<LiveClient> {
  const client = await LiveClient.connect(path);
  onTestFinished(() => client.close());
  return client;
}

/** Windows of what `client` asks about, until one is as wanted. */
async function windowThat(client: LiveClient, isWanted: (window: Window) => boolean): Promise<Window> {
  const costs = new Costs('live');
  return until('a window of records', async () => {
    const { head, trace } = await client.costs();
    const window = costs.push(head, trace);
    return window !== null && isWanted(window) ? window : null;
  });
}

describe('the tree of tasks', () => {
  test('is printed on SIGUSR1, with what each task waits for, and again at every signal', async () => {
    const { child, port } = await server({ ONEWAIT_TRACE_TREE: '1' });
    await load(port, 2);
    for (let i = 0; i < 2; i++) {
      child.stderr = '';
      child.process.kill('SIGUSR1');
      await child.says(/└─ echo#4 .*\n/, 'stderr');
      expect(child.stderr).toMatch(new RegExp(`^onewait: pid ${child.pid}, 4 tasks: 4 suspended\nrun\n`));
      expect(child.stderr).toContain('├─ main#1  suspended on accept#2\n');
      expect(child.stderr).toMatch(
        new RegExp(`├─ accept#2  suspended on fd \\d+ IN, tcp listening on 127.0.0.1:${port}\n`),
      );
      expect(child.stderr).toMatch(/├─ echo#3 {2}suspended on fd \d+ IN, tcp 127\.0\.0\.1:\d+\n/);
    }
  });

  test('shows tasks of scopes below the task that waits for them, and counts those that are alike', async () => {
    const path = join(folder(), 'live');
    const child = script(
      `await run(function* () {
        spawn(async () => { await new Promise(() => {}); }, { name: 'foreign' });
        yield* scope(function* (outer) {
          for (let i = 0; i < 100; i++) outer.spawn(function* () {
            yield* scope(function* (inner) { inner.spawn(() => sleep(1e8), { name: 'leaf' }); yield* sleep(1e7); });
          }, { name: 'branch' });
          yield* sleep(1);
          console.log('ready');
          yield* sleep(1e6);
        });
      }, { name: 'tr\\x1bee' });`,
      { env: { ONEWAIT_TRACE_LISTEN: path } },
    );
    await child.says(/ready/);
    const lines = await (await live(path)).tree();
    expect(lines.slice(0, 7)).toEqual([
      '303 tasks: 303 suspended',
      'run',
      '├─ tr?ee#1  suspended on 101 tasks of its scope',
      '│  ├─ tr?ee#3  suspended on 1000000 ms',
      '│  ├─ branch#4  suspended on 2 tasks of its scope',
      '│  │  ├─ branch#104  suspended on 10000000 ms',
      '│  │  └─ leaf#204  suspended on 100000000 ms',
    ]);
    expect(lines.at(-2)).toBe('│  └─ and 92 more: branch  suspended on N tasks of its scope, with 184 tasks below');
    expect(lines.at(-1)).toBe("└─ foreign#2  suspended on a promise that is not onewait's");
  });

  test('of scopes within scopes ends where they are very deep', async () => {
    const path = join(folder(), 'live');
    const child = script(
      `function* deep(n) {
        yield* scope(function* (s) { if (n > 0) s.spawn(() => deep(n - 1)); else console.log('ready'); yield* sleep(1e6); });
      }
      await run(() => deep(500));`,
      { env: { ONEWAIT_TRACE_LISTEN: path } },
    );
    await child.says(/ready/);
    const lines = await (await live(path)).tree();
    expect(lines.length).toBeLessThan(200);
    expect(lines.join('\n')).toMatch(/└─ \d+ tasks below/);
  });
});

describe('the socket', () => {
  test("is only its owner's, whatever the umask, and is gone when the program has ended", async () => {
    const path = join(folder(), 'live');
    const child = script('process.umask(0); await run(() => sleep(1e6));', { env: { ONEWAIT_TRACE_LISTEN: path } });
    await (await live(path).catch(() => until('it listens', () => live(path).catch(() => null)))).tree();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(lstatSync(path).isSocket()).toBe(true);
    child.kill();
    const other = await server();
    other.child.process.kill('SIGTERM');
    expect((await other.child.end()).code).toBe(143);
    expect(existsSync(other.path)).toBe(false);
  });

  test('of a process that was killed is replaced; a file and a link are left alone', async () => {
    const { child, path } = await server();
    child.kill();
    await child.ended;
    expect(existsSync(path)).toBe(true);
    const next = script('console.log("up"); await run(() => sleep(1e6));', { env: { ONEWAIT_TRACE_LISTEN: path } });
    const client = await until('the next one listens', () => live(path).catch(() => null));
    expect(await client.tree()).toHaveLength(3);

    const file = join(folder(), 'file');
    writeFileSync(file, 'mine');
    const link = join(folder(), 'link');
    symlinkSync(path, link);
    for (const [taken, why] of [
      [file, 'it exists, and is no socket'],
      [link, 'it exists, and is no socket'],
      ['/nonexistent/live', 'its directory does not exist'],
      [`/tmp/${'x'.repeat(103)}`, 'the name of a socket has at most 107 bytes'],
    ] as const) {
      const refused = await onewait(['echo', '--port', '0'], {
        env: { ...process.env, ONEWAIT_TRACE_LISTEN: taken },
      }).end();
      expect(refused).toEqual({
        code: 1,
        signal: null,
        stdout: '',
        stderr: `onewait: ONEWAIT_TRACE_LISTEN: cannot listen on ${taken}: ${why}\n`,
      });
    }
    expect(readFileSync(file, 'utf8')).toBe('mine');
    expect(await client.tree()).toHaveLength(3);
    expect(next.stderr).toBe('');
  });

  test('of a program that inherits the name of one in use has its number added', async () => {
    const { path } = await server();
    const { child } = await server({ ONEWAIT_TRACE_LISTEN: path });
    const first = await live(path);
    const second = await live(`${path}.${child.pid}`);
    expect((await second.costs()).head.pid).toBe(child.pid);
    expect((await first.costs()).head.pid).not.toBe(child.pid);
    child.process.kill('SIGTERM');
    await child.end();
    expect(existsSync(`${path}.${child.pid}`)).toBe(false);
    expect(await first.tree()).toHaveLength(4);
  });

  test('keeps no program alive, with a client neither', async () => {
    const path = join(folder(), 'live');
    const child = script(
      `process.stdin.once('data', () => process.stdin.destroy());
      await run(async () => { await new Promise((resolve) => process.stdin.once('close', resolve)); });`,
      { env: { ONEWAIT_TRACE_LISTEN: path } },
    );
    const client = await until('it listens', () => live(path).catch(() => null));
    await client.costs();
    child.process.stdin!.write('end\n');
    expect(await child.end()).toMatchObject({ code: 0, stderr: '' });
    await expect(client.costs()).rejects.toThrow(/the program has ended/);
  });

  test('of a worker has its name, and tells of its own loop', async () => {
    const here = folder();
    const path = join(here, 'live');
    const worker = join(here, 'worker.mjs');
    writeFileSync(
      worker,
      `import { run, sleep } from ${JSON.stringify(library)}; await run(() => sleep(1e6), { name: 'inWorker' });`,
    );
    const child = script(
      `import { Worker } from 'node:worker_threads';
      new Worker(process.argv[1], { execArgv: [] });
      await run(() => sleep(1e6), { name: 'inMain' });`,
      { env: { ONEWAIT_TRACE_LISTEN: path }, args: [worker] },
    );
    const inMain = await until('the main thread listens', () => live(path).catch(() => null));
    const inWorker = await until('the worker listens', () => live(`${path}.worker1`).catch(() => null));
    expect((await inMain.tree()).at(-1)).toMatch(/inMain#1/);
    expect((await inWorker.tree()).at(-1)).toMatch(/inWorker#1/);
    expect((await inMain.costs()).head).toMatchObject({ thread: 0, pid: child.pid });
    expect((await inWorker.costs()).head).toMatchObject({ thread: 1, pid: child.pid });
    expect(child.stderr).toBe('');
  });

  test.each([
    ['{"ask":"everything"}\n', /ask for costs, about or tree/],
    ['null\n', /ask for costs, about or tree/],
    ['{\n', /JSON/],
    ['{"ask":"about","tasks":["x"],"fds":[]}\n', /numbers/],
    ['{"ask":"about","tasks":[1e400],"fds":[-1]}\n', /numbers/],
    ['x'.repeat(70_000), /^$/],
  ])('answers %j with an error, closes, and goes on', async (request, answer) => {
    const { child, path } = await server();
    const socket = connect({ path });
    let said = '';
    socket.on('data', (data) => {
      said += data;
    });
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.write(request);
    await within('the connection is closed', closed);
    expect(said).toMatch(answer);
    expect(await (await live(path)).tree()).toHaveLength(4);
    expect(child.stderr).toBe('');
  });
});

describe('costs', () => {
  test('are those of the tasks and descriptors under load', async () => {
    const { port, path } = await server();
    await load(port, 3);
    const client = await live(path);
    const window = await windowThat(client, ({ fds }) => fds.filter(({ calls }) => calls >= 10).length === 3);
    expect(window.turns).toBeGreaterThan(0);
    expect(window.lost).toBe(0);
    expect(window.blocked).toBeLessThanOrEqual(window.length);
    expect(window.tasks.map(({ track }) => track.task).sort()).toEqual([3, 4, 5]);
    for (const { bytesIn, bytesOut, cpu, latency } of [...window.tasks, ...window.fds]) {
      expect(bytesIn).toBeGreaterThan(0);
      expect(bytesOut).toBeGreaterThan(0);
      expect(cpu).toBeGreaterThan(0);
      expect(cpu).toBeLessThan(window.length);
      expect(latency).toBeGreaterThan(0);
    }
    const busiest = window.fds[0]!.track.fd;
    const { fds, tasks } = await client.about([3, 99], [busiest, 12345]);
    expect(Object.keys(fds)).toEqual([String(busiest)]);
    expect(fds[busiest]!.name).toMatch(/^tcp 127\.0\.0\.1:\d+$/);
    expect(Object.values(tasks).map(({ name }) => name)).toEqual(['echo#3']);
  });

  test('are told to two clients at once, each from where it was, and record for record', async () => {
    const { port, path } = await server();
    await load(port, 2);
    const [first, second] = [await live(path), await live(path)];
    expect((await first.costs()).head).toMatchObject({ skipped: -1, records: 0 });
    expect((await second.costs()).head).toMatchObject({ skipped: -1, records: 0 });
    for (let i = 0; i < 20; i++) {
      for (const client of i % 3 === 0 ? [first] : [first, second]) {
        const { head, trace } = await client.costs();
        const reader = new TraceReader('live', memorySource(trace));
        expect(reader.header.pid).toBe(head.pid);
        let whole = 0;
        for (let record = reader.next(); record !== null; record = reader.next())
          if (record.kind !== Kind.thread) whole++;
        reader.finish();
        // One record may tell two things.
        expect(whole).toBeGreaterThanOrEqual(head.records * 0.5);
        if (head.records < 50_000) expect(head.skipped).toBe(0);
      }
    }
  });

  test("come from the file's ring when the program is being recorded, and cost the file nothing", async () => {
    const file = join(folder(), 'trace');
    const { child, port, path } = await server({ ONEWAIT_TRACE: file });
    await load(port, 2);
    const window = await windowThat(await live(path), ({ fds }) => fds.some(({ calls }) => calls >= 10));
    expect(window.fds[0]!.track.name).toMatch(/^fd \d+/);
    child.process.kill('SIGTERM');
    await child.end();
    expect(child.stderr).toBe('');
    const shown = await onewait(['trace', 'show', file]).end(50_000);
    expect(shown.code).toBe(0);
    expect(shown.stdout).not.toMatch(/records lost/);
  });

  test("do not count a task as running that awaits a promise of somebody else's", async () => {
    const path = join(folder(), 'live');
    const child = script(
      `import { setTimeout as pause } from 'node:timers/promises';
      await run(async () => {
        for (let i = 1; ; i++) {
          await sleep(1);
          await pause(40);
          if (i === 10) console.log('ten rounds');
        }
      }, { name: 'foreign' });`,
      { env: { ONEWAIT_TRACE_LISTEN: path } },
    );
    const client = await until('it listens', () => live(path).catch(() => null));
    const costs = new Costs('live');
    const begin = await client.costs();
    costs.push(begin.head, begin.trace);
    await child.says(/ten rounds/);
    const { head, trace } = await client.costs();
    const [task] = costs.push(head, trace)!.tasks;
    expect(task!.latency).toBeGreaterThan(0);
    // Most of the time, if waiting were running.
    expect(task!.cpu).toBeLessThan((head.now - begin.head.now) / 2);
  });
});

/** A program that says whether it records, whenever that changes, and starts or stops a recording of its own when told to. */
const WATCHED = `
  import { activeRecording } from ${JSON.stringify(new URL('../dist/src/trace/recorder.js', import.meta.url).href)};
  import { getLoop } from ${JSON.stringify(new URL('../dist/src/current.js', import.meta.url).href)};
  import { start, stop } from ${JSON.stringify(new URL('../dist/src/trace/recording.js', import.meta.url).href)};
  process.stdin.on('data', (line) => { if (String(line) === 'stop\\n') stop(); else start(String(line).trim()); });
  await run(async () => {
    let before;
    for (;;) {
      await sleep(1);
      const active = activeRecording();
      const now = active === null ? 'off' : active.live ? 'live' : 'file';
      if (now !== before) console.log(now, getLoop().observer !== null);
      before = now;
    }
  });`;

describe('recording for who looks on', () => {
  test('begins with the first who asks for costs and ends with the last of them, however that goes', async () => {
    const path = join(folder(), 'live');
    const child = script(WATCHED, { env: { ONEWAIT_TRACE_LISTEN: path } });
    await child.says(/off false\n/);
    const onlyTree = await live(path);
    await onlyTree.tree();
    const [first, second] = [await live(path), await live(path)];
    await first.costs();
    await child.says(/live true\n/);
    await second.costs();
    first.close();
    await second.costs();
    const rude = connect({ path });
    rude.on('error', () => {});
    await new Promise<void>((resolve) => rude.on('connect', resolve));
    // Gone before it is answered.
    rude.write('{"ask":"costs"}\n'.repeat(1000));
    rude.destroy();
    second.close();
    await child.says(/live true\noff false\n$/);
    expect(child.stdout).toBe('off false\nlive true\noff false\n');
    expect(await onlyTree.tree()).toHaveLength(3);
    expect(child.stderr).toBe('');
  });

  test("gives way to a recording of the program's own, and comes back after it", async () => {
    const here = folder();
    const path = join(here, 'live');
    const file = join(here, 'trace');
    const child = script(WATCHED, { env: { ONEWAIT_TRACE_LISTEN: path } });
    const client = await until('it listens', () => live(path).catch(() => null));
    await client.costs();
    await child.says(/live true\n/);
    child.process.stdin!.write(`${file}\n`);
    await child.says(/file true\n/);
    expect((await client.costs()).head.skipped).toBe(-1);
    await windowThat(client, ({ tasks }) => tasks.length > 0);
    child.process.stdin!.write('stop\n');
    await child.says(/file true\noff false\n/);
    expect((await client.costs()).head.skipped).toBe(-1);
    await child.says(/off false\nlive true\n$/);
    expect((await onewait(['trace', 'show', file]).end()).stdout).toMatch(/suspends on 1 ms/);
    expect(child.stderr).toBe('');
  });
});

describe('onewait trace top', () => {
  test('--once prints one report, what costs most first', async () => {
    const { port, path } = await server();
    await load(port, 25);
    const { code, stdout, stderr } = await onewait([
      'trace',
      'top',
      path,
      '--once',
      '--interval',
      '0.3',
      '--sort',
      'calls',
    ]).end();
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.split('\n');
    expect(lines[0]).toMatch(/^pid \d+ main, 27 tasks; \d\.\d{3} s, \d+ records.*, by calls$/);
    expect(lines[1]).toMatch(/^[\d,.]+ turns\/s {2}blocked \d+\.\d\d% {2}libuv [\d,.]+ turns\/s {2}lost 0$/);
    expect(lines[3]).toMatch(/^TASK +RUNNING +RUNNABLE p99 +CALLS\/s +IN\/s +OUT\/s +NOW$/);
    const tasks = lines.slice(4, 24);
    for (const line of tasks)
      expect(line).toMatch(/^echo#\d+ .*% .* ms .*B .*B {2}suspended on fd \d+ IN, tcp 127\.0\.0\.1:\d+$/);
    const calls = tasks.map((line) => Number(line.split(/ {2,}/)[3]!.replaceAll(',', '')));
    expect(calls).toEqual([...calls].sort((a, b) => b - a));
    expect(lines[24]).toBe('... and 5 more');
    expect(lines[25]).toMatch(/^ *FD +IN CALLS +TO TASK p99 +CALLS\/s +IN\/s +OUT\/s +EAGAIN +AWAITED BY +WHAT$/);
    for (const line of lines.slice(26, 46)) expect(line).toMatch(/ echo#\d+ +tcp 127\.0\.0\.1:\d+$/);
  });

  test('prints one report where there is no terminal, and the tree when asked for that', async () => {
    const { path } = await server();
    const plain = await onewait(['trace', 'top', path, '--interval', '0.1']).end();
    expect(plain).toMatchObject({ code: 0, stderr: '' });
    expect(plain.stdout).toContain('2 tasks');
    expect(plain.stdout).not.toContain('\x1b');
    const tree = await onewait(['trace', 'top', path, '--tree']).end();
    expect(tree).toMatchObject({ code: 0, stderr: '' });
    expect(tree.stdout).toMatch(/^2 tasks: 2 suspended\nrun\n├─ main#1/);
  });

  test('says in one line why it cannot', async () => {
    const here = folder();
    const file = join(here, 'file');
    writeFileSync(file, '');
    const { child, path } = await server();
    child.kill();
    await child.ended;
    const foreign = join(here, 'foreign');
    const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\n')).listen(foreign);
    onTestFinished(() => void other.close());
    for (const [socket, why] of [
      [join(here, 'none'), 'there is no such socket: start the program with ONEWAIT_TRACE_LISTEN set to this path'],
      [file, 'it is no socket'],
      [path, 'nobody listens there: the program that did has ended'],
      [foreign, "whoever listens there does not speak as onewait does: it is another program's socket"],
    ]) {
      const { code, stdout, stderr } = await onewait(['trace', 'top', socket!]).end();
      expect([code, stdout, stderr]).toEqual([1, '', `onewait: ${socket}: ${why}\n`]);
    }
  });

  test('shows nothing that a terminal would take as a command, whoever answers', async () => {
    for (const answer of ['{"bytes":8}\nno\x1b[31md', '{"bytes":0,"error":"no\\u001b[31md"}\n']) {
      const path = join(folder(), 'socket');
      const server = createServer((socket) => void socket.on('error', () => {}).on('data', () => socket.write(answer)));
      onTestFinished(() => void server.close());
      server.listen(path);
      const { stdout, stderr } = await onewait(['trace', 'top', '--tree', path]).end();
      expect(stdout + stderr).toMatch(/no\?\[31md\n$/);
    }
  });

  test('says so when the program ends meanwhile', async () => {
    const path = join(folder(), 'live');
    const child = script(WATCHED, { env: { ONEWAIT_TRACE_LISTEN: path } });
    await child.says(/off/);
    const top = onewait(['trace', 'top', path, '--once', '--interval', '60']);
    await child.says(/live/);
    child.kill();
    expect(await top.end()).toMatchObject({ code: 1, stdout: '', stderr: `onewait: ${path}: the program has ended\n` });
  });

  test.each([
    ['--interval', '0'],
    ['--interval', 'x'],
    ['--sort', 'name'],
  ])('%s %s is wrong usage', async (option, value) => {
    const { code, stderr } = await onewait(['trace', 'top', '/tmp/x', option, value]).end();
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: option '--\w+ <\w+>' argument '\w+' is invalid\..*\n$/);
  });
});

describe('onewait trace top on a terminal', () => {
  /** A terminal in which `top` runs; `screen` is what can be seen. */
  function terminal(path: string): {
    screen(): string;
    keys(...keys: string[]): void;
    resize(rows: number): void;
    here: string;
  } {
    needs('tmux');
    const here = folder();
    const tmux = (...args: string[]): string =>
      execFileSync('tmux', ['-S', join(here, 'tmux'), '-f', '/dev/null', ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    const command = onewaitCommand(path);
    tmux(
      'new-session',
      '-d',
      '-x',
      '130',
      '-y',
      '30',
      `cd ${here}; echo before; stty -a > before; ${command}; echo ended $?; stty -a > after; touch done; cat`,
    );
    onTestFinished(() => void tmux('kill-server'));
    return {
      here,
      screen: () => tmux('capture-pane', '-p'),
      keys: (...keys) => void tmux('send-keys', ...keys),
      resize: (rows) => void tmux('resize-window', '-x', '130', '-y', String(rows)),
    };
  }

  function onewaitCommand(path: string): string {
    const main = new URL('../dist/src/cli/main.js', import.meta.url).pathname;
    return `${process.execPath} ${main} trace top ${path} --interval 0.1`;
  }

  test('shows costs and the tree, fits the window, says when the program is stuck, and quits at q', async () => {
    const { child, port, path } = await server();
    await load(port, 15);
    const { screen, keys, resize } = terminal(path);
    await until('costs', () =>
      /turns\/s.*\n\nTASK[\s\S]*echo#\d+[\s\S]*FD .*WHAT[\s\S]*q quit {2}t tree {2}s sort \(now cpu\)/.test(screen()),
    );
    keys('s');
    await until('another order', () => screen().includes('s sort (now calls)'));
    keys('t');
    await until('the tree', () => /├─ main#1[\s\S]*└─ and 7 more: echo/.test(screen()));
    resize(8);
    await until('the tree, cut', () => /\.\.\. \d+ more lines/.test(screen()));
    keys('t');
    await until('costs again', () => /pid \d+ main[\s\S]*q quit/.test(screen()) || /TASK/.test(screen()));
    child.process.kill('SIGSTOP');
    await until('it is stuck', () => /no answer for \d+ s: something holds up the program's loop/.test(screen()));
    child.process.kill('SIGCONT');
    await until('it goes on', () => !screen().includes('no answer'));
    keys('q');
    await until('the end', () => screen().includes('ended 0'));
    expect(screen()).not.toContain('turns/s');
  });

  test.each([
    ['q', (keys: (key: string) => void) => keys('q'), /^before\nended 0\n/],
    ['Ctrl-C', (keys: (key: string) => void) => keys('C-c'), /^before\nended 130\n/],
    [
      'the end of the program',
      (_: unknown, child: Child) => child.kill(),
      /^before\nonewait: .*: the program has ended\nended 1\n/,
    ],
  ])('leaves the terminal as it was after %s', async (_, end, left) => {
    const { child, path } = await server();
    const { screen, keys, here } = terminal(path);
    await until('costs', () => screen().includes('turns/s'));
    end(keys, child);
    await until('the end', () => existsSync(join(here, 'done')));
    expect(await until('what is left', () => left.test(screen()))).toBe(true);
    expect(readFileSync(join(here, 'after'), 'utf8')).toBe(readFileSync(join(here, 'before'), 'utf8'));
  });
});
