/**
 * What runs inside an anonymous namespace of `netns.ts`: takes commands as lines of JSON, uses real sockets there, and ends with
 * its input, and the namespace with it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { call, hasCode, memory } from "../../ffi/native.ts";
import { addressBytes, type IpAddress, parseAddress } from "../../src/base/address.ts";
import { systemClock } from "../../src/base/clock.ts";

/** What became of a try: an answer, a refusal that came at once, or nothing until the deadline. */
export type Outcome = "ok" | "refused" | "silent";

const [DGRAM, RAW, NONBLOCK] = [2, 3, 0o4000];
const ICMP = { 4: 1, 6: 58 } as const;
const LOOK_MS = 3;
/** What a refusal may look like to a socket. */
const REFUSALS = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "EPROTO"];

function addressOf(host: string): IpAddress {
  const address = parseAddress(host);
  if (address === null) throw new TypeError(`no address: ${host}`);
  return address;
}

function sockaddr(host: string, port: number): Uint8Array<ArrayBuffer> {
  const address = addressOf(host);
  const bytes = memory(address.family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, address.family === 4 ? 2 : 10, true);
  view.setUint16(2, port, false);
  bytes.set(addressBytes(address), address.family === 4 ? 4 : 8);
  return bytes;
}

function socket(host: string, type: number, protocol: number): number {
  return call("socket", addressOf(host).family === 4 ? 2 : 10, type | NONBLOCK, protocol);
}

function bind(fd: number, host: string, port: number): void {
  const to = sockaddr(host, port);
  call("bind", fd, to, to.length);
}

/** Sends one packet and waits for one that `fits`; an error that the network reports ends it. */
async function ask(
  fd: number,
  to: Uint8Array<ArrayBuffer>,
  packet: Uint8Array<ArrayBuffer>,
  deadlineMs: number,
  fits: (answer: Uint8Array) => boolean,
): Promise<Outcome> {
  const room = memory(2048);
  const endMs = systemClock.monotonicMs() + deadlineMs;
  try {
    call("connect", fd, to, to.length);
    call("send", fd, packet, packet.length, 0);
    while (systemClock.monotonicMs() < endMs) {
      try {
        const got = call("recv", fd, room, room.length, 0);
        if (fits(room.subarray(0, got))) return "ok";
      } catch (error) {
        if (!hasCode(error, "EAGAIN", "EWOULDBLOCK")) throw error;
        await systemClock.sleep(LOOK_MS);
      }
    }
    return "silent";
  } catch (error) {
    if (hasCode(error, ...REFUSALS)) return "refused";
    throw error;
  } finally {
    call("close", fd);
  }
}

function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

let pings = 1;
function echo(family: 4 | 6, type: number): Uint8Array<ArrayBuffer> {
  const packet = memory(16);
  const view = new DataView(packet.buffer);
  packet[0] = type;
  view.setUint16(4, pings++); // another flow each time
  if (family === 4) view.setUint16(2, checksum(packet));
  return packet;
}

/** What the last connection there was answered. */
const answers = new Map<string, string>();

interface Stream {
  readonly socket: Bun.Socket<undefined>;
  bytes: number;
  ended: boolean;
}

const streams = new Map<string, Stream>();
const raws = new Map<number, { readonly fd: number; count: number }>();

function opened(host: string, port: number, stream: { bytes: number; ended: boolean }): Promise<Bun.Socket<undefined>> {
  return Bun.connect<undefined>({
    hostname: host,
    port,
    socket: {
      data: (_, bytes) => {
        stream.bytes += bytes.length;
        answers.set(`${host} ${port}`, bytes.toString());
      },
      close: () => {
        stream.ended = true;
      },
      error: () => {
        stream.ended = true;
      },
    },
  });
}

async function tcp(host: string, port: number, deadlineMs: number): Promise<Outcome> {
  const stream = { bytes: 0, ended: false };
  const tried = opened(host, port, stream).then(
    (connected) => connected,
    () => null,
  );
  const late = systemClock.sleep(deadlineMs).then(() => "late" as const);
  const first = await Promise.race([tried, late]);
  if (first === "late") {
    void tried.then((connected) => connected?.terminate());
    return "silent";
  }
  if (first === null) return "refused";
  first.write("x");
  const endMs = systemClock.monotonicMs() + deadlineMs;
  while (stream.bytes === 0 && !stream.ended && systemClock.monotonicMs() < endMs) await systemClock.sleep(LOOK_MS);
  first.terminate();
  return stream.bytes > 0 ? "ok" : stream.ended ? "refused" : "silent";
}

