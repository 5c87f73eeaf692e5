/** A guest that a test plays by hand, frame by frame. */
import type { Link } from "../../../src/driver/driver.ts";
import { pipe } from "../../../src/driver/fake/pipe.ts";
import { isWarrenError, type WarrenError } from "../../../src/errors.ts";
import { GuestAgent } from "../../../src/guest/agent.ts";
import { encodeFrame, type Frame, FrameDecoder } from "../../../src/guest/codec.ts";
import { encodeFields, type Field } from "../../../src/guest/fields.ts";
import { ASK, RESYNC_BYTES, SAY, TAG } from "../../../src/guest/protocol.ts";
import { FakeClock } from "../../harness/clock.ts";

export class Played {
  readonly clock = new FakeClock();
  readonly host: Link;
  readonly #guest: Link;
  readonly #decoder = new FrameDecoder();
  readonly asked: Frame[] = [];
  #wake: () => void = () => undefined;

  constructor() {
    const { host, guest } = pipe();
    this.host = host;
    this.#guest = guest;
    void this.#read();
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#guest.bytes) {
      if (chunk.length === RESYNC_BYTES) continue;
      this.asked.push(...this.#decoder.push(chunk));
      this.#wake();
    }
  }

  /** The next request, of this type when one is given. */
  async request(type?: number): Promise<Frame> {
    for (;;) {
      const at = this.asked.findIndex((frame) => type === undefined || frame.type === type);
      if (at >= 0) return this.asked.splice(at, 1)[0] as Frame;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  say(type: number, channel: number, fields: readonly Field[] | Uint8Array = []): Promise<void> {
    return this.raw(encodeFrame(type, channel, fields instanceof Uint8Array ? fields : encodeFields(fields)));
  }

  raw(bytes: Uint8Array): Promise<void> {
    return this.#guest.write(bytes);
  }

  hangUp(): void {
    this.#guest.close();
  }

  greeting(channel: number): Uint8Array {
    const fields: Field[] = [
      [TAG.VERSION, 1],
      [TAG.NONCE, new Uint8Array(16).fill(7)],
      [TAG.AGENT, "played"],
    ];
    return encodeFrame(SAY.HELLO, channel, encodeFields(fields));
  }

  /** Greeted. */
  async agent(): Promise<GuestAgent> {
    const connecting = GuestAgent.connect(this.host, { clock: this.clock });
    await this.raw(this.greeting((await this.request(ASK.HELLO)).channel));
    return connecting;
  }
}

export async function failure(job: Promise<unknown>): Promise<WarrenError> {
  const error = await job.then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!isWarrenError(error)) throw new Error(`expected a WarrenError, got ${String(error)}`);
  return error;
}

export async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events) {
    // only its end matters
  }
}
