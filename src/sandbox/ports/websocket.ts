/** A standard WebSocket to a port of a sandbox, by the runtime's own client. */
import { hostOf } from "./address.ts";
import { needSockets } from "./runtime.ts";
import type { PortTarget } from "./splice.ts";
import { passThrough } from "./through.ts";

export interface WebSocketOptions {
  readonly protocols?: string | readonly string[];
  /** Sent with the request that opens it. */
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Not open yet: its `open`, `error` and `close` events tell. The connection itself stands.
 * @throws {WarrenError} `wrong_state` – nothing listens there; `unsupported` – a runtime other than Bun; as the contract's `dial` says
 */
export async function openWebSocket(
  target: PortTarget,
  path: string,
  options: WebSocketOptions = {},
): Promise<WebSocket> {
  needSockets("websocket");
  const url = new URL(path, `ws://${hostOf(target.port)}/`);
  const { door, end } = await passThrough(target, "tcp", undefined);
  const port = "port" in door.at ? door.at.port : 0;
  const protocols = typeof options.protocols === "string" ? [options.protocols] : [...(options.protocols ?? [])];
  try {
    const client = {
      headers: { ...options.headers, host: hostOf(target.port) },
      ...(protocols.length === 0 ? {} : { protocols }),
    };
    // The runtime takes these in place of the protocols; the standard's types do not know.
    const extended = client as unknown as string[];
    const socket = new WebSocket(`ws://127.0.0.1:${port}${door.prefix}${url.pathname}${url.search}`, extended);
    // The door's address means nothing to whoever looks at it.
    Object.defineProperty(socket, "url", { value: `ws://${hostOf(target.port)}${url.pathname}${url.search}` });
    socket.addEventListener("error", end);
    return socket;
  } catch (cause) {
    end();
    throw cause;
  }
}
