/**
 * A door on this host for the runtime's own HTTP and WebSocket clients, which connect to sockets only. It lets one connection in:
 * the one whose request begins with a secret, which is taken off; then it is shut. Whoever else finds it is turned away.
 */
import { nonce } from "../../base/id.ts";
import { handlersOf, type SocketEnd } from "./socket-end.ts";

/** The longest method that a request may have. */
const METHOD_BYTES = 32;

export interface Doorway extends Disposable {
  /** What the path of the request has to begin with, before its own `/`; 158 bits that nobody can guess. */
  readonly prefix: string;
  /** Name of an abstract unix socket, or a port of 127.0.0.1. */
  readonly at: { readonly unix: string } | { readonly port: number };
  /** The one that was let in. */
  readonly entered: Promise<SocketEnd>;
}

/** `METHOD /secret` off the front; null when that is not there. */
function admitted(bytes: Uint8Array, prefix: string): Uint8Array | null {
  const head = Buffer.from(bytes.subarray(0, METHOD_BYTES + 1 + prefix.length)).toString("latin1");
  const at = head.indexOf(" ");
  if (at < 1 || !head.startsWith(prefix, at + 1)) return null;
  return Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(at + 1 + prefix.length)]);
}

/** Opens one; disposing shuts it, also before anyone has come. */
export function openDoorway(kind: "unix" | "tcp"): Doorway {
  const prefix = `/${nonce()}${nonce()}`;
  const { promise: entered, resolve: enter } = Promise.withResolvers<SocketEnd>();
  const outside = new Set<SocketEnd>();
  const changed = (end: SocketEnd): void => {
    // What is shorter than this is not a whole request yet.
    if (!outside.has(end) || end.unreadBytes < METHOD_BYTES + 1 + prefix.length) return;
    outside.delete(end);
    end.rewrite((bytes) => {
      const rest = admitted(bytes, prefix);
      if (rest === null) {
        end.terminate();
        return bytes;
      }
      shut();
      enter(end);
      return rest;
    });
  };
  const socket = handlersOf((end) => {
    outside.add(end);
    void end.closed.then(() => outside.delete(end));
  }, changed);
  const listener =
    kind === "unix"
      ? Bun.listen<SocketEnd>({ unix: `\0warren-${nonce()}`, allowHalfOpen: true, socket })
      : Bun.listen<SocketEnd>({ hostname: "127.0.0.1", port: 0, allowHalfOpen: true, socket });
  const shut = (): void => {
    listener.stop();
    for (const end of [...outside]) end.terminate();
  };
  const at = "unix" in listener ? { unix: listener.unix } : { port: listener.port };
  return { prefix, at, entered, [Symbol.dispose]: shut };
}
