// Node's own way to write the server: the `net` module, a callback per chunk. A peer that does not read is not read from.
// What onewait has to be worth leaving for.

import { createServer } from 'node:net';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { port: { type: 'string' }, host: { type: 'string', default: '127.0.0.1' } } });

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('data', (chunk) => {
    if (!socket.write(chunk)) socket.pause();
  });
  socket.on('drain', () => socket.resume());
  // A reset by the peer ends that connection; `net` has destroyed the socket by then.
  socket.on('error', () => {});
});
server.listen(Number(values.port), values.host, 4096, () => {
  console.log(`listening on ${values.host}:${values.port}`);
});

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
