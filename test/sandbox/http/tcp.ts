/** Ports of this machine as if they were a sandbox's: `dial` by plain TCP. */
import { connect } from "node:net";
import type { Body } from "../../../src/contract/route.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { WarrenError } from "../../../src/errors.ts";

async function* piecesOf(body: Body): AsyncGenerator<Uint8Array> {
  if (typeof body === "string") yield new TextEncoder().encode(body);
  else if (body instanceof Uint8Array) yield body;
  else yield* body;
}

/** A port that nothing listens on is `wrong_state`; an abort, a reader that leaves and a body that breaks reset the connection. */
export const dialTcp: SandboxHost["dial"] = async ({ port, body }, { signal } = {}) => {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const stop = () => socket.destroy();
  signal?.addEventListener("abort", stop, { once: true });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", () => reject(new WarrenError("wrong_state", `nothing listens on port ${port}`)));
  });
  let failure: unknown = null;
  const send = async () => {
    for await (const piece of piecesOf(body))
      if (!socket.write(piece)) await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
    socket.end();
  };
  send().catch((cause: unknown) => {
    failure = cause;
    socket.destroy();
  });
  return (async function* () {
    try {
      for await (const chunk of socket) yield new Uint8Array(chunk as Buffer);
      signal?.throwIfAborted();
      if (failure !== null) throw failure;
    } finally {
      socket.destroy();
    }
  })();
};
