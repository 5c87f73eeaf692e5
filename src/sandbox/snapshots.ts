/** The handle to a snapshot: a sandbox's memory and disk of one instant, on disk. */
import type { CallOptions } from "../contract/route.ts";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { defaultHost } from "./default-host.ts";

export interface SnapshotOptions extends CallOptions {
  /** Finds it again; of several with one name the newest is meant. */
  readonly name?: string;
  readonly metadata?: Record<string, string>;
}

/**
 * @example
 * const snapshot = await sb.snapshot({ name: "installed" });
 * await using again = await Sandbox.fromSnapshot("installed");
 */
export class Snapshot {
  readonly id: string;
  readonly #host: SandboxHost;

  /** A handle without asking whether there is such a snapshot; see {@link Snapshot.get}. */
  constructor(host: SandboxHost, id: string) {
    this.#host = host;
    this.id = id;
  }

  /** By id or name. @throws {WarrenError} `not_found` */
  static async get(idOrName: string, host?: SandboxHost): Promise<Snapshot> {
    const on = host ?? (await defaultHost());
    return new Snapshot(on, (await on.getSnapshot({ id: idOrName })).id);
  }

  /** Newest first. */
  static async list(options: { readonly sandboxId?: string } = {}, host?: SandboxHost): Promise<SnapshotInfo[]> {
    return (host ?? (await defaultHost())).snapshots({ ...options });
  }

  info(): Promise<SnapshotInfo> {
    return this.#host.getSnapshot({ id: this.id });
  }

  /** Makes a template of this name, which stays when the snapshot is deleted. @throws {WarrenError} `already_exists` */
  promote(name: string): Promise<void> {
    return this.#host.promoteSnapshot({ id: this.id, name });
  }

  /** @throws {WarrenError} `snapshot_in_use` – a sandbox that was restored from it still runs */
  remove(): Promise<void> {
    return this.#host.removeSnapshot({ id: this.id });
  }
}
