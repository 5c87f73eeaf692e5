/** A whole server over an engine on fakes, with each kind of store, for the client to be tried against. */
import { createApp } from "../../src/api/app.ts";
import { createEdge } from "../../src/api/edge/index.ts";
import { DEFAULT_SETTINGS } from "../../src/api/settings.ts";
import type { Store } from "../../src/api/store.ts";
import { startServer } from "../../src/server/start.ts";
import { Folder, pgliteForm, postgresForm } from "../db/world.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { fake } from "../server/parts.ts";

/** As keys look; only ever on loopback. */
const ADMIN_KEY = `wrn_${"s".repeat(43)}`;

export interface Served {
  readonly url: string;
  readonly key: string;
  /** Fails when the server or its engine left anything behind. */
  close(): Promise<void>;
}

export type StoreKind = "memory" | "PGlite" | "PostgreSQL";

interface OpenStore {
  readonly store: Store;
  /** After the store itself. */
  remove(): Promise<void>;
}

async function open(kind: StoreKind): Promise<OpenStore> {
  if (kind === "memory") return { store: new MemoryStore(), remove: async () => undefined };
  if (kind === "PGlite") {
    const folder = new Folder();
    const { store } = await pgliteForm(folder.path);
    return { store, remove: async () => folder[Symbol.dispose]() };
  }
  const server = await PrivatePostgres.open();
  const { store, second } = await postgresForm(await server.database());
  await second[Symbol.asyncDispose]();
  return { store, remove: () => server[Symbol.asyncDispose]() };
}

export async function served(kind: StoreKind): Promise<Served> {
  const { store, remove } = await open(kind);
  const settings = { ...DEFAULT_SETTINGS, defaultTtlSeconds: null };
  const of = fake({ createApp: (parts) => createApp(parts, createEdge), adminKey: ADMIN_KEY, settings });
  const server = await startServer({ ...of.options, store });
  await server.ready;
  const close = async () => {
    const unwritten = await server.close();
    await remove();
    if (unwritten > 0) throw new Error(`${unwritten} rows were not written`);
    of.world.expectNothingLeft();
  };
  return { url: server.url, key: ADMIN_KEY, close };
}
