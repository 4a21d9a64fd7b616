// An HTTP server of coroutines: one per connection, which reads a request, has it handled, writes the answer, and goes on.

import { type Stream, spawn, TimeoutError, tcp, timeout } from '../index.ts';
import {
  CLIENT_PATIENCE_MS,
  failure,
  format,
  HttpError,
  LAST,
  LATE,
  LINGER_MS,
  type Request,
  RequestParser,
  type Response,
} from './http.ts';

export type Handler = (request: Request) => Response | Promise<Response>;

/** Serves until the program ends. */
export async function serveHttp(host: string, port: number, handler: Handler): Promise<never> {
  const listener = await tcp.listen({ host, port });
  console.log(`listening on http://${listener.address.address}:${listener.address.port}`);
  for (;;) {
    const conn = await listener.accept();
    spawn(() => serve(conn, handler), { name: 'http' });
  }
}

async function serve(conn: Stream, handler: Handler): Promise<void> {
  const parser = new RequestParser();
  try {
    await timeout(CLIENT_PATIENCE_MS, async (patience) => {
      for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) {
        parser.push(chunk);
        for (let request = parser.requests.shift(); request !== undefined; request = parser.requests.shift()) {
          patience.deadline = Number.POSITIVE_INFINITY;
          const response = await handle(request, handler);
          patience.deadline = performance.now() + CLIENT_PATIENCE_MS;
          await conn.write(format(response, request));
          if (!request.keepAlive) return;
        }
        if (parser.error !== null) throw parser.error;
      }
    });
  } catch (error) {
    const answer = error instanceof TimeoutError && parser.started ? LATE : error;
    if (answer instanceof HttpError) await conn.write(format(failure(answer), LAST));
    else if (!(error instanceof TimeoutError)) throw error;
  }
  await leave(conn);
}

async function handle(request: Request, handler: Handler): Promise<Response> {
  try {
    return await handler(request);
  } catch (error) {
    return failure(error);
  }
}

/** Says that nothing more will come, and waits until the client has understood. */
async function leave(conn: Stream): Promise<void> {
  try {
    await timeout(LINGER_MS, async () => {
      await conn.shutdown();
      while ((await conn.read()) !== null);
    });
  } catch {
    // It is gone, or does not listen; nothing is owed to it.
  }
  conn.destroy();
}
