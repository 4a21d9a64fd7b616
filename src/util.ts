// What we use of Node's `util`. Not by `import`, which asks for all that it exports: from Node 22 on, asking for `util.diff` makes `process.stderr`, and
// that makes descriptor 2 non-blocking, for the shell and everybody else who has it, too.

const util: typeof import('node:util') = process.getBuiltinModule('node:util');

export const getSystemErrorName: typeof util.getSystemErrorName = util.getSystemErrorName;
export const inspect: typeof util.inspect = util.inspect;
