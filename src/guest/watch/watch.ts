/**
 * What changes in a guest's directories, as the agent tells it. The guest is read as slowly as the events are: what waits there
 * is bounded, and `overflow` says when something could not.
 */
import type { WatchEvent } from "../../contract/routes/files.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { settled } from "../call.ts";
import { violation } from "../codec.ts";
import type { Connection } from "../connection.ts";
import { encodeFields } from "../fields.ts";
import { ASK, SAY, TAG, WATCH_FLAG } from "../protocol.ts";
import { type ChangeRecord, decodeChangeRecords } from "../records.ts";
import { FILE_MEANING, refused } from "../refusal.ts";
import type { Waiter } from "../waiting.ts";

/** 95: a request that the agent does not know. */
const MEANING = { ...FILE_MEANING, 95: "unsupported" } as const;

/** Nothing may change for as long as it likes. */
function patient(signal: AbortSignal | undefined): Waiter {
  const late = () => new WarrenError("guest_unresponsive", "nothing changed");
  return { signal, deadlineMs: () => Number.POSITIVE_INFINITY, late };
}

function eventOf({ kind, directory, path }: ChangeRecord, root: string): WatchEvent {
  if (kind === "overflow") return { kind };
  const exact = path.length === 0 ? Buffer.from(root) : Buffer.concat([Buffer.from(root.replace(/\/*$/, "/")), path]);
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(exact);
  const same = Buffer.from(text).equals(exact);
  return { kind, path: text, ...(same ? {} : { pathBase64: exact.toString("base64") }), directory };
}

/**
 * `ready`, then what changes, until what is watched is gone, which is told as its removal. Leaving ends it in the guest.
 * @throws {WarrenError} `file_not_found`; `file_error` – more than can be watched, which it names; `guest_unresponsive`,
 * `guest_protocol`, `sandbox_lost`; `unsupported` – the guest's agent is of an earlier version
 */
export async function* watch(
  connection: Connection,
  path: string,
  recursive: boolean,
  signal?: AbortSignal,
): AsyncGenerator<WatchEvent> {
  const call = connection.open();
  try {
    const flags = recursive ? WATCH_FLAG.RECURSIVE : 0;
    await call.send(
      ASK.WATCH,
      encodeFields([
        [TAG.PATH, path],
        [TAG.FLAGS, flags],
      ]),
    );
    const first = await call.next(connection.within(LIMITS.guestRequestMs, signal));
    if (first.kind !== "started") {
      settled(first, SAY.ERROR);
      throw violation("a watch without a beginning");
    }
    yield { kind: "ready" };
    let answer = await call.next(patient(signal));
    for (; answer.kind === "data"; answer = await call.next(patient(signal))) {
      if (answer.type !== SAY.CHUNK) throw violation("data of another kind about changes");
      for (const record of decodeChangeRecords(answer.bytes)) yield eventOf(record, path);
    }
    settled(answer, SAY.DONE);
  } catch (cause) {
    throw cause instanceof WarrenError && cause.code === "guest_protocol"
      ? connection.fail(cause)
      : refused(cause, MEANING, "file_error");
  } finally {
    call.cancel();
  }
}