/** Listens; a source sends by itself for as long as the connection is open, an echo what it gets, a proxy says its name. */
function tcpServe(
  hosts: readonly string[],
  port: number,
  kind: "echo" | "source" | "proxy",
  everyMs: number,
  bytes: number,
): void {
  for (const hostname of hosts) {
    Bun.listen<undefined>({
      hostname,
      port,
      socket: {
        open: (client) => {
          if (kind !== "source") return;
          const chunk = new Uint8Array(bytes);
          const send = (): void => {
            if (client.readyState !== 1) return;
            client.write(chunk);
            systemClock.after(everyMs, send);
          };
          send();
        },
        data: (client, got) => {
          if (kind !== "source") client.write(kind === "proxy" ? "proxy" : got);
        },
      },
    });
  }
}

async function udpServe(hosts: readonly string[], port: number): Promise<void> {
  for (const hostname of hosts) {
    await Bun.udpSocket({
      hostname,
      port,
      socket: {
        data: (own, bytes, fromPort, from) => void own.send(bytes, fromPort, from),
        error: () => undefined, // who asked has gone before the answer came
      },
    });
  }
}

function rawListen(host: string, protocol: number): void {
  raws.set(protocol, { fd: socket(host, RAW, protocol), count: 0 });
}

function rawCount(protocol: number): number {
  const raw = raws.get(protocol);
  if (raw === undefined) throw new TypeError("nobody listens");
  const room = memory(2048);
  for (;;) {
    try {
      call("recv", raw.fd, room, room.length, 0);
      raw.count += 1;
    } catch (error) {
      if (hasCode(error, "EAGAIN", "EWOULDBLOCK")) return raw.count;
      throw error;
    }
  }
}

/** As fast as it goes, each from a socket of its own: so many new flows. How long it took: ms. */
function flood(host: string, port: number, count: number, spread: boolean): number {
  const startMs = systemClock.monotonicMs();
  for (let i = 0; i < count; i++) {
    const fd = socket(host, DGRAM, 0);
    const to = sockaddr(host, spread ? 1024 + (i % 60_000) : port);
    try {
      call("connect", fd, to, to.length);
      call("send", fd, memory(8), 8, 0);
    } catch (error) {
      if (!hasCode(error, ...REFUSALS)) throw error;
    } finally {
      call("close", fd);
    }
  }
  return systemClock.monotonicMs() - startMs;
}

/** ARP questions about `gateway` in the name of so many addresses that are not ours, on eth0. */
function arpFlood(gateway: string, count: number): void {
  const [PACKET, ARP, BYTES] = [17, 0x0806, 42];
  const fd = call("socket", PACKET, RAW, 0);
  const at = memory(20);
  const view = new DataView(at.buffer);
  view.setUint16(0, PACKET, true);
  view.setUint16(2, ARP, false);
  const shown = Bun.spawnSync(["ip", "-o", "link", "show", "eth0"]).stdout.toString();
  view.setInt32(4, Number.parseInt(shown, 10), true);
  call("bind", fd, at, at.length);
  const mac = /link\/ether (\S+)/.exec(shown)?.[1]?.split(":") ?? [];
  const own = mac.map((part) => Number.parseInt(part, 16));
  const frame = memory(BYTES);
  frame.set([255, 255, 255, 255, 255, 255, ...own, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...own]);
  frame.set(addressBytes(addressOf(gateway)), 38);
  for (let i = 0; i < count; i++) {
    new DataView(frame.buffer).setUint32(28, 0x0b20_0000 + i);
    call("send", fd, frame, BYTES, 0);
  }
  call("close", fd);
}

