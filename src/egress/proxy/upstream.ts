/** Connections to the world: by our own resolution of a name, verified for that name when they are for a secret. */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { formatAddress, type IpAddress } from "../../base/address.ts";
import { BOUNDS } from "./bounds.ts";
import type { Destination, Passage } from "./passage.ts";
import type { ProxyOptions } from "./types.ts";
import { Wire } from "./wire.ts";

export interface Upstream extends Destination {
  readonly wire: Wire;
  readonly address: IpAddress;
}

export type Dialled =
  | { readonly kind: "open"; readonly upstream: Upstream }
  /** `refused`: there is no address that it may have. */
  | { readonly kind: "refused" | "failed"; readonly reason: string };

let systemRoots: SecureContext | null = null;
const testRoots = new WeakMap<readonly string[], SecureContext>();

/** Reading some 150 certificates takes milliseconds: once a process. The runtime's own list is for hosts without one. */
function rootsOf({ connectTo }: Pick<ProxyOptions, "connectTo">): SecureContext {
  if (connectTo !== undefined) {
    const known = testRoots.get(connectTo.roots) ?? createSecureContext({ ca: [...connectTo.roots] });
    testRoots.set(connectTo.roots, known);
    return known;
  }
  if (systemRoots === null) {
    const system = getCACertificates("system");
    systemRoots = createSecureContext({ ca: system.length > 0 ? system : getCACertificates("bundled") });
  }
  return systemRoots;
}

/** What an error of a socket may tell a guest: its code, which has no secrets in it. */
function codeOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? code : "no connection";
}

function begin(passage: Passage, address: IpAddress, { name, port }: Destination, secure: boolean): Socket {
  const { options } = passage.setting;
  const to = { host: formatAddress(address), port: options.connectTo?.port(port) ?? port, allowHalfOpen: true };
  if (!secure) return connectPlain({ ...to, noDelay: true });
  const secureContext = rootsOf(options);
  return connectTls({
    ...to,
    servername: name,
    secureContext,
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
  });
}

/** One attempt at one address. @throws {Error} what a socket says, or that it took too long */
async function attempt(passage: Passage, address: IpAddress, to: Destination, secure: boolean): Promise<Wire> {
  const socket = begin(passage, address, to, secure);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  promise.catch(() => undefined); // it may come to nothing after this attempt was given up
  const late = passage.setting.options.clock.after(
    BOUNDS.dialMs,
    () => reject(Object.assign(new Error("late"), { code: "ETIMEDOUT" })),
    { background: true },
  );
  const stop = (): void => reject(passage.signal.reason);
  passage.signal.addEventListener("abort", stop, { once: true });
  socket.on("error", reject);
  socket.on("close", () => reject(new Error("closed")));
  socket.once(secure ? "secureConnect" : "connect", () => {
    // The runtime has checked chain and name; this is only for the day on which it would not.
    if (secure && (socket as Socket & { authorized?: boolean }).authorized !== true) reject(new Error("not verified"));
    else resolve();
  });
  try {
    passage.signal.throwIfAborted();
    await promise;
    return new Wire(socket);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    late();
    passage.signal.removeEventListener("abort", stop);
  }
}

/** Asks for the name's addresses, for so long. @throws {Error} whatever the resolver throws */
async function addresses(passage: Passage, name: string): Promise<readonly IpAddress[]> {
  const { clock, resolve } = passage.setting.options;
  const asked = new AbortController();
  const late = clock.sleep(BOUNDS.dialMs, AbortSignal.any([asked.signal, passage.signal])).then(() => {
    throw Object.assign(new Error("late"), { code: "ETIMEDOUT" });
  });
  try {
    return await Promise.race([resolve(name), late]);
  } finally {
    late.catch(() => undefined); // nobody waits for it any more
    asked.abort();
  }
}

/** Tries the name's addresses in order. Never throws; the passage's end ends it. */
export async function dial(passage: Passage, to: Destination, secure: boolean): Promise<Dialled> {
  let found: readonly IpAddress[];
  try {
    found = await addresses(passage, to.name);
  } catch (error) {
    return { kind: "failed", reason: `its name has no answer: ${codeOf(error)}` };
  }
  if (found.length === 0) return { kind: "refused", reason: "it has no address that may be reached" };
  let reason = "";
  for (const address of found.slice(0, BOUNDS.dialAddresses)) {
    try {
      const wire = await attempt(passage, address, to, secure);
      return { kind: "open", upstream: { ...to, wire, address } };
    } catch (error) {
      reason = codeOf(error);
    }
    if (passage.signal.aborted) break;
  }
  return { kind: "failed", reason: `it could not be reached: ${reason}` };
}
