// How each server is drawn, the same in all charts of a suite: onewait in strong colours, what it is compared with in neutral
// ones, the others in quiet ones. No two have the same colour and shape, so that neither is needed to tell them apart.

export type Role = 'ours' | 'floor' | 'threads' | 'peer';

export interface Look {
  readonly name: string;
  readonly role: Role;
  /** Its classes: the role, and one that sets the colour. */
  readonly kind: string;
  readonly shape: number;
}

export type Cast = ReadonlyMap<string, Look>;

/** At least 3:1 against the page, light and dark; strong ones distinguishable with the common colour blindnesses (after Okabe and Ito). */
export const COLOURS: Readonly<Record<Role, ReadonlyArray<readonly [light: string, dark: string]>>> = {
  ours: [
    ['#c24e00', '#ff8a4a'],
    ['#0069b4', '#55aef0'],
    ['#00805a', '#35c79c'],
    ['#a8448a', '#e59acb'],
    ['#806500', '#e0b83c'],
    ['#5b4bc4', '#a79bff'],
  ],
  floor: [['#1b1f24', '#e6edf3']],
  threads: [['#6b7480', '#98a2ae']],
  peer: [
    ['#6f8ba6', '#7c97b3'],
    ['#95835f', '#a3916c'],
    ['#6e9180', '#789d8b'],
    ['#97819a', '#a58fa8'],
    ['#8f8f8f', '#8f8f8f'],
  ],
};

export function roleOf(server: string): Role {
  if (server.startsWith('onewait') || server === 'exchange-coroutines') return 'ours';
  if (server === 'raw-epoll') return 'floor';
  return server.startsWith('thread-per-connection') || server === 'exchange-threads' ? 'threads' : 'peer';
}

/** Shapes are dealt in order, too, but in steps that meet each colour with another shape each time. */
export function castOf(servers: readonly string[]): Cast {
  const seen = new Map<Role, number>();
  return new Map(
    servers.map((name, shape) => {
      const role = roleOf(name);
      const index = seen.get(role) ?? 0;
      seen.set(role, index + 1);
      return [name, { name, role, kind: `${role} ${role}${index % COLOURS[role].length}`, shape }];
    }),
  );
}
