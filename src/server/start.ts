/**
 * A running server out of its parts: what stands on what, what runs beside requests, and the order in which it ends. Nothing
 * here knows which engine, store or app it is.
 */
import { ADMIN, ensureAdmin } from "../api/access/admin.ts";
import type { ApiServer, ApiSettings, AppParts, Health, SocketEnd } from "../api/parts.ts";
import type { Store } from "../api/store.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import type { Stored } from "../contract/stored.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { bakeShipped } from "./bakes.ts";
import { Figures } from "./billing/figures.ts";
import { keepBooks } from "./billing/keep.ts";
import { forgetOld, watchStore } from "./chores.ts";
import { Followers } from "./followers.ts";
import { HealthBoard } from "./health.ts";
import { hostsOf } from "./hosts.ts";
import { inheritAll } from "./inherit.ts";
import { type Listen, urlOf } from "./listen.ts";
import { ServerMoves, type Source } from "./moves.ts";
import { IDLE_SECONDS, Patience } from "./patience.ts";
import { pricePerSecondUsd } from "./price.ts";
import { guarded, refuseSharing, TCG_NOTE } from "./tenants.ts";
import type { HostFacts } from "./time/facts.ts";
import { keepBeating } from "./time/heartbeat.ts";
import type { Journal } from "./time/journal.ts";
import { Traces } from "./traces.ts";
import { WriteBehind } from "./write-behind.ts";

/** The engine and the machine under it. */
export interface ServerGround {
  as(account: string): SandboxHost;
  readonly moves: Source<Move>;
  readonly storage: Source<Stored>;
  /** True without KVM; a guest may be booted to find out. */
  isEmulated(): Promise<boolean>;
  /** The size of a template's sandboxes when nobody says; null: there is no such template. */
  templateSize(name: string): { readonly cpu: number; readonly memoryMib: number } | null;
  /** What the home and the kernel know of sandboxes, whichever server made them. */
  readonly facts: HostFacts;
  /** Where rows wait that the database has not taken. Closed by the server. */
  readonly journal: Journal;
  /** The account of a sandbox that has not ended; null when there is none. */
  ownerOf(sandbox: string): Promise<string | null>;
  /** Makes a baked template quick to use. */
  warm(template: string, signal: AbortSignal): Promise<void>;
  /** Ends all but what outlives a server. */
  close(): Promise<void>;
}

export interface App {
  fetch(request: Request, server: ApiServer): Response | Promise<Response | undefined> | undefined;
  readonly websocket: Bun.WebSocketHandler<SocketEnd>;
  /** Refuses what comes, waits for what is under way, ends the rest at its deadline. */
  close(): Promise<void>;
}

/** What a person or a program that started the server is told. */
export type ServerNews =
  | { readonly kind: "listening"; readonly url: string }
  /** Once, at the first start. */
  | { readonly kind: "admin-key"; readonly key: string }
  | { readonly kind: "note"; readonly says: string }
  | {
      readonly kind: "baking";
      readonly template: string;
      readonly step: number;
      readonly steps: number;
      readonly says: string;
    }
  | { readonly kind: "ready" }
  | { readonly kind: "stopping" };

export interface StartOptions {
  readonly ground: ServerGround;
  /** Closed by the server. */
  readonly store: Store;
  readonly createApp: (parts: AppParts) => App;
  readonly settings: ApiSettings;
  readonly listen: Listen;
  /** PEM text. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  readonly adminKey: string | null;
  readonly allowEmulation: boolean;
  readonly eventsKeepDays: number;
  /** URL of an OpenTelemetry collector, if there is one. */
  readonly otlp: string | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly onNews: (news: ServerNews) => void;
}

export interface RunningServer {
  readonly url: string;
  health(): Health;
  /** Resolves once it is ready for the first time, or is closed. */
  readonly ready: Promise<void>;
  /**
   * Takes no more requests, lets those under way end within a deadline, writes down what waits and lets go of everything.
   * Detached sandboxes stay. @returns how many rows could not be written
   */
  close(): Promise<number>;
}

/** Uploads are streamed: the app bounds what it holds. */
const BODY_BYTES_MAX = 2 ** 50;

/**
 * Starts a server; returns when it listens, which is before it is ready.
 * @throws {WarrenError} `host_unsupported` – several accounts, and no KVM; `store_unavailable`; `invalid_request` – the address
 */
