// Unix sockets: servers and clients by a path.

import { chmodSync, existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  all,
  Cancelled,
  ClosedError,
  type Listener,
  type Operation,
  race,
  run,
  type Stream,
  sleep,
  timeout,
  unix,
  yieldNow,
} from '../src/index.ts';
import { givenUp, openDescriptors, suspended, thrown, turnsUntil } from './helpers.ts';
import { Child, folder, needs, onewait, script } from './processes.ts';
import { injecting } from './strace.ts';
import { both, everywhere, on, readAll, type Scenario, type Style, text, thrownBy } from './styles.ts';
import { until } from './until.ts';

/** A path where nothing is. */
function free(): string {
  return join(folder(), 'socket');
}

/** Both ends of a connection, and the listener that has one of them. */
function* pairAt(path: string): Scenario<[near: Stream, far: Stream, listener: Listener]> {
  const listener = yield* on(unix.listen({ path }));
  const near = yield* on(unix.connect({ path }));
  return [near, yield* on(listener.accept()), listener];
}

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

/** So many connections wait to be accepted that there is no room for another: a listener, and how many. */
function* crowded(path: string): Scenario<[Listener, Stream[]]> {
  const listener = yield* on(unix.listen({ path, backlog: 2 }));
  const waiting: Stream[] = [];
  for (let i = 0; i < 3; i++) waiting.push(yield* on(unix.connect({ path })));
  return [listener, waiting];
}

/** A coroutine that serves echo. */
function echo(style: Style, stream: Stream): void {
  style.spawn(function* () {
    for (let chunk = yield* on(stream.read()); chunk !== null; chunk = yield* on(stream.read()))
      yield* on(stream.write(chunk));
    yield* on(stream.close());
  });
}

describe('a Unix socket', () => {
  everywhere('carries bytes both ways, and ends as any stream does', function* (style) {
    const [near, far, listener] = yield* pairAt(free());
    echo(style, far);
    yield* on(near.write('one '));
    yield* on(near.write('wait'));
    yield* on(near.shutdown());
    expect(text(yield* readAll(near))).toBe('one wait');
    near.destroy();
    listener.close();
  });

  everywhere('brings a megabyte back as it was, though it holds far less', function* (style) {
    const [near, far, listener] = yield* pairAt(free());
    echo(style, far);
    const sent = Buffer.alloc(1 << 20, 'abcdefghijklmnopq');
    const writer = style.spawn(function* () {
      yield* on(near.write(sent));
      yield* on(near.shutdown());
    });
    expect((yield* readAll(near)).equals(sent)).toBe(true);
    yield* on(writer);
    near.destroy();
    listener.close();
  });

  both('tells where it is, and a client has no name', function* () {
    const path = free();
    const [near, far, listener] = yield* pairAt(path);
    const here = { address: path, family: 'Unix', port: 0 };
    expect(listener.address).toEqual(here);
    expect(near.remoteAddress).toEqual(here);
    expect(far.localAddress).toEqual(here);
    expect(far.remoteAddress).toEqual({ ...here, address: '' });
    for (const end of [near, far]) end.destroy();
    listener.close();
  });

  both('may have a name without a file', function* () {
    const path = `\0onewait test ${process.pid}\0\u20ac`;
    const [near, far, listener] = yield* pairAt(path);
    expect(near.remoteAddress?.address).toBe(path);
    yield* on(far.write('here'));
    expect(text(yield* on(near.read()))).toBe('here');
    expect(yield* thrownBy(() => unix.listen({ path }))).toMatchObject({
      code: 'EADDRINUSE',
      syscall: 'listen',
      address: path,
    });
    for (const end of [near, far]) end.destroy();
    listener.close();
    expect(yield* thrownBy(() => unix.connect({ path }))).toMatchObject({
      code: 'ECONNREFUSED',
      address: path,
      message: `connect ECONNREFUSED ${path.replaceAll('\0', '@')}`,
    });
  });

  test('checks its path before anything else', () => {
    for (const make of [unix.listen, unix.connect]) {
      for (const path of [undefined, null, 5, '', {}, 'a\0b']) expect(() => make({ path } as never)).toThrow(TypeError);
      for (const path of ['x'.repeat(108), `\0${'x'.repeat(108)}`, '\u20ac'.repeat(36)])
        expect(() => make({ path })).toThrow(/bytes/);
      expect(thrown(() => make({ path: 'x'.repeat(108) }))).toBeInstanceOf(RangeError);
      expect(thrown(() => make(undefined as never))).toBeInstanceOf(TypeError);
    }
    for (const mode of [-1, 0o1000, 1.5]) expect(() => unix.listen({ path: 'x', mode })).toThrow(RangeError);
  });
});

