// Removing from a list; and what we use of Node's `util`. That not by `import`, which asks for all that it exports: from Node 22 on, asking for `util.diff` makes `process.stderr`, and
// that makes descriptor 2 non-blocking, for the shell and everybody else who has it, too.

const util: typeof import('node:util') = process.getBuiltinModule('node:util');

export const getSystemErrorName: typeof util.getSystemErrorName = util.getSystemErrorName;
export const inspect: typeof util.inspect = util.inspect;

/** Takes `item` out of `list`, if it is there. */
export function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}