export async function startServer(options: StartOptions): Promise<RunningServer> {
  const { ground, clock, log, settings, onNews } = options;
  // Filled in the order in which things come to be, and emptied from its end: with the server, or when it cannot start.
  await using undo = new AsyncDisposableStack();
  const isEmulated = async () => !options.allowEmulation && (await ground.isEmulated());
  undo.use(options.store);
  const store = guarded(options.store, isEmulated);
  const infoOf = (account: string, id: string) => known(ground.as(account), id);
  const { facts } = ground;
  const journal = undo.use(ground.journal);
  const written = (moves: readonly Move[]) => {
    for (const { sandbox, to } of moves) if (to === "deleted" || to === "failed") facts.forgetEnd(sandbox);
  };
  const behind = new WriteBehind({ books: store, infoOf, journal, written, clock, log });
  let left = 0;
  undo.defer(async () => {
    left = await behind.drain(LIMITS.drainRowsMs);
  });
  const moves = undo.use(new ServerMoves({ moves: ground.moves, storage: ground.storage, infoOf, facts, clock, log }));
  moves.subscribe((move) => behind.moved(move));
  moves.subscribeStored((row) => behind.stored(row));
  undo.defer(() => ground.close()); // its last moves are written down too

  await refuseSharing(store, isEmulated);
  const key = await ensureAdmin(store, options.adminKey ?? undefined, clock);
  if (key !== null) onNews({ kind: "admin-key", key }); // before anything else may fail: it is kept nowhere
  await behind.replay();
  await inheritAll({ store, as: (account) => ground.as(account), moves, facts, clock, log });

  const health = new HealthBoard();
  if (store.note !== null) health.note("store", store.note);
  const figures = new Figures(clock);
  const hostFor = hostsOf((account) => ground.as(account), {
    asked: (id) => moves.asked(id),
    looked: (id) => moves.look(id),
    touched: (account, id) => {
      facts.changed(id);
      behind.touched(account, id);
    },
  });
  const app = options.createApp({
    ...{ hostFor, store, clock, log, moves, settings, pricePerSecondUsd, figures },
    health: () => health.get(),
    templateSize: (name) => ground.templateSize(name),
    vmmRuns: () => facts.runs(),
    ownerOf: (sandbox) => ground.ownerOf(sandbox),
  });
  const traces = tracesOf(options);
  if (traces !== null) undo.defer(() => traces.close());
  const closeApp = once(() => app.close());
  undo.defer(closeApp);
  const followers = new Followers();
  const server = listen(options, app, { traces, followers });
  undo.defer(async () => {
    void server.stop(false); // connections that wait for nothing would keep it: they are cut below
    followers.end();
    await closeApp();
    await server.stop(true);
  });
  const url = urlOf({ ...options.listen, port: server.port ?? options.listen.port }, options.tls !== null);
  onNews({ kind: "listening", url });

  const over = new AbortController();
  const ready = getReady(options, health, over.signal);
  const chores = doChores({ store, moves, facts, behind, hostFor, health, figures }, options, over.signal);
  const background = Promise.all([ready, chores]);
  undo.defer(() => background.then(() => undefined));
  const stack = undo.move();
  const close = once(async () => {
    onNews({ kind: "stopping" });
    health.draining();
    over.abort();
    await stack.disposeAsync();
    return left;
  });
  return { url, health: () => health.get(), ready, close };
}

function once<T>(job: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | null = null;
  return () => {
    done ??= job();
    return done;
  };
}

interface Chores {
  readonly store: Store;
  readonly moves: ServerMoves;
  readonly facts: HostFacts;
  readonly behind: WriteBehind;
  hostFor(account: string): SandboxHost;
  readonly health: HealthBoard;
  readonly figures: Figures;
}

/** What runs beside requests, until the signal. None of it fails. */
async function doChores(chores: Chores, { clock, log, settings, eventsKeepDays }: StartOptions, signal: AbortSignal) {
  const { store, moves, facts, behind } = chores;
  await Promise.all([
    keepBeating({ moves, facts, write: (beats) => behind.beaten(beats), clock, log }, signal),
    watchStore({ ...chores, clock, log }, signal),
    forgetOld({ store, clock, log }, eventsKeepDays, signal),
    keepBooks({ ...chores, clock, log, allowPrivate: settings.webhooksToPrivate }, signal),
  ]);
}

async function known(host: SandboxHost, id: string): Promise<SandboxInfo | null> {
  try {
    return await host.get({ id });
  } catch (cause) {
    if (isWarrenError(cause, "not_found")) return null;
    throw cause;
  }
}

function tracesOf({ otlp: endpoint, settings: { node, version }, clock, log }: StartOptions): Traces | null {
  return endpoint === null ? null : new Traces({ endpoint, node, version, clock, log });
}

function listen(
  { listen: at, tls, clock }: StartOptions,
  app: App,
  { traces, followers }: { readonly traces: Traces | null; readonly followers: Followers },
): ApiServer {
  const patience = new Patience(clock);
  const answer = (request: Request, server: ApiServer) => app.fetch(followers.seen(request), server);
  const options: Parameters<typeof Bun.serve<SocketEnd>>[0] = {
    hostname: at.hostname,
    port: at.port,
    reusePort: false, // on where `development` is off: two servers would share a port
    idleTimeout: IDLE_SECONDS,
    maxRequestBodySize: BODY_BYTES_MAX,
    development: false,
    ...(tls === null ? {} : { tls }),
    fetch: (request, server) =>
      patience.during(request, server, () =>
        traces === null ? answer(request, server) : traces.during(request, async () => answer(request, server)),
      ),
    websocket: app.websocket,
  };
  try {
    return Bun.serve<SocketEnd>(options);
  } catch (cause) {
    const says = cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `cannot listen on ${urlOf(at, tls !== null)}: ${says}`, { cause });
  }
}

async function getReady(options: StartOptions, health: HealthBoard, signal: AbortSignal): Promise<void> {
  const { ground, clock, log, onNews } = options;
  const onStep = (template: string, step: number, steps: number, says: string): void =>
    onNews({ kind: "baking", template, step, steps, says });
  const warm = (template: string) => ground.warm(template, signal);
  await bakeShipped({ host: ground.as(ADMIN), warm, health, clock, log, onStep, signal });
  if (signal.aborted) return;
  if (await ground.isEmulated().catch(() => false)) {
    health.note("acceleration", TCG_NOTE);
    onNews({ kind: "note", says: TCG_NOTE });
  }
  onNews({ kind: "ready" });
}
