/**
 * Many commands over one WebSocket. To us: `{id, cmd, …}` begins one (fields as for `exec/stream`), `{id, stdin}` writes to it
 * (empty text ends its stdin), `{id, signal}` and `{id, cancel: true}`. From us: `{id, stream, data}`, and at last `{id, exit, …}` or
 * `{id, error, code}`. Ids are the client's.
 */
import { parse } from "../../contract/parse.ts";
import type { Exec, ExecEvent } from "../../contract/routes/exec.ts";
import { errorBody } from "../../contract/status.ts";
import { wireOf } from "../../contract/wire/wire.ts";
import { WarrenError } from "../../errors.ts";
import { told } from "../answers/answer.ts";
import type { AppParts, RequestContext, SocketEnd } from "../parts.ts";
import { Inbox } from "./inbox.ts";
import { Outbox, SocketGone } from "./outbox.ts";
import { readsNoMore } from "./stdin.ts";
import { failSocket, type Place, type PlacedCall, upgraded, whenEnding } from "./upgrade.ts";

/** Of a command, as its client calls it. */
const NAME_CHARS = 128;

export function execCall({ settings }: Pick<AppParts, "settings">): PlacedCall {
  return async (context, asked, input, place) => {
    const { id } = input as { id: string };
    const { state } = await asked.host.get({ id });
    if (state === "deleted" || state === "failed")
      throw new WarrenError("wrong_state", `sandbox ${id} is ${state}`, { details: { id, state } });
    const commands = new Commands(asked, id, settings.socketCommands, place);
    whenEnding(context, (why) => void failSocket(commands.outbox, why, asked.requestId));
    return upgraded(context, commands.end(), place);
  };
}

/** A text frame of the client's. */
type Frame = Record<string, unknown>;

interface Running {
  readonly stdin: Inbox;
  readonly over: AbortController;
  /** Of the guest, once it has begun. */
  readonly process: Promise<number>;
}

function frameOf(message: string | Uint8Array): Frame & { readonly id: string } {
  const bad = (why: string) => new WarrenError("invalid_request", `a frame has to be a JSON object with an id: ${why}`);
  if (typeof message !== "string") throw bad("it is binary");
  let value: unknown;
  try {
    value = JSON.parse(message);
  } catch (cause) {
    throw bad(cause instanceof Error ? cause.message.slice(0, 200) : "no JSON");
  }
  const id = (value as Frame | null)?.["id"];
  if (typeof id !== "string" && typeof id !== "number") throw bad("id is missing");
  if (String(id).length > NAME_CHARS) throw bad(`id has more than ${NAME_CHARS} characters`);
  return { ...(value as Frame), id: String(id) };
}

class Commands {
  readonly outbox: Outbox;
  readonly #place: Place;
  readonly #asked: RequestContext;
  readonly #sandbox: string;
  readonly #most: number;
  readonly #running = new Map<string, Running>();

  constructor(asked: RequestContext, sandbox: string, most: number, place: Place) {
    this.outbox = new Outbox(place.charge());
    this.#place = place;
    this.#asked = asked;
    this.#sandbox = sandbox;
    this.#most = most;
  }

  end(): SocketEnd {
    return {
      open: (socket) => this.outbox.opened(socket),
      message: (_socket, message) => this.#take(message),
      drain: () => this.outbox.drained(),
      close: () => {
        this.outbox.gone();
        for (const running of this.#running.values()) this.#stop(running, new Error("the client is gone"));
      },
    };
  }

  #stop({ stdin, over }: Running, why: Error): void {
    stdin.fail(why);
    over.abort(why);
  }

