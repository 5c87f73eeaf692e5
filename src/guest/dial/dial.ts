/**
 * TCP connections to ports of the guest: what comes is read as slowly as its reader reads, what goes is taken as fast as the
 * guest's program takes it. The two directions end by themselves.
 */
import type { Body } from "../../contract/route.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { type Call, GuestRefusal, settled } from "../call.ts";
import { NO_BYTES, violation } from "../codec.ts";
import { feeder, patient } from "../commands.ts";
import type { Connection } from "../connection.ts";
import { encodeFields, type Field } from "../fields.ts";
import { ASK, SAY, TAG } from "../protocol.ts";
import { refused } from "../refusal.ts";

export interface DialTarget {
  readonly port: number;
  /** Default: both, in this order. */
  readonly host?: "127.0.0.1" | "::1" | undefined;
}

const ECONNRESET = 104;
const ETIMEDOUT = 110;
const ECONNREFUSED = 111;

/** What the guest's refusal of a dial, or a connection's bad end, is to the caller. */
function failure(cause: unknown, { port }: DialTarget): unknown {
  if (!(cause instanceof GuestRefusal)) return cause;
  if (cause.errno === ECONNREFUSED) {
    return new WarrenError("wrong_state", `nothing listens on port ${port} of the sandbox`, {
      details: { port, errno: "ECONNREFUSED" },
    });
  }
  if (cause.errno === ETIMEDOUT) {
    const says = `the program that listens on port ${port} of the sandbox did not accept the connection in time`;
    return new WarrenError("guest_unresponsive", says, { details: { port, errno: "ETIMEDOUT" } });
  }
  if (cause.errno === ECONNRESET) {
    const says = `the program behind port ${port} of the sandbox reset the connection`;
    return new WarrenError("wrong_state", says, { details: { port, errno: "ECONNRESET" } });
  }
  return refused(cause, {}, "wrong_state");
}

/** True when it is about a port that nothing listens on. */
export function isRefused(error: unknown): error is WarrenError {
  return error instanceof WarrenError && error.details["errno"] === "ECONNREFUSED";
}

/** After its reader has come to the end, the other direction goes on until it is over too. */
async function finish(call: Call, fed: Promise<void>, over: AbortController, signal?: AbortSignal): Promise<void> {
  try {
    const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
    settled(await call.next(patient(either)), SAY.DONE);
  } finally {
    call.cancel();
    over.abort();
    await fed;
  }
}

/**
 * What the peer sends, as it comes; an empty piece first, once the connection stands. `body` is sent beside, its end ends that
 * direction. Leaving before the end, and an abort, reset the connection; after the end the rest of `body` is still sent.
 * @throws {WarrenError} `wrong_state` – nothing listens there, or the connection was reset; `guest_unresponsive` – not accepted in
 * time; `guest_protocol`, `sandbox_lost`; what `body` throws
 */
export async function* dial(
  connection: Connection,
  target: DialTarget,
  body: Body,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const fields: Field[] = [[TAG.PORT, target.port]];
  if (target.host !== undefined) fields.push([TAG.HOST, target.host]);
  const call = connection.open();
  const over = new AbortController();
  const broken: { cause: unknown }[] = [];
  let isAlone = true;
  // At once, and not when the next piece is asked for, which may be never.
  const reset = (): void => call.cancel();
  signal?.addEventListener("abort", reset, { once: true });
  try {
    await call.send(ASK.DIAL, encodeFields(fields));
    const first = await call.next(connection.within(LIMITS.guestRequestMs, signal));
    if (first.kind !== "started") {
      settled(first, SAY.ERROR);
      throw violation("a connection without a beginning");
    }
    const fed = feeder(
      body,
      patient,
      true,
    )(call, over.signal).catch((cause: unknown) => {
      if (over.signal.aborted) return; // the connection being over is no failure of its feeder's
      broken.push({ cause });
      call.cancel();
      over.abort(cause);
    });
    yield NO_BYTES;
    const waiter = patient(signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]));
    for (;;) {
      const answer = await call.next(waiter);
      if (answer.kind === "shut") {
        isAlone = false;
        void finish(call, fed, over, signal).catch(() => undefined); // its reader has gone, with all that it came for
        return;
      }
      if (answer.kind !== "data") {
        settled(answer, SAY.ERROR);
        throw violation("the end of a connection without the end of its peer");
      }
      if (answer.type !== SAY.OUT) throw violation("data of another kind on a connection");
      yield answer.bytes;
    }
  } catch (cause) {
    const [first] = broken;
    if (first !== undefined) throw first.cause;
    throw cause instanceof WarrenError && cause.code === "guest_protocol"
      ? connection.fail(cause)
      : failure(cause, target);
  } finally {
    signal?.removeEventListener("abort", reset);
    if (isAlone) {
      call.cancel();
      over.abort();
    }
  }
}
