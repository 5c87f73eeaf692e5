/** The API's edge: what leads into sandboxes from outside, and what tells of them: ports, previews, logs, events, webhooks, metrics. */
import type { ApiHono, AppParts, Edge, Gate } from "../parts.ts";
import type { Store } from "../store.ts";
import { Waiting } from "../streams/budget.ts";
import { eventRow, SandboxEvents } from "./events.ts";
import { logRow } from "./logs/row.ts";
import { Tapes } from "./logs/tapes.ts";
import { watchedHost } from "./logs/watched.ts";
import { BootTimes } from "./metrics/boot.ts";
import { countedStore } from "./metrics/counted.ts";
import { Meters } from "./metrics/meters.ts";
import { mountMetrics } from "./metrics/mount.ts";
import { isEnd, RecentMoves } from "./moves.ts";
import { mountPlain } from "./plain.ts";
import { portRows } from "./ports.ts";
import { mountHostPreviews, mountPreviews } from "./previews/mount.ts";
import { previewRow } from "./previews/row.ts";
import { PreviewTokens } from "./previews/token.ts";
import { Exchanges } from "./proxy/exchanges.ts";
import { mountProxy } from "./proxy/mount.ts";
import { serveOf } from "./proxy/serve.ts";
import { type Resolve, systemResolve } from "./webhooks/address.ts";
import { WebhookQueue } from "./webhooks/queue.ts";
import { webhookRows } from "./webhooks/rows.ts";
import { WebhookWorker } from "./webhooks/worker.ts";

/** What tests put in the place of the network. */
export interface EdgeOptions {
  readonly resolve?: Resolve;
  /** Certificates that webhooks trust beside the system's, PEM. */
  readonly ca?: string;
}

export function createEdge(parts: AppParts, options: EdgeOptions = {}): Edge {
  const { clock, log, settings } = parts;
  const recent = new RecentMoves(clock);
  const tapes = new Tapes(clock);
  const gauges = { states: () => recent.states(), tapeBytes: () => tapes.cost, billing: parts.figures };
  const meters = new Meters(gauges, log);
  const counted = (uncounted: Store): Store =>
    countedStore(uncounted, clock, (method, isOk, ms) => meters.roundTrip(method, isOk, ms));
  const store = counted(parts.store);
  const boots = new BootTimes();
  const tokens = new PreviewTokens(store, clock);
  const serve = serveOf(clock, new Exchanges(() => meters.opened("proxy")), parts.waiting ?? new Waiting());
  const { resolve = systemResolve, ...trust } = options;

  const sends = settings.webhooks;
  const tried = (outcome: string): void => meters.tried(outcome);
  const worker = new WebhookWorker({
    ...{ store, clock, log, resolve, allowPrivate: settings.webhooksToPrivate, tried, isOn: sends },
    ...trust,
  });
  const queue = new WebhookQueue({ store, clock, log }, () => worker.wake());
  const stop = parts.moves.subscribe((move) => {
    recent.take(move);
    if (isEnd(move.to)) tapes.finish(move.account, move.sandbox);
    if (sends) queue.take(move);
  });

  const calls: Edge["calls"] = {
    ...logRow(tapes, (account) => parts.hostFor(account)),
    ...eventRow(new SandboxEvents(store, recent)),
    ...portRows(store),
    ...previewRow(tokens, clock),
    ...webhookRows({ store, clock, settings, resolve, made: (account) => queue.made(account) }),
    ...boots.rows,
  };
  const ownerOf = async (sandbox: string): Promise<string | null> =>
    (await parts.ownerOf?.(sandbox)) ?? recent.ownerOf(sandbox);
  const previews = { parts, tokens, ownerOf, serve };
  return {
    calls,
    mountHosts: (hono: ApiHono) => mountHostPreviews(hono, previews),
    mount: (hono: ApiHono, gate: Gate) => {
      mountPreviews(hono, previews);
      mountMetrics(hono, gate, meters, settings);
      mountProxy(hono, gate, serve);
      mountPlain(hono, gate, calls, parts);
    },
    watched: (host, account) =>
      watchedHost(host, account, tapes, ({ createPath, createMs }) => {
        boots.add(createPath, createMs);
        meters.created(createPath, createMs);
      }),
    counted,
    answered: (row, status, durationMs) => meters.answered(row, status, durationMs),
    opened: (kind) => meters.opened(kind),
    close: async () => {
      stop();
      queue.close();
      await worker.close();
    },
  };
}
