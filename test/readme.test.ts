// The README's code runs as it stands, and is the code that `onewait echo` runs and the benchmark measures.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Child, cli, folder, needs, root } from './processes.ts';
import { until } from './until.ts';

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);

/** Ports below the ephemeral range that nobody listens on; another process that looks at the same time gets others. */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  const from = 8000 + ((process.pid * 10) % 1900);
  for (let port = from; port < from + 100 && ports.length < count; port++) {
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) ports.push(port);
  }
  expect(ports, `free ports from ${from} on`).toHaveLength(count);
  return ports;
}

/** Connects as soon as the server listens. */
async function connect(port: number): Promise<ReturnType<typeof createConnection>> {
  for (const deadline = performance.now() + 20_000; ; ) {
    const socket = createConnection(port, '127.0.0.1');
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    if (connected) return socket;
    if (performance.now() > deadline) throw new Error(`nobody listens on ${port}`);
  }
}

/** A file with the program, in a place where `onewait` is found. */
function programOf(source: string): string {
  const folder = mkdtempSync(join(root, 'dist', 'readme-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'program.mjs');
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 };
  writeFileSync(file, transpileModule(source, { compilerOptions }).outputText);
  return file;
}

/** The lines of a function's body, without indentation. */
function bodyOf(source: string, head: RegExp): string {
  const start = source.search(head);
  expect(start).toBeGreaterThanOrEqual(0);
  const from = source.indexOf('\n', start);
  return source.slice(from, source.indexOf('\n}', from)).trim();
}

describe('the README', () => {
  test.each([
    ['yield', 0],
    ['await', 1],
  ])('has an echo server in %s style that echoes', async (_style, index) => {
    const [port] = (await freePorts(1)) as [number];
    const source = blocks[index]!.replace('port: 7000', `port: ${port}`);
    const server = new Child(process.execPath, [programOf(source)]);
    const socket = await connect(port);
    const echoed = new Promise<string>((resolve, reject) => {
      let text = '';
      socket.on('data', (data) => {
        text += data;
      });
      socket.on('end', () => resolve(text));
      socket.on('error', reject);
    });
    socket.end('one wait\n');
    expect(await echoed).toBe('one wait\n');
    server.process.kill('SIGTERM');
    await server.end();
    expect(server.stderr).toBe('');
  });

  test('has workers that share jobs, of which each is done once', async () => {
    const [source, ...others] = blocks.filter((block) => block.includes("from 'onewait/sync'"));
    expect(others).toEqual([]);
    const { code, stdout, stderr } = await new Child(process.execPath, [programOf(source!)]).end();
    expect([code, stderr]).toEqual([0, '']);
    const done = [...stdout.matchAll(/^(?:Ada|Bob) has done job (\d)$/gm)].map(([, job]) => Number(job));
    expect(done.toSorted()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('shows the coroutines of `onewait echo`', () => {
    const measured = readFileSync(join(root, 'src/cli/echo.ts'), 'utf8');
    expect(bodyOf(blocks[0]!, /function\* echo\(/)).toBe(bodyOf(measured, /function\* echo\(/));
    expect(bodyOf(blocks[1]!, /async function echo\(/)).toBe(bodyOf(measured, /async function echoAsync\(/));
  });
});

describe('the walk from `input()` to a server', () => {
  const page = readme.slice(readme.indexOf('## From `input()` to a server'), readme.indexOf('## What there is'));

  /** Commands, each with what it prints; a blank after a prompt is not written in the README. */
  const steps = [...page.matchAll(/```console\n([\s\S]*?)```/g)].flatMap(([, block]) =>
    block!
      .split(/^\$ /m)
      .filter((step) => step !== '')
      .map((step) => {
        const [command = '', ...output] = step.trimEnd().split('\n');
        return { command, output: output.join('\n') };
      }),
  );

  /** Times, ports and numbers of descriptors are those of the day. */
  const timeless = (text: string) =>
    text
      .replace(/[ \t]+$/gm, '')
      .replace(/ +/g, ' ')
      .replace(/^ ?\d+\.\d+ .*$/gm, (line) => line.replace(/\d+(\.\d+)?/g, 'N'));

  test('prints what it shows', { timeout: 120_000 }, async () => {
    needs('bash', 'nc', 'curl');
    expect(steps.length).toBeGreaterThan(15);
    const cwd = folder();
    writeFileSync(join(cwd, 'onewait'), `#!/bin/sh\nexec ${process.execPath} ${cli} "$@"\n`, { mode: 0o755 });
    const env = { ...process.env, PATH: `${cwd}:${process.env.PATH}` };
    const shell = new Child('bash', [], { cwd, env, detached: true });
    onTestFinished(() => {
      try {
        process.kill(-shell.pid, 'SIGKILL');
      } catch {
        // All of them have ended.
      }
    });
    const type = (line: string) => shell.process.stdin!.write(`${line}\n`);
    // The README's ports may be in use here; and whom it kills is to have ended, for its trace is shown next.
    const ports = await freePorts(3);
    const here = (text: string) =>
      text
        .replace(/\b700([123])\b/g, (_, i) => `${ports[i - 1]}`)
        .replace(/^curl/, 'curl -s')
        .replace(/^kill .*$/, '$&; wait');
    for (const [i, step] of steps.entries()) {
      const [command, output] = [here(step.command), here(step.output)];
      const begin = shell.stdout.length;
      type(command.endsWith('&') ? command : `${command}; echo "<${i}>"`);
      const ending = command.endsWith('&') ? `${output}\n` : `<${i}>\n`;
      await until(`${command}: ${ending}`, () => {
        expect(shell.stderr).toBe('');
        return shell.stdout.slice(begin).includes(ending);
      });
      const printed = shell.stdout.slice(begin).replace(`<${i}>\n`, '');
      expect({ command, output: timeless(printed).trimEnd() }).toEqual({ command, output: timeless(output).trimEnd() });
    }
    type('exit');
    await shell.end();
  });

  test('shows the code of the programs', () => {
    const sources = ['yield-based-coroutines', 'select-echo', 'exchange-coroutines'].map((name) =>
      readFileSync(join(root, `src/article/${name}.ts`), 'utf8').replace(/^ +/gm, ''),
    );
    const excerpts = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!.replace(/^ +/gm, ''));
    expect(excerpts).toHaveLength(3);
    for (const [i, excerpt] of excerpts.entries()) expect(sources[i]).toContain(excerpt);
  });
});
