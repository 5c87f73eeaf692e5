/** What this process may do here: all or nothing. Asked before anything is made. */
import { WarrenError } from "../errors.ts";

/** @throws {WarrenError} `permission_denied` – not root: half a home that only root can mount would help nobody */
export function refuseWithoutRoot(): void {
  const uid = process.geteuid?.();
  if (uid === 0) return;
  const says = `microVMs need root (namespaces, mounts, control groups), and this is uid ${uid}`;
  throw new WarrenError("permission_denied", `${says}: run it as root, for instance with sudo`, { details: { uid } });
}
