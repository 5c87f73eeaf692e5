/** A server over fakes: an engine without guests, a store in memory, and an app that answers just enough to be asked. */
import type { ApiSettings, AppParts } from "../../src/api/parts.ts";
import { DEFAULT_SETTINGS } from "../../src/api/settings.ts";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { App, ServerGround, ServerNews, StartOptions } from "../../src/server/start.ts";
import { NO_FACTS } from "../../src/server/time/facts.ts";
import { NO_JOURNAL } from "../../src/server/time/journal.ts";
import { World } from "../harness/fakes.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";

export interface Fake {
  readonly world: World;
  readonly engine: Engine;
  readonly store: MemoryStore;
  readonly news: ServerNews[];
  readonly logged: string[];
  /** What the app was given. */
  parts(): AppParts;
  readonly options: StartOptions;
}

/** A request to `/slow` ends when `finish` is called; how many wait. */
export const slow = { waiting: 0, finish: (): void => undefined };

/** `/healthz` as the real one answers it, `/slow`, and a `close` that waits for what is under way. */
function appOf(parts: AppParts): App {
  const under = new Set<Promise<unknown>>();
  const answer = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    if (pathname === "/slow") {
      slow.waiting += 1;
      await new Promise<void>((resolve) => {
        slow.finish = resolve;
      });
      slow.waiting -= 1;
    }
    if (pathname === "/under") return Response.json(slow.waiting);
    const health = parts.health();
    return Response.json(health, { status: pathname !== "/healthz" || health.ready ? 200 : 503 });
  };
  return {
    fetch: (request) => {
      const answered = answer(request);
      under.add(answered);
      void answered.finally(() => under.delete(answered));
      return answered;
    },
    websocket: { message: () => undefined },
    close: async () => {
      await Promise.all(under);
    },
  };
}

export function fake(
  given: Partial<StartOptions> & {
    readonly world?: World;
    readonly store?: MemoryStore;
    readonly settings?: Partial<ApiSettings>;
    readonly emulated?: boolean;
  } = {},
): Fake {
  const world = given.world ?? new World();
  const engine = world.engine();
  const store = given.store ?? new MemoryStore();
  const news: ServerNews[] = [];
  const logged: string[] = [];
  let parts: AppParts | null = null;
  const ground: ServerGround = {
    as: (account) => engine.as(account),
    moves: engine.moves,
    storage: engine.storage,
    isEmulated: async () => given.emulated ?? false,
    templateSize: (name) => (world.templates.has(name) ? world.templates.defaults(name) : null),
    ownerOf: async (id) => (await world.registry.get(id))?.account ?? null,
    facts: NO_FACTS,
    journal: NO_JOURNAL,
    warm: async () => undefined,
    close: () => world.end(engine),
  };
  const { emulated: _, world: __, settings, ...rest } = given;
  const options: StartOptions = {
    ground,
    store,
    createApp: (all) => {
      parts = all;
      return appOf(all);
    },
    settings: { ...DEFAULT_SETTINGS, ...settings },
    listen: { hostname: "127.0.0.1", port: 0 },
    tls: null,
    adminKey: null,
    allowEmulation: false,
    eventsKeepDays: 30,
    otlp: null,
    clock: systemClock,
    log: createLog("info", (line) => logged.push(line)),
    onNews: (one) => news.push(one),
    ...rest,
  };
  const told = (): AppParts => {
    if (parts === null) throw new Error("the app was not made yet");
    return parts;
  };
  return { world, engine, store, news, logged, parts: told, options };
}
