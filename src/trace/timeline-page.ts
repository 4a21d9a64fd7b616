// The timeline's page without its data: src/trace/page/ put together.
//
// The page's HTML and CSS are read from src/, which is part of the package; its script is compiled from TypeScript and read from dist/. The
// script's modules become one: their imports go, for each finds the others in the same scope. So names at their top level are unique.
// The page may load nothing and run nothing but this script: its policy says so, by the script's hash.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The modules of the page, each after those that it imports. */
const MODULES = ['format', 'data', 'lanes', 'view', 'paint', 'draw', 'pick', 'search', 'details', 'table', 'main'];
/** From dist/src/trace/. */
const SOURCE = new URL('../../../src/trace/page/', import.meta.url);
const COMPILED = new URL('./page/', import.meta.url);

/** The page before and after its data. */
export interface PageParts {
  head: string;
  tail: string;
}

/** The page for a trace that is called `name`. */
export function pageParts(name: string): PageParts {
  const style = readFileSync(new URL('page.css', SOURCE), 'utf8');
  const script = MODULES.map(moduleText).join('\n');
  const policy = `default-src 'none'; style-src '${hashOf(style)}'; script-src '${hashOf(script)}'`;
  const html = readFileSync(new URL('page.html', SOURCE), 'utf8');
  const [head = '', tail = ''] = html.split('<!-- data -->');
  // Functions, for in a text '$' would stand for something else.
  return {
    head: head
      .replaceAll('%name%', () => escapeHtml(name))
      .replace('%policy%', () => policy)
      .replace('/* page.css */', () => style),
    tail: tail.replace(/\s*\/\* script \*\/\s*/, () => script),
  };
}

function moduleText(name: string): string {
  return readFileSync(new URL(`${name}.js`, COMPILED), 'utf8')
    .replace(/^import [^;]*;$/gm, '')
    .replace(/^export (?=const|function|class|async)/gm, '')
    .replace(/^export \{\};$/gm, '')
    .replace(/^\/\/# sourceMappingURL=.*$/gm, '');
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
