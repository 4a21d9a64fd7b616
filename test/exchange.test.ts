// The exchange over HTTP, in its five versions: the same answers, whoever waits and however; and no fault of a client or of the rates service
// stops it.

import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
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
    ['another HTTP', `GET ${GOOD} HTTP/9.9\r\nHost: x\r\n\r\n`],
    ['a request without a host', `GET ${GOOD} HTTP/1.1\r\n\r\n`],
    ['a request for two hosts', request(GOOD, 'Host: another')],
    ['a target that is no path', `GET convert?amount=1&base=EUR&target=PLN HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a target of another scheme', request('data:/convert?amount=1&base=EUR&target=PLN')],
    ['a header of spaces', `GET ${GOOD} HTTP/1.1\r\n${' '.repeat(63_000)}\r\n\r\n`],
    // What a proxy could take for the length of a body, and we must not take for nothing (RFC 9112, 5.1 and 5.2).
    ['a space before a colon', `${request(GOOD, 'Content-Length : 64')}${request(GOOD)}`],
    ['a folded first header', `GET ${GOOD} HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n\r\n${request(GOOD)}`],
    ['a NUL in a name', `${request(GOOD, 'Transfer-Encoding\0: chunked')}${request(GOOD)}`],
  ])('%s is a bad request', async (_what, text) => {
    const answer = await raw(at().port, [text]);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(bodies(answer)).toHaveLength(1);
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

  test('counts the header of each request for itself', async () => {
    const many = request(GOOD).repeat(300);
    const large = request(GOOD, `Cookie: ${'x'.repeat(9_000)}`);
    const pieces = [
      many,
      request(GOOD).slice(0, 20),
      request(GOOD).slice(20),
      large,
      large.slice(0, 8_000),
      large.slice(8_000),
    ];
    const answer = await raw(at().port, [...pieces, request('/', 'Connection: close')]);
    expect(bodies(answer).slice(0, -1)).toEqual(Array(303).fill(GOOD_BODY.trimEnd()));
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
    const second = raw(at().port, [`${request(GOOD)}GET /conv`]);
    expect(await curl(at().port, GOOD)).toEqual([200, GOOD_BODY]);
    expect(await slow).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*"request_timeout"/);
    expect(await silent).toBe('');
    expect(bodies(await second)).toEqual([GOOD_BODY.trimEnd(), expect.stringContaining('request_timeout')]);
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
    ['answers for another pair', (socket) => socket.write(answerOf('USD', 'PLN', '4.2571')), 'rates_failed'],
    [
      'never ends the head of a chunk',
      (socket) => socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;${'a'.repeat(200_000)}`),
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

/** A response of the rates service. */
function answerOf(base: string, target: string, rate: string): string {
  const body = JSON.stringify({ base, target, rate });
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** A rates service that does what no such service should. Its port. */
async function fakeRates(behave: (socket: Socket, asked: string) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const fake = createServer((socket) => {
    sockets.add(socket);
    socket.setEncoding('latin1').on('error', () => {});
    socket.on('data', (asked) => behave(socket, String(asked)));
  }).listen(0, '127.0.0.1');
  onTestFinished(() => {
    fake.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise((resolve) => fake.once('listening', resolve));
  return (fake.address() as AddressInfo).port;
}

describe.each(ASKING)('%s', (name) => {
  test('gives nobody an answer that was meant for another, or for nobody', async () => {
    const { port } = await exchange(
      name,
      await fakeRates((socket, asked) => {
        const [, base, target] = /base=(\w+)&target=(\w+)/.exec(asked)!;
        // The right answer, and one more that nobody asked for.
        socket.write(answerOf(base!, target!, '2') + answerOf('EUR', 'USD', '999'));
      }),
    );
    for (let i = 0; i < 5; i++) {
      const [, body] = await curl(port, '/convert?amount=1&base=EUR&target=USD');
      expect(JSON.parse(body).rate ?? '2').toBe('2');
    }
  });

  test('gives up a rates service that drips', async () => {
    const timers: NodeJS.Timeout[] = [];
    onTestFinished(() => timers.forEach(clearInterval));
    const { port } = await exchange(
      name,
      await fakeRates((socket) => {
        timers.push(setInterval(() => socket.write('H'), 300));
        socket.write('HTTP/1.1 200 OK\r\nX: ');
      }),
    );
    const [status, body] = await curl(port, GOOD);
    expect([status, JSON.parse(body).error]).toEqual([504, 'rates_timeout']);
  });

  test('lets clients go that were told of a time-out, although nothing else happens', async () => {
    const running = await exchange(name, await fakeRates(() => {}));
    const clients = Array.from({ length: 3 }, () => {
      const socket = connect({ port: running.port, host: '127.0.0.1', allowHalfOpen: true });
      socket.write(`GET ${GOOD} HTTP/1.0\r\n\r\n`);
      return new Promise<Socket>((resolve) => socket.resume().once('end', () => resolve(socket)));
    });
    const told = await Promise.all(clients);
    await until('the server has closed', () => clientsOf(running) === 0);
    for (const socket of told) socket.destroy();
  });

  test('ends on SIGINT also while requests wait', async () => {
    const { child, port } = await exchange(name, await fakeRates(() => {}));
    const waiting = Array.from({ length: 8 }, () => raw(port, [request(GOOD)]).catch(() => ''));
    await until('they are connected', () => clientsOf({ child, port }) === 8);
    child.process.kill('SIGINT');
    // The one that blocks has first to be done with its request.
    const { code, signal, stderr } = await child.end(12_000);
    expect([code ?? signal, stderr]).toEqual([name === 'exchange-callbacks' ? 'SIGINT' : 130, '']);
    await Promise.all(waiting);
  });
});

test.each(['exchange-threads', 'exchange-coroutines'])(
  '%s keeps no connection to the rates service for ever',
  async (name) => {
    const own = await start('exchange-rates');
    const running = await exchange(name, own.port);
    await Promise.all(Array.from({ length: 20 }, () => curl(running.port, GOOD)));
    await until('they are closed', () => clientsOf(own) === 0);
  },
);

test('exchange-coroutines serves and asks at IPv6 addresses', async () => {
  const own = onewait(['article', 'exchange-rates', '--host', '::1', '--port', '0']);
  const [, address] = await own.says(/^listening on http:\/\/(\[::1\]:\d+)$/m);
  const { port } = await start('exchange-coroutines', '--rates', address!);
  expect(await curl(port, GOOD)).toEqual([200, GOOD_BODY]);
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
