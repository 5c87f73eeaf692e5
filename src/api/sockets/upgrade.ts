/** A request becomes a WebSocket, or is told why not; what a server that ends says to those that are open. */
import { errorBody } from "../../contract/status.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { told } from "../answers/answer.ts";
import type { SocketCall } from "../dispatch.ts";
import type { ApiContext, RequestContext, SocketEnd } from "../parts.ts";
import type { Charge, Waiting } from "../streams/budget.ts";
import type { Outbox } from "./outbox.ts";

/** 1000 and "no code": its user is done with it. */
export function isOver(code: number): boolean {
  return code === 1000 || code === 1005;
}

/** An open socket among all of its account. */
export interface Place {
  /** For one more thing in which bytes wait. */
  charge(): Charge;
  /** Twice is fine. */
  leave(): void;
}
export type PlacedCall = (
  context: ApiContext,
  asked: RequestContext,
  input: unknown,
  place: Place,
) => Promise<Response>;

/** Refuses what is no WebSocket, or one too many of its account, before anything is begun for it. */
export function placed(waiting: Waiting, call: PlacedCall): SocketCall {
  return async (context, asked, input) => {
    if (context.req.header("upgrade")?.toLowerCase() !== "websocket")
      throw new WarrenError("invalid_request", "this path is a WebSocket: send Upgrade: websocket");
    const { account } = asked;
    const place: Place = { charge: () => waiting.charge(account), leave: waiting.open(account) };
    try {
      return await call(context, asked, input, place);
    } catch (cause) {
      place.leave();
      throw cause;
    }
  };
}

/** @throws {WarrenError} `invalid_request` */
export function upgraded({ req, env, var: { under } }: ApiContext, end: SocketEnd, place: Place): Response {
  const release = under.hold("socket");
  const held: SocketEnd = {
    open: (socket) => end.open(socket),
    message: (socket, message) => end.message(socket, message),
    drain: (socket) => end.drain(socket),
    close(socket, code, reason) {
      release();
      place.leave();
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
