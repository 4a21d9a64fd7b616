// The server in Deno: `Deno.listen`, an async function and a buffer per connection.

import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { port: { type: 'string' }, host: { type: 'string', default: '127.0.0.1' } } });

async function echo(connection) {
  const buffer = new Uint8Array(16 * 1024);
  try {
    connection.setNoDelay();
    for (let size = await connection.read(buffer); size !== null; size = await connection.read(buffer)) {
      for (let sent = 0; sent < size; ) sent += await connection.write(buffer.subarray(sent, size));
    }
  } catch {
    // A reset by the peer ends that connection.
  } finally {
    connection.close();
  }
}

const listener = Deno.listen({ hostname: values.host, port: Number(values.port) });
console.log(`listening on ${values.host}:${values.port}`);
for await (const connection of listener) echo(connection);
