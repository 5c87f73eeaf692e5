/** Where volumes of a sandbox may be mounted, and which drive each gets. Pure. */
import type { AttachedVolume, VolumeMount } from "../../contract/routes/volumes.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";

/** A volume in one of a sandbox's drives. */
export interface Placed extends AttachedVolume {
  readonly drive: number;
}

/** The kernel's own; a volume over them would take the guest apart. */
const KERNELS = ["/proc", "/sys", "/dev"];

/** The volume as it would be attached beside those that are. @throws {WarrenError} `invalid_request`, `volume_in_use` */
export function placeFor(asked: VolumeMount, attached: Iterable<Placed>): Placed {
  const others = [...attached];
  const { name, readOnly = false } = asked;
  if (others.some((other) => other.name === name)) {
    throw new WarrenError("volume_in_use", `this sandbox has the volume ${name} already`, {
      details: { field: "name", name },
    });
  }
  const mount = mountPoint(asked.mount ?? `/volumes/${name}`);
  const there = others.find((other) => other.mount === mount);
  if (there !== undefined) throw badMount(mount, `the volume ${there.name} is mounted there`);
  const used = new Set(others.map(({ drive }) => drive));
  const drive = Array.from({ length: LIMITS.volumesPerSandbox }, (_, i) => i).find((i) => !used.has(i));
  if (drive === undefined) {
    const says = `volumes: a sandbox has at most ${LIMITS.volumesPerSandbox} at once: detach one first`;
    throw new WarrenError("invalid_request", says, {
      details: { field: "volumes", max: LIMITS.volumesPerSandbox },
    });
  }
  return { name, mount, readOnly, drive };
}

/** As the kernel tells it: no slash at the end. @throws {WarrenError} `invalid_request` – not a place for a volume */
export function mountPoint(path: string): string {
  if (!path.startsWith("/")) throw badMount(path, "it is not absolute");
  if (/[\0\n]/.test(path)) throw badMount(path, "it holds a character that no mount point may have");
  const plain = path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1");
  if (plain.split("/").some((part) => part === "." || part === "..")) throw badMount(path, "it holds . or ..");
  if (plain === "/") throw badMount(path, "the guest's own root is there");
  if (KERNELS.some((at) => plain === at || plain.startsWith(`${at}/`))) throw badMount(path, "it is the kernel's");
  return plain;
}

function badMount(path: string, why: string): WarrenError {
  return new WarrenError("invalid_request", `mount: a volume cannot be mounted at ${JSON.stringify(path)}: ${why}`, {
    details: { field: "mount", got: path },
  });
}
