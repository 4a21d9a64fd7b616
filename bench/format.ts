// How numbers are written, in the table and on the page alike.

/** 12,345 */
export const whole = (value: number): string => Math.round(value).toLocaleString('en-US');

/** 1 connection, 1,000 connections. */
export const connectionsOf = (count: number): string => `${whole(count)} connection${count === 1 ? '' : 's'}`;

/** 64 bytes, 16 KiB, 1 MiB: in the largest unit of which it is a whole number. */
export function sizeOf(bytes: number): string {
  if (bytes >= 2 ** 20 && bytes % 2 ** 20 === 0) return `${whole(bytes / 2 ** 20)} MiB`;
  if (bytes >= 2 ** 10 && bytes % 2 ** 10 === 0) return `${whole(bytes / 2 ** 10)} KiB`;
  return `${whole(bytes)} byte${bytes === 1 ? '' : 's'}`;
}

/** 98.7 % of a share of 0.987. */
export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** Bytes as MiB: 56.3 of 59,034,829. */
export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

/** A dash for what was not measured. */
export const orDash = (value: number | null | undefined, format: (value: number) => string): string =>
  value === null || value === undefined ? '–' : format(value);
