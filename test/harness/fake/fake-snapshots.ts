/** Snapshots in memory: the point is held for as long as it is saved, as files would hold what it was. */
import type { SnapshotInfo } from "../../../src/contract/routes/snapshots.ts";
import type {
  HeldPoint,
  SavedSnapshot,
  SnapshotMeta,
  SnapshotStore,
  TakenImage,
} from "../../../src/engine/snapshots.ts";
import type { OpenTemplate } from "../../../src/engine/templates.ts";
import { WarrenError } from "../../../src/errors.ts";

interface Kept {
  readonly saved: SavedSnapshot;
  readonly point: OpenTemplate;
  readonly letGo: () => void;
  users: number;
}

export class FakeSnapshots implements SnapshotStore {
  /** Runs before a point is written; may throw, or take its time. */
  saving: (meta: SnapshotMeta) => void | Promise<void> = () => undefined;
  opening: (id: string) => void | Promise<void> = () => undefined;
  /** Runs before a template is made of one; may throw. */
  promoting: () => void = () => undefined;
  readonly promoted = new Map<string, string>();
  readonly #kept = new Map<string, Kept>();
  readonly #images = new Map<string, Kept>();

  save(point: OpenTemplate, meta: SnapshotMeta): Promise<SnapshotInfo> {
    return this.#save(this.#kept, point, meta);
  }

  async find(account: string, idOrName: string): Promise<SavedSnapshot> {
    return this.#of(account, idOrName).saved;
  }

  async list(account: string, sandboxId?: string): Promise<SavedSnapshot[]> {
    return this.#all(account)
      .filter(({ meta }) => (sandboxId ?? meta.sandboxId) === meta.sandboxId)
      .reverse();
  }

  async open(account: string, idOrName: string): Promise<HeldPoint> {
    return this.#held(this.#of(account, idOrName));
  }

  async remove(account: string, id: string): Promise<void> {
    const kept = this.#of(account, id);
    if (kept.users > 0) throw new WarrenError("snapshot_in_use", `snapshot ${id} is in use`);
    this.#kept.delete(kept.saved.meta.id);
    kept.letGo();
  }

  async promote(account: string, id: string, name: string): Promise<void> {
    const { meta } = this.#of(account, id).saved;
    if (this.promoted.has(name)) throw new WarrenError("already_exists", `there is a template ${name} already`);
    this.promoting();
    this.promoted.set(name, meta.id);
  }

  async collect(): Promise<number> {
    return 0;
  }

  saveImage(point: OpenTemplate, meta: SnapshotMeta): Promise<SnapshotInfo> {
    return this.#save(this.#images, point, meta);
  }

  async findImage(sandboxId: string): Promise<SavedSnapshot | null> {
    return this.#images.get(sandboxId)?.saved ?? null;
  }

  async listImages(account: string): Promise<SavedSnapshot[]> {
    return [...this.#images.values()].map(({ saved }) => saved).filter(({ meta }) => meta.account === account);
  }

  async takeImage(sandboxId: string): Promise<TakenImage | null> {
    const kept = this.#images.get(sandboxId);
    if (kept === undefined) return null;
    this.#images.delete(sandboxId);
    return {
      saved: kept.saved,
      open: () => this.#held(kept),
      putBack: async () => void this.#images.set(sandboxId, kept),
      consume: async () => kept.letGo(),
    };
  }

  async removeImage(sandboxId: string): Promise<void> {
    this.#images.get(sandboxId)?.letGo();
    this.#images.delete(sandboxId);
  }

  async #save(into: Map<string, Kept>, point: OpenTemplate, meta: SnapshotMeta): Promise<SnapshotInfo> {
    await this.saving(meta);
    const { cpu, memoryMib: memoryMb } = point.size;
    const { env: _, account: __, workdir: ___, sandbox: ____, egress: _____, secrets: ______, ...rest } = meta;
    const info = { ...rest, metadata: { ...meta.metadata }, cpu, memoryMb, sizeBytes: 3, memoryBytes: 1, diskBytes: 1 };
    into.set(meta.id, { saved: { meta, size: point.size, info }, point, letGo: point.hold(), users: 0 });
    return info;
  }

  async #held(kept: Kept): Promise<HeldPoint> {
    await this.opening(kept.saved.meta.id);
    const hold = (): (() => void) => {
      kept.users += 1;
      const letGo = kept.point.hold();
      let holds = true;
      return () => {
        if (!holds) return;
        holds = false;
        kept.users -= 1;
        letGo();
      };
    };
    return { ...kept.point, digest: kept.saved.meta.id, hold, [Symbol.dispose]: hold() };
  }

  #all(account: string): SavedSnapshot[] {
    return [...this.#kept.values()].map(({ saved }) => saved).filter(({ meta }) => meta.account === account);
  }

  #of(account: string, idOrName: string): Kept {
    const found = this.#all(account).findLast(({ meta }) => meta.id === idOrName || meta.name === idOrName);
    const kept = this.#kept.get(found?.meta.id ?? "");
    if (kept === undefined) throw new WarrenError("not_found", `there is no snapshot ${idOrName}`);
    return kept;
  }
}
