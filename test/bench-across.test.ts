// The benchmark across machines, which are network namespaces here: `--serve` on one and `--target` on another, and the recipe of
// bench/README.md for several hosts behind HAProxy, with the configuration that stands there. No figure decides anything here.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Report } from '../bench/results.ts';
import { compiledPrograms, main } from './bench-programs.ts';
import { Network, whyNoNetwork } from './network.ts';
import { Child, cli, type Ended, needs, root } from './processes.ts';

const document = readFileSync(join(root, 'bench/README.md'), 'utf8');
const programs = compiledPrograms('loadgen', 'raw-epoll');

/** The words of a line of the document. */
function documented(line: string): string[] {
  expect(document).toContain(`    ${line}\n`);
  return line.split(' ');
}

describe('the command line', () => {
  const complaintOf = (...args: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^onewait bench: [^\n]*\n$/);
    return stderr;
  };

  test.each(['memory', 'threads-limit', 'exchange', 'trace', 'idle', 'cores'])(
    'the suite %s, which must start its servers, refuses a --target',
    (suite) => {
      expect(complaintOf('--target', '10.0.0.2:7000', '--suite', suite)).toContain(`${suite} must start the servers`);
    },
  );

  test.each([
    [['--target', '10.0.0.2'], 'a host and a port'],
    [['--target', '10.0.0.2:0'], 'a host and a port'],
    [['--target', '10.0.0.2:7000', '--servers', 'raw-epoll'], 'cannot be used with'],
    [['--name', 'x'], '--name is for'],
    [['--port', '7000'], '--host and --port are for --serve'],
    [['--serve', 'nonsense'], "'nonsense': choose from raw-epoll"],
    [['--serve', 'exchange-blocking'], 'There is no server that echoes'],
    [['--serve', 'raw-epoll', '--suite', 'echo'], 'cannot be used with'],
  ])('answers %j with one line and exit code 2', (args, complaint) => {
    expect(complaintOf(...args)).toContain(complaint);
  });

  test('a name that has no address is said', () => {
    const { status, stderr } = spawnSync(process.execPath, [
      main,
      '--programs',
      programs,
      '--target',
      'nowhere.invalid:7000',
    ]);
    expect(status).toBe(1);
    expect(`${stderr}`).toMatch(/^onewait bench: cannot find --target nowhere\.invalid: [^\n]*\n$/);
  });

  test('a served server that ends by itself is an error with its last words', async () => {
    const folder = mkdtempSync(join(programs, 'dying-'));
    const script = `#!/bin/sh\necho "listening on $4:$2"\necho 'my last words' >&2\nexit 9\n`;
    writeFileSync(join(folder, 'raw-epoll'), script, { mode: 0o755 });
    const server = new Child(process.execPath, [main, '--programs', folder, '--serve', 'raw-epoll', '--port', '7102']);
    const { code, stderr } = await server.end();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^onewait bench: raw-epoll .*exit code 9.*my last words\n$/);
  });
});

const reason = whyNoNetwork();

