/** Snapshots, as the contract has them: taken of a sandbox of this process, and looked after in the store. */
import { snapshotId } from "../../base/id.ts";
import { parse } from "../../contract/parse.ts";
import type { Input } from "../../contract/route.ts";
import type { SnapshotInfo, snapshotRoutes } from "../../contract/routes/snapshots.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import type { Hold } from "../hold.ts";
import type { Live } from "../live.ts";
import { writtenOf } from "../network/policies.ts";
import type { SavedSnapshot, SnapshotStore } from "../snapshots.ts";
import type { ForkPoint } from "./checkpoint.ts";

type SnapshotCalls = Pick<SandboxHost, Exclude<keyof typeof snapshotRoutes, "snapshot">>;

export function snapshotCalls(store: SnapshotStore, account: string, hold: Hold): SnapshotCalls {
  return {
    snapshots: (input) =>
      hold.during(async () => {
        const { sandboxId } = parse(routes.snapshots.input, input);
        return (await store.list(account, sandboxId)).map(({ info }) => info);
      }),
    getSnapshot: (input) =>
      hold.during(async () => (await store.find(account, parse(routes.getSnapshot.input, input).id)).info),
    removeSnapshot: (input) =>
      hold.during(async () => store.remove(account, parse(routes.removeSnapshot.input, input).id)),
    promoteSnapshot: (input) =>
      hold.during(async () => {
        const { id, name } = parse(routes.promoteSnapshot.input, input);
        await store.promote(account, id, name);
      }),
  };
}

/** Keeps one instant of a sandbox. `checkpoint` takes it; the sandbox runs again before it is written to disk. */
export async function takeSnapshot(
  store: SnapshotStore,
  live: Live,
  asked: Omit<Input<typeof snapshotRoutes.snapshot>, "id">,
  wallMs: number,
  checkpoint: () => Promise<ForkPoint>,
  signal?: AbortSignal,
): Promise<SnapshotInfo> {
  const point = await checkpoint();
  try {
    const { template, env, workdir, snapshotId: parentSnapshotId } = live.spec;
    const meta = {
      ...{ id: snapshotId(), account: live.account, name: asked.name ?? null, sandboxId: live.id, template },
      ...{ metadata: asked.metadata ?? {}, env, workdir, pauseMs: point.pauseMs, parentSnapshotId },
      ...writtenOf(live.policy),
      createdAt: new Date(wallMs).toISOString(),
      sandbox: null,
    };
    return await store.save(point.origin, meta, signal);
  } finally {
    point.release();
  }
}

/** What a create that names a snapshot is made of. @throws {WarrenError} `invalid_request` – there is none of that name */
export async function namedSnapshot(store: SnapshotStore, account: string, name: string): Promise<SavedSnapshot> {
  try {
    return await store.find(account, name);
  } catch (cause) {
    if (!isWarrenError(cause, "not_found")) throw cause;
    throw new WarrenError("invalid_request", `snapshot: there is no snapshot ${name}`, {
      details: { field: "snapshot", got: name },
      cause,
    });
  }
}
