/** Standard input that is too large for a request's JSON: the command is started with its stdin open, and it is sent after. */
import type { CallOptions } from "../contract/route.ts";
import type { Exec, ExecEvent } from "../contract/routes/exec.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { LIMITS } from "../limits.ts";
import { feed } from "../sandbox/collect.ts";

/** One piece is one request, which is answered when the command has room for it. */
const PIECE_BYTES = LIMITS.streamWindowBytes;

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** The same `exec`, for a stdin of any size. One in the background is not waited for, so its stdin travels whole. */
export function withLargeStdin(host: Pick<SandboxHost, "exec" | "stdin">): SandboxHost["exec"] {
  return async (input: Exec, options: CallOptions = {}): Promise<AsyncIterable<ExecEvent>> => {
    const { stdin, ...rest } = input;
    if (stdin === undefined || stdin.length <= PIECE_BYTES || input.background === true)
      return host.exec(input, options);
    const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    const { signal } = options;
    const start = (over: AbortSignal) =>
      host.exec(
        { ...rest, stdinOpen: true },
        { ...options, signal: signal === undefined ? over : AbortSignal.any([signal, over]) },
      );
    return feed(start, piecesOf(bytes), (process, body) => host.stdin({ id: input.id, process, body }));
  };
}
