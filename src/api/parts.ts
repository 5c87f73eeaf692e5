/**
 * What an API stands on, and what its pieces hand each other: the parts that a server gives, the settings, and the context in
 * which a row is called. Types only.
 */
import type { Context, Hono } from "hono";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import type { Input, Output, Scope } from "../contract/route.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import type { apiRoutes } from "../contract/table.ts";
import type { Seller } from "../report/invoice/head.ts";
import type { VmmRun } from "./billing.ts";
import type { KnownKey, Store } from "./store.ts";
import type { Waiting } from "./streams/budget.ts";

/** What a server may decide; `settings.ts` has the defaults. */
export interface ApiSettings {
  /** Told by `/version` and the OpenAPI document. */
  readonly version: string;
  /** Name of this host in sandboxes' `node`. */
  readonly node: string;
  /** Where clients reach it, without a slash at its end; null: as each request was addressed. */
  readonly publicUrl: string | null;
  /** `{port}-{id}.<suffix>` names a port of a sandbox; null: there are no such names. */
  readonly previewSuffix: string | null;
  /** Pages of these origins may call it from a browser; `*` stands for all. Empty: none. */
  readonly corsOrigins: readonly string[];
  /** Seconds that a sandbox lives whose maker does not say; null: without end. Not of persistent ones. */
  readonly defaultTtlSeconds: number | null;
  /** After so many idle seconds a persistent sandbox hibernates, when its maker does not say. */
  readonly persistentIdleSeconds: number;
  /** Of a body that is JSON; files are not bounded here. */
  readonly bodyBytes: number;
  /** Requests a second of one account, when its quota does not say; null: unlimited. */
  readonly requestsPerSecond: number | null;
  /** A create that waits for a bake is answered `template_baking` after so long. */
  readonly bakeWaitMs: number;
  /** Any create is answered within this. */
  readonly createWaitMs: number;
  /** Commands at one time over one `exec/ws`. */
  readonly socketCommands: number;
  /** A terminal whose connection dropped is kept for so long. */
  readonly terminalKeepMs: number;
  /** Between two comments that keep an idle event stream open. */
  readonly pingMs: number;
  /** What is under way when the server is told to end has this long. */
  readonly drainMs: number;
  /** Accounts may have webhooks. */
  readonly webhooks: boolean;
  /** Webhooks may go to private and loopback addresses. */
  readonly webhooksToPrivate: boolean;
  /** `/metrics` needs no key. */
  readonly openMetrics: boolean;
  /** Who sends invoices. */
  readonly seller: Seller;
}

/** Whether requests can be served, and what it waits for when not. */
export interface Health {
  readonly ready: boolean;
  /** The bake under way at a first start. */
  readonly baking?: {
    readonly template: string;
    readonly step: number;
    readonly steps: number;
    readonly says: string;
  };
  /** Why it is not ready, or what is degraded; for people. */
  readonly reasons: readonly string[];
}

/** How the bookkeeping of a server goes, for `/metrics`. */
export interface BillingFigures {
  /** Since the books were last settled by this server. */
  lagSeconds(): number;
  /** That took so long. */
  settleSeconds(): number;
  /** Sink → events that it has not taken yet. */
  outboxWaiting(): ReadonlyMap<string, number>;
  /** Since the server began. */
  sinkEvents(): readonly { readonly kind: string; readonly outcome: string; readonly count: number }[];
  /** For want of credit. */
  hibernations(): Readonly<Record<"done" | "failed", number>>;
}

export interface AppParts {
  /** The engine as one account sees it. */
  hostFor(account: string): SandboxHost;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** Of all sandboxes of this server, as they are made. */
  readonly moves: { subscribe(listener: (move: Move) => void): () => void };
  readonly settings: ApiSettings;
  health(): Health;
  /** What waits in the WebSockets of each account; left out: nobody else has any. */
  readonly waiting?: Waiting;
  /** The size of a template's sandboxes when a create does not say; null: there is no such template. */
  templateSize(name: string): { readonly cpu: number; readonly memoryMib: number } | null;
  /** The account of a sandbox that has not ended; null: there is none. Left out: only of those that this server has moved. */
  ownerOf?(sandbox: string): Promise<string | null>;
  /** Left out: it keeps no books. */
  readonly figures?: BillingFigures;
  /** When VMMs of this host ran, by its kernel's accounting: what the books are compared with. Left out: nothing is known. */
  vmmRuns?(): Promise<readonly VmmRun[]>;
  /** US dollars, exact; what a second of it costs while it runs. Left out: nothing is charged. */
  pricePerSecondUsd?(info: SandboxInfo): string | null;
}

