// `onewait trace top`: what the tasks and descriptors of a running program cost, at the moment. On a terminal drawn anew at every interval; elsewhere one
// report.

import { setTimeout as pause } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Cost, Costs, SORTS, type Sort, sortCosts, type Window } from '../trace/costs.ts';
import type { About, CostsHead } from '../trace/live.ts';
import { LiveClient, LiveError } from '../trace/live-client.ts';
import { printable, threadName } from '../trace/names.ts';
import { complain, say } from './say.ts';
import { Screen } from './screen.ts';

interface TopOptions {
  once?: boolean;
  /** Seconds. */
  interval: number;
  sort: Sort;
  tree?: boolean;
}

/** Rows of each table in a report. */
const REPORT_ROWS = 20;
/** A program that does not answer so long, in a report, is not waited for. */
const PATIENCE_MS = 10_000;
/** Lines around the two tables on a screen. */
const OTHER_LINES = 8;

/** Adds `top` to the commands of `onewait trace`. */
export function addTop(trace: Command): void {
  trace
    .command('top <socket>')
    .description(
      'Shows what tasks and descriptors of a running program cost, one that was started with ONEWAIT_TRACE_LISTEN=<socket>.',
    )
    .option('--once', 'print one report, as is done where there is no terminal')
    .addOption(new Option('--interval <s>', 'seconds from one look to the next').default(1).argParser(seconds))
    .addOption(new Option('--sort <order>', 'what comes first').choices(SORTS).default('cpu'))
    .option('--tree', 'show the tree of tasks, and what each waits for')
    .action(async (socket: string, options) => {
      try {
        await top(socket, options);
      } catch (error) {
        complain(error);
        process.exitCode = 1;
      }
    });
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0.1 && value <= 60))
    throw new InvalidArgumentError('it must be a number from 0.1 to 60.');
  return value;
}

/** Shows it until the program ends or nobody wants to look any more. @throws LiveError, TraceError */
async function top(path: string, options: TopOptions): Promise<void> {
  const client = await LiveClient.connect(path);
  try {
    if (options.once || !isatty(1)) say(`${(await report(path, client, options)).join('\n')}\n`);
    else await watch(path, client, options);
  } finally {
    client.close();
  }
}

async function report(path: string, client: LiveClient, { tree, sort, interval }: TopOptions): Promise<string[]> {
  const clock = new AbortController();
  const patience = (async () => {
    await pause(interval * 1000 + PATIENCE_MS, undefined, { signal: clock.signal });
    throw new LiveError(
      path,
      `the program does not answer within ${PATIENCE_MS / 1000} s: something holds up its loop`,
    );
  })();
  patience.catch(() => {});
  const look = async (): Promise<string[]> => {
    if (tree) return client.tree();
    const view = new View(path, client);
    await view.look();
    await pause(interval * 1000, undefined, { signal: clock.signal });
    await view.look();
    return view.lines(sort, REPORT_ROWS, REPORT_ROWS);
  };
  try {
    return await Promise.race([look(), patience, client.ended]);
  } finally {
    clock.abort();
  }
}

async function watch(
  path: string,
  client: LiveClient,
  { tree: startsWithTree, sort, interval }: TopOptions,
): Promise<void> {
  const view = new View(path, client);
  let tree = startsWithTree === true;
  let by = sort;
  let lines: string[] = [];
  /** When the question was asked that is not answered; 0: none is. */
  let askedAt = 0;
  let finish: (error?: unknown) => void = () => {};
  const end = new Promise<void>((resolve, reject) => {
    finish = (error) => (error === undefined ? resolve() : reject(error));
  });

  const draw = (): void => {
    const waits = askedAt === 0 ? 0 : performance.now() - askedAt;
    const held =
      waits > interval * 1000
        ? [`no answer for ${(waits / 1000).toFixed(0)} s: something holds up the program's loop`]
        : [];
    screen.draw([...held, ...lines]);
  };
  const refresh = async (isNewWindow: boolean): Promise<void> => {
    if (askedAt !== 0) {
      draw();
      return;
    }
    askedAt = performance.now();
    const { rows } = screen;
    if (tree) lines = cut([`onewait trace top ${path}    q quit  t costs`, '', ...(await client.tree())], rows);
    else {
      if (isNewWindow) await view.look();
      const room = Math.max(2, rows - OTHER_LINES);
      const keys = `q quit  t tree  s sort (now ${by})`;
      lines = [...(await view.lines(by, Math.ceil(room / 2), Math.floor(room / 2))), keys];
    }
    askedAt = 0;
    draw();
  };
  const again = (isNewWindow: boolean): void => {
    refresh(isNewWindow).catch(finish);
  };

  const screen = new Screen(
    (key) => {
      if (key === 'q') finish();
      else if (key === 't') tree = !tree;
      else if (key === 's') by = SORTS[(SORTS.indexOf(by) + 1) % SORTS.length]!;
      else return;
      again(false);
    },
    () => again(false),
  );
  const timer = setInterval(() => again(true), interval * 1000);
  try {
    again(true);
    await Promise.race([end, client.ended]);
  } finally {
    clearInterval(timer);
    screen.close();
  }
}

