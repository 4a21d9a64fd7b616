// Several loops that listen on one port: the kernel shares the connections out among them (SO_REUSEPORT, socket(7)). In worker threads or in
// processes: what a loop is does not depend on it.
//
//   node onewait-loops.js --port P --host H (--workers N | --processes N)

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { serve } from '../../src/cli/echo.ts';
import { run, tcp } from '../../src/index.ts';

const file = fileURLToPath(import.meta.url);
const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    workers: { type: 'string' },
    processes: { type: 'string' },
    'one-loop': { type: 'boolean' },
  },
});
const address = { host: values.host, port: Number(values.port) };

/** A loop of its own, which says so when it listens. */
async function loop(): Promise<void> {
  await run(function* () {
    const listener = yield* tcp.listen({ ...address, reusePort: true });
    if (parentPort !== null) parentPort.postMessage('listening');
    else process.send!('listening');
    yield* serve(listener);
  });
}

/** Starts the loops, and announces the server when all of them listen. */
async function startLoops(): Promise<void> {
  const args = ['--port', `${address.port}`, '--host', address.host, '--one-loop'];
  const inProcesses = values.processes !== undefined;
  const count = Number(values.processes ?? values.workers);
  const children = Array.from({ length: count }, () =>
    inProcesses ? fork(file, args) : new Worker(file, { argv: args }),
  );
  await Promise.all(children.map((child) => new Promise((resolve) => child.once('message', resolve))));
  console.log(`listening on ${address.host}:${address.port}`);
}

// A process whose parent has gone has nobody to end it.
process.on('disconnect', () => process.exit());
if (values['one-loop'] === true || !isMainThread) await loop();
else await startLoops();
