// An HTTP server of coroutines: one per connection, which reads a request, has it handled, writes the answer, and goes on.

import { Cancelled, type Stream, spawn, TimeoutError, tcp, timeout } from '../index.ts';
import {
  CLIENT_PATIENCE_MS,
  failure,
  format,
  type HttpError,
  inUrl,
  LAST,
  LATE,
  LINGER_MS,
  type Request,
  RequestParser,
  type Response,
} from './http.ts';
import { announce } from './terminal.ts';

export type Handler = (request: Request) => Response | Promise<Response>;

/** Serves until the program ends. */
export async function serveHttp(host: string, port: number, handler: Handler): Promise<never> {
  const listener = await tcp.listen({ host, port });
  announce(`listening on http://${inUrl(listener.address.address)}:${listener.address.port}`);
  for (;;) {
    const conn = await listener.accept();
    spawn(() => serve(conn, handler), { name: 'http' });
  }
}

async function serve(conn: Stream, handler: Handler): Promise<void> {
  const parser = new RequestParser();
  try {
    await leave(conn, await converse(conn, parser, handler));
  } finally {
    parser.close();
    conn.destroy();
  }
}

/** Answers requests until the client has no more, or too little patience is left; what it is to be told at the end, if anything. */
async function converse(conn: Stream, parser: RequestParser, handler: Handler): Promise<HttpError | null> {
  try {
    return await timeout(CLIENT_PATIENCE_MS, async (patience) => {
      for (let chunk = await conn.read(); chunk !== null; chunk = await conn.read()) {
        parser.push(chunk);
        for (let request = parser.requests.shift(); request !== undefined; request = parser.requests.shift()) {
          patience.deadline = Number.POSITIVE_INFINITY;
          const response = await handle(request, handler);
          patience.deadline = performance.now() + CLIENT_PATIENCE_MS;
          await conn.write(format(response, request));
          if (!request.keepAlive) return null;
        }
        if (parser.error !== null) return parser.error;
      }
      return null;
    });
  } catch (error) {
    if (error instanceof TimeoutError) return parser.started ? LATE : null;
    throw error;
  }
}

async function handle(request: Request, handler: Handler): Promise<Response> {
  try {
    return await handler(request);
  } catch (error) {
    if (error instanceof Cancelled) throw error;
    return failure(error);
  }
}

/** Tells the client why, if there is a reason, and that nothing more will come; and swallows what it still sends: see LINGER_MS. */
async function leave(conn: Stream, reason: HttpError | null): Promise<void> {
  try {
    await timeout(LINGER_MS, async () => {
      if (reason !== null) await conn.write(format(failure(reason), LAST));
      await conn.shutdown();
      while ((await conn.read()) !== null);
    });
  } catch {
    // It is gone, or does not listen; nothing is owed to it.
  }
}