/** Packets of one flow, and how many of them were answered as they were. */
async function upload(host: string, port: number, count: number, bytes: number, deadlineMs: number): Promise<number> {
  const fd = socket(host, DGRAM, 0);
  const [to, packet, room] = [sockaddr(host, port), memory(bytes), memory(65_536)];
  let answered = 0;
  try {
    call("connect", fd, to, to.length);
    for (let i = 0; i < count; i++) call("send", fd, packet, packet.length, 0);
    const endMs = systemClock.monotonicMs() + deadlineMs;
    while (answered < count && systemClock.monotonicMs() < endMs) {
      try {
        if (call("recv", fd, room, room.length, 0) === bytes) answered += 1;
      } catch (error) {
        if (!hasCode(error, "EAGAIN", "EWOULDBLOCK", ...REFUSALS)) throw error;
        await systemClock.sleep(LOOK_MS);
      }
    }
    return answered;
  } finally {
    call("close", fd);
  }
}

function ip(lines: readonly string[]): void {
  const done = Bun.spawnSync(["ip", "-batch", "-"], { stdin: Buffer.from(lines.join("\n")), stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(`ip: ${done.stderr.toString()}`);
}

async function udp(
  host: string,
  port: number,
  deadlineMs: number,
  from: { host?: string; port?: number },
): Promise<Outcome> {
  const fd = socket(host, DGRAM, 0);
  if (from.host !== undefined || from.port !== undefined) {
    bind(fd, from.host ?? (addressOf(host).family === 4 ? "0.0.0.0" : "::"), from.port ?? 0);
  }
  return ask(fd, sockaddr(host, port), memory(8), deadlineMs, () => true);
}

async function ping(host: string, deadlineMs: number, type: number | undefined): Promise<Outcome> {
  const { family } = addressOf(host);
  const packet = echo(family, type ?? (family === 4 ? 8 : 128));
  const answer = family === 4 ? 0 : 129;
  const mine = (got: Uint8Array): boolean => {
    const icmp = family === 4 ? got.subarray(((got[0] ?? 0) & 15) * 4) : got;
    return icmp[0] === answer && Buffer.from(icmp.subarray(4, 8)).equals(packet.subarray(4, 8));
  };
  return ask(socket(host, RAW, ICMP[family]), sockaddr(host, 0), packet, deadlineMs, mine);
}

/** A packet of this protocol; what becomes of it is seen at the other end. */
function rawSend(host: string, protocol: number): void {
  const fd = socket(host, RAW, protocol);
  const to = sockaddr(host, 0);
  try {
    call("connect", fd, to, to.length);
    call("send", fd, memory(32), 32, 0);
  } finally {
    call("close", fd);
  }
}

async function open(name: string, host: string, port: number): Promise<void> {
  const state = { bytes: 0, ended: false };
  const connected = await opened(host, port, state);
  streams.set(name, Object.assign(state, { socket: connected }));
}

function stream(name: string): Stream {
  const found = streams.get(name);
  if (found === undefined) throw new TypeError(`no stream ${name}`);
  return found;
}

const ACTIONS = {
  ip,
  read: (path: string): string => readFileSync(path, "utf8"),
  write: (path: string, text: string): void => writeFileSync(path, text),
  tcp,
  udp,
  ping,
  tcpServe,
  udpServe,
  rawListen,
  rawCount,
  rawSend,
  flood,
  upload,
  arpFlood,
  open,
  answered: (host: string, port: number): string => answers.get(`${host} ${port}`) ?? "",
  seen: (name: string) => ({ bytes: stream(name).bytes, ended: stream(name).ended }),
  say: (name: string): void => void stream(name).socket.write("x"),
  close: (name: string): void => void stream(name).socket.terminate(),
};
export type Actions = typeof ACTIONS;

async function answer(line: string): Promise<void> {
  const { id, action, args } = JSON.parse(line) as { id: number; action: keyof Actions; args: never[] };
  try {
    const result: unknown = await (ACTIONS[action] as (...all: never[]) => unknown)(...args);
    process.stdout.write(`${JSON.stringify({ id, result: result ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ id, error: error instanceof Error ? error.message : String(error) })}\n`);
  }
}

if (import.meta.main) {
  process.stdout.write(`${JSON.stringify({ id: 0, result: null })}\n`);
  for await (const line of console) void answer(line);
  process.exit(0);
}
