// What an idle connection costs, and how many there can be.

import { whole } from '../format.ts';
import type { IdleSample } from '../idle.ts';
import { spread } from '../stats.ts';
import { escapeText } from '../svg.ts';
import type { Cast } from './cast.ts';
import { distinct, type Figure, type Findings } from './figure.ts';
import { barAxis, type Cell, type Column, rowCharts } from './rows.ts';
import { listed, NOTHING, standings, thousands, type Valued } from './words.ts';

const total = (sample: IdleSample): number => sample.rssBytesPerConnection + sample.kernelStackBytesPerConnection;

/** With as many connections as most servers held all of; of several such numbers the highest. */
export function comparable(idle: readonly IdleSample[]): readonly IdleSample[] {
  const whole = idle.filter(({ whyIncomplete }) => whyIncomplete === null);
  const counts = distinct(whole.map(({ connections }) => connections));
  const held = (count: number) => whole.filter(({ connections }) => connections === count);
  const best = counts.sort((a, b) => held(b).length - held(a).length || b - a)[0];
  return held(best ?? 0).sort((a, b) => total(a) - total(b));
}

function memoryCaption(held: readonly IdleSample[]): string {
  if (held.length === 0) return NOTHING;
  const values = held.map((sample): Valued => [sample.server, total(sample)]);
  const stack = Math.max(...held.map((sample) => sample.kernelStackBytesPerConnection));
  const kernel = stack === 0 ? '' : `; the faded part is the kernel's stack of a thread, up to ${whole(stack)} bytes`;
  return `With ${whole(held[0]!.connections)} idle connections, bytes for each from the least to the most: ${standings(values, whole)}${kernel}.`;
}

export function memoryFigure({ idle, cast }: Findings): Figure {
  const held = comparable(idle);
  const cells = held.map((sample): [string, Cell] => {
    const { server, rssBytesPerConnection: user, kernelStackBytesPerConnection: kernel } = sample;
    const label = `${whole(user)}${kernel === 0 ? '' : ` + ${whole(kernel)}`}`;
    const range = spread(sample.rssSamples);
    return [server, { value: user, kernel, label, range, isHollow: false, title: `${server}: ${label} bytes` }];
  });
  const missing = distinct(idle.map(({ server }) => server)).filter(
    (server) => !held.some((sample) => sample.server === server),
  );
  const column: Column = {
    title: 'bytes per idle connection: the process’s own memory, and kernel stack (faded)',
    kind: 'bars',
    ...barAxis(Math.max(1, ...held.map(total)), 5, thousands),
    reference: null,
    cells: new Map<string, Cell | string>([
      ...cells,
      ...missing.map((server) => [server, 'did not hold as many'] as const),
    ]),
  };
  const rows = [...held.map(({ server }) => server), ...missing].map((server) => cast.get(server)!);
  return {
    title: 'What does an idle connection cost?',
    caption: memoryCaption(held),
    chart: held.length === 0 ? '' : rowCharts('Memory per idle connection', rows, [column]),
  };
}

/** Why, without how many: that is in the chart. */
const reasonOf = (why: string): string => why.replace(/^[\d,]+ connections failed: /, '');

function failuresOf(idle: readonly IdleSample[]): string {
  const short = idle.filter(({ whyIncomplete }) => whyIncomplete !== null);
  const servers = distinct(short.map(({ server }) => server));
  const items = servers.flatMap((server) =>
    distinct(
      short.filter((sample) => sample.server === server).map(({ whyIncomplete }) => reasonOf(whyIncomplete!)),
    ).map((reason) => `<li><b>${escapeText(server)}</b>: ${escapeText(reason)}</li>`),
  );
  return `<ul class="words">${items.join('')}</ul>`;
}

function limitCaption(idle: readonly IdleSample[]): string {
  const most = Math.max(...idle.map(({ connections }) => connections));
  const short = idle.filter(({ whyIncomplete }) => whyIncomplete !== null);
  const servers = distinct(short.map(({ server }) => server));
  const reached = servers.map((server) => {
    const own = short.filter((sample) => sample.server === server);
    return `${server} holds ${whole(Math.max(...own.map(({ established }) => established)))} at most`;
  });
  const others = distinct(idle.map(({ server }) => server)).filter((server) => !servers.includes(server));
  const some =
    reached.length > 4
      ? `${reached.length} of ${reached.length + others.length} servers do not hold all`
      : listed(reached);
  const names = others.length > 4 ? `the other ${others.length}` : listed(others);
  const rest = others.length === 0 ? '' : `, while ${names} ${others.length === 1 ? 'holds' : 'hold'} all`;
  return `Of up to ${whole(most)} connections ${some}${rest}.`;
}

function limitColumn(count: number, idle: readonly IdleSample[]): Column {
  const cells = idle
    .filter(({ connections }) => connections === count)
    .map(({ server, established }): [string, Cell] => {
      const label = established === count ? 'all' : whole(established);
      return [
        server,
        {
          value: established,
          label,
          range: null,
          isHollow: established < count,
          title: `${server}: ${whole(established)} of ${whole(count)} connections`,
        },
      ];
    });
  return {
    title: `of ${whole(count)}`,
    kind: 'bars',
    domain: [0, count],
    ticks: [0, count].map((at) => ({ at, label: whole(at) })),
    reference: null,
    cells: new Map(cells),
  };
}

/** Where some could not have all connections. */
export function limitFigure({ idle, cast }: { readonly idle: readonly IdleSample[]; readonly cast: Cast }): Figure {
  const counts = distinct(idle.map(({ connections }) => connections)).sort((a, b) => a - b);
  const fails = (server: string) => idle.some((sample) => sample.server === server && sample.whyIncomplete !== null);
  // Of those that hold all a few are enough to see it.
  const rows = [...cast.values()].filter(({ name, role }) => role === 'ours' || fails(name));
  return {
    title: 'How many connections can there be?',
    caption: limitCaption(idle),
    chart:
      rowCharts(
        'Connections established of those that were tried',
        rows,
        counts.map((count) => limitColumn(count, idle)),
        3,
      ) + failuresOf(idle),
  };
}
