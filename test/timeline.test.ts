// `onewait trace timeline`: the page in a real browser, and what becomes of bad input. Nothing is measured but by the last test, which tells how many
// frames a second there are, and passes whatever the number is.

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { EndKind, Kind, OpenKind, SYSCALLS, TextKind, WaitKind } from '../src/trace/record.ts';
import { folder, needs, onewait } from './processes.ts';
import { TraceFile } from './trace-file.ts';
import { until } from './until.ts';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const MARKUP = '<img src=x onerror="document.title=1">&amp;</script>';
const MS = 1e6;
/** In the page: moves the pointer a little with every frame, and tells when the frames were. */
const PAN = `new Promise((done) => {
  const canvas = document.getElementById('canvas');
  const box = canvas.getBoundingClientRect();
  const times = [];
  const frame = (t) => {
    times.push(t);
    const clientX = box.left + box.width / 2 - times.length * 2;
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX, clientY: box.top + 200, bubbles: true }));
    if (times.length < 180) requestAnimationFrame(frame);
    else done(times);
  };
  requestAnimationFrame(frame);
})`;

let browser: Browser;
beforeAll(async () => {
  needs(CHROMIUM);
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...FLAGS, '--disable-component-update', '--disable-sync'],
  });
});
afterAll(() => browser?.close());

/**
 * An echo server's trace: `clients` descriptors, each with a task, take turns, a message per millisecond. The first descriptor is 9, the first
 * task echo#2.
 */
function writeEcho(path: string, clients: number, messages: number): number {
  const file = new TraceFile(path);
  file.text({ t: 0, code: TextKind.taskName, task: 1 }, 'main');
  file.record({ t: 10, kind: Kind.spawn, task: 1 });
  file.record({ t: 20, kind: Kind.resume, task: 1, code: WaitKind.start });
  for (let client = 0; client < clients; client++) {
    const t = 1000 + client * 1000;
    const fd = 9 + client;
    const task = 2 + client;
    file.text({ t, code: TextKind.descriptorName, fd }, `tcp 127.0.0.1:${40_000 + client}`);
    file.record({ t, kind: Kind.open, code: OpenKind.accepted, fd, generation: task, task: 1 });
    file.text({ t, code: TextKind.taskName, task }, 'echo');
    file.record({ t: t + 100, kind: Kind.spawn, task, arg: 1 });
    file.record({ t: t + 200, kind: Kind.resume, task, code: WaitKind.start });
    file.record({ t: t + 300, kind: Kind.suspend, task, code: WaitKind.descriptor, fd, mask: 1 });
  }
  const call = (t: number, name: string, client: number, result: number): void =>
    file.record({
      t,
      kind: Kind.syscall,
      code: SYSCALLS.indexOf(name),
      fd: 9 + client,
      generation: 2 + client,
      task: 2 + client,
      arg: 65_536,
      result,
      duration: 3000,
    });
  for (let message = 0; message < messages; message++) {
    const client = message % clients;
    // Not like clockwork: that would compress to nothing.
    const t = (message + 1) * MS + ((message * 7919) % 997) * 200;
    const wait = { fd: 9 + client, task: 2 + client, code: WaitKind.descriptor, mask: 1 };
    file.record({ t: t - 0.6 * MS, kind: Kind.wait, code: 1, arg: -1, result: 1, duration: 0.6 * MS });
    file.record({ t, kind: Kind.ready, fd: 9 + client, generation: 2 + client, mask: 1 });
    file.record({ ...wait, t: t + 20_000, kind: Kind.resume, arg: 20_000 });
    call(t + 30_000, 'recvfrom', client, 64);
    call(t + 50_000, 'sendto', client, 64);
    call(t + 70_000, 'recvfrom', client, -11);
    file.record({ ...wait, t: t + 90_000, kind: Kind.suspend });
  }
  file.close();
  return file.count;
}

async function timelineOf(trace: string): Promise<string> {
  const page = join(folder(), 'out.html');
  const { code, stderr } = await onewait(['trace', 'timeline', trace, '-o', page]).end();
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return page;
}

interface Opened {
  page: Page;
  /** What was said on the console and asked of the network. */
  complaints: string[];
}

async function open(path: string, colorScheme: 'light' | 'dark' = 'light'): Promise<Opened> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme });
  onTestFinished(() => page.close());
  const complaints: string[] = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (request.url() !== pathToFileURL(path).href) complaints.push(request.url());
  });
  await page.goto(pathToFileURL(path).href);
  await page.waitForSelector('body.loaded');
  await page.locator('#range', { hasText: ' to ' }).waitFor();
  return { page, complaints };
}

