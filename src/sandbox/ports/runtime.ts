/** What a runtime can do for ports. Bun's own HTTP and WebSocket clients are led through a socket of this host; others have none for it. */
import { WarrenError } from "../../errors.ts";

/** This host can be listened on, and the runtime's clients can be told where to connect. */
export function hasSockets(): boolean {
  return "Bun" in globalThis;
}

/** @throws {WarrenError} `unsupported` – `what` needs sockets, which are used only on Bun */
export function needSockets(what: string): void {
  if (hasSockets()) return;
  const says = `${what} needs Bun, and this is another runtime: connect and fetch work here too`;
  throw new WarrenError("unsupported", says);
}
