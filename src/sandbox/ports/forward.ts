/** A port of this host that leads to one of a sandbox, for any program that speaks TCP. */
import { isWarrenError, WarrenError } from "../../errors.ts";
import { needSockets } from "./runtime.ts";
import { handlersOf, type SocketEnd } from "./socket-end.ts";
import { dialPort, type PortTarget, pourInto } from "./splice.ts";

export interface ForwardOptions {
  /** Address of this host to listen on; default `127.0.0.1`. Every user of the host may connect there, and on `0.0.0.0` everyone. */
  readonly hostname?: string;
  /** Default 0: a free one. */
  readonly hostPort?: number;
  /** Hears of connections that could not be made or broke, for instance as nothing listens in the sandbox yet. */
  readonly onError?: (error: unknown) => void;
}

export interface PortForward extends Disposable {
  readonly hostname: string;
  /** Of this host. */
  readonly port: number;
  /** Listens no more, and resets its connections. Twice is fine. */
  close(): void;
}

/** What is wrong with an address, and what to do. */
function refusal(cause: unknown, hostname: string, port: number): WarrenError {
  const code = cause instanceof Error && "code" in cause ? cause.code : null;
  const where = `${hostname}:${port}`;
  const why =
    code === "EADDRINUSE"
      ? `${where} is in use on this host: choose another port, or 0 for a free one`
      : `this host cannot listen on ${where}: choose one of its own addresses, and a port that its user may have`;
  return new WarrenError("invalid_request", why, { details: { hostname, port }, cause });
}

/** @throws {WarrenError} `invalid_request` – the address cannot be listened on; `unsupported` – a runtime other than Bun */
export function forwardPort(target: PortTarget, options: ForwardOptions = {}): PortForward {
  needSockets("forward");
  const { hostname = "127.0.0.1", hostPort = 0, onError = () => undefined } = options;
  const over = new AbortController();
  const ends = new Set<SocketEnd>();
  const serve = async (end: SocketEnd): Promise<void> => {
    ends.add(end);
    const gone = new AbortController();
    void end.closed.then((how) => {
      ends.delete(end);
      if (how === "broken") gone.abort();
    });
    try {
      const signal = AbortSignal.any([over.signal, gone.signal]);
      await pourInto(end, await dialPort(target, end, signal));
    } catch (cause) {
      end.terminate();
      if (!isWarrenError(cause, "cancelled")) onError(cause); // the local program left, or this was closed
    }
  };
  const listener = listen();
  function listen() {
    try {
      const socket = handlersOf((end) => void serve(end));
      return Bun.listen<SocketEnd>({ hostname, port: hostPort, allowHalfOpen: true, socket });
    } catch (cause) {
      throw refusal(cause, hostname, hostPort);
    }
  }
  const close = (): void => {
    over.abort(new WarrenError("cancelled", "the port is forwarded no more"));
    listener.stop(); // without its connections, which it would end as if all had been said
    for (const end of [...ends]) end.terminate();
  };
  return { hostname, port: listener.port, close, [Symbol.dispose]: close };
}
