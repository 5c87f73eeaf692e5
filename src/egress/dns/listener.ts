/**
 * The sockets of one sandbox's name server, UDP and TCP on one port. It answers to its sandbox's link alone, and to no more
 * at a time than it has bounds for.
 */
import { parseAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { DNS } from "./bounds.ts";
import { type Answer, type Asked, encodeAnswer, failed } from "./encode.ts";
import { parseQuery, udpLimit } from "./query.ts";
import { framed } from "./upstream.ts";

export interface NameListener {
  readonly port: number;
  close(): void;
}

export interface ListenerParts {
  /** IPv4 address of this host's end of a /30 link; the other end is who is answered. */
  readonly hostname: string;
  readonly clock: Clock;
  readonly answer: (name: string, type: number) => Promise<Answer>;
  /** Queries had no place. */
  readonly onDropped: () => void;
}

/** What a TCP client has: the bytes of its unfinished query, and those that it has not read yet. */
interface Client {
  held: Uint8Array;
  unread: Uint8Array;
  stopIdle: () => void;
}

const PORT_TRIES = 8;
const TCP_BYTES = 65_535;
/** Unfinished bytes that a TCP client may have: a query with its length. */
const HELD_BYTES = DNS.queryBytes + 2;

/** Two addresses of one /30, which are not the same. */
function acrossLink(host: string): (address: string) => boolean {
  const mine = parseAddress(host);
  return (address) => {
    const other = parseAddress(address);
    if (mine === null || other?.family !== 4) return false;
    return other.value !== mine.value && other.value >> 2n === mine.value >> 2n;
  };
}

/** Tokens for queries: `burst` at first, `perSecond` more each second. */
class Bucket {
  #tokens: number = DNS.burst;
  #atMs: number;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.monotonicMs();
  }

  take(): boolean {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(DNS.burst, this.#tokens + ((nowMs - this.#atMs) / 1000) * DNS.perSecond);
    this.#atMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

class Turns {
  readonly #parts: ListenerParts;
  readonly #bucket: Bucket;
  #underWay = 0;
  #closed = false;

  constructor(parts: ListenerParts) {
    this.#parts = parts;
    this.#bucket = new Bucket(parts.clock);
  }

  close(): void {
    this.#closed = true;
  }

  /** Hands the answer to `send`, unless there is none to be given. */
  take(bytes: Uint8Array, limitOf: (asked: Asked) => number, send: (answer: Uint8Array) => void): void {
    if (this.#closed) return;
    if (!this.#bucket.take()) {
      this.#parts.onDropped();
      return;
    }
    const query = parseQuery(bytes);
    if (query.kind === "noise") return;
    const reply = (answer: Answer): void => {
      if (this.#closed) return;
      try {
        send(encodeAnswer(query.asked, answer, limitOf(query.asked)));
      } catch {
        // The link is going away with its sandbox; nobody waits for this any more, or the client asks again.
      }
    };
    if (query.kind === "wrong") {
      reply({ ...failed, rcode: query.rcode });
      return;
    }
    if (this.#underWay >= DNS.underWay) {
      this.#parts.onDropped();
      reply(failed);
      return;
    }
    this.#underWay++;
    void this.#parts
      .answer(query.name, query.type)
      .catch(() => failed) // what broke has been said where it did
      .then(reply)
      .finally(() => void this.#underWay--);
  }
}

interface TcpSocket {
  data: Client;
  readonly remoteAddress: string;
  write(bytes: Uint8Array): number;
  terminate(): void;
}

function tcpHandlers(parts: ListenerParts, turns: Turns, answers: (address: string) => boolean) {
  const open = new Set<TcpSocket>();
  const stayAwhile = (socket: TcpSocket): void => {
    socket.data.stopIdle();
    socket.data.stopIdle = parts.clock.after(DNS.idleMs, () => socket.terminate(), { background: true });
  };
  const flush = (socket: TcpSocket): void => {
    const { data } = socket;
    if (data.unread.length === 0) return;
    const written = Math.max(0, socket.write(data.unread));
    data.unread = data.unread.subarray(written);
    if (data.unread.length > DNS.unreadBytes) socket.terminate();
  };
  const send = (socket: TcpSocket, answer: Uint8Array): void => {
    if (!open.has(socket)) return;
    socket.data.unread = Buffer.concat([socket.data.unread, framed(answer)]);
    flush(socket);
  };
  return {
    open,
    handlers: {
      open(socket: TcpSocket) {
        socket.data = { held: new Uint8Array(0), unread: new Uint8Array(0), stopIdle: () => undefined };
        if (!answers(socket.remoteAddress) || open.size >= DNS.connections) return socket.terminate();
        open.add(socket);
        stayAwhile(socket);
      },
      data(socket: TcpSocket, chunk: Uint8Array) {
        if (!open.has(socket)) return;
        let held: Uint8Array = Buffer.concat([socket.data.held, chunk]);
        for (;;) {
          const end = held.length < 2 ? Infinity : 2 + (((held[0] ?? 0) << 8) | (held[1] ?? 0));
          if (held.length < end) break;
          stayAwhile(socket);
          turns.take(
            held.slice(2, end),
            () => TCP_BYTES,
            (answer) => send(socket, answer),
          );
          held = held.subarray(end);
        }
        socket.data.held = held;
        if (held.length > HELD_BYTES) socket.terminate();
      },
      drain: flush,
      close(socket: TcpSocket) {
        open.delete(socket);
        socket.data.stopIdle();
      },
      error(socket: TcpSocket) {
        socket.terminate();
      },
    },
  };
}

/** @throws {WarrenError} `driver_failed` – the address is not there, or has no port free */
export async function listenForNames(parts: ListenerParts): Promise<NameListener> {
  const answers = acrossLink(parts.hostname);
  let last: unknown;
  for (let attempt = 0; attempt < PORT_TRIES; attempt++) {
    const turns = new Turns(parts);
    const stack = new DisposableStack();
    try {
      const udp = await Bun.udpSocket({
        hostname: parts.hostname,
        port: 0,
        socket: {
          data(socket, bytes, port, address) {
            if (answers(address)) turns.take(bytes, udpLimit, (answer) => void socket.send(answer, port, address));
          },
          error: () => undefined, // an answer that could not be delivered: the client asks again
        },
      });
      stack.defer(() => udp.close());
      const { open, handlers } = tcpHandlers(parts, turns, answers);
      // The port is free for UDP; for TCP another may have it, and then the next try has another one.
      const tcp = Bun.listen({ hostname: parts.hostname, port: udp.port, socket: handlers });
      stack.defer(() => tcp.stop(true));
      stack.defer(() => {
        for (const socket of open) socket.terminate();
      });
      stack.defer(() => turns.close());
      const owned = stack.move();
      return { port: udp.port, close: () => owned.dispose() };
    } catch (error) {
      last = error;
      stack.dispose();
    }
  }
  throw new WarrenError("driver_failed", `no name server can listen on ${parts.hostname}: ${String(last)}`, {
    cause: last,
  });
}
