/** Any request for a program in a sandbox, HTTP or WebSocket, whoever let it in. */
import type { Clock } from "../../../base/clock.ts";
import { WarrenError } from "../../../errors.ts";
import { hostOf } from "../../../sandbox/ports/address.ts";
import type { PortTarget } from "../../../sandbox/ports/splice.ts";
import type { ApiContext } from "../../parts.ts";
import type { Charge, Waiting } from "../../streams/budget.ts";
import { openRelay } from "../websocket/relay.ts";
import type { Exchanges } from "./exchanges.ts";
import { asSeenThrough, forward } from "./forward.ts";
import { type Front, inward } from "./headers.ts";

export interface Passage {
  readonly account: string;
  readonly target: PortTarget;
  readonly origin: string;
  readonly prefix: string;
  readonly isAlone: boolean;
  /** Path and query for the program. */
  readonly path: string;
  readonly prefixOf: (port: number) => string | null;
}

export type Serve = (context: ApiContext, passage: Passage) => Promise<Response>;

const PROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;

/** @throws {WarrenError} `guest_protocol` – nothing listens there, or it did not answer; `rate_limited`; as the contract's `dial` says */
export function serveOf(clock: Clock, exchanges: Exchanges, waiting: Waiting): Serve {
  return async (context, passage) => {
    const request = context.req.raw;
    const { server } = context.env;
    const { account, target, origin, prefix, isAlone } = passage;
    const inner = `http://${hostOf(target.port)}`;
    const front: Front = { origin, prefix, isAlone, inner, peer: server?.requestIP(request)?.address ?? null };
    const { under } = context.var;
    const [end, release] = [exchanges.begin(account, target.id), under.hold()];
    const over = (): void => {
      end();
      release();
    };
    try {
      if (request.headers.get("upgrade")?.toLowerCase() === "websocket") {
        return await upgraded(context, passage, { front, clock, waiting, over });
      }
      // Silence is for the two ends to judge: an event stream may have long ones.
      server?.timeout(request, 0);
      return await forward({ ...passage, front, request, clock, over, signal: under.signal });
    } catch (cause) {
      over();
      throw asSeenThrough(cause);
    }
  };
}

async function upgraded(
  context: ApiContext,
  passage: Passage,
  {
    front,
    clock,
    waiting,
    over,
  }: { readonly front: Front; readonly clock: Clock; readonly waiting: Waiting; readonly over: () => void },
): Promise<Response> {
  const request = context.req.raw;
  const { server } = context.env;
  const offered = (request.headers.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
  const protocols = offered.filter((name) => PROTOCOL.test(name));
  const { account, target, path } = passage;
  const { signal } = context.var.under;
  if (server === null) throw new WarrenError("unsupported", "there is no server here that could open a WebSocket");
  const leave = waiting.open(account);
  const relayOver = (): void => {
    leave();
    over();
  };
  const charge = (): Charge => waiting.charge(account);
  const { end, protocol, abandon } = await openRelay({
    ...{ target, path, protocols, clock, signal, charge },
    headers: inward(request.headers, front),
    over: relayOver,
  });
  const headers = protocol === null ? {} : { "Sec-WebSocket-Protocol": protocol };
  if (!server.upgrade(request, { data: end, headers })) {
    abandon();
    throw new WarrenError("invalid_request", "this is no request for a WebSocket");
  }
  return new Response(null);
}
