/**
 * A keeper's control socket: one question and one answer a connection, both bounded in bytes and time. Who cannot be
 * understood is told so and hung up on; the others do not notice.
 */
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Socket } from "bun";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Keeper } from "./keeper.ts";
import { decode, Envelope, encode, PROGRAM, PROTOCOL, Question, type Reply, socketName } from "./protocol.ts";

export interface ServerParts {
  /** A folder that is this keeper's alone to listen in. */
  readonly home: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Not for group and others, whatever this process was started with. */
const MASK = 0o177;
const NEWLINE = 0x0a;

/** One connection: its question while it comes, then the answer while it goes. */
interface Caller {
  line: Uint8Array;
  /** What is still to be sent; null before the answer. */
  rest: Uint8Array | null;
  asked: boolean;
  readonly cancelLate: () => void;
  readonly gone: PromiseWithResolvers<void>;
}

export class KeeperServer {
  readonly #keeper: Keeper;
  readonly #parts: ServerParts;
  readonly #callers = new Set<Socket<Caller>>();
  readonly #dirFd: number;
  readonly #listener: { stop(): void };

  /** Listens. What another left under the socket's name is removed. */
  constructor(keeper: Keeper, parts: ServerParts) {
    this.#keeper = keeper;
    this.#parts = parts;
    const name = socketName();
    rmSync(join(parts.home, name), { force: true });
    // A socket's path may have 107 bytes, and that of a home any number.
    this.#dirFd = openSync(parts.home, constants.O_DIRECTORY | constants.O_RDONLY);
    const gone = (socket: Socket<Caller>): void => this.#gone(socket);
    const socket = {
      open: (from: Socket<Caller>): void => this.#open(from),
      data: (from: Socket<Caller>, chunk: Uint8Array): void => this.#data(from, chunk),
      drain: send,
      close: gone,
      error: gone,
    };
    const mask = process.umask(MASK);
    try {
      this.#listener = Bun.listen<Caller>({ unix: `/proc/self/fd/${this.#dirFd}/${name}`, socket });
    } catch (error) {
      closeSync(this.#dirFd);
      throw error;
    } finally {
      process.umask(mask);
    }
  }

  /** Nobody new is heard, and the socket is gone; who has asked gets an answer. */
  async close(): Promise<void> {
    this.#listener.stop();
    const callers = [...this.#callers];
    for (const caller of callers) if (!caller.data.asked) caller.terminate();
    await Promise.all(callers.map(({ data }) => data.gone.promise));
    closeSync(this.#dirFd);
  }

  #open(socket: Socket<Caller>): void {
    const cancelLate = this.#parts.clock.after(LIMITS.keeperAnswerMs, () => socket.terminate(), { background: true });
    const gone = Promise.withResolvers<void>();
    socket.data = { line: new Uint8Array(0), rest: null, asked: false, cancelLate, gone };
    this.#callers.add(socket);
  }

  #gone(socket: Socket<Caller>): void {
    socket.data.cancelLate();
    socket.data.gone.resolve();
    this.#callers.delete(socket);
  }

  #data(socket: Socket<Caller>, chunk: Uint8Array): void {
    const caller = socket.data;
    if (caller.asked) return;
    const end = chunk.indexOf(NEWLINE);
    const part = end < 0 ? chunk : chunk.subarray(0, end);
    const isLong = caller.line.length + part.length > LIMITS.keeperRequestBytes;
    if (!isLong) caller.line = Buffer.concat([caller.line, part]); // the runtime uses the chunk's memory again
    if (!isLong && end < 0) return;
    const text = new TextDecoder().decode(caller.line);
    caller.asked = true;
    caller.line = new Uint8Array(0);
    if (isLong) reply(socket, refusal(new WarrenError("invalid_request", "the question is too long")));
    else void this.#answer(text).then((answer) => reply(socket, answer));
  }

  async #answer(text: string): Promise<Reply> {
    try {
      const { protocol, program, end, question } = decode(Envelope, text);
      if (end !== undefined) return await this.#end(end);
      const isOther = protocol !== PROTOCOL || program !== PROGRAM;
      // Another version that has nothing to lose makes room for the one that asks.
      if (isOther && (await this.#keeper.stopIfIdle())) return { kind: "ending" };
      if (this.#keeper.stopped) return { kind: "ending" };
      if (question === null || protocol !== PROTOCOL) return this.#here();
      const answer = await this.#keeper.answer(decode(Question, JSON.stringify(question)));
      return { kind: "answer", answer };
    } catch (error) {
      if (!isWarrenError(error)) this.#parts.log.error("a question was not answered", { why: String(error) });
      return refusal(error);
    }
  }

  #here(): Reply {
    return { kind: "here", protocol: PROTOCOL, program: PROGRAM, pid: process.pid, sandboxes: this.#keeper.size };
  }

  async #end(how: "idle" | "now"): Promise<Reply> {
    if (how === "now") this.#keeper.stop();
    else if (!(await this.#keeper.stopIfIdle())) return this.#here();
    return { kind: "ending" };
  }
}

function reply(socket: Socket<Caller>, message: Reply): void {
  socket.data.rest = encode(message);
  send(socket);
}

function send(socket: Socket<Caller>): void {
  const { data } = socket;
  if (data.rest === null || data.rest.length === 0) return;
  const sent = socket.write(data.rest);
  data.rest = sent < 0 ? new Uint8Array(0) : data.rest.subarray(sent);
  if (data.rest.length === 0) socket.end();
}

function refusal(error: unknown): Reply {
  const known = isWarrenError(error) ? error : new WarrenError("internal", "the keeper of the network failed");
  return { kind: "refusal", ...known.toJSON() };
}