describe('listening at a path', () => {
  both('makes a file that only its user may use, or as it is told, whatever the umask', function* () {
    const before = process.umask(0o027);
    try {
      for (const [mode, expected] of [
        [undefined, 0o600],
        [0o666, 0o666],
        [0o660, 0o660],
        [0o400, 0o400],
      ] as const) {
        const path = free();
        const listener = yield* on(unix.listen({ path, mode }));
        expect(modeOf(path)).toBe(expected);
        listener.close();
      }
    } finally {
      process.umask(before);
    }
  });

  both('removes the file when it is closed, unless it is another by then', function* () {
    const path = free();
    const first = yield* on(unix.listen({ path }));
    first.close();
    first.close();
    expect(existsSync(path)).toBe(false);
    const moved = yield* on(unix.listen({ path }));
    renameSync(path, `${path}.moved`);
    const second = yield* on(unix.listen({ path }));
    moved.close();
    expect(existsSync(path)).toBe(true);
    const near = yield* on(unix.connect({ path }));
    near.destroy();
    second.close();
    expect(existsSync(path)).toBe(false);
  });

  both('fails where somebody listens, who notices nothing but a connection that is gone', function* (style) {
    const [near, far, listener] = yield* pairAt(free());
    const path = listener.address.address;
    expect(yield* thrownBy(() => unix.listen({ path }))).toMatchObject({
      code: 'EADDRINUSE',
      syscall: 'listen',
      address: path,
      message: `listen EADDRINUSE ${path}`,
    });
    expect(yield* on((yield* on(listener.accept())).read())).toBeNull();
    echo(style, far);
    yield* on(near.write('still here'));
    expect(text(yield* on(near.read()))).toBe('still here');
    near.destroy();
    listener.close();
  });

  both('takes the place of who is gone and has left its file, and of nothing else', function* () {
    const path = free();
    const killed = script(
      `import { unix } from 'onewait';
      await run(function* () { const l = yield* unix.listen({ path: ${JSON.stringify(path)} }); console.log('ready'); yield* l.accept(); });`,
    );
    yield* on(killed.says(/ready/));
    killed.process.kill('SIGKILL');
    yield* on(killed.end());
    expect(yield* thrownBy(() => unix.connect({ path }))).toMatchObject({
      code: 'ECONNREFUSED',
      syscall: 'connect',
      address: path,
    });
    const listener = yield* on(unix.listen({ path }));
    (yield* on(unix.connect({ path }))).destroy();
    listener.close();

    writeFileSync(path, 'a file');
    expect(yield* thrownBy(() => unix.listen({ path }))).toMatchObject({ code: 'ENOTSOCK' });
    expect(readFileSync(path, 'utf8')).toBe('a file');
    expect(yield* thrownBy(() => unix.listen({ path: join(folder(), 'no/such/folder') }))).toMatchObject({
      code: 'ENOENT',
    });
  });

  both('removes its file also when the folder of the process is another by then', function* () {
    const place = folder();
    const before = process.cwd();
    try {
      process.chdir(place);
      const listener = yield* on(unix.listen({ path: 'relative' }));
      process.chdir(before);
      listener.close();
      expect(existsSync(join(place, 'relative'))).toBe(false);
    } finally {
      process.chdir(before);
    }
  });

  test('leaves no file and no descriptor when the system refuses a part of it', async () => {
    for (const [refused, code] of [
      ['fchmod:error=EPERM', 'EPERM'],
      ['bind:error=EACCES', 'EACCES'],
      ['listen:error=ENOMEM:when=1', 'ENOMEM'],
    ] as const) {
      const path = free();
      const child = script(
        `import { unix } from 'onewait';
        import { existsSync, readdirSync } from 'node:fs';
        await run(function* () {
          const before = readdirSync('/proc/self/fd').length;
          let failed;
          try { yield* unix.listen({ path: ${JSON.stringify(path)} }); } catch (error) { failed = error; }
          console.log(failed.syscall, failed.code, existsSync(${JSON.stringify(path)}), readdirSync('/proc/self/fd').length - before);
        });`,
        { wrap: injecting(refused) },
      );
      expect(await child.end()).toMatchObject({ code: 0, stdout: `listen ${code} false 0\n`, stderr: '' });
    }
  });

  test('is not put off by a file that cannot be looked at, and leaves what is for datagrams', async () => {
    needs('socat');
    const path = free();
    const child = script(
      `import { unix } from 'onewait';
      await run(function* () {
        const l = yield* unix.listen({ path: ${JSON.stringify(path)} });
        (yield* unix.connect({ path: ${JSON.stringify(path)} })).destroy();
        (yield* l.accept()).destroy();
        l.close();
        console.log('closed');
      });`,
      { wrap: [...injecting('statx:error=EACCES'), '-P', path] },
    );
    expect(await child.end()).toMatchObject({ code: 0, stdout: 'closed\n', stderr: '' });

    const datagrams = free();
    const other = new Child('socat', ['-u', `UNIX-RECV:${datagrams}`, 'OPEN:/dev/null']);
    await until('it is there', () => existsSync(datagrams));
    await expect(run(() => unix.listen({ path: datagrams }))).rejects.toMatchObject({ code: 'EADDRINUSE' });
    expect(existsSync(datagrams)).toBe(true);
    other.process.kill('SIGTERM');
    await other.end();
  });

  both('leaves nothing open when it fails', function* () {
    const path = join(folder(), 'no/such/folder');
    yield* thrownBy(() => unix.listen({ path }));
    const before = openDescriptors();
    for (let i = 0; i < 10; i++) {
      yield* thrownBy(() => unix.listen({ path }));
      yield* thrownBy(() => unix.connect({ path }));
    }
    expect(openDescriptors()).toBe(before);
  });

  both('wakes who accepts when it is closed', function* (style) {
    const listener = yield* on(unix.listen({ path: free() }));
    const acceptor = style.spawn(() => on(listener.accept()));
    yield* suspended(acceptor);
    listener.close();
    expect(yield* thrownBy(() => acceptor)).toBeInstanceOf(ClosedError);
  });
});

