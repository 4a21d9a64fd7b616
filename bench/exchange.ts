// What the exchange suite needs besides servers and a generator: the rates service, and the answer that every server must give.

import { connect } from 'node:net';
import { generatorCores, type Lab, SampleFailure, startServer } from './lab.ts';
import { exchangeTable, HOST, RATES } from './servers.ts';
import type { Talk } from './suite.ts';

const ANSWERED_WITHIN_MS = 5_000;

/** Starts the rates service next to the generator; its port. It ends with the other children. */
export async function startRates(lab: Lab): Promise<number> {
  const { port } = await startServer(lab, RATES, generatorCores(lab));
  return port;
}

/**
 * Has the service that asks nobody answer a GET of `path`: the others must answer the same, byte for byte.
 * @throws SampleFailure when that is no answer
 */
export async function learnAnswer(lab: Lab, path: string, rates: number): Promise<Talk> {
  const request = `GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;
  const hardcoded = exchangeTable(rates)[0]!;
  const { port, process } = await startServer(lab, hardcoded);
  try {
    const response = await ask(port, request);
    if (!response.startsWith('HTTP/1.1 200 OK\r\n') || !response.includes('"result":"53.21"'))
      throw new SampleFailure(`${hardcoded.name} does not answer as it should: ${JSON.stringify(response)}`);
    return { request, response };
  } finally {
    await process.end();
  }
}

function ask(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let response = '';
    const socket = connect(port, HOST, () => socket.write(request));
    socket.setEncoding('utf8').setTimeout(ANSWERED_WITHIN_MS, () => socket.destroy(new SampleFailure('no answer')));
    socket.on('data', (text: string) => {
      response += text;
      // The body is one line.
      if (response.endsWith('}\n')) socket.end();
    });
    socket.on('error', reject).on('close', () => resolve(response));
  });
}
