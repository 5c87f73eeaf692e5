/** Where sandboxes come from for those who name no host. */
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";

type OpenHost = () => Promise<SandboxHost>;
let openDefaultHost: OpenHost | null = null;

/** Says where sandboxes come from when no host is named; the entry point of the package does it. */
export function setDefaultHost(open: OpenHost | null): void {
  openDefaultHost = open;
}

/** The host for those who name none. @throws {WarrenError} `unsupported` – nobody has said where sandboxes come from */
export async function defaultHost(): Promise<SandboxHost> {
  if (openDefaultHost === null) {
    throw new WarrenError("unsupported", "there is no default host here: pass one, or import from the package itself");
  }
  return openDefaultHost();
}
