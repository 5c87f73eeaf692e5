/** DNS messages by hand, right or wrong, and the two ends that send them: a name server upstream and a program in a sandbox. */
import net from "node:net";
import { addressBytes, parseAddress } from "../../src/base/address.ts";
import { decodeMessage, type Message, type Question } from "../../src/egress/dns/message.ts";

const u16 = (value: number) => [(value >> 8) & 255, value & 255];
const u32 = (value: number) => [...u16(value >>> 16), ...u16(value & 0xffff)];

/** Uncompressed; a label may hold any character up to U+00FF. */
export function wireName(name: string): number[] {
  if (name === "") return [0];
  return [...name.split(".").flatMap((label) => [label.length, ...[...label].map((c) => c.charCodeAt(0))]), 0];
}

export interface WireRecord {
  readonly name: string;
  readonly type: number;
  readonly ttl?: number;
  readonly class?: number;
  readonly data: readonly number[];
}

export const a = (name: string, address: string, ttl = 60): WireRecord => {
  const parsed = parseAddress(address)!;
  return { name, type: parsed.family === 4 ? 1 : 28, ttl, data: [...addressBytes(parsed)] };
};
export const cname = (name: string, target: string, ttl = 60): WireRecord => {
  return { name, type: 5, ttl, data: wireName(target) };
};
export const opt = (udpBytes: number, version = 0): WireRecord => {
  return { name: "", type: 41, class: udpBytes, ttl: version << 16, data: [] };
};

export interface WireMessage {
  readonly id?: number;
  readonly flags?: number;
  readonly questions?: readonly Partial<Question>[];
  readonly answers?: readonly WireRecord[];
  readonly authorities?: readonly WireRecord[];
  readonly additional?: readonly WireRecord[];
}

export function wire({ id = 0, flags = 0, ...lists }: WireMessage): Uint8Array {
  const { questions = [], answers = [], authorities = [], additional = [] } = lists;
  const record = ({ name, type, ttl = 0, class: c = 1, data }: WireRecord) => [
    ...wireName(name),
    ...u16(type),
    ...u16(c),
    ...u32(ttl),
    ...u16(data.length),
    ...data,
  ];
  return Uint8Array.from([
    ...[id, flags, questions.length, answers.length, authorities.length, additional.length].flatMap(u16),
    ...questions.flatMap((q) => [...wireName(q.name ?? ""), ...u16(q.type ?? 1), ...u16(q.class ?? 1)]),
    ...[...answers, ...authorities, ...additional].flatMap(record),
  ]);
}

export interface Asking {
  readonly id: number;
  readonly question: Question;
  readonly over: "udp" | "tcp";
}

/** Packets to send back, none for silence. Over TCP each is sent with its length before it, and `raw` as it is. */
export type Replies = readonly (Uint8Array | { readonly raw: Uint8Array })[];

export interface Upstream {
  readonly server: { readonly address: string; readonly port: number };
  /** `name type over` of each question that came. */
  readonly asked: string[];
  close(): void;
}

/** A right answer to what was asked, with these records. */
export function reply({ id, question }: Asking, answers: readonly WireRecord[], flags = 0): Uint8Array {
  return wire({ id, flags: 0x8180 | flags, questions: [question], answers });
}

/** UDP and TCP on one port, which may be taken for one of them. */
async function onePort(take: (bytes: Uint8Array, over: "udp" | "tcp") => Promise<Replies>) {
  for (;;) {
    const udp = await Bun.udpSocket({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        async data(socket, bytes, port, address) {
          for (const one of await take(new Uint8Array(bytes), "udp"))
            socket.send("raw" in one ? one.raw : one, port, address);
        },
      },
    });
    try {
      const tcp = Bun.listen({
        hostname: "127.0.0.1",
        port: udp.port,
        socket: {
          async data(socket, bytes) {
            for (const one of await take(new Uint8Array(bytes.subarray(2)), "tcp"))
              socket.write("raw" in one ? one.raw : Uint8Array.from([...u16(one.length), ...one]));
          },
        },
      });
      return { udp, tcp };
    } catch {
      udp.close(); // another has it: once more
    }
  }
}

export async function upstream(answer: (asking: Asking) => Replies | Promise<Replies>): Promise<Upstream> {
  const asked: string[] = [];
  const take = async (bytes: Uint8Array, over: "udp" | "tcp"): Promise<Replies> => {
    const { id, questions } = decodeMessage(bytes);
    asked.push(`${questions[0]!.name} ${questions[0]!.type} ${over}`);
    return answer({ id, question: questions[0]!, over });
  };
  const { udp, tcp } = await onePort(take);
  return {
    server: { address: "127.0.0.1", port: udp.port },
    asked,
    close() {
      udp.close();
      tcp.stop(true);
    },
  };
}

/** A program in the sandbox: across the link from `127.0.0.1`. */
export interface Program {
  /** Bytes that came, in order. */
  readonly came: Uint8Array[];
  send(bytes: Uint8Array): void;
  /** The answer to one query. */
  ask(name: string, type?: number, more?: WireMessage): Promise<Message>;
  close(): void;
}

export async function program(port: number, from = "127.0.0.2"): Promise<Program> {
  const came: Uint8Array[] = [];
  const waiting = new Map<number, (bytes: Uint8Array) => void>();
  const socket = await Bun.udpSocket({
    hostname: from,
    port: 0,
    socket: {
      data(_, bytes) {
        const copy = new Uint8Array(bytes);
        came.push(copy);
        waiting.get((copy[0]! << 8) | copy[1]!)?.(copy);
      },
    },
  });
  let id = 100;
  return {
    came,
    send: (bytes) => void socket.send(bytes, port, "127.0.0.1"),
    ask(name, type = 1, more = {}) {
      const mine = ++id;
      const { promise, resolve } = Promise.withResolvers<Message>();
      waiting.set(mine, (bytes) => resolve(decodeMessage(bytes)));
      socket.send(wire({ id: mine, flags: 0x0100, questions: [{ name, type }], ...more }), port, "127.0.0.1");
      return promise;
    },
    close: () => socket.close(),
  };
}

/** Writes to a TCP port from the sandbox's end; resolves with all that came once the other side hangs up or `enough` came. */
export function overTcp(
  port: number,
  bytes: Uint8Array,
  { from = "127.0.0.2", enough = Infinity }: { readonly from?: string; readonly enough?: number } = {},
): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const came: Buffer[] = [];
    const socket = net.connect({ host: "127.0.0.1", port, localAddress: from }, () => void socket.write(bytes));
    socket.on("data", (chunk: Buffer) => {
      came.push(chunk);
      if (Buffer.concat(came).length >= enough) socket.destroy();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(new Uint8Array(Buffer.concat(came))));
  });
}
