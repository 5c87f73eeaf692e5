/** Templates, as the contract has them, over the store; a bake's steps become a stream. */
import { parse } from "../contract/parse.ts";
import type { BakeEvent } from "../contract/routes/templates.ts";
import { routes, type SandboxHost } from "../contract/routes.ts";
import type { Hold } from "./hold.ts";
import type { TemplateStore } from "./templates.ts";

type TemplateCalls = Pick<SandboxHost, "templates" | "bake" | "removeTemplate">;

export function templateCalls(
  store: Pick<TemplateStore, "list" | "defaults" | "bake" | "remove">,
  hold: Hold,
): TemplateCalls {
  return {
    templates: () => store.list(),
    bake: async (input, options = {}) => {
      const { name, cpu, memoryMb, force } = parse(routes.bake.input, input);
      const own = store.defaults(name);
      const size = { name, cpu: cpu ?? own.cpu, memoryMib: memoryMb ?? own.memoryMib };
      const bake = (tell: (event: BakeEvent) => void, signal: AbortSignal) =>
        hold.during(() => store.bake(size, force ?? false, tell, signal));
      return steps(bake, options.signal);
    },
    removeTemplate: async (input) => store.remove(parse(routes.removeTemplate.input, input).name),
  };
}

/** What a job tells, as it tells it; leaving the stream ends the job. Bounded: a bake has a few dozen steps. */
async function* steps(
  job: (tell: (event: BakeEvent) => void, signal: AbortSignal) => Promise<void>,
  outer?: AbortSignal,
): AsyncGenerator<BakeEvent> {
  const told: BakeEvent[] = [];
  const left = new AbortController();
  const signal = outer === undefined ? left.signal : AbortSignal.any([outer, left.signal]);
  let wake = Promise.withResolvers<void>();
  let over = false;
  const tell = (event: BakeEvent) => {
    told.push(event);
    wake.resolve();
  };
  const done = job(tell, signal).finally(() => {
    over = true;
    wake.resolve();
  });
  done.catch(() => undefined); // thrown to the reader below, or of no interest to one that left
  try {
    for (;;) {
      const event = told.shift();
      if (event !== undefined) yield event;
      else if (over) break;
      else {
        await wake.promise;
        wake = Promise.withResolvers();
      }
    }
    await done;
  } finally {
    left.abort(new Error("nobody reads this bake"));
  }
}
