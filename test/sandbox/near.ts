/** A sandbox whose guest is this machine: the real agent as a process of it, so that its ports are this machine's. */
import { routes, type SandboxHost } from "../../src/contract/routes.ts";
import { WarrenError } from "../../src/errors.ts";
import type { GuestAgent } from "../../src/guest/agent.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { connectAgent } from "../guest/process.ts";

export interface Near extends AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly agent: GuestAgent;
  /** Connections that stand. */
  readonly open: () => number;
}

export async function near(): Promise<Near> {
  const it = await connectAgent();
  let open = 0;
  const refuse = async () => {
    throw new WarrenError("unsupported", "there is only an agent here");
  };
  const none = Object.fromEntries(Object.keys(routes).map((name) => [name, refuse])) as unknown as SandboxHost;
  const host: SandboxHost = {
    ...none,
    ports: () => it.agent.ports(),
    dial: async ({ body, ...target }, { signal } = {}) => {
      const stream = it.agent.dial(target, body, signal);
      await stream.next();
      open += 1;
      let over = () => {
        open -= 1;
        over = () => undefined;
      };
      const next = async () => {
        const result = await stream.next().catch((cause: unknown) => {
          over();
          throw cause;
        });
        if (result.done === true) over();
        return result;
      };
      const leave = async () => {
        over();
        return stream.return(undefined);
      };
      return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
    },
  };
  return {
    sandbox: new Sandbox(host, "sb_near"),
    agent: it.agent,
    open: () => open,
    [Symbol.asyncDispose]: () => it[Symbol.asyncDispose](),
  };
}
