/** `logs`: what commands of a sandbox printed through this server, and what its kernel says. Guests' bytes stay data: text, as it came. */
import type { ExecEvent } from "../../../contract/routes/exec.ts";
import { LIMITS } from "../../../limits.ts";
import type { RequestContext, RowCalls } from "../../parts.ts";
import { isEnd } from "../moves.ts";
import { Reading } from "./tape.ts";
import type { Tapes } from "./tapes.ts";

interface Line {
  readonly line: string;
}

/** The kernel's own buffer, asked for in the guest. */
async function kernelLines(
  { host, signal }: RequestContext,
  id: string,
  follow: boolean,
): Promise<AsyncIterable<Line>> {
  const argv = follow ? ["dmesg", "--follow"] : ["dmesg"];
  const timeout = follow ? { timeoutSeconds: LIMITS.timeoutSecondsMax } : {};
  return asLines(linesOf(await host.exec({ id, argv, ...timeout }, { signal })));
}

async function* linesOf(events: AsyncIterable<ExecEvent>): AsyncGenerator<string> {
  const reading = new Reading(null);
  const sources = { stdout: { channel: "stdout", isCut: false }, stderr: { channel: "stderr", isCut: false } } as const;
  for await (const event of events) {
    if (event.kind === "stdout" || event.kind === "stderr")
      yield* reading.take(sources[event.kind], event.bytes, false);
  }
  yield* reading.rest();
}

async function* asLines(lines: AsyncIterable<string>): AsyncGenerator<Line> {
  for await (const line of lines) yield { line };
}

export function logRow(tapes: Tapes, raw: (account: string) => RequestContext["host"]): RowCalls<"logs"> {
  return {
    logs: async (context, { id, stream = "exec", follow = false }) => {
      // What the kernel says is no command of the user's, and is not written down as one.
      if (stream === "kernel") return kernelLines({ ...context, host: raw(context.account) }, id, follow);
      const { account, host, signal } = context;
      const { state } = await host.get({ id });
      const tape = isEnd(state) ? tapes.find(account, id) : tapes.open(account, id);
      const wanted = stream === "exec" ? null : stream;
      return asLines(tape?.lines(wanted, { follow: follow && !isEnd(state), signal }) ?? nothing());
    },
  };
}

async function* nothing(): AsyncGenerator<string> {}
