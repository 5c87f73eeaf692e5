/** A connection to a port of a sandbox, over a WebSocket: neither side holds more than a window of what the other has not read. */
import type { Body } from "../contract/route.ts";
import { errorOf } from "../contract/status.ts";
import { DIAL_WINDOW_BYTES, DialWindow, dialText, END, took } from "../contract/wire/dial.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { exchange, origin, type Server } from "./exchange.ts";
import { aborted, lost } from "./failure.ts";
import { pulled } from "./pull.ts";
import { type RowRequest, requestOf } from "./request.ts";
import type { Runtime } from "./runtime.ts";

const OPEN = 1;

/** The socket's events as a queue that ends once, with an error or without. */
class Line {
  readonly socket: WebSocket;
  readonly #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #end: { readonly error: unknown } | null = null;
  #wake: () => void = () => undefined;
  /** Resolves when the port has answered. */
  readonly connected: Promise<void>;
  readonly #answer: { resolve(): void; reject(cause: unknown): void };
  /** Of what is sent. */
  readonly window = new DialWindow();

  constructor(socket: WebSocket, where: string) {
    this.socket = socket;
    let answer = { resolve: (): void => undefined, reject: (_: unknown): void => undefined };
    this.connected = new Promise((resolve, reject) => {
      answer = { resolve, reject };
    });
    this.#answer = answer;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) =>
      typeof data === "string" ? this.#text(data) : this.#bytes(new Uint8Array(data));
    socket.onclose = ({ code, reason }) => {
      this.window.over();
      const says = `the connection closed with ${code}${reason === "" ? "" : ` (${reason})`}, to`;
      this.finish(lost(where, says));
    };
  }

  #bytes(bytes: Uint8Array): void {
    if (this.#end !== null || bytes.length === 0) return;
    this.#answer.resolve();
    this.#unread.push(bytes);
    this.#unreadBytes += bytes.length;
    if (this.#unreadBytes <= DIAL_WINDOW_BYTES) this.#wake();
    else this.reset(new WarrenError("connection_failed", "the server sends more than may be under way"));
  }

  #text(text: string): void {
    const said = dialText(text);
    if (said.kind === "connected") this.#answer.resolve();
    if (said.kind === "took") this.window.taken(said.bytes);
    if (said.kind === "end") this.finish(null);
    if (said.kind === "error") this.finish(errorOf(null, said.body));
  }

  /** No more comes: `error` says why, null that all was said. The first reason stays. */
  finish(error: unknown): void {
    if (this.#end !== null) return;
    this.#end = { error };
    if (error === null) this.#answer.resolve();
    else this.#answer.reject(error);
    this.#wake();
  }

  /** Ends both directions at once. */
  reset(why: unknown): void {
    this.#unread.length = 0;
    this.window.over();
    this.finish(why);
    // A close waits for the other side's; where it can be, the connection is cut.
    const { socket } = this as { readonly socket: WebSocket & { terminate?: () => void } };
    if (socket.terminate === undefined) socket.close();
    else socket.terminate();
  }

  /** The next bytes; null at the end. */
  async next(): Promise<Uint8Array | null> {
    for (;;) {
      const bytes = this.#unread.shift();
      if (bytes !== undefined) {
        this.#unreadBytes -= bytes.length;
        if (this.socket.readyState === OPEN) this.socket.send(took(bytes.length));
        return bytes;
      }
      if (this.#end !== null) {
        if (this.#end.error === null) return null;
        throw this.#end.error;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

async function* piecesOf(body: Body): AsyncGenerator<Uint8Array> {
  if (typeof body === "string") yield new TextEncoder().encode(body);
  else if (body instanceof Uint8Array) yield body;
  else yield* body;
}

/** Sends what is said, as fast as it is taken, and then its end. */
async function pump(line: Line, body: Body): Promise<void> {
  const { socket, window } = line;
  try {
    for await (const piece of piecesOf(body)) {
      for (let at = 0; at < piece.length; ) {
        const most = Math.min(await window.room(), LIMITS.clientFrameBytes);
        if (most === 0 || socket.readyState !== OPEN) return;
        const frame = piece.slice(at, at + most);
        window.sent(frame.length);
        socket.send(frame);
        at += frame.length;
      }
    }
    if (socket.readyState === OPEN) socket.send(END);
  } catch (cause) {
    line.reset(cause); // the body broke: half of it must not look like all
  }
}

/** A WebSocket's refusal says nothing, so the sandbox is asked for in the ordinary way: that names what is wrong with the key, or the id. */
async function why(server: Server, request: RowRequest, cause: unknown, signal?: AbortSignal): Promise<unknown> {
  const [, id] = /^\/v1\/sandboxes\/([^/]+)\//.exec(request.target) ?? [];
  if (id === undefined || signal?.aborted === true) return cause;
  try {
    const answer = await exchange(server, requestOf("get", { id: decodeURIComponent(id) }), signal);
    answer.abort(new WarrenError("cancelled", "the answer is of no interest"));
    answer.over();
    return cause;
  } catch (refusal) {
    return refusal;
  }
}

function opened(server: Server, { target }: RowRequest, socket: NonNullable<Runtime["socket"]>): Line {
  const url = new URL(server.url + target);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (server.key === null) return new Line(socket.open(url.href, {}), origin(server));
  if (!socket.takesHeaders) url.searchParams.set("access_token", server.key);
  return new Line(socket.open(url.href, { authorization: `Bearer ${server.key}` }), origin(server));
}

/** @throws {WarrenError} as the row says; `connection_failed`; `unsupported` – this runtime has no WebSocket */
export async function dialed(
  server: Server,
  request: RowRequest,
  signal?: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  if (signal?.aborted === true) throw aborted(signal);
  const { socket } = await server.runtime();
  if (socket === null)
    throw new WarrenError("unsupported", "ports are reached by WebSockets, and this runtime has none: install undici");
  const line = opened(server, request, socket);
  const stop = (): void => line.reset(signal === undefined ? undefined : aborted(signal));
  signal?.addEventListener("abort", stop, { once: true });
  const release = (): void => signal?.removeEventListener("abort", stop);
  const late = lost(origin(server), `no answer within ${server.timeoutMs} ms from`);
  const cancel = server.clock.after(server.timeoutMs, () => line.reset(late), { background: true });
  try {
    await line.connected;
  } catch (cause) {
    release();
    throw isWarrenError(cause, "connection_failed") && cause !== late
      ? await why(server, request, cause, signal)
      : cause;
  } finally {
    cancel();
  }
  const body = request.body !== null && "upload" in request.body ? request.body.upload : "";
  void pump(line, body);
  return pulled<Uint8Array>({
    next: () => line.next(),
    over: (how) => {
      release();
      if (how !== "ended") line.reset(new WarrenError("cancelled", "the connection was left"));
    },
  });
}
