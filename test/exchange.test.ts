// The exchange over HTTP, in its five versions: the same answers, whoever waits and however; and no fault of a client or of the rates service
// stops it.

import { readFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { converted } from '../src/article/conversion.ts';
import { rateOf } from '../src/article/rates.ts';
import { Child, descriptors, type Ended, needs, onewait } from './processes.ts';
import { until } from './until.ts';

const ASKING = ['exchange-blocking', 'exchange-threads', 'exchange-callbacks', 'exchange-coroutines'];
const ALL = ['exchange-hardcoded', ...ASKING];
const GOOD = '/convert?amount=12.50&base=EUR&target=PLN';
const GOOD_BODY = '{"amount":"12.50","base":"EUR","target":"PLN","rate":"4.2571","result":"53.21"}\n';

interface Running {
  readonly child: Child;
  readonly port: number;
}

async function start(name: string, ...args: string[]): Promise<Running> {
  const child = onewait(['article', name, ...(args.includes('--port') ? [] : ['--port', '0']), ...args]);
  const [, port] = await child.says(/^listening on http:\/\/127\.0\.0\.1:(\d+)$/m);
  return { child, port: Number(port) };
}

/** A version of the exchange that asks the service at `rates`. */
function exchange(name: string, rates: number): Promise<Running> {
  return start(name, ...(name === 'exchange-hardcoded' ? [] : ['--rates', `127.0.0.1:${rates}`]));
}

/** A client that we did not write: the status and the body. */
async function curl(port: number, path: string, ...args: string[]): Promise<[status: number, body: string]> {
  needs('curl');
  const url = `http://127.0.0.1:${port}${path}`;
  const { stdout }: Ended = await new Child('curl', ['-s', '-m', '20', '-w', '%{http_code}', ...args, url]).end();
  return [Number(stdout.slice(-3)), stdout.slice(0, -3)];
}

/** Sends pieces, each when the one before is with the kernel, and returns what comes until the server ends the connection. */
function raw(port: number, pieces: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true }, async () => {
      for (const piece of pieces) await new Promise((written) => socket.write(piece, written));
    });
    socket.setEncoding('latin1').on('data', (text) => {
      received += text;
    });
    socket.on('end', () => {
      socket.end();
      resolve(received);
    });
    socket.on('error', reject);
  });
}

const request = (path: string, ...headers: string[]) =>
  `${[`GET ${path} HTTP/1.1`, 'Host: localhost', ...headers].join('\r\n')}\r\n\r\n`;
const bodies = (text: string) => text.match(/^\{.*\}$/gm) ?? [];

let rates: Running;
const running = new Map<string, Running>();
beforeAll(async () => {
  rates = await start('exchange-rates');
  for (const name of ALL) running.set(name, await exchange(name, rates.port));
});
afterAll(() => {
  for (const { child } of [rates, ...running.values()]) child.kill();
});

