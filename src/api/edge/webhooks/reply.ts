/**
 * One POST as `post` makes it, whose answer is read on: its headers, and where it is no success what it says, up to a bound.
 * For receivers that tell why they refuse something.
 */
import { BOUNDS } from "../bounds.ts";
import { framingOf, unframed } from "../http/body.ts";
import { HeadReader, type ResponseHead } from "../http/head.ts";
import { open, type Post, requestOf } from "./post.ts";

export interface Reply {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ResponseHead["headers"];
  /** The beginning of the body; empty in a success. */
  readonly text: string;
}

export interface Asked extends Post {
  /** The first byte is on its way: from here on the receiver may have done what it was asked, whatever is heard of it. */
  readonly sent: () => void;
}

/** @throws when there is no answer; the signal's reason */
export async function reply(ask: Asked): Promise<Reply> {
  const { signal } = ask;
  signal.throwIfAborted();
  const { socket, ready } = open(ask);
  const stop = (): void => void socket.destroy(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  socket.once(ready, () => {
    ask.sent();
    socket.write(requestOf(ask));
  });
  try {
    return await heard(socket);
  } finally {
    signal.removeEventListener("abort", stop);
    socket.on("error", () => undefined); // nobody asks any more how it ends
    socket.destroy();
  }
}

async function heard(socket: AsyncIterable<Uint8Array>): Promise<Reply> {
  const pieces = socket[Symbol.asyncIterator]();
  const reader = new HeadReader();
  for (;;) {
    const piece = await pieces.next();
    if (piece.done === true) throw new Error("the receiver hung up");
    const taken = reader.take(piece.value);
    if (taken === null) continue;
    const { head, rest } = taken;
    const isSuccess = head.status >= 200 && head.status < 300;
    const text = isSuccess ? "" : await beginning(unframed(framingOf("POST", head), following(rest, pieces)));
    return { status: head.status, headers: head.headers, text };
  }
}

async function* following(first: Uint8Array, pieces: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  for (let piece = await pieces.next(); piece.done !== true; piece = await pieces.next()) yield piece.value;
}

/** What breaks off is as good as what is cut: the status is what counts. */
async function beginning(body: AsyncIterable<Uint8Array>): Promise<string> {
  const kept: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of body) {
      kept.push(piece.slice(0, BOUNDS.refusalBytes - bytes));
      bytes += piece.length;
      if (bytes >= BOUNDS.refusalBytes) break;
    }
  } catch (cause) {
    kept.push(new TextEncoder().encode(` (${String(cause)})`));
  }
  return Buffer.concat(kept).toString("utf8");
}