describe('connecting to a path', () => {
  both('fails as connect(2) does where nobody listens', function* () {
    const path = free();
    expect(yield* thrownBy(() => unix.connect({ path }))).toMatchObject({
      code: 'ENOENT',
      syscall: 'connect',
      address: path,
      message: `connect ENOENT ${path}`,
    });
    writeFileSync(path, 'a file');
    expect(yield* thrownBy(() => unix.connect({ path }))).toMatchObject({ code: 'ECONNREFUSED' });
  });

  both('waits for room where too many wait to be accepted', function* (style) {
    const path = free();
    const [listener, waiting] = yield* crowded(path);
    const late = style.spawn(() => on(unix.connect({ path })));
    yield* suspended(late);
    expect(late.waitingFor).toBe(`room at ${path}`);
    yield* on(sleep(5));
    expect(late.ended).toBe(false);
    (yield* on(listener.accept())).destroy();
    const stream = yield* on(late);
    for (let i = 0; i < 3; i++) (yield* on(listener.accept())).destroy();
    expect(yield* on(stream.read())).toBeNull();
    for (const end of [...waiting, stream]) end.destroy();
    listener.close();
  });

  both('can be given up while it waits for room, and then has not happened', function* (style) {
    const path = free();
    const [listener, waiting] = yield* crowded(path);
    const before = openDescriptors();
    yield* givenUp(style, (options) => unix.connect({ path, ...options }));
    expect(yield* thrownBy(() => unix.connect({ path, signal: AbortSignal.abort('before') }))).toBe('before');
    expect(openDescriptors()).toBe(before);
    const closed = style.spawn(() => on(unix.connect({ path })));
    expect(closed.loop.timers.size).toBe(0);
    yield* suspended(closed);
    listener.close();
    expect(yield* thrownBy(() => closed)).toMatchObject({ code: 'ENOENT' });
    for (const end of waiting) end.destroy();
  });

  both('is hung up when nobody gets it, at whatever moment that is', function* (style) {
    const path = free();
    const listener = yield* on(unix.listen({ path }));
    const before = openDescriptors();
    const compounds: Array<() => Operation<unknown>> = [
      () => race<unknown>([unix.connect({ path }), sleep(1e6)]),
      () => race<unknown>([sleep(1e6), timeout(1e6, unix.connect({ path }))]),
      () => all<unknown>([unix.connect({ path }), sleep(1e6)]),
      () => all<unknown>([sleep(1e6), timeout(1e6, unix.connect({ path }))]),
    ];
    for (const compound of compounds) {
      for (let turns = 0; turns < 8; turns++) {
        const task = style.spawn(() => on(compound()));
        for (let i = 0; i < turns; i++) yield* on(yieldNow());
        task.cancel();
        try {
          ((yield* on(task)) as Stream).destroy();
        } catch (error) {
          expect(error).toBeInstanceOf(Cancelled);
        }
        expect(openDescriptors()).toBe(before);
      }
    }
    listener.close();
  });

  both('lets others run, however often it succeeds at once', function* (style) {
    const path = free();
    const listener = yield* on(unix.listen({ path }));
    const acceptor = style.spawn(function* () {
      for (;;) (yield* on(listener.accept())).destroy();
    });
    let goes = true;
    const eager = style.spawn(function* () {
      while (goes) (yield* on(unix.connect({ path }))).destroy();
    });
    yield* on(sleep(1));
    goes = false;
    yield* on(eager);
    acceptor.cancel();
    yield* thrownBy(() => acceptor);
    listener.close();
  });
});

