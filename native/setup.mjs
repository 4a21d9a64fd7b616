// Makes a checkout ready: dependencies, addon, compiled TypeScript and, with --bench, the benchmark's C++ programs.
// Plain JavaScript without dependencies, because it runs before anything is installed. Each step is skipped while
// the hash of its inputs equals the hash stored at its last success, so a second run costs a tenth of a second.
//
//   node native/setup.mjs [--bench] [--types-only]

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const wantsBench = process.argv.includes('--bench');
const typesOnly = process.argv.includes('--types-only');
const compiler = process.env.CXX ?? 'c++';

function fail(message) {
  process.stderr.write(`onewait: ${message}\n`);
  process.exit(1);
}

function works(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

if (process.platform !== 'linux') fail(`needs Linux (epoll), and this is ${process.platform}.`);

function requireToolchain() {
  const missing = [
    ['python3', works('python3')],
    ['make', works('make')],
    ['a C++20 compiler', works(compiler)],
  ].filter(([, present]) => !present);
  if (missing.length > 0) {
    const names = missing.map(([name]) => name).join(' and ');
    fail(`cannot build without ${names}. Install with: apt-get install -y python3 make g++`);
  }
}

function hashOf(paths) {
  const hash = createHash('sha256').update(`${process.version} ${process.arch} ${compiler}`);
  const visit = (path) => {
    const full = join(root, path);
    if (!existsSync(full)) return;
    const entries = path.includes('.') ? null : readdirSync(full, { withFileTypes: true });
    if (entries === null) hash.update(path).update(readFileSync(full));
    else for (const entry of entries) visit(join(path, entry.name));
  };
  for (const path of paths) visit(path);
  return hash.digest('hex');
}

function step(title, inputs, stampFile, product, build) {
  const stamp = join(root, stampFile);
  const hash = hashOf(inputs);
  if (existsSync(join(root, product)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  const started = Date.now();
  process.stderr.write(`onewait: ${title} ...\n`);
  // A build that fails may leave half of its products behind.
  rmSync(stamp, { force: true });
  build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, hash);
  process.stderr.write(`onewait: ${title}: done in ${((Date.now() - started) / 1000).toFixed(1)} s\n`);
}

/** Runs a command quietly; on failure shows what it printed and stops. */
function execute(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20 });
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}\n`);
  fail(`'${command} ${args.join(' ')}' failed${result.error ? `: ${result.error.message}` : ''}; its output is above.`);
}

const local = (name) => join(root, 'node_modules', '.bin', name);

const manifest = ['package.json', 'package-lock.json'];
// Not npm ci: it refuses a lockfile in which a registry's mirror had no package for some foreign platform.
step('installing dependencies', manifest, 'node_modules/.onewait-stamp', 'node_modules', () =>
  execute('npm', ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund']),
);
if (!typesOnly) {
  step(
    'compiling the addon',
    [...manifest, 'binding.gyp', 'native'],
    'build/.onewait-stamp',
    'build/Release/onewait.node',
    () => {
      requireToolchain();
      // By npm, whose configuration (nodedir, proxies) node-gyp would not see otherwise.
      execute('npm', ['exec', '--offline', '--', 'node-gyp', 'rebuild', '--jobs', 'max']);
    },
  );
  const sources = [...manifest, 'tsconfig.json', 'tsconfig.build.json', 'src', 'bench'];
  step('compiling TypeScript', sources, 'dist/.onewait-stamp', 'dist/src/index.js', () => {
    execute(local('tsc'), ['-p', 'tsconfig.build.json']);
    // For a browser: another library, no Node.
    execute(local('tsc'), ['-p', 'src/trace/page']);
  });
}
if (wantsBench) {
  const programs = [
    ['raw-epoll', 'bench/servers/raw_epoll.cc'],
    ['thread-per-connection', 'bench/servers/thread_per_connection.cc'],
    ['loadgen', 'bench/loadgen/loadgen.cc'],
  ];
  step('compiling the benchmark programs', ['bench'], 'dist/bench/bin/.stamp', 'dist/bench/bin/loadgen', () => {
    requireToolchain();
    mkdirSync(join(root, 'dist/bench/bin'), { recursive: true });
    for (const [name, source] of programs) {
      const flags = ['-std=c++20', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread'];
      execute(compiler, [...flags, source, '-o', `dist/bench/bin/${name}`]);
    }
  });
}
