/**
 * A TCP connection to a port of a sandbox over a WebSocket: bytes are binary frames, the end of a direction is the text
 * `{"end":true}`, a failure is its text, and then the socket is closed.
 */
import type { Dial } from "../../contract/routes/ports.ts";
import { WarrenError } from "../../errors.ts";
import type { SocketCall } from "../dispatch.ts";
import type { SocketEnd } from "../parts.ts";
import { Inbox } from "./inbox.ts";
import { Outbox, SocketGone } from "./outbox.ts";
import { failSocket, refuseOthers, upgraded, whenEnding } from "./upgrade.ts";

const END = JSON.stringify({ end: true });

/** @throws {WarrenError} what `dial` throws, while it is still an answer */
export const dial: SocketCall = async (context, { host, requestId }, input) => {
  refuseOthers(context);
  const [inbox, outbox] = [new Inbox(), new Outbox()];
  const over = new AbortController();
  const answer = await host.dial({ ...(input as Dial), body: inbox }, { signal: over.signal });
  const pump = async () => {
    try {
      for await (const bytes of answer) await outbox.send(bytes);
      await outbox.send(END);
      outbox.close(1000, "");
    } catch (cause) {
      if (cause instanceof SocketGone) return;
      await failSocket(outbox, cause, requestId);
    }
  };
  const stop = (why: Error) => {
    inbox.fail(why);
    over.abort(why);
  };
  const end: SocketEnd = {
    open(socket) {
      outbox.opened(socket);
      void pump();
    },
    message(_socket, message) {
      try {
        if (typeof message !== "string") inbox.push(message.slice());
        else if (isEnd(message)) inbox.end();
        else throw new WarrenError("invalid_request", `a text frame has to be ${END}`);
      } catch (cause) {
        void failSocket(outbox, cause, requestId);
        stop(new Error("the client sent what is not understood, or too much"));
      }
    },
    drain: () => outbox.drained(),
    close() {
      outbox.gone();
      stop(new Error("the client closed the connection"));
    },
  };
  whenEnding(context, (why) => void failSocket(outbox, why, requestId));
  try {
    return upgraded(context, end);
  } catch (cause) {
    stop(new Error("no WebSocket"));
    throw cause;
  }
};

function isEnd(text: string): boolean {
  try {
    return (JSON.parse(text) as { end?: unknown } | null)?.end === true;
  } catch {
    return false; // not JSON: refused as anything else is
  }
}