describe.skipIf(reason !== null)(`across machines${reason === null ? '' : `, not here: ${reason}`}`, () => {
  let network: Network;
  const forget = () => network?.remove();

  beforeAll(() => {
    network = new Network({ client: '10.0.0.1', proxy: '10.0.0.10', one: '10.0.0.11', two: '10.0.0.12' });
    process.once('exit', forget);
  });

  afterAll(() => {
    forget();
    process.off('exit', forget);
  });

  const start = (host: string, ...command: readonly string[]) => new Child(...network.on(host, ...command));

  const bench = (host: string, ...args: readonly string[]) =>
    start(host, process.execPath, main, '--programs', programs, ...args);

  const QUICKLY = ['--connections', '64', '--rounds', '1', '--seconds', '0.1'];

  let files = 0;

  /** What is measured on the client's machine, in a short window. */
  async function measure(...args: readonly string[]): Promise<Ended & { readonly report: Report }> {
    const file = join(programs, `${files++}.json`);
    const ended = await bench('client', ...args, ...QUICKLY, '--json', file).end(60_000);
    return { ...ended, report: JSON.parse(readFileSync(file, 'utf8')) as Report };
  }

  test('a server is served on one machine and measured from another, with the command that it prints', async () => {
    const server = bench('one', '--serve', 'raw-epoll', '--host', '0.0.0.0', '--port', '7100');
    const [, command] = await server.says(/^ {2}npm run bench -- (.*)$/m);
    expect(server.stdout).toMatch(/^raw-epoll is listening on 0\.0\.0\.0:7100, (not )?pinned.*, until Ctrl-C$/m);
    expect(command).toBe('--target 10.0.0.11:7100 --name raw-epoll');
    const { code, stdout, report } = await measure(...command!.split(' '));
    expect(code).toBe(0);
    expect(stdout).toContain('the server was not watched');
    expect(report.method.server).toContain('raw-epoll, at 10.0.0.11:7100, which was not started here');
    expect(report.results).toMatchObject([
      {
        server: 'raw-epoll',
        established: 64,
        serverBusy: null,
        serverCpuMicrosPerRoundTrip: null,
        rssBytes: null,
        threads: null,
      },
    ]);
    expect(report.results[0]!.roundTripsPerSecond).toBeGreaterThan(0);
    expect(report.idle).toEqual([]);
    for (const { valid, generatorBusy, connectionErrors } of report.samples) {
      expect(connectionErrors).toBe(0);
      expect(valid).toBe(generatorBusy < 0.95);
    }
    server.process.kill('SIGINT');
    expect(await server.end()).toMatchObject({ code: 130, stderr: '' });
  });

  test('a server that is not there, and one that answers something else, are named, and the exit code is 1', async () => {
    const absent = await measure('--target', '10.0.0.12:7100', '--name', 'nobody');
    expect(absent.code).toBe(1);
    expect(absent.stderr).toMatch(/onewait bench: nobody: .*no connection was made: connect: Connection refused/);
    expect(absent.report).toMatchObject({ complete: false, results: [{ server: 'nobody', valid: false }] });
    const liar = start(
      'two',
      process.execPath,
      '--eval',
      `require('net').createServer((socket) => socket.on('error', () => {}).on('data', (data) => {
        data[0] ^= 1;
        socket.write(data);
      })).listen(7101, '10.0.0.12', () => console.log('listening'));`,
    );
    await liar.says(/listening/);
    const wrong = await measure('--target', '10.0.0.12:7101', '--name', 'liar');
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/onewait bench: liar: the load generator gave up/);
    expect(wrong.report).toMatchObject({ complete: false, results: [{ server: 'liar', valid: false }] });
  });

  test('behind HAProxy, configured as documented, hosts share the load, and when one ends the other serves on', async () => {
    needs('haproxy', 'curl');
    const echo = (host: 'one' | 'two', line: string) => {
      const [program, ...args] = documented(line);
      expect(program).toBe('onewait');
      return start(host, process.execPath, cli, ...args);
    };
    const startOne = () => echo('one', 'onewait echo --host 10.0.0.11 --port 7000 --reuse-port');
    const startTwo = () => echo('two', 'onewait echo --host 10.0.0.12 --port 7000 --reuse-port');
    // Host one has two cores.
    const ones = [startOne(), startOne()];
    const two = startTwo();
    await Promise.all([...ones, two].map((server) => server.says(/^listening on 10\.0\.0\.1[12]:7000$/m)));

    const [, configuration] = /^```haproxy\n(.*?)^```$/ms.exec(document)!;
    const file = join(programs, 'haproxy.cfg');
    writeFileSync(file, configuration!);
    execFileSync('haproxy', ['-c', '-f', file]);
    const proxy = start('proxy', 'haproxy', '-f', file);
    const target = documented('npm run bench -- --target 10.0.0.10:7000 --name hosts').slice(4);

    /** How many connections each host has had: `stot` in HAProxy's statistics. */
    const connections = (): { one: number; two: number } => {
      const [program, args] = network.on('client', 'curl', '--silent', '--fail', 'http://10.0.0.10:8404/;csv');
      const [header, ...rows] = execFileSync(program, args, { encoding: 'utf8' }).trim().split('\n');
      const column = header!.split(',').indexOf('stot');
      const of = (server: string) => Number(rows.find((row) => row.startsWith(`hosts,${server},`))!.split(',')[column]);
      return { one: of('one'), two: of('two') };
    };

    const both = await measure(...target);
    expect(both).toMatchObject({
      code: 0,
      report: { complete: true, results: [{ server: 'hosts', established: 64 }] },
    });
    const before = connections();
    // One window to warm up, and one or more that are measured.
    expect(before.one + before.two).toBeGreaterThanOrEqual(128);
    expect(Math.min(before.one, before.two)).toBeGreaterThan((before.one + before.two) / 3);

    two.process.kill('SIGTERM');
    await two.end();
    await proxy.says(/^.*Server hosts\/two is DOWN.*$/m);
    const alone = await measure(...target);
    expect(alone).toMatchObject({ code: 0, report: { complete: true, results: [{ established: 64 }] } });
    const after = connections();
    expect(after.two).toBe(before.two);
    expect(after.one).toBeGreaterThanOrEqual(before.one + 128);

    await startTwo().says(/^listening/m);
    await proxy.says(/^.*Server hosts\/two is UP.*$/m);
    await measure(...target);
    expect(connections().two).toBeGreaterThan(after.two);
  });
});
