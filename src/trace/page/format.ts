// Times, sizes and counts as people read them.

const UNITS: ReadonlyArray<[ns: number, name: string]> = [
  [1e9, 's'],
  [1e6, 'ms'],
  [1e3, 'µs'],
  [1, 'ns'],
];

/** '1.204 ms', '37 ns': a duration with up to four digits. */
export function formatDuration(ns: number): string {
  const [unit, name] = UNITS.find(([size]) => ns >= size) ?? UNITS[3]!;
  const value = ns / unit;
  const digits = unit === 1 || value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
  return `${value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${name}`;
}

/** '1.20 ms', '37 ns': with three digits, for narrow columns. */
export function formatShort(ns: number): string {
  const [unit, name] = UNITS.find(([size]) => ns >= size) ?? UNITS[3]!;
  return `${threeDigits(ns / unit, unit > 1)} ${name}`;
}

function threeDigits(value: number, fraction: boolean): string {
  return value.toFixed(!fraction || value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** '1.204 356 012 s': a moment, to the nanosecond. */
export function formatMoment(ns: number): string {
  const whole = Math.floor(ns / 1e9);
  const rest = String(Math.round(ns - whole * 1e9)).padStart(9, '0');
  return `${whole.toLocaleString('en-US')}.${rest.slice(0, 3)} ${rest.slice(3, 6)} ${rest.slice(6)} s`;
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** '64 B', '1.5 MiB'. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${['', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** '64', '1.5 K': bytes for narrow columns. */
export function formatBytesShort(bytes: number): string {
  return formatBytes(bytes).replace(/ (B|(\w)iB)$/, (_, unit: string, letter: string) =>
    unit === 'B' ? '' : ` ${letter}`,
  );
}

/** '1 span', '2 spans'. */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** The marks of an axis: the distance of two, and how to call one. Far from zero they count from a moment that is shown once. */
export interface Ticks {
  step: number;
  base: number;
  label(ns: number): string;
}

/** Marks that are at least `minPx` apart. */
export function ticksFor(from: number, nsPerPx: number, minPx: number): Ticks {
  const wanted = Math.max(1, nsPerPx * minPx);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= wanted * 0.999) ?? 10);
  const [unit, name] = UNITS.find(([size]) => step >= size / 10) ?? UNITS[3]!;
  const base = unit === 1e9 ? 0 : Math.max(0, Math.floor(from / (1000 * unit)) * 1000 * unit);
  const digits = step < unit ? 1 : 0;
  const sign = base === 0 ? '' : '+';
  return {
    step,
    base,
    label: (ns) =>
      `${sign}${((ns - base) / unit).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${name}`,
  };
}
