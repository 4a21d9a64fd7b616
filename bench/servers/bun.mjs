// The server in Bun: `Bun.listen`, one set of handlers for all connections. Bun turns Nagle's delay off and raises the
// descriptor limit by itself; how much of a write the kernel took, and what to do with the rest, it leaves to its user.

import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { port: { type: 'string' }, host: { type: 'string', default: '127.0.0.1' } } });

/** Writes what is owed to a peer; once it has taken all, it is read again, or the connection ends if the peer had ended. */
function pay(socket) {
  const { rest } = socket.data;
  if (rest === null) return;
  const written = socket.write(rest);
  if (written < rest.byteLength) {
    if (written > 0) socket.data.rest = rest.subarray(written);
    return;
  }
  socket.data.rest = null;
  if (socket.data.ended) socket.end();
  else socket.resume();
}

Bun.listen({
  hostname: values.host,
  port: Number(values.port),
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { rest: null, ended: false };
    },
    data(socket, chunk) {
      const { data } = socket;
      if (data.rest !== null) {
        // What had been read before the pause took effect.
        data.rest = Buffer.concat([data.rest, chunk]);
        return;
      }
      const written = socket.write(chunk);
      if (written === chunk.byteLength) return;
      data.rest = Buffer.from(chunk.subarray(Math.max(written, 0)));
      socket.pause();
    },
    drain: pay,
    end(socket) {
      if (socket.data.rest === null) socket.end();
      else socket.data.ended = true;
    },
    error() {}, // Of that connection, which is closed.
  },
});
console.log(`listening on ${values.host}:${values.port}`);
