/** What is done by commands of the guest's own: archives by its tar, recursive removal by its rm. */
import { posix } from "node:path";
import type { Body } from "../contract/route.ts";
import type { ExecEvent } from "../contract/routes/exec.ts";
import { WarrenError } from "../errors.ts";
import type { Call } from "./call.ts";
import { NO_BYTES } from "./codec.ts";
import type { Connection } from "./connection.ts";
import { encodeExec, follow } from "./exec.ts";
import { ask, pieces, statFile } from "./files.ts";
import { ASK, TAG } from "./protocol.ts";
import type { Waiter } from "./waiting.ts";

/** As long as its reader or writer goes on. */
const UNLIMITED = { outputBytes: null, timeoutMs: null };
/** What is kept of a complaint. */
const COMPLAINT_BYTES = 2000;

class Complaint {
  #text = "";

  add(bytes: Uint8Array): void {
    if (this.#text.length < COMPLAINT_BYTES) this.#text += new TextDecoder().decode(bytes);
  }

  /** @throws {WarrenError} `file_error` – the command failed. */
  check(event: ExecEvent & { kind: "exit" }, what: string): void {
    if (event.exitCode === 0) return;
    const why = this.#text.trim().slice(0, COMPLAINT_BYTES);
    throw new WarrenError("file_error", `${what}: ${why === "" ? `ended by ${event.signal ?? event.exitCode}` : why}`);
  }
}

/** Pours a body into a command's stdin and closes it. */
export function feeder(body: Body, waiter: (signal: AbortSignal) => Waiter, closes: boolean) {
  return async (call: Call, signal: AbortSignal): Promise<void> => {
    for await (const piece of pieces(body)) {
      if (!(await call.pour(piece, waiter(signal)).catch(ending(signal)))) return;
    }
    if (closes && !call.ended) await call.send(ASK.DATA, NO_BYTES);
  };
}

/** The command being over is a feeder's ordinary end. */
function ending(signal: AbortSignal): (cause: unknown) => false {
  return (cause) => {
    if (signal.aborted) return false;
    throw cause;
  };
}

/** A command may leave its stdin unread for as long as it likes. */
export function patient(signal: AbortSignal): Waiter {
  const late = () => new WarrenError("guest_unresponsive", "the command did not read its stdin");
  return { signal, deadlineMs: () => Number.POSITIVE_INFINITY, late };
}

/** A tar of a directory's content, or of one file. @throws {WarrenError} `file_not_found`, `file_error` */
export async function* archiveOut(
  connection: Connection,
  path: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { type } = await statFile(connection, path, signal);
  const clean = posix.normalize(path).replace(/(?<=.)\/$/, "");
  const [dir, name] = type === "directory" ? [clean, "."] : [posix.dirname(clean), posix.basename(clean)];
  const argv = ["tar", "-C", dir, "-cf", "-", "--", name];
  const complaint = new Complaint();
  for await (const event of follow(
    connection,
    ASK.EXEC,
    encodeExec({ argv, cwd: "/" }, UNLIMITED),
    UNLIMITED,
    signal,
  )) {
    if (event.kind === "stdout") yield event.bytes;
    else if (event.kind === "stderr") complaint.add(event.bytes);
    else if (event.kind === "exit") complaint.check(event, `archiving ${path}`);
  }
}

/** Unpacks into a directory, which is made if need be. @throws {WarrenError} `file_error` */
export async function archiveIn(connection: Connection, path: string, body: Body, signal?: AbortSignal): Promise<void> {
  await ask(connection, ASK.MKDIR, [[TAG.PATH, path]], signal);
  const request = { argv: ["tar", "-C", path, "-xf", "-"], cwd: "/", stdinOpen: true };
  const payload = encodeExec(request, UNLIMITED);
  const complaint = new Complaint();
  const feed = feeder(body, patient, true);
  for await (const event of follow(connection, ASK.EXEC, payload, UNLIMITED, signal, { feed })) {
    if (event.kind === "stderr") complaint.add(event.bytes);
    else if (event.kind === "exit") complaint.check(event, `unpacking into ${path}`);
  }
}

/** A directory and all in it. @throws {WarrenError} `file_error` */
export async function removeAll(connection: Connection, path: string, signal?: AbortSignal): Promise<void> {
  const payload = encodeExec({ argv: ["rm", "-rf", "--", path], cwd: "/" }, UNLIMITED);
  const complaint = new Complaint();
  for await (const event of follow(connection, ASK.EXEC, payload, UNLIMITED, signal)) {
    if (event.kind === "stderr") complaint.add(event.bytes);
    else if (event.kind === "exit") complaint.check(event, `removing ${path}`);
  }
}
