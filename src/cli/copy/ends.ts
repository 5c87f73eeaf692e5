/** One end of a copy: `SANDBOX:/PATH`, or a path of this host. Pure. `./NAME:/…` is always of this host. */

export interface End {
  /** Null for this host. */
  readonly sandbox: string | null;
  readonly path: string;
}

export function endOf(text: string): End {
  const match = /^([A-Za-z0-9_-]{1,64}):(\/[\s\S]*)$/.exec(text);
  if (match === null) return { sandbox: null, path: text };
  return { sandbox: match[1] ?? "", path: match[2] ?? "/" };
}
