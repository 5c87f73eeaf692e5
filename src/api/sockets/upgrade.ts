/** A request becomes a WebSocket, or is told why not; what a server that ends says to those that are open. */
import { errorBody } from "../../contract/status.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { told } from "../answers/answer.ts";
import type { ApiContext, SocketEnd } from "../parts.ts";
import type { Outbox } from "./outbox.ts";

/** 1000 and "no code": its user is done with it. */
export function isOver(code: number): boolean {
  return code === 1000 || code === 1005;
}

/** @throws {WarrenError} `invalid_request` – before anything is begun for it */
export function refuseOthers({ req }: ApiContext): void {
  if (req.header("upgrade")?.toLowerCase() === "websocket") return;
  throw new WarrenError("invalid_request", "this path is a WebSocket: send Upgrade: websocket");
}

/** @throws {WarrenError} `invalid_request` */
export function upgraded({ req, env, var: { under } }: ApiContext, end: SocketEnd): Response {
  const release = under.hold("socket");
  const held: SocketEnd = {
    open: (socket) => end.open(socket),
    message: (socket, message) => end.message(socket, message),
    drain: (socket) => end.drain(socket),
    close(socket, code, reason) {
      release();
      end.close(socket, code, reason);
    },
  };
  if (env.server?.upgrade(req.raw, { data: held }) === true) return new Response(null);
  release();
  throw new WarrenError("invalid_request", "this request cannot become a WebSocket");
}

/** Calls `job` when the server ends while the socket is open. */
export function whenEnding({ var: { under } }: ApiContext, job: (why: WarrenError) => void): void {
  const { signal } = under;
  const ending = () => {
    if (isWarrenError(signal.reason, "shutting_down")) job(signal.reason);
  };
  signal.addEventListener("abort", ending, { once: true });
}

/** The last words on a socket: what went wrong, and 1011. */
export async function failSocket(outbox: Outbox, cause: unknown, requestId: string): Promise<void> {
  const error = told(cause);
  // A socket that is gone needs no words.
  await outbox.send(JSON.stringify(errorBody(error, requestId))).catch(() => undefined);
  outbox.close(error.code === "shutting_down" ? 1001 : 1011, error.code);
}