/** The time in view, in ns. */
async function inView(page: Page): Promise<{ from: number; to: number }> {
  // What has been asked for is drawn by the frame after the next.
  await page.evaluate('new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))');
  const text = (await page.textContent('#range'))!;
  const [from, to] = text.split(' to ').map((part) => Math.round(Number(part.replace(/[ s,]/g, '')) * 1e9));
  return { from: from!, to: to! };
}

const NAMES_WIDTH = 210;
const TOP = 56;
const ROW = 26;

/** Where a row of lanes is on the page, at a part of the width of the time in view. */
async function spot(page: Page, row: number, part: number): Promise<{ x: number; y: number }> {
  const box = (await page.locator('#canvas').boundingBox())!;
  return { x: box.x + NAMES_WIDTH + (box.width - NAMES_WIDTH) * part, y: box.y + TOP + ROW * (row + 0.5) };
}

const title = (page: Page): Promise<string | null> => page.textContent('#details h2');

describe('the page', () => {
  let small = '';
  beforeAll(async () => {
    const at = mkdtempSync(join(tmpdir(), 'onewait-timeline-'));
    const trace = join(at, 'echo.trace');
    writeEcho(trace, 3, 60);
    small = join(at, 'out.html');
    const { code, stderr, stdout } = await onewait(['trace', 'timeline', trace, '-o', small]).end();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^\S+out\.html: \d+ records, 8 lanes, \d+ KiB\n$/);
    return () => rmSync(at, { recursive: true });
  });

  test('shows all lanes with what they add up to, complains of nothing and asks nothing of the network', async () => {
    const { page, complaints } = await open(small);
    expect(await page.textContent('#summary')).toMatch(/ 3 descriptors, 4 tasks in /);
    const rows = await page.locator('#table tbody tr:not(.room)').allTextContents();
    expect(rows).toHaveLength(8);
    expect(rows.find((row) => row.startsWith('fd 9 tcp 127.0.0.1:40000'))).toMatch(/40000602\.5 K/);
    expect(complaints).toEqual([]);
  });

  test('zooms at the pointer by wheel, and by keys, and shows the whole again', async () => {
    const { page, complaints } = await open(small);
    const whole = await inView(page);
    const { x, y } = await spot(page, 1, 0.5);
    await page.mouse.move(x, y);
    await page.mouse.wheel(0, -500);
    const near = await inView(page);
    const middle = (view: { from: number; to: number }): number => (view.from + view.to) / 2;
    expect(near.to - near.from).toBeLessThan((whole.to - whole.from) / 2);
    expect(Math.abs(middle(near) - middle(whole))).toBeLessThan((whole.to - whole.from) * 0.05);
    await page.keyboard.press('+');
    const nearer = await inView(page);
    expect(nearer.to - nearer.from).toBeLessThan(near.to - near.from);
    await page.keyboard.press('-');
    await page.keyboard.press('ArrowRight');
    const moved = await inView(page);
    expect(moved.from).toBeGreaterThan(near.from);
    expect(Math.abs(moved.to - moved.from - (near.to - near.from))).toBeLessThan(1000);
    await page.keyboard.press('Home');
    expect(await inView(page)).toEqual(whole);
    expect(complaints).toEqual([]);
  });

  test('follows the pointer when it is dragged', async () => {
    const { page } = await open(small);
    for (let i = 0; i < 6; i++) await page.keyboard.press('+');
    const before = await inView(page);
    const from = await spot(page, 2, 0.6);
    const to = await spot(page, 2, 0.35);
    await page.mouse.move(from.x, from.y);
    await page.mouse.down();
    await page.mouse.move(to.x, to.y, { steps: 5 });
    await page.mouse.up();
    const after = await inView(page);
    const length = before.to - before.from;
    expect((after.from - before.from) / length).toBeCloseTo(0.25, 1);
  });

  test('tells what is under the pointer: the call, its result by name, and whose it was', async () => {
    const { page } = await open(small);
    await page.fill('#search', 'recvfrom');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#details h2');
    expect(await title(page)).toBe('recvfrom = -1 EAGAIN');
    const { x, y } = await spot(page, 2, 0.5);
    await page.mouse.move(x + 2, y);
    const tip = page.locator('#tooltip');
    await tip.waitFor();
    const text = (await tip.textContent())!;
    expect(text).toContain('recvfrom = -1 EAGAIN');
    expect(text).toMatch(/takes3\.000 µs/);
    expect(text).toMatch(/taskecho#2$/);
  });

  test('leads from a descriptor to the task that waits for it, to who woke it, and back', async () => {
    const { page } = await open(small);
    const { x, y } = await spot(page, 2, 0.5);
    await page.mouse.click(x, y);
    expect(await title(page)).toBe('awaited by echo#2');
    expect(await page.textContent('#scope')).toBe('fd 9 tcp 127.0.0.1:40000');
    await page.locator('#details .link', { hasText: 'echo#2' }).click();
    expect(await title(page)).toBe('waits for fd 9 IN');
    expect(await page.textContent('#scope')).toBe('echo#2');
    await page.keyboard.press('.');
    expect(await title(page)).toBe('runnable');
    await page.locator('#details .link', { hasText: 'fd 9' }).click();
    expect(await title(page)).toBe('ready IN');
    await page.keyboard.press('l');
    expect(await page.textContent('#scope')).toBe('echo#2');
    await page.keyboard.press('b');
    expect(await title(page)).toBe('ready IN');
    await page.keyboard.press('Escape');
    expect(await page.textContent('#scope')).toBe('All lanes');
  });

  test('searches lanes and spans, forwards and backwards', async () => {
    const { page } = await open(small);
    await page.keyboard.press('/');
    await page.keyboard.type('echo#3');
    await page.keyboard.press('Enter');
    expect(await page.textContent('#matches')).toMatch(/^1 lane, \d+ spans$/);
    expect(await title(page)).toBe('echo#3');
    await page.click('#next');
    expect(await title(page)).toBe('awaited by echo#3');
    const first = await page.locator('#details dd').nth(1).textContent();
    await page.click('#next');
    const second = await page.locator('#details dd').nth(1).textContent();
    expect(second! > first!).toBe(true);
    await page.click('#previous');
    expect(await page.locator('#details dd').nth(1).textContent()).toBe(first);
    await page.click('#previous');
    expect(await title(page)).toBe('echo#3');
    await page.fill('#search', 'no such thing');
    await page.locator('#matches', { hasText: 'nothing found' }).waitFor();
  });

  test('is light or dark as the system is, until told otherwise', async () => {
    const { page } = await open(small, 'dark');
    const ground = (): Promise<string> => page.evaluate('getComputedStyle(document.body).backgroundColor');
    const dark = await ground();
    await page.click('#theme');
    const light = await ground();
    expect(light).not.toBe(dark);
    await page.keyboard.press('t');
    expect(await ground()).toBe(dark);
  });

  test('explains its keys', async () => {
    const { page } = await open(small);
    await page.keyboard.press('?');
    expect(await page.locator('#help').isVisible()).toBe(true);
    await page.keyboard.press('Escape');
    expect(await page.locator('#help').isVisible()).toBe(false);
  });

  test('can hide the lanes that do not live in the time in view', async () => {
    const at = folder();
    const file = new TraceFile(join(at, 'trace'));
    for (let fd = 5; fd < 4005; fd++) {
      const t = fd * MS;
      file.record({ t, kind: Kind.open, fd, code: OpenKind.found });
      file.record({ t: t + MS / 2, kind: Kind.close, fd });
    }
    file.close();
    const { page, complaints } = await open(await timelineOf(join(at, 'trace')));
    for (let i = 0; i < 16; i++) await page.keyboard.press('+');
    await page.check('#alive');
    const shown = Number(/\((\d+)\)/.exec((await page.textContent('#shown'))!)![1]);
    expect(shown).toBeGreaterThan(0);
    expect(shown).toBeLessThan(100);
    // What is chosen elsewhere is shown nevertheless.
    await page.locator('#table tbody .link').nth(1).click();
    expect(await page.isChecked('#alive')).toBe(false);
    expect(complaints).toEqual([]);
  });
});

