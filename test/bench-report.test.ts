// The page that a person reads: its sentences are true of the figures, whatever they are, and it needs nothing from elsewhere.

import { describe, expect, test } from 'vitest';
import type { IdleSample } from '../bench/idle.ts';
import type { Machine } from '../bench/machine.ts';
import { COLOURS, castOf } from '../bench/page/cast.ts';
import { headlineFigure, standaloneSvg } from '../bench/page/headline.ts';
import { spreadOut } from '../bench/page/labels.ts';
import { CHART_STYLE } from '../bench/page/style.ts';
import { duration, thousands } from '../bench/page/words.ts';
import { makePlan } from '../bench/plan.ts';
import { formatPage } from '../bench/report.ts';
import { makeReport, type Outcome, type Report } from '../bench/results.ts';
import type { Sample } from '../bench/sample.ts';
import { type Shape, shapeOf } from '../bench/shape.ts';
import { SUITES } from '../bench/suite.ts';
import { MACHINE as ANY_MACHINE } from './bench-machine.ts';
import { WISHES } from './bench-wishes.ts';

const MACHINE: Machine = { ...ANY_MACHINE, commandLine: 'bench --json <file> & "more"' };

/** Round trips per second. */
const RATES: Readonly<Record<string, number>> = {
  'raw-epoll': 200_000,
  'thread-per-connection': 100_000,
  'onewait-yield': 190_000,
  'onewait-await': 180_000,
  'node-net': 120_000,
};

interface Given {
  readonly rates?: Readonly<Record<string, number>>;
  readonly shapes?: readonly Shape[];
  readonly idle?: ReadonlyArray<Partial<IdleSample>>;
  readonly isValid?: (server: string, shape: Shape) => boolean;
  readonly micros?: (server: string, shape: Shape) => number;
}

function outcomeOf(name: string, given: Given): Outcome {
  const { rates = RATES, shapes = [shapeOf()], idle = [], isValid = () => true, micros = () => 200 } = given;
  const suite = SUITES.find((candidate) => candidate.name === name)!;
  const plan = makePlan({ ...WISHES, suite, effort: 'quick' });
  const servers = Object.keys(rates);
  const sampleOf = (server: string, shape: Shape): Sample => {
    const valid = isValid(server, shape);
    const rate = rates[server]!;
    const nanos = micros(server, shape) * 1000;
    return {
      server,
      shape,
      round: 0,
      valid,
      whyInvalid: valid ? null : 'the server was only 50 % busy',
      repeat: !valid,
      established: shape.connections,
      connectionErrors: 0,
      firstConnectionError: null,
      roundTrips: rate,
      seconds: 1,
      roundTripsPerSecond: rate,
      serverCpuSeconds: 1,
      serverCpuMicrosPerRoundTrip: 1e6 / rate,
      serverBusy: 1,
      generatorBusy: 0.5,
      otherCoreBusy: 0.5,
      rssBytes: 2 ** 25,
      threads: 1,
      latencyCounts: [
        [nanos, 990],
        [nanos * 4, 10],
      ],
      pacing:
        shape.rate === null
          ? null
          : {
              intendedRate: shape.rate,
              achievedRate: Math.min(rate, shape.rate),
              lateMicrosP99: 1,
              unsent: 0,
              unanswered: 0,
            },
      floodBytesPerSecond: shape.flooders === 0 ? null : 1e9,
    };
  };
  const idleSamples = idle.map((sample) => ({
    server: 'raw-epoll',
    connections: 5000,
    established: 5000,
    rssBytesPerConnection: 1000,
    rssSamples: [950, 1000, 1010],
    kernelStackBytesPerConnection: 0,
    threads: 1,
    cpuShareWhileIdle: 0,
    whyIncomplete: null,
    ...sample,
  }));
  const samples = shapes.flatMap((shape) => servers.map((server) => sampleOf(server, shape)));
  return { plan, servers, run: { shapes: [...shapes], samples, idle: idleSamples, failures: new Map() } };
}

const reportOf = (name: string, given: Given = {}): Report =>
  makeReport(MACHINE, [outcomeOf(name, given)], { interrupted: false, skipped: [] });

const MEMORY = [
  { server: 'onewait-yield', rssBytesPerConnection: 870 },
  { server: 'thread-per-connection', rssBytesPerConnection: 12_300, kernelStackBytesPerConnection: 16_384 },
];

const LIMITED = {
  server: 'thread-per-connection',
  established: 3000,
  whyIncomplete: '2,000 connections failed: closed; it said: cannot create a thread',
};

const paces = [50_000, 150_000].map((rate) => shapeOf({ rate }));
const flood = { connections: 100, rate: 5000 };
const counts = [1, 64, 1000].map((connections) => shapeOf({ connections }));

