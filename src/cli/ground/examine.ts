/**
 * What `warren doctor` finds: the host's own facts, and beside them what only a guest can tell (acceleration) and what is
 * baked. A row that cannot be looked at says why, and the others are looked at all the same.
 */
import { openWarren, type Warren } from "../../compose.ts";
import type { Config } from "../../config.ts";
import { examineHost, examineWithoutHome } from "../../host/facts.ts";
import { bytes } from "../text/format.ts";
import type { Finding } from "./ground.ts";

const ok = (name: string, says: string): Finding => ({ name, state: "ok", says, remedy: null });

/** The promise that QEMU does not make, in one line. */
const TCG_SAYS = "under TCG, QEMU makes no isolation promise: here the jail around each VMM is the boundary";

async function acceleration({ templates }: Warren): Promise<readonly Finding[]> {
  const facts = await templates.acceleration();
  if (facts.kind === "kvm") return [ok("acceleration", `KVM: ${facts.says}`)];
  const says = `10 to 20 times slower than KVM; ${facts.says}`;
  return [
    { name: "acceleration", state: "degraded", says, remedy: "run it where KVM works: on hardware, or nested" },
    ok("isolation", TCG_SAYS),
  ];
}

async function baked({ sandboxes }: Warren): Promise<readonly Finding[]> {
  return (await sandboxes.templates({})).map(({ name, baked: sizes }) => {
    const shown = sizes.map((size) => `${size.cpu} vCPU and ${size.memoryMb} MiB on ${size.accel}`).join("; ");
    return ok(`template ${name}`, shown === "" ? "not baked yet; the first use does it" : `ready for ${shown}`);
  });
}

function kept({ snapshots }: Warren): readonly Finding[] {
  const { snapshots: count, sizeBytes, hibernated, damaged } = snapshots.survey();
  const says = `${count} kept, ${bytes(sizeBytes)} of their own; ${hibernated} sandboxes hibernate`;
  if (damaged.length === 0) return [ok("snapshots", says)];
  const remedy = "`warren snapshots rm` does not find them: remove their folders below data/snapshots by hand";
  return [{ name: "snapshots", state: "degraded", says: `${says}; damaged: ${damaged.join(", ")}`, remedy }];
}

function disks({ volumes, host }: Warren): readonly Finding[] {
  const { volumes: count, usedBytes, sizeBytes, damaged } = volumes.survey();
  const says = `${count} kept, ${bytes(usedBytes)} used of ${bytes(sizeBytes)}`;
  if (damaged.length > 0) {
    const remedy = "`warren volumes` does not find them: look at their folders below data/volumes by hand";
    return [{ name: "volumes", state: "degraded", says: `${says}; damaged: ${damaged.join(", ")}`, remedy }];
  }
  const freeBytes = host.data.freeBytes();
  if (sizeBytes - usedBytes <= freeBytes) return [ok("volumes", says)];
  const short = `${says}, more than the ${bytes(freeBytes)} that are free: full ones would get I/O errors`;
  return [{ name: "volumes", state: "degraded", says: short, remedy: "free some space, or delete volumes" }];
}

async function guarded(name: string, look: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  try {
    return await look();
  } catch (cause) {
    const says = cause instanceof Error ? cause.message : String(cause);
    return [{ name, state: "missing", says, remedy: "mend the rows above first; --verbose may tell more" }];
  }
}

export async function examine(config: Config): Promise<readonly Finding[]> {
  let warren: Warren;
  try {
    warren = await openWarren({ prepared: 0 });
  } catch (cause) {
    return examineWithoutHome(cause, { qemu: config.qemu });
  }
  await using _ = warren;
  return [
    ok("home", config.home),
    ...(await examineHost(warren.host, { qemu: config.qemu })),
    ...(await guarded("acceleration", () => acceleration(warren))),
    ...(await guarded("templates", () => baked(warren))),
    ...(await guarded("snapshots", async () => kept(warren))),
    ...(await guarded("volumes", async () => disks(warren))),
  ];
}
