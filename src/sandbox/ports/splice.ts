/** A local connection and one to a port of a sandbox, made one: bytes both ways, each direction's end passed on by itself. */
import type { SandboxHost } from "../../contract/routes.ts";
import type { SocketEnd } from "./socket-end.ts";

/** A port of a sandbox, by way of what knows the sandbox. */
export interface PortTarget {
  readonly host: SandboxHost;
  readonly id: string;
  readonly port: number;
}

/** A connection to the port. @throws {WarrenError} as the contract's `dial` says */
export function dialPort(
  { host, id, port }: PortTarget,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  return host.dial({ id, port, body }, { signal });
}

/**
 * What the port says goes to the local end, as fast as that takes it; `watch` sees it first and may throw. The end of it is
 * passed on; anything else resets the local end. @throws what `stream` or `watch` throws, or `cancelled` – the local end has gone
 */
export async function pourInto(
  end: SocketEnd,
  stream: AsyncIterable<Uint8Array>,
  watch: (piece: Uint8Array) => void = () => undefined,
): Promise<void> {
  try {
    for await (const piece of stream) {
      watch(piece);
      await end.write(piece);
    }
    end.end();
  } catch (cause) {
    end.terminate();
    throw cause;
  }
}