/** As each suite measures. */
const EXAMPLES: Readonly<Record<string, Given>> = {
  echo: { shapes: counts, idle: MEMORY },
  pipelined: { shapes: [shapeOf({ inFlight: 16 })] },
  sizes: { shapes: [1024, 16_384].map((messageBytes) => shapeOf({ messageBytes })) },
  latency: { shapes: [shapeOf(), ...paces], isValid: (server, { rate }) => RATES[server]! >= (rate ?? 0) },
  churn: { shapes: [shapeOf({ churn: true })] },
  idle: { shapes: [0, 900, 4000].map((idleConnections) => shapeOf({ idleConnections })) },
  memory: { rates: {}, shapes: [], idle: MEMORY },
  fair: { shapes: [shapeOf(flood), shapeOf({ ...flood, flooders: 1 })] },
  'threads-limit': { rates: {}, shapes: [], idle: [...MEMORY, { ...LIMITED, connections: 5000 }] },
  cores: { rates: { 'onewait-1': 100, 'onewait-workers-2': 190 }, shapes: [shapeOf({ connections: 256 })] },
  trace: { rates: { 'onewait-yield': 100, 'onewait-yield-file': 80 }, shapes: counts },
  exchange: {
    rates: { 'exchange-threads': 100, 'exchange-blocking': 10, 'exchange-coroutines': 150 },
    shapes: counts.map((shape) => ({ ...shape, messageBytes: null })),
  },
};

/** With spaces at which no line may end as common ones. */
const plain = (words: string): string => words.replaceAll('\u00a0', ' ');

/** Titles with their sentences and whether there is a chart. */
function figuresOf(page: string): { title: string; caption: string; hasChart: boolean }[] {
  return [...page.matchAll(/<section><h3>(.*?)<\/h3><p>(.*?)<\/p>(.*?)<\/section>/gs)].map((match) => ({
    title: match[1]!,
    caption: plain(match[2]!),
    hasChart: match[3]!.includes('<svg'),
  }));
}

const captionOf = (report: Report, title: RegExp): string | undefined =>
  figuresOf(formatPage(report)).find((figure) => title.test(figure.title))?.caption;

