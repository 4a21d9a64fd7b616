// The page comes alive: loads the trace, and turns what a person does with mouse, wheel and keys into a view and a choice.
// Nothing is drawn here; a change asks for a frame, and several changes before the next frame cost one.

import { loadTrace, type Trace } from './data.ts';
import { callsOf, factList, factsOf, kindOf, laneFacts, Tooltip, titleOf } from './details.ts';
import { AXIS_HEIGHT, NAMES_WIDTH, Painter, type Scene, TOP } from './draw.ts';
import { formatCount, formatDuration, formatMoment, plural } from './format.ts';
import { Lanes, ROW_HEIGHT } from './lanes.ts';
import { pick } from './pick.ts';
import { Search } from './search.ts';
import { Table } from './table.ts';
import { View } from './view.ts';

const ZOOM_STEP = 1.5;
const PAN_PART = 0.15;
/** Further than this, and a click was a drag. */
const CLICK_PX = 4;
const SEARCH_PAUSE_MS = 120;

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

class Page {
  private readonly trace: Trace;
  private readonly lanes: Lanes;
  private readonly view: View;
  private readonly painter: Painter;
  private readonly search: Search;
  private readonly table: Table;
  private readonly tooltip = new Tooltip(element('tooltip'));
  private readonly canvas = element<HTMLCanvasElement>('canvas');
  private readonly scroller = element('scroller');
  private readonly scene: Scene = {
    item: -1,
    lane: -1,
    hoverItem: -1,
    hoverLane: -1,
    matches: null,
    laneMatches: null,
  };
  private frameWanted = false;
  private readonly history: Array<{ lane: number; item: number }> = [];

  constructor(trace: Trace) {
    this.trace = trace;
    this.lanes = new Lanes(trace);
    this.view = new View(trace.about.end);
    this.painter = new Painter(this.canvas, trace, this.lanes, this.view);
    this.search = new Search(trace);
    this.table = new Table(element('table'), trace, (to) => this.go(to));
    this.summary();
    this.onPointer();
    this.onKeys();
    this.onToolbar();
    this.onTheme();
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.resize();
  }

  private summary(): void {
    const { about, lanes } = this.trace;
    const tasks = lanes.filter(({ kind }) => kind === 'task').length;
    const descriptors = lanes.filter(({ kind }) => kind === 'fd').length;
    const parts = [plural(about.records, 'record'), plural(descriptors, 'descriptor'), plural(tasks, 'task')];
    const when = about.wallClockMs > 0 ? `, begun ${new Date(about.wallClockMs).toLocaleString()}` : '';
    element('summary').textContent =
      `${parts.join(', ')} in ${formatDuration(about.end)}; process ${about.pid}${when}.`;
    element('empty').hidden = about.records > 0;
  }

