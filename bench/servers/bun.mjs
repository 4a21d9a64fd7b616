// The server in Bun: `Bun.listen`, one set of handlers for all connections. Bun turns Nagle's delay off and raises the
// descriptor limit by itself, and closes a connection when its peer has ended; that is not seen of a peer that is not read
// from, so nothing is owed by then. How much of a write the kernel took, and the rest of it, are its user's affair.

import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { port: { type: 'string' }, host: { type: 'string', default: '127.0.0.1' } } });

Bun.listen({
  hostname: values.host,
  port: Number(values.port),
  socket: {
    data(socket, chunk) {
      const written = Math.max(socket.write(chunk), 0);
      if (written === chunk.byteLength) return;
      // A copy, because Bun lends the chunk for the time of this call only.
      socket.data = Buffer.from(chunk.subarray(written));
      socket.pause();
    },
    drain(socket) {
      const rest = socket.data;
      if (rest === undefined) return;
      const written = Math.max(socket.write(rest), 0);
      if (written < rest.byteLength) {
        socket.data = rest.subarray(written);
      } else {
        socket.data = undefined;
        socket.resume();
      }
    },
    error() {}, // Of that connection, which is closed.
  },
});
console.log(`listening on ${values.host}:${values.port}`);
