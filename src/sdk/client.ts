/** The client of a server: the same `Sandbox`, `Volume` and `Snapshot` as embedded, over HTTP. */
import { type Clock, systemClock } from "../base/clock.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { VolumeInfo } from "../contract/routes/volumes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import type { ApiHost } from "../contract/table.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { Snapshot } from "../sandbox/snapshots.ts";
import { Volume, type VolumeOptions } from "../sandbox/volume.ts";
import { type CreateOptions, type ListOptions, Sandbox } from "../sandbox.ts";
import { hostOf } from "./host.ts";
import { type Fetch, type Runtime, runtimeOf } from "./runtime.ts";

export interface ConnectOptions {
  /** Where the server is, for instance `https://warren.example`; default the address of one on this machine. */
  readonly url?: string;
  /** `wrn_…`; without one every call is `unauthorized`, but for what needs none. */
  readonly key?: string;
  /** In place of the runtime's. Connections to ports do not go through it. */
  readonly fetch?: Fetch;
  /**
   * Until an answer is there, milliseconds, and of a stream until it begins; default {@link LIMITS.clientAnswerMs}. An upload's
   * clock starts anew with each piece that is taken.
   */
  readonly timeoutMs?: number;
  /** For tests. */
  readonly clock?: Clock;
}

/** Where `warren serve` listens unless told otherwise. */
export const DEFAULT_URL = "http://127.0.0.1:7480";

/** A server, for one key. Holds no connection that would have to be closed. */
export interface Client {
  /** Every operation of the server, by its name. */
  readonly host: SandboxHost & ApiHost;
  readonly Sandbox: {
    create(options?: CreateOptions): Promise<Sandbox>;
    fromSnapshot(snapshot: Snapshot | string, options?: CreateOptions): Promise<Sandbox>;
    connect(id: string): Promise<Sandbox>;
    list(options?: ListOptions): Promise<SandboxInfo[]>;
  };
  readonly Volume: {
    create(options: VolumeOptions): Promise<Volume>;
    getOrCreate(options: VolumeOptions): Promise<Volume>;
    get(name: string): Promise<Volume>;
    list(): Promise<VolumeInfo[]>;
  };
  readonly Snapshot: {
    get(idOrName: string): Promise<Snapshot>;
    list(options?: { readonly sandboxId?: string }): Promise<SnapshotInfo[]>;
  };
}

function urlOf(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== "" || parsed.search !== "")
    throw new WarrenError("invalid_request", "url: allowed is http or https, a host, and a path", {
      details: { field: "url" },
    });
  return parsed.origin + parsed.pathname.replace(/\/+$/, "");
}

/**
 * Asks for nothing yet: the first call does.
 * @throws {WarrenError} `invalid_request` – `url` is none, or `key` has characters that no header may have
 * @example
 * const client = connect({ url: "https://warren.example", key });
 * await using sb = await client.Sandbox.create();
 * const { stdout } = await sb.exec("uname -r");
 */
export function connect(options: ConnectOptions = {}): Client {
  const { url = DEFAULT_URL, key = null, timeoutMs = LIMITS.clientAnswerMs, clock = systemClock } = options;
  if (key !== null && !/^[\x21-\x7e]{1,512}$/.test(key))
    throw new WarrenError("invalid_request", "key: allowed are visible characters of ASCII", {
      details: { field: "key" },
    });
  let runtime: Promise<Runtime> | null = null;
  const host = hostOf({
    url: urlOf(url),
    key,
    runtime: () => {
      runtime ??= runtimeOf(options.fetch);
      return runtime;
    },
    timeoutMs,
    clock,
  });
  return {
    host,
    Sandbox: {
      create: (of) => Sandbox.create(of, host),
      fromSnapshot: (snapshot, of) => Sandbox.fromSnapshot(snapshot, of, host),
      connect: (id) => Sandbox.connect(id, host),
      list: (of) => Sandbox.list(of, host),
    },
    Volume: {
      create: (of) => Volume.create(of, host),
      getOrCreate: (of) => Volume.getOrCreate(of, host),
      get: (name) => Volume.get(name, host),
      list: () => Volume.list(host),
    },
    Snapshot: {
      get: (idOrName) => Snapshot.get(idOrName, host),
      list: (of) => Snapshot.list(of, host),
    },
  };
}
