/**
 * Questions to this host's own name servers: each with an id of its own from a socket of its own, over TCP when an answer
 * does not fit, twice to each server. Every byte that comes back is hostile.
 */
import type { Clock } from "../../base/clock.ts";
import { randomBytes } from "../../base/id.ts";
import { DNS } from "./bounds.ts";
import { encodeQuestion } from "./encode.ts";
import { CLASS_IN, DnsFault, decodeMessage, type Message, RCODE } from "./message.ts";

export interface NameServer {
  readonly address: string;
  readonly port: number;
}

/** No name server gave an answer that is one; for the operator and the sandbox's log. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

/** Places for sockets, which are shared. */
export class Places {
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  /** @throws {NoAnswer} when all are taken */
  take(): void {
    if (this.#free === 0) throw new NoAnswer("too many names are asked for on this host at once");
    this.#free--;
  }

  give(): void {
    this.#free++;
  }
}

/** Of this process, as its descriptors are. */
export const PLACES = new Places(DNS.sockets);

export interface Upstreams {
  readonly servers: readonly NameServer[];
  readonly clock: Clock;
  readonly places: Places;
}

interface Asking {
  readonly server: NameServer;
  readonly id: number;
  readonly name: string;
  readonly type: number;
  readonly clock: Clock;
}

/** Gives its outcome once; `end` runs with it. */
interface Try {
  readonly outcome: Promise<Message>;
  settle(outcome: Message | NoAnswer): void;
  /** Something to do when it is over, at once if it is. */
  atEnd(end: () => void): void;
}

function startTry(clock: Clock): Try {
  const { promise, resolve, reject } = Promise.withResolvers<Message>();
  const ends: (() => void)[] = [];
  let over = false;
  const settle = (outcome: Message | NoAnswer): void => {
    if (over) return;
    over = true;
    if (outcome instanceof NoAnswer) reject(outcome);
    else resolve(outcome);
    for (const end of ends) end();
  };
  const atEnd = (end: () => void): void => {
    if (over) end();
    else ends.push(end);
  };
  atEnd(clock.after(DNS.tryMs, () => settle(new NoAnswer(`no answer within ${DNS.tryMs} ms`)), { background: true }));
  return { outcome: promise, settle, atEnd };
}

/** The answer that bytes are, or null when they are no answer to this question: then another may still come. */
function answerIn(bytes: Uint8Array, { id, name, type }: Asking): Message | NoAnswer | null {
  if (bytes.length < 2 || (((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)) !== id) return null;
  try {
    const message = decodeMessage(bytes);
    const [question, ...others] = message.questions;
    const mine =
      message.response &&
      message.opcode === 0 &&
      others.length === 0 &&
      question?.name === name &&
      question.type === type &&
      question.class === CLASS_IN;
    return mine ? message : null;
  } catch (error) {
    if (error instanceof DnsFault) return new NoAnswer(`an answer is no DNS message: ${error.message}`);
    throw error;
  }
}

function overUdp(asking: Asking): Promise<Message> {
  const { server, clock } = asking;
  const tried = startTry(clock);
  // A socket that cannot be had or written to, as without a route or without IPv6, is a server that does not answer.
  const fail = (error: unknown): void => tried.settle(new NoAnswer(String(error)));
  let strays = 0;
  const ask = async (): Promise<void> => {
    const socket = await Bun.udpSocket({
      hostname: server.address.includes(":") ? "::" : "0.0.0.0",
      connect: { hostname: server.address, port: server.port },
      socket: {
        data(_, bytes) {
          const answer = answerIn(bytes, asking);
          if (answer !== null) tried.settle(answer);
          else if (++strays > DNS.strays) fail("too much came that was no answer");
        },
        error: (...given: readonly unknown[]) => fail(given.at(-1)), // with its socket before it or without
      },
    });
    tried.atEnd(() => socket.close());
    socket.send(encodeQuestion(asking.id, asking.name, asking.type));
  };
  ask().catch(fail);
  return tried.outcome;
}

/** A two-byte length, then the message; what comes behind it is not read. */
class Framed {
  #held: Uint8Array = new Uint8Array(0);

  push(chunk: Uint8Array): Uint8Array | null {
    this.#held = Buffer.concat([this.#held, chunk]);
    const [high = 0, low = 0] = this.#held;
    const end = 2 + ((high << 8) | low);
    return this.#held.length < 2 || this.#held.length < end ? null : this.#held.subarray(2, end);
  }
}

export function framed(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(message.length + 2);
  new DataView(bytes.buffer).setUint16(0, message.length);
  bytes.set(message, 2);
  return bytes;
}

function overTcp(asking: Asking): Promise<Message> {
  const { server, clock } = asking;
  const tried = startTry(clock);
  const answer = new Framed();
  const fail = (why: string): void => tried.settle(new NoAnswer(`over TCP: ${why}`));
  const ask = async (): Promise<void> => {
    await Bun.connect({
      hostname: server.address,
      port: server.port,
      socket: {
        open(socket) {
          tried.atEnd(() => void socket.terminate());
          socket.write(framed(encodeQuestion(asking.id, asking.name, asking.type)));
        },
        data(_, chunk) {
          const bytes = answer.push(chunk);
          if (bytes !== null) tried.settle(answerIn(bytes, asking) ?? new NoAnswer("over TCP came no answer"));
        },
        close: () => fail("the server hung up"),
        error: (_, error) => fail(String(error)),
        connectError: (_, error) => fail(String(error)),
      },
    });
  };
  ask().catch((error: unknown) => fail(String(error)));
  return tried.outcome;
}

async function oneTry(server: NameServer, name: string, type: number, clock: Clock): Promise<Message> {
  const [high = 0, low = 0] = randomBytes(2);
  const asking: Asking = { server, id: (high << 8) | low, name, type, clock };
  const answer = await overUdp(asking);
  const message = answer.truncated ? await overTcp(asking) : answer;
  if (message.truncated) throw new NoAnswer("an answer is cut off over TCP too");
  if (message.rcode === RCODE.NOERROR || message.rcode === RCODE.NXDOMAIN) return message;
  throw new NoAnswer(`the name server answers with code ${message.rcode}`);
}

/**
 * The first answer that says yes or no.
 * @param endMs on the clock's monotonic time: no try begins after it
 * @throws {NoAnswer} when no server has given one
 */
export async function askUpstream(
  { servers, clock, places }: Upstreams,
  { name, type, endMs }: { readonly name: string; readonly type: number; readonly endMs: number },
): Promise<Message> {
  let last = new NoAnswer("this host has no name server");
  for (let round = 0; round < DNS.rounds; round++) {
    for (const server of servers.slice(0, DNS.servers)) {
      if (clock.monotonicMs() >= endMs) throw last;
      places.take(); // there are none for the next server either
      try {
        return await oneTry(server, name, type, clock);
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        last = error;
      } finally {
        places.give();
      }
    }
  }
  throw last;
}