/** One request, after it was let in. */
export interface RequestContext {
  readonly account: string;
  readonly key: KnownKey;
  readonly requestId: string;
  /** Ends when the client is gone or the server has no more time. */
  readonly signal: AbortSignal;
  /** As this account sees it, within its quota. */
  readonly host: SandboxHost;
  /** As the client wrote it, without a key. */
  readonly url: URL;
  /** Origin under which the client reaches the server: `publicUrl`, else that of the request. */
  readonly origin: string;
}

/** Rows that are implemented here instead of by a `SandboxHost`. */
type ApiRows = typeof apiRoutes;
export type RowCalls<Names extends keyof ApiRows> = {
  readonly [N in Names]: (context: RequestContext, input: Input<ApiRows[N]>) => Output<ApiRows[N]>;
};

/** One end of a WebSocket: what `server.upgrade` gets as `data`. The one handler of the server passes all on to it. */
export interface SocketEnd {
  open(socket: ApiSocket): void;
  message(socket: ApiSocket, message: string | Uint8Array): void;
  /** The send buffer is empty again. */
  drain(socket: ApiSocket): void;
  close(socket: ApiSocket, code: number, reason: string): void;
}
export type ApiSocket = Bun.ServerWebSocket<SocketEnd>;
export type ApiServer = Bun.Server<SocketEnd>;

/** A request that is being answered. What is held is waited for when the server ends, and then told to end. */
export interface UnderWay {
  readonly signal: AbortSignal;
  abort(why: unknown): void;
  /** It goes on after its handler, as a `stream` or a `socket` for the metrics, until the result is called. */
  hold(kind?: string): () => void;
}

/** What the access log and the audit say of a request; filled in as it becomes known. */
export interface Entry {
  row: string | null;
  account: string | null;
  /** Prefix of the key. */
  key: string | null;
  target: string | null;
  /** It changes something, and so is in the audit. */
  changes: boolean;
}

/** Of each Hono context of this app. */
export interface ApiEnv {
  /** Null: called without a server, so that nothing can be upgraded. */
  readonly Bindings: { readonly server: ApiServer | null };
  readonly Variables: { readonly requestId: string; readonly under: UnderWay; readonly entry: Entry };
}
export type ApiHono = Hono<ApiEnv>;
export type ApiContext = Context<ApiEnv>;

/** The way in for what is no row of the table: key, rate and scope are looked at as for any row. */
export interface Gate {
  /**
   * `name` is what the access log and the audit call it; `queryToken` lets `?access_token=` stand for a header.
   * @throws {WarrenError} `unauthorized`, `forbidden`, `rate_limited`, `shutting_down`, `store_unavailable`
   */
  authorize(
    context: ApiContext,
    ask: { readonly name: string; readonly scope: Scope; readonly queryToken?: boolean },
  ): Promise<RequestContext>;
}

/** What `edge/index.ts` gives: its rows, and a function that mounts what is no row, before the table's rows. */
export type EdgeRow =
  | ("logs" | "events" | "exposedPorts" | "exposePort" | "unexposePort" | "previewToken" | "bootStats")
  | ("webhooks" | "createWebhook" | "removeWebhook");
export interface Edge {
  readonly calls: RowCalls<EdgeRow>;
  /** Before anything else has a path: what has hosts of its own. */
  mountHosts(hono: ApiHono): void;
  mount(hono: ApiHono, gate: Gate): void;
  /** The same host; what its commands print is kept for `logs`, its creates count for `stats/boot` and `/metrics`. */
  watched(host: SandboxHost, account: string): SandboxHost;
  /** The same store; its round trips count for `/metrics`. */
  counted(store: Store): Store;
  /** A request was answered, for `/metrics`; `row` is its operation's name. */
  answered(row: string, status: number, durationMs: number): void;
  /** A stream of this kind is open until the result is called; twice is fine. */
  opened(kind: string): () => void;
  /** Ends what it has in the background. */
  close(): Promise<void>;
}
