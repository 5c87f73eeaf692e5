/** What a new connection of the guest turns out to be, by its first bytes: TLS that is passed on, TLS that ends here, or HTTP. */
import { createSecureContext, type SecureContext, TLSSocket } from "node:tls";
import { BOUNDS } from "./bounds.ts";
import { type Hello, parseClientHello } from "./client-hello.ts";
import { Gathered } from "./http/reader.ts";
import type { Outcome, Passage, Setting } from "./passage.ts";
import { Session } from "./session.ts";
import { dial } from "./upstream.ts";
import { splice, Wire } from "./wire.ts";

const TLS_HANDSHAKE = 22;
const HTTPS = 443;
/** Fatal alerts (RFC 8446 6), so that a client can say more than that it was hung up on. */
const ALERT = { decode: 50, denied: 49, internal: 80, unknownName: 112, noProtocol: 120 } as const;

type Asked = Extract<Hello, { kind: "hello" }>;

/** Reads on until the hello is whole; null when the guest ended before. */
async function readHello(guest: Wire, held: Gathered): Promise<Exclude<Hello, { kind: "more" }> | null> {
  for (let least = 1; ; ) {
    if (held.length >= least) {
      const hello = parseClientHello(held.bytes);
      if (hello.kind !== "more") return hello;
      least = hello.bytes;
    }
    const bytes = await guest.read();
    if (bytes === null) return null;
    held.push(bytes);
  }
}

function contextFor({ options, contexts }: Setting, name: string): SecureContext {
  if (options.ca === null) throw new Error("a secret without an authority"); // its vault refuses that
  const { certPem, keyPem } = options.ca.leafFor(name);
  const known = contexts.get(name);
  if (known?.certPem === certPem) return known.context;
  const context = createSecureContext({ cert: certPem, key: keyPem, minVersion: "TLSv1.2" });
  contexts.set(name, { certPem, context });
  return context;
}

/** Resolves when the handshake is done. @throws {Error} when it failed */
async function handshake(socket: TLSSocket, wire: Wire): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("secure", resolve);
  wire.whenEnded(() => reject(new Error("no handshake")));
  await promise.finally(() => wire.whenEnded(null));
}

async function terminate(passage: Passage, name: string, hello: Uint8Array): Promise<void> {
  passage.guest.unread(hello);
  const raw = passage.guest.release();
  const socket = new TLSSocket(raw, {
    isServer: true,
    ALPNProtocols: ["http/1.1"],
    secureContext: contextFor(passage.setting, name),
  });
  passage.guest = new Wire(socket);
  try {
    await handshake(socket, passage.guest);
  } catch (error) {
    const reason = "the guest ended the TLS handshake: it does not trust the sandbox's authority, or gave up";
    passage.report({ name, port: HTTPS, verdict: "allowed", reason });
    throw error;
  }
  await new Session(passage, { scheme: "https", only: name }).serve();
}

async function passOn(passage: Passage, name: string, hello: Uint8Array): Promise<void> {
  const to = { name, port: HTTPS };
  passage.carrying = to;
  const dialled = await dial(passage, to, false);
  if (dialled.kind !== "open") {
    const verdict = dialled.kind === "refused" ? "refused" : "allowed";
    return await turnAway(passage, ALERT.internal, { ...to, verdict, reason: dialled.reason });
  }
  const { upstream } = dialled;
  passage.upstream = upstream;
  passage.report({ ...to, address: upstream.address, verdict: "allowed", reason: null });
  passage.deadline.set(BOUNDS.exchangeIdleMs);
  await upstream.wire.write(hello);
  await splice(passage.guest, upstream.wire, passage.moved);
}

async function turnAway(passage: Passage, alert: number, outcome: Outcome): Promise<void> {
  passage.report(outcome);
  await passage.guest.write(Uint8Array.of(21, 3, 3, 0, 2, 2, alert));
  await passage.farewell();
}

/** The alert and why, or null when it may go on. */
function refusal(passage: Passage, hello: Asked): readonly [number, string] | null {
  const { permits, vault } = passage.setting.policy;
  if (hello.name === null) return [ALERT.unknownName, "its TLS names no host (SNI)"];
  if (!permits(hello.name, HTTPS)) return [ALERT.denied, "the policy does not allow it"];
  if (vault.has(hello.name) && hello.protocols?.includes("http/1.1") === false) {
    return [ALERT.noProtocol, "a host with a secret is spoken to in HTTP/1.1, which the client does not offer"];
  }
  return null;
}

/** Carries one connection to its end. @throws {Error} when a side of it broke; the passage is to be ended in any case */
export async function receive(passage: Passage): Promise<void> {
  passage.deadline.set(BOUNDS.headMs);
  const first = await passage.guest.read();
  if (first === null) return;
  const none = { name: null, port: null, verdict: "refused" } as const;
  const byte = first[0] ?? 0;
  if (byte !== TLS_HANDSHAKE) {
    passage.guest.unread(first);
    if (/[A-Za-z]/.test(String.fromCharCode(byte))) {
      return await new Session(passage, { scheme: "http", only: null }).serve();
    }
    return passage.report({ ...none, reason: "neither TLS nor HTTP" });
  }
  const held = new Gathered();
  held.push(first);
  const hello = await readHello(passage.guest, held);
  if (hello === null) return;
  if (hello.kind === "bad") {
    const reason = `its TLS ClientHello is malformed: ${hello.reason}`;
    return await turnAway(passage, ALERT.decode, { ...none, port: HTTPS, reason });
  }
  const { name } = hello;
  const refused = refusal(passage, hello);
  if (refused !== null) {
    const [alert, reason] = refused;
    return await turnAway(passage, alert, { name, port: HTTPS, verdict: "refused", reason });
  }
  if (name === null) return; // refused above
  if (passage.setting.policy.vault.has(name)) await terminate(passage, name, held.bytes);
  else await passOn(passage, name, held.bytes);
}
