/** The keeper of a home as other processes have it: reached over its control socket, started when there is none. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Egress } from "../contract/routes/network.ts";
import { connectUnix } from "../driver/socket.ts";
import type { EgressKeeper, KeptSandbox } from "../engine/network/keeper.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import type { Apart } from "../host/run.ts";
import { LIMITS } from "../limits.ts";
import {
  ANSWERS,
  type Answers,
  decode,
  type Envelope,
  encode,
  errorOf,
  PROGRAM,
  PROTOCOL,
  type Question,
  Reply,
  socketName,
} from "./protocol.ts";

export interface KeeperGround {
  /** An existing folder. */
  readonly home: string;
  readonly clock: Clock;
}

/**
 * Asks whoever listens. Null: nobody does, or it ended without an answer.
 * @throws {WarrenError} `driver_failed` – it is silent, or what it says makes no sense
 */
async function exchange(
  { home, clock }: KeeperGround,
  envelope: Omit<Envelope, "protocol" | "program">,
): Promise<Reply | null> {
  const line = encode({ protocol: PROTOCOL, program: PROGRAM, ...envelope });
  const name = socketName();
  if (!existsSync(join(home, name))) return null;
  let isLate = false;
  try {
    const link = await connectUnix(home, name);
    const cancelLate = clock.after(LIMITS.keeperAnswerMs, () => {
      isLate = true;
      link.close();
    });
    try {
      await link.write(line);
      const text = await lineOf(link.bytes);
      if (text !== null) return decode(Reply, text);
    } finally {
      cancelLate();
      link.close();
    }
  } catch (error) {
    // Nobody listens any more, or it hung up while the question was being written.
    if (!isWarrenError(error, "driver_failed") && !isWarrenError(error, "sandbox_lost")) throw strange(error);
  }
  if (isLate) throw new WarrenError("driver_failed", "the keeper of detached sandboxes' network does not answer");
  return null;
}

/** Null when it ends before. */
async function lineOf(bytes: AsyncIterable<Uint8Array>): Promise<string | null> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > LIMITS.keeperAnswerBytes) throw new Error(`an answer of more than ${LIMITS.keeperAnswerBytes} bytes`);
    if (chunk.at(-1) === 0x0a) return new TextDecoder().decode(Buffer.concat(chunks));
  }
  return null;
}

function strange(cause: unknown): WarrenError {
  return new WarrenError("driver_failed", "the keeper of detached sandboxes' network says what nobody understands", {
    cause,
  });
}

/** Whether somebody keeps the home's networks. @throws {WarrenError} `driver_failed` – somebody does, and is silent */
export async function isKept(ground: KeeperGround): Promise<boolean> {
  return (await exchange(ground, { question: null })) !== null;
}

/**
 * Ends the home's keeper, if there is one; returns when it has left its socket.
 * @param how `idle`: only one that has nothing to keep
 * @returns false when it stays
 * @throws {WarrenError} `driver_failed` – it neither stays nor ends
 */
export async function endKeeper(ground: KeeperGround, how: "idle" | "now"): Promise<boolean> {
  const { home, clock } = ground;
  const untilMs = clock.monotonicMs() + LIMITS.keeperAnswerMs;
  for (;;) {
    const reply = await exchange(ground, { end: how, question: null });
    if (reply === null) return true;
    if (reply.kind === "here") return false;
    if (reply.kind === "refusal") throw errorOf(reply);
    if (clock.monotonicMs() > untilMs) throw new WarrenError("driver_failed", `the keeper of ${home} does not end`);
    await clock.sleep(LIMITS.keeperRetryMs);
  }
}

export interface KeeperClientParts extends KeeperGround {
  /** Starts a keeper for this home; one that finds another there ends with exit code 0. */
  readonly start: () => Apart;
}

export class KeeperClient implements EgressKeeper {
  readonly #parts: KeeperClientParts;
  #starting: Promise<void> | null = null;

  constructor(parts: KeeperClientParts) {
    this.#parts = parts;
  }

  open({ id, ref, egress, secrets }: KeptSandbox): Promise<Answers["open"]> {
    const { pid, startTicks, hostBootId, socketDir } = ref;
    const sandbox = { id, ref: { id: ref.id, pid, startTicks, hostBootId, socketDir }, egress, secrets: [...secrets] };
    return this.#ask({ kind: "open", sandbox });
  }

  async change(id: string, egress: Egress): Promise<Answers["change"]["usage"]> {
    return (await this.#ask({ kind: "change", id, egress })).usage;
  }

  log(id: string): Promise<Answers["log"]> {
    return this.#ask({ kind: "log", id });
  }

  async #ask<Q extends Question>(question: Q): Promise<Answers[Q["kind"]]> {
    const { clock } = this.#parts;
    const untilMs = clock.monotonicMs() + LIMITS.keeperStartMs;
    for (;;) {
      const reply = await exchange(this.#parts, { question });
      if (reply?.kind === "answer") return answerTo(question, reply.answer);
      if (reply?.kind === "refusal") throw errorOf(reply);
      if (reply?.kind === "here") throw other(reply);
      if (clock.monotonicMs() > untilMs) throw late();
      if (reply === null) await this.#started();
      else await clock.sleep(LIMITS.keeperRetryMs); // one that ends makes room for the next
    }
  }

  /** Starts one, once for all who wait. */
  #started(): Promise<void> {
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  /** Returns when one answers, this one or another, or when it may have been another that has ended meanwhile. */
  async #start(): Promise<void> {
    const { clock, start } = this.#parts;
    const untilMs = clock.monotonicMs() + LIMITS.keeperStartMs;
    const { exited } = start();
    let code: number | null = null;
    void exited.then((how) => {
      code = how;
    });
    while (!(await isKept(this.#parts))) {
      const ended = code as number | null; // the compiler does not see that it changes
      if (ended === 0) return;
      if (ended !== null) throw failed(ended);
      if (clock.monotonicMs() > untilMs) throw late();
      await clock.sleep(LIMITS.keeperRetryMs);
    }
  }
}

function answerTo<Q extends Question>({ kind }: Q, answer: unknown): Answers[Q["kind"]] {
  try {
    return decode(ANSWERS[kind as Question["kind"]], JSON.stringify(answer)) as Answers[Q["kind"]];
  } catch (error) {
    throw strange(error);
  }
}

function other({ program, pid, sandboxes }: Extract<Reply, { kind: "here" }>): WarrenError {
  const says = `process ${pid}, which has the network of ${sandboxes} detached sandboxes, is of version ${program} of warren and does not understand this one (${PROGRAM}): end those sandboxes first`;
  return new WarrenError("host_unsupported", says, { details: { program, pid, sandboxes } });
}

function failed(code: number): WarrenError {
  const says = `the process that keeps detached sandboxes' network ended with exit code ${code}; \`warren keep-network\` tells why`;
  return new WarrenError("driver_failed", says);
}

function late(): WarrenError {
  const says = `no process that keeps detached sandboxes' network within ${LIMITS.keeperStartMs / 1000} s`;
  return new WarrenError("driver_failed", says);
}