describe.each(ALL)('%s', (name) => {
  const at = () => running.get(name)!;

  test('converts', async () => {
    expect(await curl(at().port, GOOD)).toEqual([200, GOOD_BODY]);
    const [, yen] = await curl(at().port, '/convert?amount=1000&base=pln&target=jpy');
    expect(JSON.parse(yen)).toMatchObject({ base: 'PLN', target: 'JPY', result: '38395' });
  });

  test.each<[what: string, path: string, args: string[], status: number, code: string]>([
    ['no amount', '/convert?base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['two amounts', '/convert?amount=1&amount=2&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['a word for an amount', '/convert?amount=ten&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['a float for an amount', '/convert?amount=1e3&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['a negative amount', '/convert?amount=-1&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['an absurd amount', '/convert?amount=1000000000000001&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['an amount of many digits', `/convert?amount=${'1'.repeat(5000)}&base=EUR&target=PLN`, [], 400, 'bad_amount'],
    ['too exact an amount', '/convert?amount=0.0000001&base=EUR&target=PLN', [], 400, 'bad_amount'],
    ['no base', '/convert?amount=1&target=PLN', [], 400, 'bad_base'],
    ['no currency', '/convert?amount=1&base=EUR&target=../etc', [], 400, 'bad_target'],
    ['an unknown currency', '/convert?amount=1&base=EUR&target=XXX', [], 400, 'unknown_currency'],
    ['another path', '/', [], 404, 'not_found'],
    ['another method', GOOD, ['-X', 'DELETE'], 405, 'method_not_allowed'],
    ['a body', GOOD, ['-d', 'x=1'], 413, 'body_too_large'],
    ['a large body', GOOD, ['-d', 'x'.repeat(100_000)], 413, 'body_too_large'],
    ['an oversized header', GOOD, ['-H', `X-Large: ${'x'.repeat(20_000)}`], 431, 'header_too_large'],
    ['too many headers', GOOD, Array(2000).fill(['-H', 'X-Many: 0123456789']).flat(), 431, 'header_too_large'],
    ['a long URL', `/convert?${'x'.repeat(9000)}`, [], 414, 'url_too_long'],
  ])('%s gets its status and an error in JSON', async (_what, path, args, status, code) => {
    const [seen, body] = await curl(at().port, path, ...args);
    expect([seen, JSON.parse(body)]).toEqual([status, { error: code, message: expect.stringMatching(/./) }]);
  });

  test.each([
    ['no HTTP', 'HELO localhost\r\n\r\n'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n'],
    ['a bare word', 'GET\n\n'],
  ])('%s is a bad request', async (_what, text) => {
    const answer = await raw(at().port, [text]);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(JSON.parse(bodies(answer)[0]!)).toMatchObject({ error: 'bad_request' });
  });

  test('answers HEAD without a body', async () => {
    const [status, head] = await curl(at().port, GOOD, '-I');
    expect(status).toBe(200);
    expect(head).toContain(`Content-Length: ${GOOD_BODY.length}\r\n`);
    expect(head.endsWith('\r\n\r\n')).toBe(true);
  });

  test('keeps a connection, and answers what is pipelined in order', async () => {
    const amounts = Array.from({ length: 500 }, (_, i) => `${i}`);
    const requests = amounts.map((amount) => request(`/convert?amount=${amount}&base=EUR&target=EUR`));
    const answer = await raw(at().port, [requests.join(''), request('/', 'Connection: close')]);
    const seen = bodies(answer).map((body) => JSON.parse(body));
    expect(seen.slice(0, -1).map(({ amount }) => amount)).toEqual(amounts);
    expect(seen.at(-1)).toMatchObject({ error: 'not_found' });
  });

  test('puts a request together from single bytes', async () => {
    const answer = await raw(at().port, [...request(GOOD), ...request(GOOD, 'Connection: close')]);
    expect(bodies(answer)).toEqual([GOOD_BODY.trimEnd(), GOOD_BODY.trimEnd()]);
  });

  test('ends the connection of a client of HTTP/1.0', async () => {
    const answer = await raw(at().port, [`GET ${GOOD} HTTP/1.0\r\n\r\n`]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*Connection: close\r\n/);
  });

  test('answers before it gives up what it cannot understand', async () => {
    const answer = await raw(at().port, [`${request(GOOD)}nonsense\r\n\r\n`]);
    expect(bodies(answer)).toEqual([GOOD_BODY.trimEnd(), expect.stringContaining('bad_request')]);
  });

  test('tells a client that is too slow, and serves others meanwhile', { timeout: 30_000 }, async () => {
    const slow = raw(at().port, ['GET /convert?amou']);
    const silent = raw(at().port, []);
    expect(await curl(at().port, GOOD)).toEqual([200, GOOD_BODY]);
    expect(await slow).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*"request_timeout"/);
    expect(await silent).toBe('');
  });

  test('is left with no connection by clients that vanish', async () => {
    const clients = await Promise.all(
      Array.from(
        { length: 50 },
        (_, i) =>
          new Promise<Socket>((resolve) => {
            const socket = connect(at().port, '127.0.0.1', () => resolve(socket));
            socket.write(request(GOOD).slice(0, i % 2 === 0 ? undefined : 20));
          }),
      ),
    );
    for (const socket of clients) socket.resetAndDestroy();
    await until('they are gone', () => clientsOf(at()) === 0);
    expect(await curl(at().port, GOOD)).toEqual([200, GOOD_BODY]);
  });

  test('ends at once on SIGINT, with nothing to say', async () => {
    const { child, port } = await exchange(name, rates.port);
    await curl(port, GOOD);
    child.process.kill('SIGINT');
    const { code, signal, stderr } = await child.end(3_000);
    expect([code ?? signal, stderr]).toEqual([name === 'exchange-callbacks' ? 'SIGINT' : 130, '']);
  });
});

/** Connections to its own port that a process holds, open or not yet closed: /proc/net/tcp has their inodes, the process's descriptors name them. */
function clientsOf({ child, port }: Running): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const LISTEN = '0A';
  const inodes = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === local && fields[3] !== LISTEN)
    .map((fields) => `socket:[${fields[9]}]`);
  const held = new Set(descriptors(child.pid).values());
  return inodes.filter((inode) => held.has(inode)).length;
}

describe.each(ASKING)('%s', (name) => {
  test('says so when the rates service cannot be reached, and goes on when it can', async () => {
    const own = await start('exchange-rates');
    const { port } = await exchange(name, own.port);
    expect(await curl(port, GOOD)).toEqual([200, GOOD_BODY]);
    own.child.process.kill('SIGKILL');
    await own.child.end();
    const [status, body] = await curl(port, GOOD);
    expect([status, JSON.parse(body)]).toEqual([
      502,
      { error: 'rates_unavailable', message: expect.stringContaining(`127.0.0.1:${own.port}`) },
    ]);
    await start('exchange-rates', '--port', `${own.port}`);
    expect(await curl(port, GOOD)).toEqual([200, GOOD_BODY]);
  });

  test('does not wait for ever for a slow rates service', async () => {
    const slow = await start('exchange-rates', '--delay', '60000');
    const { port } = await exchange(name, slow.port);
    const [status, body] = await curl(port, GOOD);
    expect([status, JSON.parse(body).error]).toEqual([504, 'rates_timeout']);
    expect((await curl(port, '/'))[0]).toBe(404);
  });

  test.each<[what: string, behave: (socket: Socket) => void, code: string]>([
    ['answers with no HTTP', (socket) => socket.write('rubbish\r\n\r\n'), 'rates_unavailable'],
    [
      'answers with no JSON',
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]'),
      'rates_unavailable',
    ],
    [
      'answers with no rate',
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull'),
      'rates_failed',
    ],
    [
      'answers with a float',
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"rate":1.5}'),
      'rates_failed',
    ],
    ['fails', (socket) => socket.write('HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}'), 'rates_failed'],
    ['hangs up', (socket) => socket.end(), 'rates_unavailable'],
    [
      'hangs up in the middle',
      (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{'),
      'rates_unavailable',
    ],
    [
      'never stops',
      (socket) => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n${'x'.repeat(200_000)}`),
      'rates_unavailable',
    ],
  ])('is not harmed by a rates service that %s', async (_what, behave, code) => {
    const fake: Server = createServer((socket) => {
      socket.on('error', () => {}).once('data', () => behave(socket));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => fake.once('listening', resolve));
    const { port } = await exchange(name, (fake.address() as { port: number }).port);
    const [status, body] = await curl(port, GOOD);
    expect([status, JSON.parse(body).error]).toEqual([502, code]);
    expect((await curl(port, '/'))[0]).toBe(404);
    fake.close();
  });
});

test('exchange-coroutines serves a thousand clients of wrk without one failed request', async () => {
  needs('wrk');
  const { child, port } = running.get('exchange-coroutines')!;
  const wrk = new Child('wrk', ['-t', '2', '-c', '1000', '-d', '3', `http://127.0.0.1:${port}${GOOD}`]);
  const { code, stdout } = await wrk.end();
  expect(code).toBe(0);
  expect(stdout).toMatch(/\d+ requests in/);
  expect(stdout).not.toMatch(/Socket errors|Non-2xx/);
  expect(child.stderr).toBe('');
});

describe('money', () => {
  const result = (amount: string, base: string, target: string, rate: string) =>
    (converted({ amount, base, target }, rate).body as { result: string }).result;

  test('is computed in decimal', () => {
    // As binary floats these would be 1.1 and 0.30000000000000004.
    expect(result('1.005', 'EUR', 'USD', '1.1')).toBe('1.11');
    expect(result('0.1', 'EUR', 'USD', '3')).toBe('0.30');
    expect(result('1000000000000000', 'EUR', 'PLN', '4.2571')).toBe('4257100000000000.00');
  });

  test('halves go to the even neighbour', () => {
    expect(result('0.125', 'EUR', 'USD', '1')).toBe('0.12');
    expect(result('0.135', 'EUR', 'USD', '1')).toBe('0.14');
  });

  test('has as many decimal places as the currency', () => {
    expect(result('1', 'EUR', 'JPY', '163.45')).toBe('163');
    expect(result('0', 'EUR', 'USD', '1.0847')).toBe('0.00');
  });

  test('a rate and its opposite are one another’s inverse', () => {
    expect(Number(rateOf('EUR', 'PLN')) * Number(rateOf('PLN', 'EUR'))).toBeCloseTo(1, 8);
  });
});
