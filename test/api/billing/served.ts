/** An API over a real database, in which a test says what ran when; asked by our own client, without a network. */
import { ensureAdmin } from "../../../src/api/access/admin.ts";
import { createApp } from "../../../src/api/app.ts";
import { createEdge } from "../../../src/api/edge/index.ts";
import { DEFAULT_SETTINGS } from "../../../src/api/settings.ts";
import type { Store } from "../../../src/api/store.ts";
import { createLog } from "../../../src/base/log.ts";
import { type Client, connect } from "../../../src/client.ts";
import type { Scope } from "../../../src/contract/route.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { FakeClock } from "../../harness/clock.ts";

/** A sandbox that runs from one instant to another. */
export interface Ran {
  readonly id: string;
  readonly account: string;
  readonly cpu: number;
  readonly memoryMib: number;
  readonly from: string;
  /** Of the states that follow `running`, in order; the last is the end. */
  readonly until: readonly (readonly ["paused" | "running" | "hibernated" | "deleted", string])[];
  readonly metadata?: Readonly<Record<string, string>>;
}

export class Served implements AsyncDisposable {
  readonly store: Store;
  readonly clock: FakeClock;
  readonly url = "http://books.test";
  admin!: Client;
  readonly #app: ReturnType<typeof createApp>;

  private constructor(store: Store, at: string) {
    this.store = store;
    this.clock = new FakeClock(Date.parse(at) - 1000);
    const parts = {
      ...{ store, clock: this.clock, log: createLog("error"), settings: DEFAULT_SETTINGS },
      hostFor: () => ({}) as SandboxHost, // nothing here is about sandboxes that live
      moves: { subscribe: () => () => undefined },
      health: () => ({ ready: true, reasons: [] }),
      templateSize: () => null,
    };
    this.#app = createApp(parts, createEdge);
  }

  static async open(store: Store, at: string): Promise<Served> {
    const served = new Served(store, at);
    served.admin = served.client((await ensureAdmin(store, undefined, served.clock)) ?? "");
    return served;
  }

  async fetch(path: string, key: string): Promise<Response> {
    return this.#app.fetch(new Request(this.url + path, { headers: { authorization: `Bearer ${key}` } }), null);
  }

  client(key: string): Client {
    const ask = async (url: string | URL | Request, init?: RequestInit) =>
      this.#app.fetch(new Request(url as string, init), null);
    return connect({ url: this.url, key, fetch: ask as typeof fetch });
  }

  /** A key of an account, which is made when there is none. */
  async key(account: string, scopes: Scope[], made = {}): Promise<string> {
    const known = (await this.admin.host.accounts({})).items.some(({ id }) => id === account);
    if (!known) await this.admin.host.createAccount({ id: account, name: account, ...made });
    return (await this.admin.host.createAccountToken({ account, scopes })).token;
  }

  /** The wall clock is set; nothing in here is charged by it. */
  now(at: string): void {
    this.clock.jumpWall(Date.parse(at) - this.clock.wallMs());
  }

  async ran({ id, account, cpu, memoryMib, from, until, metadata = {} }: Ran): Promise<void> {
    const steps = [["creating", from], ["running", from], ...until] as const;
    const moves = steps.map(([to, at], i) => ({
      ...{ sandbox: id, account, template: "base", cpu, memoryMib, sequence: i + 1, event: "moved", reason: null },
      ...{ from: steps[i - 1]?.[0] ?? null, to, monotonicMs: Date.parse(at), wallMs: Date.parse(at) },
    }));
    await this.store.record(moves);
    await this.store.describe(account, [
      {
        ...{ id, template: "base", cpu, memoryMb: memoryMib, state: "deleted", createdAt: from, expiresAt: null },
        ...{
          ownerPid: 1,
          reason: "closed",
          createMs: 1,
          createPath: "cold",
          detached: true,
          metadata: { ...metadata },
        },
        ...{ egress: { mode: "none" }, secretHosts: [], volumes: [], parentId: null, snapshotId: null, idle: null },
        ...{ notes: [] },
      } as never,
    ]);
  }

  /** As a server does it each minute, until there is nothing left to do. */
  async settle(): Promise<{ readonly charged: number; readonly closed: number; readonly issued: number }> {
    const sum = { charged: 0, closed: 0, issued: 0 };
    for (;;) {
      const { charged, closed, issued } = await this.admin.host.settleBooks({});
      sum.charged += charged;
      sum.closed += closed;
      sum.issued += issued;
      if (charged + closed + issued === 0) return sum;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#app.close();
  }
}