test('what the trace says is shown as text, whatever it says', async () => {
  const at = folder();
  const trace = join(at, `${'<b>&quot;'.replace('/', '')}.trace`);
  const file = new TraceFile(trace);
  file.text({ t: 0, code: TextKind.taskName, task: 1 }, MARKUP);
  file.record({ t: 0, kind: Kind.spawn, task: 1 });
  file.record({ t: 10, kind: Kind.resume, task: 1, code: WaitKind.start });
  file.text({ t: 20, code: TextKind.waitName, task: 1 }, MARKUP);
  file.record({ t: 20, kind: Kind.suspend, task: 1, code: WaitKind.other });
  file.text({ t: 900, code: TextKind.error, task: 1 }, MARKUP);
  file.record({ t: 900, kind: Kind.end, task: 1, code: EndKind.failed });
  file.close();
  const { page, complaints } = await open(await timelineOf(trace));
  expect(await page.title()).toBe('<b>&quot;.trace - onewait timeline');
  await page.locator('#table .link').nth(1).click();
  expect(await title(page)).toBe(`${MARKUP}#1`);
  const cells = await page.locator('#table tbody td:nth-child(2)').allTextContents();
  expect(cells).toContain(`waits for ${MARKUP}`);
  expect(cells).toContain(`failed: ${MARKUP}`);
  expect(await page.locator('img').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('a descriptor that is named after its first call keeps its lane', async () => {
  const at = folder();
  const file = new TraceFile(join(at, 'trace'));
  file.record({ t: 0, kind: Kind.syscall, code: SYSCALLS.indexOf('socket'), fd: 9, result: 9, duration: 5 });
  file.text({ t: 10, code: TextKind.descriptorName, fd: 9 }, 'tcp listening on 127.0.0.1:7');
  file.record({ t: 10, kind: Kind.open, code: OpenKind.listening, fd: 9 });
  file.record({ t: 20, kind: Kind.ready, fd: 10, mask: 1 });
  file.close();
  const { page } = await open(await timelineOf(join(at, 'trace')));
  expect(await page.locator('#table .link').allTextContents()).toEqual([
    'wait',
    'fd 9 tcp listening on 127.0.0.1:7',
    'fd 10',
  ]);
});

test('a descriptor that is closed for a task that has ended gives that task no second lane', async () => {
  const at = folder();
  const file = new TraceFile(join(at, 'trace'));
  file.record({ t: 0, kind: Kind.spawn, task: 1 });
  file.record({ t: 10, kind: Kind.resume, task: 1, code: WaitKind.start });
  file.record({ t: 15, kind: Kind.open, code: OpenKind.found, fd: 9, task: 1 });
  file.record({ t: 20, kind: Kind.end, task: 1, code: EndKind.failed });
  file.record({ t: 30, kind: Kind.syscall, code: SYSCALLS.indexOf('close'), fd: 9, task: 1, duration: 5 });
  file.close();
  const { page } = await open(await timelineOf(join(at, 'trace')));
  expect(await page.locator('#table .link').allTextContents()).toEqual(['wait', 'task#1', 'fd 9']);
});

test('records that were lost are told', async () => {
  const at = folder();
  const file = new TraceFile(join(at, 'trace'));
  file.record({ t: 0, kind: Kind.wait, code: 1, result: 0, duration: 100 });
  file.record({ t: 200, kind: Kind.lost, result: 37 });
  file.close();
  const { page } = await open(await timelineOf(join(at, 'trace')));
  await page.fill('#search', 'lost');
  await page.keyboard.press('Enter');
  expect(await title(page)).toBe('37 records lost');
});

test('a trace without records makes a page that says so', async () => {
  const at = folder();
  new TraceFile(join(at, 'trace')).close();
  const { page, complaints } = await open(await timelineOf(join(at, 'trace')));
  expect(await page.locator('#empty').isVisible()).toBe(true);
  expect(await page.locator('#empty').textContent()).toContain('no records');
  await page.keyboard.press('+');
  await page.keyboard.press('.');
  await page.mouse.wheel(0, -100);
  expect(complaints).toEqual([]);
});

describe('files', () => {
  function echoTrace(): { at: string; trace: string } {
    const at = folder();
    const trace = join(at, 'echo.trace');
    writeEcho(trace, 2, 10);
    return { at, trace };
  }

  test('the page is for its owner only, and takes the place of the one before, also through a link', async () => {
    const { at, trace } = echoTrace();
    writeFileSync(join(at, 'old.html'), 'old');
    symlinkSync('old.html', join(at, 'link.html'));
    const { code } = await onewait(['trace', 'timeline', trace, '-o', join(at, 'link.html')]).end();
    expect(code).toBe(0);
    expect(statSync(join(at, 'old.html')).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(at, 'old.html'), 'utf8')).toMatch(/^<!doctype html>.*<\/html>\s*$/s);
    expect(readdirSync(at).sort()).toEqual(['echo.trace', 'link.html', 'old.html']);
  });

  test.each([
    ['is no trace', (path: string) => writeFileSync(path, 'x'.repeat(100)), 'is no trace of onewait'],
    ['is cut off', (path: string) => writeFileSync(path, readFileSync(path).subarray(0, -20)), 'it was cut off'],
    [
      'is damaged half-way',
      (path: string) => {
        const bytes = readFileSync(path);
        bytes[48 * Math.floor(bytes.length / 96) + 8] = 99;
        writeFileSync(path, bytes);
      },
      'is damaged at offset',
    ],
  ])('a file that %s gives one line, and leaves the page that was there', async (_, damage, message) => {
    const { at, trace } = echoTrace();
    damage(trace);
    writeFileSync(join(at, 'out.html'), 'old');
    const { code, stdout, stderr } = await onewait(['trace', 'timeline', trace, '-o', join(at, 'out.html')]).end();
    expect(stderr).toMatch(/^onewait: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(readFileSync(join(at, 'out.html'), 'utf8')).toBe('old');
    expect(readdirSync(at).sort()).toEqual(['echo.trace', 'out.html']);
  });

  test.each([
    ['in a folder that is not there', 'missing/out.html', 'no such file or directory'],
    ['that is a directory', 'directory', 'is a directory: name a file in it'],
    ['that is a device', '/dev/null', 'is no regular file: name one for the page'],
    ['that is the trace', 'echo.trace', 'is the trace itself: name another file for the page'],
  ])('an output %s gives one line', async (_, name, message) => {
    const { at, trace } = echoTrace();
    mkdirSync(join(at, 'directory'));
    const before = readFileSync(trace);
    const output = name.startsWith('/') ? name : join(at, name);
    const { code, stderr } = await onewait(['trace', 'timeline', trace, '-o', output]).end();
    expect(stderr).toMatch(/^onewait: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect(code).toBe(1);
    expect(readFileSync(trace)).toEqual(before);
    expect(readdirSync(at).sort()).toEqual(['directory', 'echo.trace']);
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test('leaves nothing behind when it is interrupted', async () => {
    const at = folder();
    const trace = join(at, 'trace');
    writeEcho(trace, 2, 60_000);
    const child = onewait(['trace', 'timeline', trace, '-o', join(at, 'out.html')]);
    await until('it writes', () => readdirSync(at).length > 1);
    child.process.kill('SIGINT');
    expect(await child.end()).toMatchObject({ code: 130, stdout: '', stderr: '' });
    expect(readdirSync(at)).toEqual(['trace']);
  });

  test('without an output it is wrong usage', async () => {
    const { code, stderr } = await onewait(['trace', 'timeline', 'x']).end();
    expect(stderr).toMatch(/^error: required option '-o, --output <page>' not specified\n$/);
    expect(code).toBe(2);
  });
});

test('a trace of a million records pans; the number of frames a second is printed', { timeout: 180_000 }, async () => {
  const at = folder();
  const records = writeEcho(join(at, 'trace'), 40, 143_000);
  expect(records).toBeGreaterThan(1_000_000);
  const html = await timelineOf(join(at, 'trace'));
  const { page, complaints } = await open(html);
  expect(await page.textContent('#summary')).toMatch(/^1,\d{3},\d{3} records/);
  for (const [zoomed, presses] of [
    ['whole trace', 1],
    ['a tenth', 6],
    ['a thousandth', 17],
  ] as const) {
    await page.keyboard.press('Home');
    for (let i = 0; i < presses; i++) await page.keyboard.press('+');
    const before = await inView(page);
    const { x, y } = await spot(page, 5, 0.5);
    await page.mouse.move(x, y);
    await page.mouse.down();
    const times = await page.evaluate<number[]>(PAN);
    await page.mouse.up();
    expect((await inView(page)).from).toBeGreaterThan(before.from);
    const lengths = times.slice(1).map((t, i) => t - times[i]!);
    const mean = (times.at(-1)! - times[0]!) / lengths.length;
    console.log(
      `${records} records, ${zoomed}: ${(1000 / mean).toFixed(1)} frames a second, the longest ${Math.max(...lengths).toFixed(1)} ms`,
    );
  }
  expect(complaints).toEqual([]);
});
