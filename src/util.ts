// Small things that several modules need.

// Not by `import`, which asks for all that Node's `util` exports: from Node 22 on, asking for `util.diff` makes `process.stderr`, and that makes descriptor 2
// non-blocking, for the shell and everybody else who has it, too.
const util: typeof import('node:util') = process.getBuiltinModule('node:util');

export const getSystemErrorName: typeof util.getSystemErrorName = util.getSystemErrorName;
export const inspect: typeof util.inspect = util.inspect;

/** What is given to its `then` is called when V8 has run what it has to run before. */
export const SOON: Promise<void> = Promise.resolve();

/** That of promises, whatever a promise says its own is. */
export const nativeThen: Promise<unknown>['then'] = Promise.prototype.then;

/** Takes `item` out of `list`, if it is there. */
export function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}

/** Says what `console.log` shows of the instances of a class. */
export function shownAs<T>(type: { readonly prototype: T }, text: (instance: T) => string): void {
  Object.defineProperty(type.prototype, inspect.custom, {
    value(this: T): string {
      return text(this);
    },
  });
}
