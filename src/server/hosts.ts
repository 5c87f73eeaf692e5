/** An engine as each account sees it, made once an account; calls that change a sandbox without a move of the engine are told. */
import type { SandboxHost } from "../contract/routes.ts";

export interface Changes {
  /** What may end its time, or a part of it, is asked for in this instant. */
  asked(id: string): void;
  /** Something about it may be different now, its state too. */
  looked(id: string): Promise<void>;
  /** What it is has changed, but not its state. */
  touched(account: string, id: string): void;
}

/** Accounts whose views are kept; each is a few dozen functions. */
const KEPT = 1000;

export function hostsOf(as: (account: string) => SandboxHost, changes: Changes): (account: string) => SandboxHost {
  const hosts = new Map<string, SandboxHost>();
  return (account) => {
    const kept = hosts.get(account);
    if (kept !== undefined) return kept;
    const made = told(as(account), account, changes);
    hosts.set(account, made);
    const [oldest] = hosts.keys();
    if (oldest !== undefined && hosts.size > KEPT) hosts.delete(oldest);
    return made;
  };
}

/** Those of sandboxes that an earlier server made have no moves. */
const STANDING = ["close", "pause", "resume", "hibernate", "wake"] as const;

const ENDING: ReadonlySet<string> = new Set(["close", "pause", "hibernate"]);

function told(host: SandboxHost, account: string, { asked, looked, touched }: Changes): SandboxHost {
  const standing = Object.fromEntries(
    STANDING.map((name) => [
      name,
      async (input: { readonly id: string }, options?: Parameters<SandboxHost["close"]>[1]) => {
        if (ENDING.has(name)) asked(input.id);
        try {
          await host[name](input, options);
        } finally {
          void looked(input.id);
        }
      },
    ]),
  ) as Pick<SandboxHost, (typeof STANDING)[number]>;
  return {
    ...host,
    ...standing,
    setLifecycle: async (input, options) => {
      const info = await host.setLifecycle(input, options);
      touched(account, input.id);
      return info;
    },
  };
}
