/**
 * The internet, as a process in a network namespace of its own: every address that a test may try is its own and answers. TCP and
 * UDP echo with the address that was reached, ICMP by the kernel, a name server, and files over HTTP. Told by its parent over IPC.
 */
import { writeFileSync } from "node:fs";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { Netlink } from "../../../src/host/net/message.ts";
import { addAddress, addDefaultRoute, up } from "../../../src/host/net/route.ts";
import { Names, type Zone } from "./dns.ts";

export interface Start {
  readonly kind: "start";
  readonly link: { readonly name: string; readonly index: number };
  readonly own: readonly { readonly address: string; readonly bits: number }[];
  readonly gateways: readonly string[];
  readonly addresses: readonly string[];
  readonly echoPorts: readonly number[];
  readonly nameServer: string;
}

export type Told =
  | Start
  | { readonly kind: "zone"; readonly name: string; readonly zone: Zone | null }
  | { readonly kind: "file"; readonly path: string; readonly type: string; readonly base64: string }
  /** Over TLS at port 443 of one of the addresses: whether a request has `authorization` as told, and which names it was for. */
  | {
      readonly kind: "vault";
      readonly address: string;
      readonly certPem: string;
      readonly keyPem: string;
      readonly authorization: string;
    }
  | { readonly kind: "report" };

export interface Report {
  /** `tcp FROM > TO`, `udp FROM > TO`, `http HOST PATH`: who was reached, since the last report. */
  readonly arrived: readonly string[];
  /** Questions to the name server since the last report. */
  readonly asked: readonly string[];
  /** Packets that came over the link since it was there. */
  readonly packets: number;
}

const LOOPBACK = 1;
const names = new Names();
const files = new Map<string, { readonly type: string; readonly bytes: Uint8Array }>();
let arrived: string[] = [];

const bracketed = (address: string): string => (address.includes(":") ? `[${address}]` : address);

function configure({ link, own, gateways, addresses }: Start): void {
  const nl = new Netlink(openNetlink(NETLINK_ROUTE));
  up(nl, { name: "lo", index: LOOPBACK });
  for (const { address, bits } of own) addAddress(nl, link.index, address, bits);
  up(nl, link);
  for (const address of addresses) addAddress(nl, LOOPBACK, address, address.includes(":") ? 128 : 32);
  for (const gateway of gateways) addDefaultRoute(nl, gateway, link.index);
  nl.flush();
  // Every refusal is to be seen, however many there are at once.
  writeFileSync("/proc/sys/net/ipv4/icmp_ratelimit", "0");
  writeFileSync("/proc/sys/net/ipv6/icmp/ratelimit", "0");
}

/** What was reached is said at once, and whatever comes is sent back: `ECHO address\n`. */
async function echo(address: string, port: number): Promise<void> {
  const says = `ECHO ${address}`;
  Bun.listen({
    hostname: address,
    port,
    socket: {
      open(socket) {
        arrived.push(`tcp ${socket.remoteAddress} > ${bracketed(address)}:${port}`);
        socket.write(`${says}\n`);
      },
      data: (socket, bytes) => void socket.write(bytes),
      error: () => undefined, // the guest went away
    },
  });
  await Bun.udpSocket({
    hostname: address,
    port,
    socket: {
      data(socket, _bytes, fromPort, from) {
        arrived.push(`udp ${from} > ${bracketed(address)}:${port}`);
        socket.send(says, fromPort, from);
      },
      error: () => undefined, // the guest does not listen any more
    },
  });
}

async function answerNames(address: string): Promise<void> {
  await Bun.udpSocket({
    hostname: address,
    port: 53,
    socket: {
      data: (socket, bytes, port, from) => void socket.send(names.answer(bytes), port, from),
      error: () => undefined, // the asker does not listen any more
    },
  });
  Bun.listen({
    hostname: address,
    port: 53,
    socket: {
      data(socket, bytes) {
        const answer = names.answer(bytes.subarray(2));
        socket.write(Uint8Array.of(answer.length >> 8, answer.length & 255, ...answer));
      },
      error: () => undefined, // the asker went away
    },
  });
}

function serveFiles(address: string): void {
  Bun.serve({
    hostname: address,
    port: 80,
    fetch(request) {
      const { host, pathname } = new URL(request.url);
      arrived.push(`http ${host} ${pathname}`);
      const file = files.get(pathname);
      return file === undefined
        ? new Response("there is no such file\n", { status: 404 })
        : new Response(file.bytes as Uint8Array<ArrayBuffer>, { headers: { "content-type": file.type } });
    },
  });
}

function serveVault({ address, certPem, keyPem, authorization }: Extract<Told, { kind: "vault" }>): void {
  Bun.serve({
    hostname: address,
    port: 443,
    tls: { cert: certPem, key: keyPem },
    fetch(request) {
      const { host, pathname } = new URL(request.url);
      arrived.push(`https ${host} ${pathname}`);
      return new Response(request.headers.get("authorization") === authorization ? "open\n" : "closed\n");
    },
  });
}

async function start(told: Start): Promise<void> {
  configure(told);
  for (const address of told.addresses) {
    for (const port of told.echoPorts) await echo(address, port);
    serveFiles(address);
  }
  await answerNames(told.nameServer);
}

async function packets(link: string): Promise<number> {
  const line = (await Bun.file("/proc/net/dev").text()).split("\n").find((text) => text.trim().startsWith(`${link}:`));
  return Number(line?.split(":")[1]?.trim().split(/\s+/)[1] ?? Number.NaN);
}

let link = "";
async function obey(told: Told): Promise<unknown> {
  if (told.kind === "start") {
    link = told.link.name;
    await start(told);
  } else if (told.kind === "vault") serveVault(told);
  else if (told.kind === "zone") names.set(told.name, told.zone);
  else if (told.kind === "file") files.set(told.path, { type: told.type, bytes: Buffer.from(told.base64, "base64") });
  else {
    const report: Report = { arrived, asked: names.asked.splice(0), packets: await packets(link) };
    arrived = [];
    return report;
  }
  return null;
}

if (import.meta.main) {
  process.on("message", ({ id, told }: { readonly id: number; readonly told: Told }) => {
    obey(told).then(
      (answer) => process.send?.({ id, answer }),
      (error: unknown) => process.send?.({ id, failed: String(error instanceof Error ? error.stack : error) }),
    );
  });
  process.on("disconnect", () => process.exit(0)); // the test is over, or was killed
  process.send?.({ id: 0, answer: null });
}
