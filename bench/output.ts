// Where results go: tried before anything is measured, and written whole or not at all.

import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { writePicture } from './page/picture.ts';
import { formatPage } from './report.ts';
import type { Report } from './results.ts';

/** What is asked for: a file for the report as JSON, a folder for its page and its picture. */
export interface Places {
  readonly json: string | null;
  readonly out: string | null;
}

const pageIn = (folder: string): string => join(folder, 'report.html');

/** What becomes the file when it is whole. */
const draftOf = (file: string): string => `${file}.${process.pid}.draft`;

/** A terminal, a pipe, /dev/null: written to, and not replaced. */
const isSpecial = (file: string): boolean => existsSync(file) && !statSync(file).isFile();

function tryFile(file: string): void {
  if (file === '') throw new Error('its name is empty');
  if (existsSync(file) && statSync(file).isDirectory()) throw new Error('it is a directory');
  if (isSpecial(file)) {
    accessSync(file, constants.W_OK);
    return;
  }
  writeFileSync(draftOf(file), '');
  rmSync(draftOf(file));
}

function writeWhole(file: string, content: string): void {
  if (isSpecial(file)) {
    writeFileSync(file, content);
    return;
  }
  try {
    writeFileSync(draftOf(file), content);
    renameSync(draftOf(file), file);
  } catch (error) {
    rmSync(draftOf(file), { force: true });
    throw error;
  }
}

/** Null if the results can be written there, or in one line why not: to be found out before five minutes of measuring, not after. */
export function whyUnwritable({ json, out }: Places): string | null {
  let file = json;
  try {
    if (json !== null) tryFile(json);
    if (out === null) return null;
    file = pageIn(out);
    mkdirSync(dirname(file), { recursive: true });
    tryFile(file);
    return null;
  } catch (error) {
    return `cannot write to '${file}': ${(error as Error).message}`;
  }
}

/**
 * Writes the report to these places. False if that failed: the results are in a file elsewhere then, which `note` tells. A run that was
 * interrupted replaces nothing.
 */
export function writeReport(
  report: Report,
  places: Places,
  interrupted: boolean,
  note: (message: string) => void,
): boolean {
  const json = `${JSON.stringify(report, null, 2)}\n`;
  const page = places.out === null ? null : pageIn(places.out);
  const keeps = (file: string | null): boolean => {
    const kept = interrupted && file !== null && existsSync(file) && !isSpecial(file);
    if (kept) note(`left ${file} as it was`);
    return kept;
  };
  try {
    if (places.json !== null && !keeps(places.json)) writeWhole(places.json, json);
    if (page === null || keeps(page)) return true;
    writeWhole(page, formatPage(report));
    note(`wrote ${page}`);
    writePicture(report, places.out!, note);
    return true;
  } catch (error) {
    const refuge = join(tmpdir(), `onewait-bench-${process.pid}.json`);
    writeWhole(refuge, json);
    note(`cannot write the results where they were to go: ${(error as Error).message}; they are in ${refuge}`);
    return false;
  }
}
