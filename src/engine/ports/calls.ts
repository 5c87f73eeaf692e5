/** The contract's calls on TCP ports of a sandbox, over its agent. */
import { parse } from "../../contract/parse.ts";
import type { Dial, portRoutes } from "../../contract/routes/ports.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import { WarrenError } from "../../errors.ts";
import type { GuestAgent } from "../../guest/agent.ts";
import { isRefused } from "../../guest/dial/dial.ts";
import { begin, onReached, type Reach, type Used } from "../calls.ts";
import type { Hold } from "../hold.ts";

/** Ports that a message names; a caller that wants all of them asks for them. */
const NAMED_PORTS = 20;

/** The same refusal, with what does listen. */
async function withPorts(agent: GuestAgent, { id, port }: Dial, refusal: WarrenError): Promise<WarrenError> {
  const listening = [...new Set((await agent.ports()).map((info) => info.port))];
  const named = listening.slice(0, NAMED_PORTS).join(", ");
  const more = listening.length > NAMED_PORTS ? ` and ${listening.length - NAMED_PORTS} more` : "";
  const others = listening.length === 0 ? "no program of it listens on any" : `it listens on ${named}${more}`;
  return new WarrenError(refusal.code, `nothing listens on port ${port} of sandbox ${id}: ${others}`, {
    details: { ...refusal.details, id, listening },
    cause: refusal,
  });
}

/** What the peer sends; the first piece, which only says that the connection stands, has been read. */
async function connected(reached: Used, dial: Dial, stream: AsyncIterable<Uint8Array>, hold: Hold) {
  try {
    const pieces = (await begin(stream, reached, hold))[Symbol.asyncIterator]();
    await pieces.next();
    return { [Symbol.asyncIterator]: () => pieces };
  } catch (cause) {
    throw isRefused(cause) ? await withPorts(reached.agent, dial, cause) : cause;
  }
}

export function portCalls(reach: Reach, hold: Hold): Pick<SandboxHost, keyof typeof portRoutes> {
  const on = onReached(reach, hold);
  return {
    ports: async (input, { signal } = {}) =>
      on(parse(routes.ports.input, input).id, ({ agent }) => agent.ports(signal)),
    dial: async ({ body, ...input }, { signal } = {}) => {
      const dial = parse(routes.dial.input, input);
      return on(dial.id, (reached) => connected(reached, dial, reached.agent.dial(dial, body, signal), hold));
    },
  };
}
