/** A client on a bare connection, and what it sends: one request, whole or with something wrong in it. */
import { connect } from "node:net";
import type { Random } from "../../fuzz/random.ts";

const ANSWER_MS = 5_000;

/** What comes back until the server hangs up, or until an answer's head is there. */
export function answerTo(port: number, bytes: Uint8Array, { end = false } = {}): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
    if (end) socket.end(bytes);
    else socket.write(bytes);
  });
  const done = (): void => {
    socket.destroy();
    resolve(text);
  };
  // What is no whole request gets no answer: the test hangs up then, as clients do.
  socket.setTimeout(end ? ANSWER_MS : 60, done);
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (text.includes("\r\n\r\n") && !end) done();
  });
  socket.on("end", done);
  socket.on("error", done);
  return promise;
}

export function whole(key: string): string {
  const body = '{"template":"base","metadata":{"a":"b"}}';
  const head = ["POST /v1/sandboxes HTTP/1.1", "Host: 127.0.0.1", `Authorization: Bearer ${key}`];
  return [...head, "Content-Type: application/json", `Content-Length: ${body.length}`, "", body].join("\r\n");
}

/** A request with something wrong in it: bytes changed, lost, doubled, or lines that contradict each other. */
export function broken(text: string, random: Random): Uint8Array {
  let bytes = [...Buffer.from(text, "latin1")];
  const at = () => random.below(bytes.length);
  for (let i = 0; i <= random.below(4); i++) {
    const place = at();
    const kind = random.below(6);
    if (kind === 0) bytes[place] = random.below(256);
    else if (kind === 1) bytes = bytes.slice(0, place);
    else if (kind === 2) bytes.splice(place, 1 + random.below(20));
    else if (kind === 3) bytes.splice(place, 0, ...bytes.slice(place, place + random.below(200)));
    else if (kind === 4) bytes.splice(place, 0, 13, 10);
    else bytes.splice(place, 0, ...Buffer.from("\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n"));
    if (bytes.length === 0) bytes = [0];
  }
  return Uint8Array.from(bytes);
}
