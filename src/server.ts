/**
 * The composition root of `warren serve`: configuration and options → a home's engine, a database, an app, and the server over
 * them. Nothing else knows how they fit together.
 */
import { mkdir, readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { createApp } from "./api/app.ts";
import { createEdge } from "./api/edge/index.ts";
import type { ApiSettings } from "./api/parts.ts";
import { DEFAULT_SETTINGS } from "./api/settings.ts";
import type { Store } from "./api/store.ts";
import { admittedWake } from "./api/tenancy/wake.ts";
import type { Clock } from "./base/clock.ts";
import { createLog, type Log } from "./base/log.ts";
import { openWarren, type Warren } from "./compose.ts";
import { type Config, readConfig, readServing, type Serving } from "./config.ts";
import type { SandboxInfo } from "./contract/routes/sandboxes.ts";
import { openStore } from "./db/store.ts";
import { WarrenError } from "./errors.ts";
import { tryLockFile } from "./host/home/lock.ts";
import { hostClock } from "./host/slots/host-clock.ts";
import { LIMITS } from "./limits.ts";
import { listenOf, refusePublic } from "./server/listen.ts";
import { type RunningServer, type ServerGround, type ServerNews, startServer } from "./server/start.ts";
import { hostFacts } from "./server/time/host-facts.ts";
import { type Journal, openJournal } from "./server/time/journal.ts";

export type { RunningServer, ServerNews } from "./server/start.ts";

export interface ServeOptions {
  /** Override what the environment says. */
  readonly config?: Partial<Config>;
  readonly serving?: Partial<Serving>;
  /** Lets it be reached from other machines without TLS. */
  readonly insecureHttp?: boolean;
  /** Lets several accounts share a host without KVM. */
  readonly allowEmulation?: boolean;
  /** Prepared VMM processes, and restored clones that wait, of each template in use. */
  readonly prepared?: number;
  readonly ready?: number;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly onNews?: (news: ServerNews) => void;
}

/**
 * Starts a server over `WARREN_HOME`; returns when it listens, which is before its templates are baked.
 * @throws {WarrenError} `invalid_request` – the environment, or an address that others reach without TLS; `wrong_state` –
 *   another server has the embedded database; `permission_denied`, `host_unsupported`, `store_unavailable`
 */
export async function serve(options: ServeOptions = {}): Promise<RunningServer> {
  const config = { ...readConfig(), ...options.config };
  const serving = { ...readServing(), ...options.serving };
  const listen = listenOf(serving.listen);
  const tls = await tlsOf(serving);
  refusePublic(listen, tls !== null, options.insecureHttp ?? false);
  const clock = options.clock ?? hostClock;
  const log = options.log ?? createLog(config.log);
  const settings = settingsOf(serving);
  await using undo = new AsyncDisposableStack();
  const { prepared = LIMITS.preparedPerTemplate, ready = 0 } = options;
  let books: Store | null = null; // opened after the home, before any request
  const admitWake = async (account: string, info: SandboxInfo) => {
    if (books !== null) await admittedWake(books, clock, account, info);
  };
  const pool = { prepared, ready, detachedPool: true };
  const warren = undo.use(await openWarren({ config, clock, log, ...pool, admitWake }));
  const dir = join(config.home, "server");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const lock = undo.use(alone(dir));
  const store = await openStore({ url: serving.databaseUrl, dir, clock, log, node: settings.node });
  undo.use(store);
  books = store;
  undo.move(); // the server closes both, also when it cannot start
  return await startServer({
    ...{
      ground: groundOf(warren, lock, openJournal(join(dir, "moves.ndjson"), log)),
      store,
      settings,
      listen,
      tls,
      clock,
      log,
    },
    createApp: (parts) => createApp(parts, createEdge),
    adminKey: serving.adminKey,
    allowEmulation: options.allowEmulation ?? false,
    eventsKeepDays: serving.eventsKeepDays,
    otlp: serving.otlp,
    onNews: options.onNews ?? (() => undefined),
  });
}

/** Two servers over one home would both take over what the other makes. @throws {WarrenError} `wrong_state` */
function alone(dir: string): Disposable {
  const lock = tryLockFile(join(dir, "serving"));
  if (lock !== null) return lock;
  throw new WarrenError("wrong_state", `another server serves ${dirname(dir)}: stop that one, or choose another home`);
}

function settingsOf(serving: Serving): ApiSettings {
  const { publicUrl, previewSuffix, corsOrigins, defaultTtlSeconds, requestsPerSecond, openMetrics } = serving;
  const { seller, webhooks } = serving;
  return {
    ...DEFAULT_SETTINGS,
    version: packageJson.version,
    node: serving.node ?? hostname(),
    ...{ publicUrl, previewSuffix, corsOrigins, defaultTtlSeconds, requestsPerSecond, openMetrics, seller },
    drainMs: LIMITS.drainRequestsMs,
    webhooks: webhooks !== "off",
    webhooksToPrivate: webhooks === "private",
  };
}

async function tlsOf({ tlsCert, tlsKey }: Serving): Promise<{ cert: string; key: string } | null> {
  if (tlsCert === null && tlsKey === null) return null;
  if (tlsCert === null || tlsKey === null) {
    throw new WarrenError("invalid_request", "a TLS certificate and its key go together: only one of them is given");
  }
  try {
    const [cert, key] = await Promise.all([readFile(tlsCert, "utf8"), readFile(tlsKey, "utf8")]);
    return { cert, key };
  } catch (cause) {
    const says = cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `the TLS certificate or its key cannot be read: ${says}`, { cause });
  }
}

function groundOf(warren: Warren, lock: Disposable, journal: Journal): ServerGround {
  const { engine, host, templates, snapshots } = warren;
  const all = snapshots.with(templates);
  let closed: Promise<void> | null = null;
  return {
    as: (account) => engine.as(account),
    moves: engine.moves,
    storage: engine.storage,
    facts: hostFacts(warren),
    journal,
    isEmulated: async () => (await templates.acceleration()).kind !== "kvm",
    templateSize: (name) => (all.has(name) ? all.defaults(name) : null),
    ownerOf: async (id) => {
      const record = await host.registry.get(id);
      return record?.account ?? (await snapshots.findImage(id))?.meta.account ?? null;
    },
    warm: async (template, signal) => {
      await engine.prepare({ template }, { signal });
    },
    close: () => {
      closed ??= (async () => {
        using _ = lock;
        await warren[Symbol.asyncDispose]();
      })();
      return closed;
    },
  };
}