/** Only so many lines; the last says how many there would be. */
function cut(lines: string[], rows: number): string[] {
  if (lines.length <= rows) return lines;
  return [
    ...lines.slice(0, rows - 1),
    `... ${lines.length - rows + 1} more lines: 'onewait trace top --once --tree' prints them`,
  ];
}

/** The last window, and its tables. */
class View {
  private readonly path: string;
  private readonly client: LiveClient;
  private readonly costs: Costs;
  private head: CostsHead | null = null;
  private window: Window | null = null;

  constructor(path: string, client: LiveClient) {
    this.path = path;
    this.client = client;
    this.costs = new Costs(path);
  }

  /** Ends a window and begins the next. */
  async look(): Promise<void> {
    const { head, trace } = await this.client.costs();
    this.head = head;
    this.window = this.costs.push(head, trace) ?? this.window;
  }

  async lines(sort: Sort, taskRows: number, fdRows: number): Promise<string[]> {
    const { head, window } = this;
    if (head === null || window === null) return [`onewait trace top ${this.path}    waiting for the first records`];
    const { length } = window;
    const perSecond = (count: number): number => (count * 1e9) / length;
    const tasks = sortCosts(window.tasks, sort).slice(0, taskRows);
    const fds = sortCosts(window.fds, sort).slice(0, fdRows);
    const about = await this.client.about(
      tasks.map(({ track }) => track.task),
      fds.map(({ track }) => track.fd),
    );
    const skipped = window.skipped > 0 ? `, the last of ${rate(window.skipped + window.records)}` : '';
    return [
      `pid ${head.pid} ${threadName(head.thread)}, ${head.tasks} tasks; ${(length / 1e9).toFixed(3)} s, ${window.records} records${skipped}, by ${sort}`,
      `${rate(perSecond(window.turns))} turns/s  blocked ${percent(window.blocked, length)}  libuv ${rate(perSecond(window.libuv))} turns/s  lost ${window.lost}`,
      '',
      ...table(
        ['TASK', '>RUNNING', '>RUNNABLE p99', '>CALLS/s', '>IN/s', '>OUT/s', 'NOW'],
        tasks.map((cost) => {
          const now = about.tasks[cost.track.task];
          return [
            now?.name ?? cost.track.name,
            percent(cost.cpu, length),
            milliseconds(cost.latency),
            rate(perSecond(cost.calls)),
            bytes(perSecond(cost.bytesIn)),
            bytes(perSecond(cost.bytesOut)),
            now?.does ?? 'has ended',
          ];
        }),
      ),
      ...more(window.tasks, tasks),
      ...table(
        ['>FD', '>IN CALLS', '>TO TASK p99', '>CALLS/s', '>IN/s', '>OUT/s', '>EAGAIN', 'AWAITED BY', 'WHAT'],
        fds.map((cost) => {
          const now = about.fds[cost.track.fd];
          return [
            String(cost.track.fd),
            percent(cost.cpu, length),
            milliseconds(cost.latency),
            rate(perSecond(cost.calls)),
            bytes(perSecond(cost.bytesIn)),
            bytes(perSecond(cost.bytesOut)),
            percent(cost.again, cost.calls),
            awaitedBy(now),
            now?.name ?? whatOf(cost),
          ];
        }),
      ),
      ...more(window.fds, fds),
    ];
  }
}

/** Who waits for a descriptor: the first, and how many others. */
function awaitedBy(fd: About['fds'][string] | undefined): string {
  const [first, ...others] = fd?.awaitedBy ?? [];
  if (first === undefined) return '-';
  return others.length === 0 ? first : `${first} and others`;
}

/** What the records call a descriptor that is no more. */
function whatOf({ track }: Cost): string {
  return track.name.replace(/^(.*: )?fd \d+ ?/, '') || '-';
}

/** One line for what a table has no room for; none when it shows all. */
function more(all: readonly Cost[], shown: readonly Cost[]): string[] {
  return all.length > shown.length ? [`... and ${all.length - shown.length} more`] : [''];
}

/** Columns as wide as they must be; those whose title begins with '>' are flush right, and the last is as long as it is. */
function table(titles: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cells = [titles.map((title) => title.replace('>', '')), ...rows.map((row) => row.map(printable))];
  const widths = titles.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells.map((row) =>
    row
      .map((cell, column) => {
        if (titles[column]!.startsWith('>')) return cell.padStart(widths[column]!);
        return column === row.length - 1 ? cell : cell.padEnd(widths[column]!);
      })
      .join('  '),
  );
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '-' : `${((100 * part) / whole).toFixed(2)}%`;
}

function milliseconds(ns: number): string {
  return ns === 0 ? '-' : `${(ns / 1e6).toFixed(3)} ms`;
}

function rate(count: number): string {
  return count > 0 && count < 10 ? count.toFixed(1) : Math.round(count).toLocaleString('en-US');
}

/** '1.2 MB'. */
function bytes(count: number): string {
  if (count === 0) return '-';
  const unit = Math.min(4, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${(count / 1000 ** unit).toFixed(unit === 0 ? 0 : 1)} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`;
}
