// HTTP/1.1 without I/O: bytes in, messages out, and back. llhttp does the parsing, as it does in Node's own server; here is what it leaves to
// its caller, which is limits and the errors that a client is told. Source: RFC 9110, RFC 9112.
//
// Deliberately absent: request bodies. Nothing in this folder takes one, so a request that has one is refused.

import { createRequire } from 'node:module';

/** Node's binding of llhttp, as `http` uses it. It must be closed. */
interface HttpParser {
  initialize(type: number, resource: object, maxHeaderBytes: number, lenient: number): void;
  execute(bytes: Uint8Array): number | (Error & { code: string; reason: string });
  finish(): Error | undefined;
  close(): void;
  [callback: number]: (...args: never[]) => void;
}

interface HttpParserType {
  new (): HttpParser;
  readonly REQUEST: number;
  readonly RESPONSE: number;
  readonly kOnMessageBegin: number;
  readonly kOnHeaders: number;
  readonly kOnHeadersComplete: number;
  readonly kOnBody: number;
  readonly kOnMessageComplete: number;
}

const { HTTPParser, methods } = createRequire(import.meta.url)('node:_http_common') as {
  HTTPParser: HttpParserType;
  methods: readonly string[];
};

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
  readonly #parser = new HTTPParser();
  /** Headers that llhttp handed over before it had all: it has room for 32. */
  #headers: string[] = [];
  #url = '';

  constructor() {
    const parser = this.#parser;
    parser.initialize(HTTPParser.REQUEST, {}, MAX_HEADER_BYTES, 0);
    parser[HTTPParser.kOnMessageBegin] = () => {
      this.started = true;
    };
    parser[HTTPParser.kOnHeaders] = (headers: string[], url: string) => {
      this.#headers.push(...headers);
      this.#url += url;
    };
    parser[HTTPParser.kOnHeadersComplete] = (
      major: number,
      minor: number,
      headers: string[] | undefined,
      method: number,
      url: string | undefined,
      _status: unknown,
      _reason: unknown,
      upgrade: boolean,
      shouldKeepAlive: boolean,
    ) => {
      const all = [...this.#headers, ...(headers ?? [])];
      const target = this.#url + (url ?? '');
      this.#headers = [];
      this.#url = '';
      check(target, all, major === 1 && minor >= 1);
      // Nothing is upgraded to, and a client of HTTP/1.0 would have to be told that its connection is kept.
      const keepAlive = shouldKeepAlive && !upgrade && minor >= 1;
      this.requests.push({ method: methods[method]!, url: target, keepAlive });
    };
    parser[HTTPParser.kOnMessageComplete] = () => {
      this.started = false;
    };
  }

  /** Takes the next bytes of the connection. Never throws: see `error`. */
  push(bytes: Uint8Array): void {
    if (this.error !== null) return;
    let result: ReturnType<HttpParser['execute']>;
    try {
      result = this.#parser.execute(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    } catch (error) {
      this.error = error as HttpError;
      return;
    }
    if (typeof result === 'number') return;
    if (result.code === 'HPE_HEADER_OVERFLOW') this.error = tooLarge();
    else this.error = new HttpError(400, 'bad_request', `this is not an HTTP/1.1 request: ${result.reason}`);
  }

  /** Gives its memory back. */
  close(): void {
    this.#parser.close();
  }
}

/** @throws HttpError for what must not be, or is more than is taken */
function check(url: string, headers: readonly string[], mustHaveHost: boolean): void {
  if (url.length > MAX_URL_LENGTH)
    throw new HttpError(414, 'url_too_long', `the URL must be no longer than ${MAX_URL_LENGTH} bytes`);
  let hosts = 0;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!.toLowerCase();
    if (name === 'transfer-encoding' || (name === 'content-length' && headers[i + 1] !== '0'))
      throw new HttpError(413, 'body_too_large', 'a request must have no body');
    if (name === 'host') hosts++;
  }
  if (mustHaveHost && hosts !== 1)
    throw new HttpError(400, 'bad_request', 'a request of HTTP/1.1 must have one Host header');
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

/** `host` as it stands in a URL. */
export function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** A request for `path` as a client sends it. */
export function formatRequest(path: string, host: string, port: number): string {
  return `GET ${path} HTTP/1.1\r\nHost: ${inUrl(host)}:${port}\r\n\r\n`;
}

/** Puts the response to one request at a time together. */
export class ResponseParser {
  /** The status, once the response is complete; 0 before. */
  status = 0;
  /** Whether another request may follow on the connection. */
  keepAlive = false;
  readonly #parser = new HTTPParser();
  #body: Buffer[] = [];
  #size = 0;
  #status = 0;
  /** Whether something follows the response that nobody asked for. */
  #overrun = false;

  constructor() {
    const parser = this.#parser;
    // Once for the connection: to do it for each response would cost more than the response.
    parser.initialize(HTTPParser.RESPONSE, {}, MAX_HEADER_BYTES, 0);
    parser[HTTPParser.kOnHeadersComplete] = (...[, , , , , status, , , keepAlive]: [...unknown[]]) => {
      this.#status = status as number;
      this.keepAlive = keepAlive as boolean;
    };
    parser[HTTPParser.kOnMessageBegin] = () => {
      if (this.status !== 0) this.#overrun = true;
    };
    parser[HTTPParser.kOnBody] = (body: Buffer) => {
      if (this.status === 0) this.#body.push(Buffer.from(body));
    };
    parser[HTTPParser.kOnMessageComplete] = () => {
      this.status ||= this.#status;
    };
  }

  /** Forgets the last response: another request is sent. */
  begin(): void {
    this.status = 0;
    this.#body = [];
    this.#size = 0;
    this.#overrun = false;
  }

  /** Takes the next bytes; none are the end of the connection. True when the response is complete. @throws Error when this is no HTTP */
  push(bytes: Uint8Array): boolean {
    this.#size += bytes.length;
    if (this.#size > MAX_RESPONSE_BYTES) throw new Error('its answer is too large');
    const result =
      bytes.length === 0
        ? this.#parser.finish()
        : this.#parser.execute(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    if (result instanceof Error) throw new Error(`its answer is no HTTP: ${result.message}`);
    if (bytes.length === 0 && this.status === 0) throw new Error('it closed the connection');
    // It would be taken for the next.
    if (this.#overrun) this.keepAlive = false;
    return this.status !== 0;
  }

  /** The body as JSON. @throws SyntaxError */
  json(): unknown {
    return JSON.parse(Buffer.concat(this.#body).toString());
  }

  /** Gives its memory back. */
  close(): void {
    this.#parser.close();
  }
}
