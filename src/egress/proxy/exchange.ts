/** One request carried to its host, and what the host answers carried back: both bodies as they come, framed anew. */
import { BOUNDS } from "./bounds.ts";
import {
  connectionTokens,
  type Framing,
  framingFields,
  isWebSocket,
  passedOn,
  responseFraming,
  WEBSOCKET_FIELDS,
} from "./http/framing.ts";
import { encodeHead, type Field, parseResponseHead, type ResponseHead, valuesOf } from "./http/head.ts";
import { bodyEnd, framed, readBody, readHead } from "./http/reader.ts";
import type { Passage } from "./passage.ts";
import type { Upstream } from "./upstream.ts";
import { splice } from "./wire.ts";

export interface Request {
  readonly method: string;
  /** Origin form, or `*`. */
  readonly path: string;
  /** As it stands in the Host header. */
  readonly host: string;
  /** Without those that frame it; secrets among them. */
  readonly fields: readonly Field[];
  readonly framing: Framing;
  readonly webSocket: boolean;
  /** The guest reads HTTP/1.1 and wants to go on after it. */
  readonly minor: 0 | 1;
  readonly keepAlive: boolean;
}

/** Runs at the head of the host's answer, however long the rest of it takes. */
export type Answered = () => void;

export type Ending =
  /** The next request may come; the upstream connection can carry it too, or not. */
  | { readonly kind: "again"; readonly reusable: boolean }
  /** All was said; the guest's connection is to be closed in peace. */
  | { readonly kind: "close" }
  /** It broke in the middle: the guest must not take it for whole. */
  | { readonly kind: "broken" }
  /** Nothing was answered yet. `unheard`: the host closed without a word. */
  | { readonly kind: "failed"; readonly status: 400 | 502; readonly reason: string; readonly unheard: boolean };

const failed = (reason: string, unheard = false): Ending => ({ kind: "failed", status: 502, reason, unheard });

class Exchange {
  readonly #passage: Passage;
  readonly #upstream: Upstream;
  readonly #request: Request;
  readonly #answered: Answered;
  #body: "sending" | "sent" | "unwanted" | { readonly bad: string } = "sending";

  constructor(passage: Passage, upstream: Upstream, request: Request, answered: Answered) {
    this.#passage = passage;
    this.#answered = answered;
    this.#upstream = upstream;
    this.#request = request;
  }

  async run(): Promise<Ending> {
    const { guest, deadline } = this.#passage;
    deadline.set(BOUNDS.exchangeIdleMs);
    guest.whenEnded(() => {
      if (guest.broken) this.#passage.end();
      else deadline.set(BOUNDS.idleMs);
    });
    const sending = this.#send();
    try {
      const ending = await this.#answer();
      if (ending.kind !== "again") {
        this.#upstream.wire.destroy();
        guest.interrupt();
      }
      await sending;
      return ending;
    } finally {
      guest.whenEnded(null);
    }
  }

  /** The request. Never throws: what became of it stands in `#body`, and the answer tells the rest. */
  async #send(): Promise<void> {
    const { wire } = this.#upstream;
    const { framing } = this.#request;
    try {
      await wire.write(this.#head());
      for await (const bytes of readBody(this.#passage.guest, framing)) {
        this.#passage.moved();
        if (wire.broken) break;
        await wire.write(framed(framing, bytes));
        this.#passage.moved();
      }
      await wire.write(bodyEnd(framing));
      this.#body = "sent";
    } catch (error) {
      // Whoever ended it: the host must not take what it has for all of it.
      this.#body = wire.broken ? "unwanted" : { bad: error instanceof Error ? error.message : "" };
      wire.destroy();
    }
  }

  #head(): Uint8Array {
    const { method, path, host, fields, framing, webSocket } = this.#request;
    return encodeHead(`${method} ${path} HTTP/1.1`, [
      { name: "Host", value: host },
      ...fields,
      ...framingFields(framing),
      ...(webSocket ? WEBSOCKET_FIELDS : []),
    ]);
  }

