/** The quota of what an account keeps on disk: volumes at their nominal size, snapshots as they are. */
import type { Mailbox } from "../../base/mailbox.ts";
import type { AccountInfo } from "../../contract/routes/api/accounts.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { WarrenError } from "../../errors.ts";

const MIB = 1024 * 1024;

/** Calls that take room, each refused when there is none left. */
export function storageCalls(
  host: SandboxHost,
  { id, quota }: AccountInfo,
  turns: Mailbox<string>,
): Pick<SandboxHost, "createVolume" | "resizeVolume" | "snapshot"> {
  const limit = quota.storageMb;
  const guarded = <T>(asked: () => Promise<number>, call: () => Promise<T>): Promise<T> =>
    limit === null
      ? call()
      : turns.run(id, async () => {
          await refuseOver(host, limit, await asked());
          return call();
        });
  return {
    createVolume: (input, options) =>
      guarded(
        async () => input.sizeMb,
        () => host.createVolume(input, options),
      ),
    resizeVolume: (input, options) =>
      guarded(
        async () => Math.max(0, input.sizeMb - (await host.getVolume({ name: input.name })).sizeMb),
        () => host.resizeVolume(input, options),
      ),
    // How much a snapshot takes is known when it is there: it is refused when there is no room at all.
    snapshot: (input, options) =>
      guarded(
        async () => 1,
        () => host.snapshot(input, options),
      ),
  };
}

/** @throws {WarrenError} `quota_exceeded` */
async function refuseOver(host: SandboxHost, limit: number, asked: number): Promise<void> {
  if (asked === 0) return;
  const [volumes, snapshots] = await Promise.all([host.volumes({}), host.snapshots({})]);
  const nominal = volumes.reduce((sum, { sizeMb }) => sum + sizeMb, 0);
  const used = nominal + Math.ceil(snapshots.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) / MIB);
  if (used + asked <= limit) return;
  const says = `the account's quota of storage is ${limit} MiB: ${used} are in use, and ${asked} more were asked for`;
  throw new WarrenError("quota_exceeded", says, { details: { quota: "storageMb", limit, used, asked } });
}
