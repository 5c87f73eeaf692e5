/** The contract's calls on code contexts, over a sandbox's agent. */
import type { Clock } from "../../base/clock.ts";
import { parse } from "../../contract/parse.ts";
import type { contextRoutes } from "../../contract/routes/contexts.ts";
import { routes, type SandboxHost } from "../../contract/routes.ts";
import { closeContext, createContext, interruptContext, listContexts } from "../../guest/contexts/contexts.ts";
import { runCell } from "../../guest/contexts/run.ts";
import { begin, onReached, type Reach } from "../calls.ts";
import type { Hold } from "../hold.ts";

export function contextCalls(reach: Reach, hold: Hold, clock: Clock): Pick<SandboxHost, keyof typeof contextRoutes> {
  const on = onReached(reach, hold);
  return {
    createContext: async (input, { signal } = {}) => {
      const { id, language: _, ...asked } = parse(routes.createContext.input, input);
      return on(id, ({ agent, env, workdir }) => {
        const cwd = asked.cwd ?? workdir;
        const whole = { ...asked, ...(cwd === null ? {} : { cwd }), env: { ...env, ...asked.env } };
        return createContext(agent, whole, clock, signal);
      });
    },
    contexts: async (input, { signal } = {}) =>
      on(parse(routes.contexts.input, input).id, ({ agent }) => listContexts(agent, clock, signal)),
    runCode: async (input, { signal } = {}) => {
      const { id, ...run } = parse(routes.runCode.input, input);
      return on(id, (reached) => begin(runCell(reached.agent, run, clock, signal), reached, hold));
    },
    interruptContext: async (input, { signal } = {}) => {
      const { id, context } = parse(routes.interruptContext.input, input);
      return on(id, ({ agent }) => interruptContext(agent, context, clock, signal));
    },
    closeContext: async (input, { signal } = {}) => {
      const { id, context } = parse(routes.closeContext.input, input);
      return on(id, ({ agent }) => closeContext(agent, context, signal));
    },
  };
}
