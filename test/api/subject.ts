/** An API over an engine on fakes, a store in memory and a real server on loopback; and requests to it. */

import { ensureAdmin } from "../../src/api/access/admin.ts";
import { mintToken, newAccount, newKey } from "../../src/api/access/tokens.ts";
import { createApp } from "../../src/api/app.ts";
import type { ApiServer, ApiSettings, AppParts, Edge, SocketEnd } from "../../src/api/parts.ts";
import { DEFAULT_SETTINGS } from "../../src/api/settings.ts";
import { createLog } from "../../src/base/log.ts";
import type { Scope } from "../../src/contract/route.ts";
import type { Quota } from "../../src/contract/routes/api/accounts.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { World } from "../harness/fakes.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";

export interface ApiOptions {
  readonly settings?: Partial<ApiSettings>;
  /** Stands between the API and the engine. */
  readonly around?: (host: SandboxHost, account: string) => SandboxHost;
  readonly edge?: (parts: AppParts) => Edge;
  readonly world?: World;
}

/** JSON of which a test knows what it is. */
export type Json = string & number & boolean & { readonly [key: string]: Json } & readonly Json[];

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  /** As a test expects it to be. */
  readonly body: Json;
}

export class Api implements AsyncDisposable {
  readonly world: World;
  readonly store = new MemoryStore();
  readonly engine: Engine;
  readonly parts: AppParts;
  readonly app: ReturnType<typeof createApp>;
  readonly server: ApiServer;
  readonly lines: Record<string, unknown>[] = [];
  /** Of the account `admin`, with every scope. */
  admin = "";

  private constructor({ settings, around, edge, world = new World() }: ApiOptions) {
    this.world = world;
    this.engine = world.engine();
    this.engine.moves.subscribe((move) => {
      this.store.record([move]).catch(() => undefined); // a test may have taken the database away
      const info = this.engine.as(move.account).get({ id: move.sandbox });
      info.then((found) => this.store.describe(move.account, [found])).catch(() => undefined); // gone already
    });
    const hostFor = (account: string) => {
      const host = this.engine.as(account);
      return around === undefined ? host : around(host, account);
    };
    this.parts = {
      hostFor,
      store: this.store,
      clock: world.clock,
      log: createLog("info", (line) => this.lines.push(JSON.parse(line))),
      moves: this.engine.moves,
      settings: { ...DEFAULT_SETTINGS, ...settings },
      health: () => ({ ready: true, reasons: [] }),
      templateSize: (name) => (world.templates.has(name) ? world.templates.defaults(name) : null),
    };
    this.app = createApp(this.parts, edge ?? null);
    this.server = Bun.serve<SocketEnd>({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 0,
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request, server) => this.app.fetch(request, server),
      websocket: this.app.websocket,
    });
  }

  static async start(options: ApiOptions = {}): Promise<Api> {
    const api = new Api(options);
    api.admin = (await ensureAdmin(api.store, undefined, api.world.clock)) ?? "";
    return api;
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  /** A key of an account, which is made when there is none. */
  async key(account = "acme", scopes: readonly Scope[] = ["admin"], quota: Partial<Quota> = {}): Promise<string> {
    const nowMs = this.world.clock.wallMs();
    if ((await this.store.account(account)) === null)
      await this.store.createAccount(newAccount({ id: account, name: account }, quota, nowMs));
    const token = mintToken();
    await this.store.createKey(account, newKey(token, { scopes }, nowMs).key);
    return token;
  }

  /** A request as it is; `key` null sends none. */
  async raw(method: string, path: string, init: RequestInit & { key?: string | null } = {}): Promise<Response> {
    const { key = this.admin, ...rest } = init;
    const headers = new Headers(rest.headers);
    if (key !== null) headers.set("authorization", `Bearer ${key}`);
    return fetch(this.url + path, { ...rest, method, headers });
  }

  /** With a JSON body, answered as JSON. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    init: RequestInit & { key?: string | null } = {},
  ): Promise<Reply> {
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await this.raw(method, path, { ...init, ...sent });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: (text === "" ? null : JSON.parse(text)) as Json,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app.close();
    await this.server.stop(true);
    for (const account of await this.store.accounts())
      for (const { id } of await this.engine.as(account.id).list({})) await this.engine.as(account.id).close({ id });
    await this.engine.close();
  }
}