  /** Draws with the next frame. */
  private changed(): void {
    if (this.frameWanted) return;
    this.frameWanted = true;
    requestAnimationFrame(() => {
      this.frameWanted = false;
      if (this.scroller.scrollTop !== this.view.scrollTop) this.scroller.scrollTop = this.view.scrollTop;
      this.painter.draw(this.scene);
      element('range').textContent =
        `${formatMoment(Math.max(0, this.view.from))} to ${formatMoment(Math.max(0, this.view.to))}`;
    });
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.scroller;
    element('room').style.height = `${this.lanes.height + TOP}px`;
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${clientHeight}px`;
    this.painter.resize(clientWidth, clientHeight);
    this.view.setContentHeight(this.lanes.height);
    this.changed();
  }

  /** Chooses a span or a lane, and brings it into view. */
  private go(to: { lane: number; item: number }, remember = true): void {
    const { scene, view, trace } = this;
    if (remember && scene.lane >= 0) this.history.push({ lane: scene.lane, item: scene.item });
    if (this.lanes.row(to.lane) < 0) this.showAllLanes();
    this.choose(to);
    const top = this.lanes.row(to.lane) * ROW_HEIGHT;
    if (top < view.scrollTop || top > view.scrollTop + view.height - 2 * ROW_HEIGHT)
      view.scrollTo(top - view.height / 2);
    if (to.item >= 0) {
      const length = trace.duration(to.item);
      if (length > view.width * view.nsPerPx * 4) view.frame(trace.begin[to.item]!, trace.end[to.item]!);
      else view.reveal(trace.begin[to.item]!);
      // What is less than a pixel is not to be seen.
      if (length > 0 && length < 3 * view.nsPerPx) {
        const half = (view.width / 80) * length;
        view.show(trace.begin[to.item]! - half, trace.begin[to.item]! + half);
      }
    }
    this.changed();
  }

  private choose({ lane, item }: { lane: number; item: number }): void {
    const { scene, trace } = this;
    scene.lane = lane;
    scene.item = item;
    const details = element('details');
    const scope = element('scope');
    element<HTMLButtonElement>('back').disabled = this.history.length === 0;
    element<HTMLButtonElement>('all').hidden = lane < 0;
    if (lane < 0) {
      details.replaceChildren(paragraph('Choose a span or a lane to see what it is, and who belongs to it.'));
      scope.textContent = 'All lanes';
      this.table.showLanes();
      this.changed();
      return;
    }
    const title = document.createElement('h2');
    title.textContent = item >= 0 ? titleOf(trace, item) : trace.lanes[lane]!.name;
    const go = (to: { lane: number; item: number }): void => this.go(to);
    const parts: HTMLElement[] = [title];
    if (item >= 0) {
      parts.push(paragraph(kindOf(trace, item)), factList(factsOf(trace, item), go));
      const calls = callsOf(trace, item);
      if (calls.length > 0) parts.push(paragraph('Its system calls meanwhile:'), factList(calls, go));
    } else parts.push(factList(laneFacts(trace, lane), go));
    details.replaceChildren(...parts);
    scope.textContent = trace.lanes[lane]!.name;
    this.table.showLane(lane);
    this.table.mark(item);
    this.changed();
  }

  private back(): void {
    const to = this.history.pop();
    if (to !== undefined) this.go(to, false);
  }

  // The mouse

  private onPointer(): void {
    const { canvas, view, scroller } = this;
    let drag: { x: number; y: number; moved: boolean; overview: boolean } | null = null;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const { x, y } = this.place(event);
      drag = { x, y, moved: false, overview: y < TOP - AXIS_HEIGHT && x > NAMES_WIDTH };
      canvas.setPointerCapture(event.pointerId);
      if (drag.overview) this.toOverview(x);
    });
    canvas.addEventListener('pointermove', (event) => {
      const { x, y } = this.place(event);
      if (drag === null) {
        this.hover(x, y, event);
        return;
      }
      if (drag.overview) this.toOverview(x);
      else if (drag.moved || Math.hypot(x - drag.x, y - drag.y) > CLICK_PX) {
        view.pan(drag.x - x);
        view.scrollTo(view.scrollTop + drag.y - y);
        this.tooltip.hide();
        canvas.classList.add('dragged');
        drag = { ...drag, x, y, moved: true };
        this.changed();
      }
    });
    canvas.addEventListener('pointerup', (event) => {
      canvas.classList.remove('dragged');
      if (drag !== null && !drag.moved && !drag.overview) this.click(this.place(event));
      drag = null;
    });
    canvas.addEventListener('pointercancel', () => {
      drag = null;
    });
    canvas.addEventListener('pointerleave', () => this.leave());
    canvas.addEventListener('dblclick', () => this.frameChosen());
    canvas.addEventListener(
      'wheel',
      (event) => {
        const { x } = this.place(event);
        const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? view.height : 1;
        // Beside the lanes, and with Alt, it scrolls.
        if (x < NAMES_WIDTH || event.altKey) view.scrollTo(view.scrollTop + event.deltaY * unit);
        else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
          view.pan((event.deltaX || event.deltaY) * unit);
        else view.zoom(1.0018 ** (event.deltaY * unit), x - NAMES_WIDTH);
        event.preventDefault();
        this.leave();
      },
      { passive: false },
    );
    scroller.addEventListener('scroll', () => {
      if (scroller.scrollTop === view.scrollTop) return;
      view.scrollTo(scroller.scrollTop);
      this.changed();
    });
  }

  /** Nothing is pointed at. */
  private leave(): void {
    this.tooltip.hide();
    this.scene.hoverItem = -1;
    this.scene.hoverLane = -1;
    this.changed();
  }

  private place(event: MouseEvent): { x: number; y: number } {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private hover(x: number, y: number, event: MouseEvent): void {
    const { scene } = this;
    const found = pick(this.trace, this.lanes, this.view, x - NAMES_WIDTH, y - TOP);
    const item = found === null || x < NAMES_WIDTH ? -1 : found.item;
    if (item < 0) this.tooltip.hide();
    else this.tooltip.show(this.trace, item, found!.count, event.clientX, event.clientY);
    this.canvas.classList.toggle('pointed', item >= 0 || (found !== null && x < NAMES_WIDTH));
    if (scene.hoverItem === item && scene.hoverLane === (found?.lane ?? -1)) return;
    scene.hoverItem = item;
    scene.hoverLane = found?.lane ?? -1;
    this.changed();
  }

  private click({ x, y }: { x: number; y: number }): void {
    const found = pick(this.trace, this.lanes, this.view, x - NAMES_WIDTH, y - TOP);
    if (found === null) return;
    const { lane, item } = this.scene;
    if (lane >= 0) this.history.push({ lane, item });
    this.choose({ lane: found.lane, item: x < NAMES_WIDTH ? -1 : found.item });
  }

  private toOverview(x: number): void {
    const { view } = this;
    const length = view.to - view.from;
    const at = ((x - NAMES_WIDTH) / view.width) * this.trace.about.end;
    view.show(at - length / 2, at + length / 2);
    this.changed();
  }

  private frameChosen(): void {
    const { item, lane } = this.scene;
    const { trace, view } = this;
    if (item >= 0) view.frame(trace.begin[item]!, trace.end[item]!);
    else if (lane >= 0) view.frame(trace.lanes[lane]!.begin, trace.lanes[lane]!.end);
    this.changed();
  }

  // The keyboard

  private onKeys(): void {
    const { view } = this;
    const help = element<HTMLDialogElement>('help');
    const search = element<HTMLInputElement>('search');
    const keys: Record<string, () => void> = {
      ArrowLeft: () => view.pan(-view.width * PAN_PART),
      ArrowRight: () => view.pan(view.width * PAN_PART),
      ArrowUp: () => view.scrollTo(view.scrollTop - ROW_HEIGHT),
      ArrowDown: () => view.scrollTo(view.scrollTop + ROW_HEIGHT),
      PageUp: () => view.scrollTo(view.scrollTop - view.height + ROW_HEIGHT),
      PageDown: () => view.scrollTo(view.scrollTop + view.height - ROW_HEIGHT),
      Home: () => view.fit(),
      End: () => view.pan(Number.MAX_SAFE_INTEGER),
      '+': () => view.zoom(1 / ZOOM_STEP),
      '=': () => view.zoom(1 / ZOOM_STEP),
      '-': () => view.zoom(ZOOM_STEP),
      0: () => view.fit(),
      f: () => this.frameChosen(),
      '.': () => this.neighbour(1),
      ',': () => this.neighbour(-1),
      l: () => this.follow(),
      b: () => this.back(),
      t: () => this.toggleTheme(),
      n: () => this.nextMatch(1),
      N: () => this.nextMatch(-1),
      '/': () => search.focus(),
      '?': () => help.showModal(),
      Escape: () => this.choose({ lane: -1, item: -1 }),
    };
    document.addEventListener('keydown', (event) => {
      const at = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || help.open || at === search) return;
      // In the table, arrows scroll it, as everywhere.
      if (at.closest('aside') !== null && /^(Arrow|Page|Home|End|Enter| )/.test(event.key)) return;
      const act = keys[event.key];
      if (act === undefined) return;
      event.preventDefault();
      act();
      this.changed();
    });
    search.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') {
        this.find();
        this.nextMatch(event.shiftKey ? -1 : 1);
      } else if (event.key === 'Escape') {
        search.value = '';
        this.find();
        this.canvas.focus();
      } else return;
      event.preventDefault();
    });
    let pause = 0;
    search.addEventListener('input', () => {
      clearTimeout(pause);
      pause = setTimeout(() => this.find(), SEARCH_PAUSE_MS);
    });
  }

  /** The next span of the lane, or the one before. */
  private neighbour(direction: 1 | -1): void {
    const { trace, scene } = this;
    if (scene.lane < 0) return;
    const to = this.table.beside(scene.item, direction);
    if (to >= 0) this.go({ lane: trace.lane[to]!, item: to });
  }

  /** To the other party. */
  private follow(): void {
    document.querySelector<HTMLButtonElement>('#details dd:last-of-type button.link')?.click();
  }

  // Search

  private find(): void {
    const { search, scene } = this;
    search.find(element<HTMLInputElement>('search').value);
    // When nothing matches, nothing steps back.
    scene.matches = search.itemCount > 0 ? search.texts : null;
    scene.laneMatches = search.lanes;
    this.tellMatches();
    this.changed();
  }

  private tellMatches(): void {
    const { search } = this;
    const none = search.laneCount + search.itemCount === 0;
    element('matches').textContent =
      search.texts === null
        ? ''
        : none
          ? 'nothing found'
          : `${plural(search.laneCount, 'lane')}, ${plural(search.itemCount, 'span')}`;
    for (const id of ['previous', 'next']) element<HTMLButtonElement>(id).disabled = none;
  }

  private nextMatch(direction: 1 | -1): void {
    const { scene, search } = this;
    const to = search.step({ lane: scene.lane, item: scene.item }, direction);
    if (to !== null) this.go(to, false);
  }

  // The toolbar

  private onToolbar(): void {
    const on = (id: string, act: () => void): void =>
      element(id).addEventListener('click', () => {
        act();
        this.changed();
      });
    on('zoom-in', () => this.view.zoom(1 / ZOOM_STEP));
    on('zoom-out', () => this.view.zoom(ZOOM_STEP));
    on('fit', () => this.view.fit());
    on('previous', () => this.nextMatch(-1));
    on('next', () => this.nextMatch(1));
    on('all', () => this.choose({ lane: -1, item: -1 }));
    on('back', () => this.back());
    on('show-help', () => element<HTMLDialogElement>('help').showModal());
    on('theme', () => this.toggleTheme());
    element('alive').addEventListener('change', () => this.filterLanes());
  }

  /** Only the lanes that live in the time in view, or all again. */
  private filterLanes(): void {
    const { view, lanes } = this;
    const { from, to } = view;
    const onlyAlive = element<HTMLInputElement>('alive').checked;
    lanes.show((lane) => !onlyAlive || (lane.begin <= to && lane.end >= from));
    element('shown').textContent = onlyAlive ? ` (${formatCount(lanes.rows.length)})` : '';
    this.resize();
  }

  private showAllLanes(): void {
    element<HTMLInputElement>('alive').checked = false;
    this.filterLanes();
  }

  private onTheme(): void {
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.themed());
    this.themed();
  }

  private themed(): void {
    this.painter.readColors();
    this.changed();
  }

  private toggleTheme(): void {
    const { dataset } = document.documentElement;
    const dark =
      dataset.theme === undefined ? matchMedia('(prefers-color-scheme: dark)').matches : dataset.theme === 'dark';
    dataset.theme = dark ? 'light' : 'dark';
    this.themed();
  }
}

function paragraph(text: string): HTMLElement {
  const made = document.createElement('p');
  made.textContent = text;
  return made;
}

async function start(): Promise<void> {
  const progress = element<HTMLProgressElement>('progress');
  try {
    const trace = await loadTrace((part) => {
      progress.value = part;
    });
    new Page(trace);
    document.body.classList.add('loaded');
  } catch (error) {
    element('loading').textContent = `This browser could not show the trace: ${(error as Error).message}`;
    throw error;
  }
}

void start();