describe('the page', () => {
  const all = makeReport(
    MACHINE,
    Object.entries(EXAMPLES).map(([name, given]) => outcomeOf(name, given)),
    { interrupted: false, skipped: ['a <server> is not available: install it'] },
  );

  test.each(SUITES.map(({ name }) => name))('of the suite %s has charts, each with one sentence', (name) => {
    const figures = figuresOf(formatPage(reportOf(name, EXAMPLES[name])));
    expect(figures.length).toBeGreaterThan(0);
    for (const { caption, hasChart } of figures) {
      expect(caption).toMatch(/^[^.]*(\.\d[^.]*)*\.$/);
      expect(hasChart).toBe(true);
    }
  });

  test('needs nothing from elsewhere, and has no hole where a figure should be', () => {
    expect(formatPage(all)).not.toMatch(/https?:|<script|<link|@import|url\(|NaN|undefined|Infinity|null/);
  });

  test('begins with the headline', () => {
    expect(figuresOf(formatPage(all))[0]!.title).toBe(headlineFigure(all)!.title);
  });

  test('escapes what it quotes', () => {
    const page = formatPage(all);
    expect(page).toContain('bench --json &lt;file&gt; &amp; &quot;more&quot;');
    expect(page).toContain('a &lt;server&gt; is not available');
    const strange = formatPage(reportOf('echo', { rates: { 'raw-epoll': 2, '<b>&"': 1 } }));
    expect(strange).not.toContain('<b>&"');
  });

  test('of a run without a figure that counts says so, and draws hollow what there is', () => {
    const page = formatPage(reportOf('echo', { isValid: () => false, shapes: counts }));
    expect(page).toContain('There is no valid figure to show here.');
    expect(page).toContain('raw-epoll, 64 connections, 64 bytes, 1 in flight: the server was only 50 % busy');
    expect(page).not.toMatch(/NaN|undefined|Infinity|polygon points="[^"]*" class="mark (?![^"]*hollow)[^"]*"\/><\/g>/);
  });

  test.each(SUITES.map(({ name }) => name))(
    'of the suite %s, of which nothing was measured, has no figure and no hole',
    (name) => {
      const { rates, shapes } = { shapes: [], ...EXAMPLES[name] };
      const nothing = makeReport(MACHINE, [outcomeOf(name, { rates: rates ?? RATES, shapes: [] })], {
        interrupted: true,
        skipped: [],
      });
      const invalid = reportOf(name, { rates: rates ?? RATES, shapes, isValid: () => false });
      for (const report of [nothing, invalid]) expect(formatPage(report)).not.toMatch(/NaN|undefined|Infinity/);
    },
  );

  test('draws one chart of throughput for each size of messages', () => {
    const shapes = [64, 16_384].flatMap((messageBytes) => counts.map((shape) => ({ ...shape, messageBytes })));
    const titles = figuresOf(formatPage(reportOf('echo', { shapes }))).map(({ title }) => title);
    expect(titles).toContain('How many round trips per second, by number of connections, with messages of 64 bytes?');
    expect(titles).toContain('How many round trips per second, by number of connections, with messages of 16 KiB?');
  });
});

describe('its sentences', () => {
  test('compare the best of onewait with the floor and with threads, in speed and memory', () => {
    expect(plain(headlineFigure(reportOf('echo', { idle: MEMORY }))!.caption)).toBe(
      'With one blocking call and a coroutine for each connection, onewait-yield reaches 95 % of the throughput of raw epoll in C++ and 1.90 times that of a thread per connection; an idle connection costs it 870 bytes, and thread-per-connection 28,684.',
    );
  });

  test('say who is better, if somebody is', () => {
    const rates = { ...RATES, fast: 210_000 };
    expect(captionOf(reportOf('echo', { rates, shapes: counts }), /How much of the throughput/)).toContain(
      '; the most reaches fast, 105 %.',
    );
  });

  test('do not count what does not count', () => {
    const isValid = (server: string) => server !== 'onewait-yield';
    expect(plain(headlineFigure(reportOf('echo', { isValid }))!.caption)).toContain('onewait-await reaches 90 %');
    expect(captionOf(reportOf('echo', { isValid }), /How many round trips/)).not.toContain('onewait-yield');
  });

  test('quote no latency of a server that missed the rate, and say where it ends', () => {
    const report = reportOf('latency', EXAMPLES.latency);
    expect(captionOf(report, /Up to which rate/)).toBe(
      'raw-epoll, onewait-yield and onewait-await are on time up to 150,000 messages per second; 2 miss a rate before or there, thread-per-connection the first, at 150,000.',
    );
    const page = formatPage(report);
    expect(page).toContain('thread-per-connection answered 100,000 of 150,000 messages per second');
    expect(page).not.toContain('thread-per-connection, 150,000 per second: p99');
  });

  test('say what is left among idle connections', () => {
    expect(captionOf(reportOf('idle', EXAMPLES.idle), /idle connections/)).toContain(
      'Among 4,000 idle connections, what is left of the rate without them: raw-epoll 100 %',
    );
  });

  test('say how many connections there can be, and how others failed', () => {
    const report = reportOf('threads-limit', EXAMPLES['threads-limit']);
    expect(captionOf(report, /How many connections/)).toBe(
      'Of up to 5,000 connections thread-per-connection holds 3,000 at most, while onewait-yield holds all.',
    );
    expect(formatPage(report)).toContain('<b>thread-per-connection</b>: closed; it said: cannot create a thread');
  });

  test('order by latency beside a flood', () => {
    const micros = (server: string, { flooders }: Shape) => (flooders > 0 && server === 'node-net' ? 9000 : 100);
    expect(captionOf(reportOf('fair', { ...EXAMPLES.fair, micros }), /floods/)).toMatch(/node-net 9 ms\.$/);
  });

  test('write durations and numbers with three digits and a unit', () => {
    expect([0.5, 24.04, 999, 1234, 12_345, 3e6].map(duration).map((words) => plain(words))).toEqual([
      '0.5 µs',
      '24 µs',
      '999 µs',
      '1.23 ms',
      '12 ms',
      '3 s',
    ]);
    expect([0, 250, 1500, 213_456, 2e6].map(thousands).map((words) => plain(words))).toEqual([
      '0',
      '250',
      '1.5 k',
      '213 k',
      '2 M',
    ]);
  });
});

describe('what is drawn', () => {
  test('eighteen servers have eighteen combinations of colour and shape', () => {
    const peers = Array.from({ length: 14 }, (_, i) => `peer-${i}`);
    const cast = castOf([...Object.keys(RATES).slice(0, 4), ...peers]);
    expect(new Set([...cast.values()].map(({ kind, shape }) => `${kind} ${shape % 12}`)).size).toBe(18);
  });

  test('every colour has a contrast of three to one against the page, light and dark', () => {
    const luminance = (colour: string): number => {
      const [r, g, b] = [1, 3, 5].map((at) => {
        const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
        return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
    };
    const contrast = (one: string, other: string): number => {
      const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
      return (high! + 0.05) / (low! + 0.05);
    };
    for (const [light, dark] of Object.values(COLOURS).flat()) {
      expect(contrast(light, '#ffffff'), light).toBeGreaterThanOrEqual(3);
      expect(contrast(dark, '#0f1318'), dark).toBeGreaterThanOrEqual(3);
    }
  });

  test('labels stay apart, in order and within the plot, as near to their lines as that allows', () => {
    expect(spreadOut([10, 100, 104, 200], 16, 0, 300)).toEqual([10, 94, 110, 200]);
    expect(spreadOut([0, 0, 0], 16, 0, 300)).toEqual([0, 16, 32]);
    expect(spreadOut([300, 300], 16, 0, 300)).toEqual([284, 300]);
  });

  test('the headline as a picture of its own is light or dark by itself and needs nothing', () => {
    const report = reportOf('echo', { idle: MEMORY });
    const { content } = standaloneSvg(headlineFigure(report)!, report, CHART_STYLE);
    expect(content).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    expect(content).toContain('prefers-color-scheme:dark');
    expect(content.replace('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|NaN|undefined/);
  });

  test('there is no headline where there is nothing to compare', () => {
    expect(headlineFigure(reportOf('memory', EXAMPLES.memory))).toBeNull();
    expect(headlineFigure(reportOf('echo', { isValid: () => false }))).toBeNull();
  });
});
