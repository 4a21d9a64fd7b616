// The README's code runs as it stands, and is the code that `onewait echo` runs and the benchmark measures.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Child, cli, folder, needs, root } from './processes.ts';
import { until } from './until.ts';

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);

/** A port below the ephemeral range that nobody listens on. */
async function freePort(): Promise<number> {
  for (let port = 8700; port < 8800; port++) {
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error('no port from 8700 to 8799 is free');
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
    const port = await freePort();
    const source = blocks[index]!.replace('port: 7000', `port: ${port}`);
    const folder = join(root, 'dist', `readme-${process.pid}-${index}`);
    mkdirSync(folder, { recursive: true });
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'server.mjs');
    writeFileSync(
      file,
      transpileModule(source, { compilerOptions: { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 } })
        .outputText,
    );
    const server = new Child(process.execPath, [file]);
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
    for (const [i, { command, output }] of steps.entries()) {
      const begin = shell.stdout.length;
      type(command.endsWith('&') ? command : `${command.replace(/^curl/, 'curl -s')}; echo "<${i}>"`);
      const ending = command.endsWith('&') ? `${output}\n` : `<${i}>\n`;
      await until(command, () => shell.stdout.slice(begin).includes(ending));
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
