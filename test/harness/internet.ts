/**
 * An internet for network tests: a namespace in which every address that a sandbox may try really answers, linked to this
 * process's own namespace, which must not be the machine's (`test/run.ts` sees to that). And this host, as a sandbox may try it:
 * services on every address of it, which nothing may reach.
 */
import { closeSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasCode } from "../../ffi/native.ts";
import { NETLINK_ROUTE, openNetlink } from "../../ffi/net/netlink.ts";
import { namespaceOf } from "../../ffi/net/netns.ts";
import { Netlink } from "../../src/host/net/message.ts";
import { addAddress, addDefaultRoute, addVeth, removeLink, up } from "../../src/host/net/route.ts";
import { gate } from "./gates.ts";
import type { Zone } from "./peer/dns.ts";
import type { Report, Told } from "./peer/peer.ts";

/** Everywhere in the test's internet, and on this host, something answers at these ports, TCP and UDP. */
export const ECHO_PORT = 7;
export const OTHER_PORT = 4007;
/** What sandboxes' names are asked of. */
export const NAME_SERVER = "9.9.9.9";
/** This host's addresses: one that looks public, one of a local network. */
export const HOST = {
  public4: "81.2.69.142",
  public6: "2a02:6b8:1::2",
  local4: "192.168.50.1",
  local6: "fd12:3456::1",
} as const;
const GATEWAY = { v4: "81.2.69.1", v6: "2a02:6b8:1::1" } as const;
const LINK = {
  here: { name: "up0", index: 900, mac: "02:00:00:00:00:02" },
  there: { name: "down0", index: 901, mac: "02:00:00:00:00:01" },
};
const LOOPBACK = 1;
const PEER = join(import.meta.dir, "peer/peer.ts");

/** True when VMs can run here and this process has a network namespace of its own; prints why not. */
export function networkGate(): boolean {
  if (!gate("vm")) return false;
  const outer = process.env["OUTER_NETNS"];
  if (outer !== undefined && outer !== readlinkSync("/proc/self/ns/net")) return true;
  console.warn("skipped: network tests want a network namespace of their own: `bun test/run.ts` makes one");
  return false;
}

interface Pending {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Internet implements AsyncDisposable {
  readonly #child: Bun.Subprocess;
  readonly #stack: AsyncDisposableStack;
  readonly #pending: Map<number, Pending>;
  /** Who reached a service of this host. */
  readonly hostReached: string[];
  #next = 1;

  private constructor(
    parts: Pick<Internet, "hostReached"> & {
      child: Bun.Subprocess;
      stack: AsyncDisposableStack;
      pending: Map<number, Pending>;
    },
  ) {
    this.#child = parts.child;
    this.#stack = parts.stack;
    this.#pending = parts.pending;
    this.hostReached = parts.hostReached;
  }

  /** @param addresses what is there, beside the name server */
  static async open(addresses: readonly string[]): Promise<Internet> {
    await using stack = new AsyncDisposableStack();
    const pending = new Map<number, Pending>();
    const ready = Promise.withResolvers<unknown>();
    pending.set(0, ready);
    const child = Bun.spawn(["unshare", "--net", process.execPath, PEER], {
      stdout: "inherit",
      stderr: "inherit",
      ipc({ id, answer, failed }: { readonly id: number; readonly answer?: unknown; readonly failed?: string }) {
        const job = pending.get(id);
        pending.delete(id);
        if (failed === undefined) job?.resolve(answer);
        else job?.reject(new Error(failed));
      },
    });
    stack.defer(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    await ready.promise;
    connect(child.pid);
    stack.defer(disconnect);
    const internet = new Internet({ child, stack: new AsyncDisposableStack(), pending, hostReached: [] });
    await internet.#tell({
      kind: "start",
      link: LINK.there,
      own: [
        { address: GATEWAY.v4, bits: 24 },
        { address: GATEWAY.v6, bits: 64 },
      ],
      gateways: [HOST.public4, HOST.public6],
      addresses: [...addresses, NAME_SERVER],
      echoPorts: [ECHO_PORT, OTHER_PORT],
      nameServer: NAME_SERVER,
    });
    await internet.#serveHost(stack);
    internet.#stack.use(stack.move());
    return internet;
  }

  #tell(told: Told): Promise<unknown> {
    const id = this.#next++;
    const job = Promise.withResolvers<unknown>();
    this.#pending.set(id, job);
    this.#child.send({ id, told });
    return job.promise;
  }

  /** What a name stands for from now on; null: there is no such name. */
  async name(name: string, zone: Zone | null): Promise<void> {
    await this.#tell({ kind: "zone", name, zone });
  }

  /** A file that every host there gives over HTTP. */
  async file(path: string, type: string, body: string | Uint8Array): Promise<void> {
    await this.#tell({ kind: "file", path, type, base64: Buffer.from(body).toString("base64") });
  }

  /** A host that answers over TLS whether it was shown the `Authorization` that it wants. */
  async vault(
    address: string,
    leaf: { readonly certPem: string; readonly keyPem: string },
    authorization: string,
  ): Promise<void> {
    await this.#tell({ kind: "vault", address, ...leaf, authorization });
  }

  /** What came there since the last call. */
  async report(): Promise<Report> {
    return (await this.#tell({ kind: "report" })) as Report;
  }

  async #serveHost(stack: AsyncDisposableStack): Promise<void> {
    for (const port of [ECHO_PORT, OTHER_PORT]) {
      const listener = Bun.listen({
        hostname: "::",
        port,
        socket: {
          open: (socket) => {
            this.hostReached.push(`tcp ${socket.remoteAddress} > ${port}`);
            socket.write("HOST\n");
          },
          data: () => undefined,
        },
      });
      stack.defer(() => listener.stop(true));
      // One socket for all would answer from another address than was asked.
      for (const hostname of Object.values(HOST)) {
        const socket = await Bun.udpSocket({
          hostname,
          port,
          socket: {
            data: (own, _bytes, fromPort, from) => {
              this.hostReached.push(`udp ${from} > ${port}`);
              own.send("HOST", fromPort, from);
            },
            error: () => undefined, // whoever asked does not listen any more
          },
        });
        stack.defer(() => socket.close());
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** The link to the peer's namespace, this end of it, and this host's other addresses. */
function connect(pid: number): void {
  const nsFd = namespaceOf(pid);
  const route = openNetlink(NETLINK_ROUTE);
  try {
    const nl = new Netlink(route);
    up(nl, { name: "lo", index: LOOPBACK });
    addVeth(nl, LINK.here, { ...LINK.there, nsFd });
    addAddress(nl, LINK.here.index, HOST.public4, 24);
    addAddress(nl, LINK.here.index, HOST.public6, 64);
    addAddress(nl, LINK.here.index, HOST.local4, 32);
    addAddress(nl, LINK.here.index, HOST.local6, 128);
    up(nl, LINK.here);
    addDefaultRoute(nl, GATEWAY.v4, LINK.here.index);
    addDefaultRoute(nl, GATEWAY.v6, LINK.here.index);
    nl.flush();
    // The operator's choice: Warren never switches it on, as a host that forwards IPv6 stops listening to routers.
    writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  } finally {
    closeSync(nsFd);
    closeSync(route);
  }
}

/** Both ends; by itself the link would outlive its namespace for a while. */
function disconnect(): void {
  const route = openNetlink(NETLINK_ROUTE);
  try {
    const nl = new Netlink(route);
    removeLink(nl, LINK.here.index);
    nl.flush();
  } catch (error) {
    if (!hasCode(error, "ENODEV")) throw error; // its other end's namespace has taken it away
  } finally {
    closeSync(route);
  }
}
