/**
 * A TCP connection to a port of a sandbox over a WebSocket, as `contract/wire/dial.ts` has its frames. A client can read no
 * answer but a socket's, so it is upgraded first, and told then whether the port answers.
 */
import type { Dial } from "../../contract/routes/ports.ts";
import { CONNECTED, DialWindow, dialText, END, took } from "../../contract/wire/dial.ts";
import { WarrenError } from "../../errors.ts";
import type { SocketEnd } from "../parts.ts";
import { Inbox } from "./inbox.ts";
import { Outbox, SocketGone } from "./outbox.ts";
import { failSocket, type PlacedCall, upgraded, whenEnding } from "./upgrade.ts";

/** What the sandbox has asked for the next of, it has taken. */
async function* acknowledged(inbox: Inbox, outbox: Outbox): AsyncGenerator<Uint8Array> {
  for await (const bytes of inbox) {
    yield bytes;
    await outbox.send(took(bytes.length));
  }
}

async function pour(answer: AsyncIterable<Uint8Array>, outbox: Outbox, window: DialWindow): Promise<void> {
  await outbox.send(CONNECTED);
  for await (const bytes of answer) {
    for (let at = 0; at < bytes.length; ) {
      const most = await window.room();
      if (most === 0) throw new SocketGone();
      const part = bytes.subarray(at, at + most);
      window.sent(part.length);
      await outbox.send(part);
      at += part.length;
    }
  }
  await outbox.send(END);
  outbox.close(1000, "");
}

export const dial: PlacedCall = async (context, { host, requestId }, input, place) => {
  const [inbox, outbox, window] = [new Inbox(place.charge()), new Outbox(place.charge()), new DialWindow()];
  const over = new AbortController();
  const run = async () => {
    try {
      const body = acknowledged(inbox, outbox);
      await pour(await host.dial({ ...(input as Dial), body }, { signal: over.signal }), outbox, window);
    } catch (cause) {
      if (cause instanceof SocketGone) return;
      await failSocket(outbox, cause, requestId);
    }
  };
  const stop = (why: Error) => {
    window.over();
    inbox.fail(why);
    over.abort(why);
  };
  const said = (text: string): void => {
    const frame = dialText(text);
    if (frame.kind === "end") inbox.end();
    else if (frame.kind === "took") window.taken(frame.bytes);
    else throw new WarrenError("invalid_request", `a text frame has to be ${END} or ${took(1)}`);
  };
  const end: SocketEnd = {
    open(socket) {
      outbox.opened(socket);
      void run();
    },
    message(_socket, message) {
      try {
        if (typeof message === "string") said(message);
        else inbox.push(message.slice());
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
  return upgraded(context, end, place);
};