describe('with others', () => {
  test.each([
    ['nc', 'nc -N -U PATH'],
    ['socat', 'socat -t 60 STDIO UNIX-CONNECT:PATH'],
  ])('`onewait echo --path` echoes what %s sends', async (program, command) => {
    needs(program, 'bash');
    const path = free();
    const server = onewait(['echo', '--path', path]);
    expect((await server.says(/^listening on (.*)$/m))[1]).toBe(path);
    const client = new Child('bash', [
      '-c',
      `head -c 5000000 ${process.execPath} | ${command.replace('PATH', path)} | cmp - <(head -c 5000000 ${process.execPath}) && echo the same`,
    ]);
    expect(await client.end()).toMatchObject({ code: 0, stdout: 'the same\n', stderr: '' });
    server.process.kill('SIGTERM');
    expect(await server.end()).toMatchObject({ code: 143, stderr: '' });
    expect(existsSync(path)).toBe(false);
  });

  both("a client and a server of Node's own understand it", function* (style) {
    const path = free();
    const server = createServer((socket) => void socket.pipe(socket));
    yield* on(new Promise<void>((resolve) => server.listen(path, resolve)));
    const stream = yield* on(unix.connect({ path }));
    yield* on(stream.write('to Node'));
    expect(text(yield* on(stream.read()))).toBe('to Node');
    stream.destroy();
    yield* on(new Promise((resolve) => server.close(resolve)));

    const listener = yield* on(unix.listen({ path }));
    const accepting = style.spawn(function* () {
      echo(style, yield* on(listener.accept()));
    });
    const socket = createConnection(path);
    socket.end('from Node');
    let heard = '';
    for (const event of ['data', 'end'])
      socket.on(event, (data: Buffer | undefined) => {
        heard += data ?? '.';
      });
    yield* on(accepting);
    yield* turnsUntil(() => heard === 'from Node.');
    listener.close();
  });

  test('another user may connect where the file says so, and otherwise not', async () => {
    needs('setpriv', 'nc');
    if (process.getuid?.() !== 0) return;
    const place = folder();
    chmodSync(place, 0o755);
    const path = join(place, 'socket');
    const serve = (mode: string): Child =>
      script(
        `import { unix } from 'onewait';
        await run(function* () {
          const l = yield* unix.listen({ path: ${JSON.stringify(path)}, mode: ${mode} });
          console.log('ready');
          const conn = yield* l.accept();
          yield* conn.write('welcome');
          yield* conn.close();
          l.close();
        });`,
      );
    const nobody = (): Child => new Child('setpriv', ['--reuid=65534', '--clear-groups', 'nc', '-N', '-U', path]);
    const closed = serve('undefined');
    await closed.says(/ready/);
    expect((await nobody().end()).stderr).toContain('Permission denied');
    closed.process.kill('SIGKILL');
    await closed.end();
    const open = serve('0o666');
    await open.says(/ready/);
    expect((await nobody().end()).stdout).toBe('welcome');
    expect(await open.end()).toMatchObject({ code: 0, stderr: '' });
  });

  test('a trace names it by its path', async () => {
    const path = free();
    const trace = join(folder(), 'trace');
    const program = script(
      `import { unix } from 'onewait';
      await run(function* () {
        const path = ${JSON.stringify(path)};
        const l = yield* unix.listen({ path });
        const near = yield* unix.connect({ path });
        const far = yield* l.accept();
        yield* near.close(); yield* far.read(); yield* far.close(); l.close();
        const unnamed = yield* unix.listen({ path: '\\0onewait ' + process.pid });
        unnamed.close();
      });`,
      { env: { ONEWAIT_TRACE: trace } },
    );
    expect(await program.end()).toMatchObject({ code: 0, stderr: '' });
    const { stdout } = await onewait(['trace', 'show', trace]).end();
    const place = path.replaceAll('/', '\\/');
    for (const line of [
      / socket\(\) = \d+ /,
      / bind\(\d+\) = 0 /,
      / listen\(\d+\) = 0 /,
      new RegExp(`fd \\d+ opened: unix listening on ${place}\n`),
      new RegExp(`fd \\d+ opened: unix ${place} connected by `),
      new RegExp(`fd \\d+ opened: unix ${place} accepted by `),
      / connect\(\d+\) = 0 /,
      /fd \d+ opened: unix listening on @onewait \d+\n/,
    ])
      expect(stdout).toMatch(line);
  });

  test('the command line takes a path or a port, not both', async () => {
    expect(await onewait(['echo', '--path', free(), '--port', '7000']).end()).toMatchObject({ code: 2, stdout: '' });
    const { code, stderr } = await onewait(['echo', '--path', join(folder(), 'x'.repeat(120))]).end();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^onewait: .*at most 107 bytes/);
  });
});