  #take(message: string | Uint8Array): void {
    let id: string | null = null;
    try {
      const frame = frameOf(message);
      id = frame.id;
      if ("cmd" in frame || "python" in frame) this.#begin(id, frame);
      else this.#steer(id, frame);
    } catch (cause) {
      this.#tell(id, cause);
    }
  }

  #tell(id: string | null, cause: unknown): void {
    const body = { ...(id === null ? {} : { id }), ...errorBody(told(cause), this.#asked.requestId) };
    // A client that is gone need not hear of it.
    this.outbox.send(JSON.stringify(body)).catch(() => undefined);
  }

  #begin(name: string, { id: _, ...fields }: Frame): void {
    if (this.#running.has(name))
      throw new WarrenError("already_exists", `id: a command ${name} is running over this socket`, {
        details: { field: "id" },
      });
    if (this.#running.size >= this.#most)
      throw new WarrenError("queue_full", `${this.#most} commands are running over this socket: wait for one to end`);
    const { input } = wireOf("exec");
    const wire = parse(input.schema, { ...fields, id: this.#sandbox }) as Frame;
    const exec = input.decode(wire) as Exec;
    const started = Promise.withResolvers<number>();
    started.promise.catch(() => undefined); // told as the command's own failure
    const running: Running = {
      ...{ stdin: new Inbox(this.#place.charge()), over: new AbortController(), process: started.promise },
    };
    this.#running.set(name, running);
    // Frames may write to it at any time, unless all its stdin came with it.
    const open = exec.stdinOpen ?? exec.stdin === undefined;
    void this.#run(name, running, { ...exec, stdinOpen: open }, wire, started);
    if (open) void this.#write(name, running);
    else running.stdin.drop();
  }

  async #run(
    name: string,
    { stdin, over }: Running,
    exec: Exec,
    wire: Frame,
    started: PromiseWithResolvers<number>,
  ): Promise<void> {
    const encoder = wireOf("exec").events?.encoder(wire);
    try {
      const events = await this.#asked.host.exec(exec, { signal: over.signal });
      for await (const event of events) {
        if (event.kind === "started") started.resolve(event.process);
        for (const { event: kind, data } of encoder?.encode(event) ?? []) {
          const frame = outward(name, kind, data as Frame, event);
          if (frame !== null) await this.outbox.send(JSON.stringify(frame));
        }
      }
      if (exec.background === true)
        await this.outbox.send(JSON.stringify({ id: name, background: true, process: await started.promise }));
    } catch (cause) {
      if (!(cause instanceof SocketGone)) this.#tell(name, cause);
    } finally {
      started.reject(new WarrenError("process_not_found", `the command ${name} has ended`));
      stdin.end();
      this.#running.delete(name);
    }
  }

  async #write(name: string, running: Running): Promise<void> {
    const { stdin, process, over } = running;
    const { host } = this.#asked;
    const id = this.#sandbox;
    const options = { signal: over.signal };
    try {
      const number = await process;
      for await (const body of stdin) await host.stdin({ id, process: number, body }, options);
      await host.stdin({ id, process: number, body: new Uint8Array() }, options);
    } catch (cause) {
      if (over.signal.aborted || readsNoMore(cause)) return;
      // Without its whole stdin it is not what was asked for: it ends with the reason, unless it is in the background.
      if (this.#running.get(name) === running) this.#stop(running, told(cause));
      else this.#tell(name, cause);
    } finally {
      stdin.drop();
    }
  }

  #steer(name: string, frame: Frame): void {
    const running = this.#running.get(name);
    if (running === undefined)
      throw new WarrenError("process_not_found", `id: no command ${name} is running over this socket`, {
        details: { field: "id" },
      });
    const { stdin, signal, cancel } = frame;
    if (typeof stdin === "string") {
      if (stdin === "") running.stdin.end();
      else running.stdin.push(new TextEncoder().encode(stdin));
    } else if (signal !== undefined) void this.#signal(name, running, signal);
    else if (cancel === true) this.#stop(running, new WarrenError("cancelled", "the command was cancelled"));
    else throw new WarrenError("invalid_request", "a frame needs cmd, stdin, signal or cancel");
  }

  async #signal(name: string, { process }: Running, signal: unknown): Promise<void> {
    const { host } = this.#asked;
    try {
      const ask = { id: this.#sandbox, process: await process, signal: signal as string };
      await host.signal(ask);
    } catch (cause) {
      this.#tell(name, cause);
    }
  }
}

/** A frame of what an event says; null: nothing of use here. */
function outward(id: string, kind: string, data: Frame, event: ExecEvent): Frame | null {
  if (kind === "stdout" || kind === "stderr") {
    const { chunk, chunk_base64 } = data;
    return { id, stream: kind, ...(chunk_base64 === undefined ? { data: chunk } : { data_base64: chunk_base64 }) };
  }
  if (event.kind !== "exit") return null;
  if (kind === "error") return { id, ...data };
  const { exit_code: exit, ...rest } = data;
  return { id, exit, ...rest };
}