  async #answer(): Promise<Ending> {
    const { wire } = this.#upstream;
    for (let interim = 0; interim <= BOUNDS.interimResponses; interim++) {
      const read = await readHead(wire, this.#passage.moved).catch(() => ({ kind: "end" }) as const);
      if (read.kind === "end") return this.#nothing(interim === 0);
      if (read.kind === "bad") return failed(`it answered what is no HTTP: ${read.reason}`);
      const parsed = parseResponseHead(read.bytes);
      if (parsed.kind === "bad") return failed(`it answered what is no HTTP: ${parsed.reason}`);
      const { head } = parsed;
      this.#passage.moved();
      if (head.status === 101) return this.#upgraded(head);
      if (head.status >= 200) return this.#final(head);
      if (this.#request.minor === 1 && !(await this.#told(head, passedOn(head.fields)))) return { kind: "broken" };
    }
    return failed("it sent interim responses without end");
  }

  #nothing(unheard: boolean): Ending {
    if (typeof this.#body === "object") return { kind: "failed", status: 400, reason: this.#body.bad, unheard: false };
    return failed("it closed the connection without an answer", unheard);
  }

  /** False when the guest is gone. */
  async #told(head: ResponseHead, fields: readonly Field[]): Promise<boolean> {
    const first = `HTTP/1.1 ${head.status} ${head.reason}`;
    return await this.#passage.guest.write(encodeHead(first, fields)).then(
      () => true,
      () => false,
    );
  }

  async #upgraded(head: ResponseHead): Promise<Ending> {
    if (!this.#request.webSocket || !isWebSocket(head.fields)) return failed("it switched to another protocol");
    const { guest, moved } = this.#passage;
    this.#answered();
    guest.whenEnded(null); // in a tunnel one side may end long before the other
    if (!(await this.#told(head, [...passedOn(head.fields), ...WEBSOCKET_FIELDS]))) return { kind: "broken" };
    this.#passage.deadline.set(BOUNDS.exchangeIdleMs);
    await splice(guest, this.#upstream.wire, moved).catch(() => undefined); // either side may just go
    return { kind: "broken" };
  }

  async #final(head: ResponseHead): Promise<Ending> {
    const { method, minor, keepAlive } = this.#request;
    const { guest, moved } = this.#passage;
    const framing = responseFraming(head, method);
    if (framing.kind === "bad") return failed(`it answered what is no HTTP: ${framing.reason}`);
    this.#answered();
    const toGuest: Framing = framing.kind === "chunked" && minor === 0 ? { kind: "close" } : framing;
    // An answer before the request was over: whoever goes on after it would be read as the rest of the body.
    const again = keepAlive && toGuest.kind !== "close" && this.#body === "sent";
    // Without a body its length still says how long one would be.
    const lengths = framing.kind === "none" && head.status !== 204 ? valuesOf(head.fields, "content-length") : [];
    const said = lengths.map((value) => ({ name: "Content-Length", value }));
    const closing = again ? [] : [{ name: "Connection", value: "close" }];
    const fields = [...passedOn(head.fields), ...framingFields(toGuest), ...said, ...closing];
    if (!(await this.#told(head, fields))) return { kind: "broken" };
    try {
      for await (const bytes of readBody(this.#upstream.wire, framing)) {
        moved();
        await guest.write(framed(toGuest, bytes));
        moved();
      }
      await guest.write(bodyEnd(toGuest));
    } catch {
      return { kind: "broken" }; // of either side; the other learns it by the missing end
    }
    const goes = head.minor === 1 && framing.kind !== "close" && !connectionTokens(head.fields).has("close");
    return again ? { kind: "again", reusable: goes } : { kind: "close" };
  }
}

/** Carries one request over `upstream`, whose connection is closed unless it ends with `again`. Never throws. */
export function exchange(passage: Passage, upstream: Upstream, request: Request, answered: Answered): Promise<Ending> {
  return new Exchange(passage, upstream, request, answered).run();
}
