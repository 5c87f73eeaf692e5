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
  const handlers = { allowHalfOpen: true, socket };
  const { listener, at } = kind === "unix" ? unixListener(handlers) : tcpListener(handlers);
  const shut = (): void => {
    listener.stop();
    for (const end of [...outside]) end.terminate();
  };
  return { prefix, at, entered, [Symbol.dispose]: shut };
}

interface Handlers {
  readonly allowHalfOpen: boolean;
  readonly socket: Bun.SocketHandler<SocketEnd>;
}

/** Abstract: it has no file that could be left over. */
function unixListener(handlers: Handlers) {
  const unix = `\0warren-door-${nonce()}`;
  return { listener: Bun.listen<SocketEnd>({ unix, ...handlers }), at: { unix } };
}

function tcpListener(handlers: Handlers) {
  const listener = Bun.listen<SocketEnd>({ hostname: "127.0.0.1", port: 0, ...handlers });
  return { listener, at: { port: listener.port } };
}
