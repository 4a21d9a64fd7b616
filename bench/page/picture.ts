// The main chart as files, for a README: headline.svg, light or dark as its reader's system is, and headline.png where Chromium is there to draw it.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Report } from '../results.ts';
import { isCommand } from '../servers.ts';
import type { Drawing } from '../svg.ts';
import { headlineFigure, standaloneSvg } from './headline.ts';
import { CHART_STYLE } from './style.ts';

const BROWSER = 'chromium';

/** Twice as many pixels as it was drawn with, for screens that have them. */
function screenshot(from: string, to: string, { width, height }: Drawing): void {
  const profile = mkdtempSync(join(tmpdir(), 'onewait-picture-'));
  const args = [
    '--headless',
    '--disable-gpu',
    '--hide-scrollbars',
    '--force-device-scale-factor=2',
    '--default-background-color=00000000',
    `--user-data-dir=${profile}`,
    `--window-size=${width},${height}`,
    `--screenshot=${resolve(to)}`,
    // The sandbox is not to be had for root.
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
    pathToFileURL(from).href,
  ];
  try {
    execFileSync(BROWSER, args, { stdio: 'ignore', timeout: 30_000 });
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

export function writePicture(report: Report, folder: string, note: (message: string) => void): void {
  const headline = headlineFigure(report);
  const [vector, pixels] = [join(folder, 'headline.svg'), join(folder, 'headline.png')];
  // Those of another run would be taken for this one's.
  for (const file of [vector, pixels]) rmSync(file, { force: true });
  if (headline === null) {
    note('no headline.svg: no two servers have figures that can be compared');
    return;
  }
  const drawing = standaloneSvg(headline, report, CHART_STYLE);
  writeFileSync(vector, drawing.content);
  note(`wrote ${vector}`);
  if (!isCommand(BROWSER)) {
    note('no headline.png: it needs chromium (apt-get install chromium)');
    return;
  }
  try {
    screenshot(vector, pixels, drawing);
    note(`wrote ${pixels}`);
  } catch (error) {
    note(`no headline.png: ${(error as Error).message.split('\n')[0]}`);
  }
}
