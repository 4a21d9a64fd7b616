// HTTP/1.1 without I/O: bytes in, messages out, and back. http-parser-js does the parsing; here is what it leaves to its caller, which is
// limits and the errors that a client is told. Source: RFC 9110, RFC 9112.
//
// Deliberately absent: request bodies. Nothing in this folder takes one, so a request that has one is refused.

import { HTTPParser } from 'http-parser-js';

/** As Node's own server allows. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_URL_LENGTH = 8 * 1024;
const MAX_RESPONSE_BYTES = 64 * 1024;

const REASONS: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** An answer that is no success: thrown by whoever finds out, told to the client as JSON. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  /** For programs: `unknown_currency`. The message is for people. */
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface Request {
  readonly method: string;
  readonly url: string;
  /** Whether the client wants to go on with the connection. */
  readonly keepAlive: boolean;
}

/** How long a client may take over a request, and over taking its answer. */
export const CLIENT_PATIENCE_MS = 10_000;
/** How long what a client still sends is swallowed after the last answer: closing at once could take that answer from it (RFC 9112, 9.6). */
export const LINGER_MS = 1_000;
/** For the answer to a request that could not be understood: nothing can follow it. */
export const LAST: Pick<Request, 'method' | 'keepAlive'> = { method: 'GET', keepAlive: false };
export const LATE: HttpError = new HttpError(
  408,
  'request_timeout',
  `a request must be complete within ${CLIENT_PATIENCE_MS / 1000} seconds`,
);

/** Puts requests together from the bytes of one connection. */
export class RequestParser {
  /** Complete requests, the oldest first. Take them out. */
  readonly requests: Request[] = [];
  /** What is wrong with what came after them; nothing that follows can be understood. */
  error: HttpError | null = null;
  /** Whether a request has begun and is not complete. */
  started = false;
  readonly #parser = new HTTPParser(HTTPParser.REQUEST);

  constructor() {
    this.#parser[HTTPParser.kOnHeadersComplete] = ({ method, url, headers, shouldKeepAlive, upgrade }) => {
      this.#check(url, headers);
      // Nothing is upgraded to; the parser does not go on after such a request.
      const keepAlive = shouldKeepAlive && !upgrade;
      this.requests.push({ method: HTTPParser.methods[method]!, url, keepAlive });
    };
    this.#parser[HTTPParser.kOnMessageComplete] = () => {
      this.started = false;
    };
  }

  /** Takes the next bytes of the connection. Never throws: see `error`. */
  push(bytes: Uint8Array): void {
    if (this.error !== null) return;
    this.started = true;
    // The parser forgets its limit with every message.
    this.#parser.maxHeaderSize = MAX_HEADER_BYTES;
    let result: number | Error;
    try {
      result = this.#parser.execute(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    } catch (error) {
      result = error as Error;
    }
    if (typeof result === 'number') return;
    if (result instanceof HttpError) this.error = result;
    else if (result.message.startsWith('max header size')) this.error = tooLarge();
    else this.error = new HttpError(400, 'bad_request', `this is not an HTTP/1.1 request: ${result.message}`);
  }

  #check(url: string, headers: readonly string[]): void {
    if (url.length > MAX_URL_LENGTH)
      throw new HttpError(414, 'url_too_long', `the URL must be no longer than ${MAX_URL_LENGTH} bytes`);
    let size = 0;
    for (let i = 0; i < headers.length; i += 2) {
      const value = headers[i + 1]!;
      size += headers[i]!.length + value.length;
      const name = headers[i]!.toLowerCase();
      if (name === 'transfer-encoding' || (name === 'content-length' && value !== '0'))
        throw new HttpError(413, 'body_too_large', 'a request must have no body');
    }
    if (size > MAX_HEADER_BYTES) throw tooLarge();
  }
}

function tooLarge(): HttpError {
  return new HttpError(431, 'header_too_large', `the header must be no larger than ${MAX_HEADER_BYTES} bytes`);
}

export interface Response {
  readonly status: number;
  /** What becomes JSON. */
  readonly body: unknown;
}

/** The response that tells a client of an error. One that nobody foresaw is told no details, and reported here. */
export function failure(error: unknown): Response {
  if (error instanceof HttpError) return { status: error.status, body: { error: error.code, message: error.message } };
  console.error(error);
  return {
    status: 500,
    body: { error: 'internal_error', message: 'the service has failed; its operator can see why' },
  };
}

/** A response as it is sent. */
export function format({ status, body }: Response, request: Pick<Request, 'method' | 'keepAlive'>): string {
  const text = `${JSON.stringify(body)}\n`;
  const allow = status === 405 ? 'Allow: GET, HEAD\r\n' : '';
  const connection = request.keepAlive ? '' : 'Connection: close\r\n';
  const head = `HTTP/1.1 ${status} ${REASONS[status]}\r\nContent-Type: application/json\r\n${allow}${connection}`;
  const end = request.method === 'HEAD' ? '' : text;
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${end}`;
}

/** A request for `path` as a client sends it. */
export function formatRequest(path: string, host: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
}

/** Puts the response to one request at a time together. */
export class ResponseParser {
  /** The status, once the response is complete; 0 before. */
  status = 0;
  /** Whether another request may follow on the connection. */
  keepAlive = false;
  #body: Buffer[] = [];
  #size = 0;
  #status = 0;
  readonly #parser = new HTTPParser(HTTPParser.RESPONSE);

  constructor() {
    this.#parser[HTTPParser.kOnHeadersComplete] = ({ statusCode, shouldKeepAlive }) => {
      this.#status = statusCode;
      this.keepAlive = shouldKeepAlive;
    };
    this.#parser[HTTPParser.kOnBody] = (chunk) => {
      this.#size += chunk.length;
      if (this.#size > MAX_RESPONSE_BYTES) throw new Error('the response is too large');
      this.#body.push(chunk);
    };
    this.#parser[HTTPParser.kOnMessageComplete] = () => {
      this.status = this.#status;
    };
  }

  /** Forgets the last response: another request was sent. */
  begin(): void {
    this.status = 0;
    this.#body = [];
    this.#size = 0;
  }

  /** Takes the next bytes; true when the response is complete. @throws Error when this is no HTTP */
  push(bytes: Uint8Array): boolean {
    const result = this.#parser.execute(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    if (typeof result !== 'number') throw result;
    return this.status !== 0;
  }

  /** The body as JSON. @throws SyntaxError */
  json(): unknown {
    return JSON.parse(Buffer.concat(this.#body).toString());
  }
}
