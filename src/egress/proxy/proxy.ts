/** The listener of one sandbox's proxy: how many connections there may be, what a new policy does to those that are open, the end. */
import { createServer, type Server, type Socket } from "node:net";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "./bounds.ts";
import { Passage, type Policy, type Setting } from "./passage.ts";
import { receive } from "./receive.ts";
import { Vault } from "./secrets.ts";
import type { EgressProxy, ProxyOptions } from "./types.ts";

/** A port that is free on one address may be taken on the other. */
const PORT_TRIES = 20;

class Listening implements EgressProxy {
  readonly #setting: Setting;
  readonly #passages = new Map<Passage, Promise<void>>();
  readonly #servers: Server[] = [];
  #port = 0;
  #full = false;
  #closed = false;

  constructor({ permits, secrets, inspect, ...options }: ProxyOptions) {
    const policy = { permits, inspect, vault: new Vault(secrets, options.ca) };
    this.#setting = { options, policy, contexts: new Map() };
  }

  get port(): number {
    return this.#port;
  }

  async listen(): Promise<void> {
    const { hostname, alsoOn } = this.#setting.options;
    for (let tries = 1; ; tries++) {
      try {
        this.#port = await this.#listenOn(hostname, 0);
        if (alsoOn !== null) await this.#listenOn(alsoOn, this.#port);
        return;
      } catch (cause) {
        await this.#stopListening();
        const taken = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE";
        if (taken && tries < PORT_TRIES) continue;
        throw new WarrenError("driver_failed", `the egress proxy cannot listen on ${hostname}`, { cause });
      }
    }
  }

  update({ permits, secrets, inspect }: Parameters<EgressProxy["update"]>[0]): void {
    const { policy, options } = this.#setting;
    const next: Policy = {
      permits: permits ?? policy.permits,
      inspect: inspect ?? policy.inspect,
      vault: secrets === undefined ? policy.vault : new Vault(secrets, options.ca),
    };
    this.#setting.policy = next;
    for (const passage of this.#passages.keys()) if (!passage.stillPermitted) passage.end();
  }

  async close(): Promise<void> {
    this.#closed = true;
    const stopped = this.#stopListening();
    for (const passage of this.#passages.keys()) passage.end();
    await Promise.all([stopped, ...this.#passages.values()]);
  }

  async #listenOn(host: string, port: number): Promise<number> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ host, port, ipv6Only: host.includes(":") }, resolve);
    await promise;
    server.on("error", (error) =>
      this.#setting.options.log.warn("the egress proxy's listener", { error: error.message }),
    );
    this.#servers.push(server);
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : port;
  }

  async #stopListening(): Promise<void> {
    const all = this.#servers.splice(0);
    await Promise.all(all.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
  }

  #accept(socket: Socket): void {
    if (this.#closed || this.#passages.size >= BOUNDS.connections) {
      socket.on("error", () => undefined); // it is gone anyway
      socket.destroy();
      if (!this.#full)
        this.#setting.options.log.warn("a sandbox has as many connections to its egress proxy as it may");
      this.#full = true;
      return;
    }
    this.#full = false;
    const passage = new Passage(this.#setting, socket);
    const carried = receive(passage)
      // A side that breaks is everyday life, and anything else must not reach further than this connection.
      .catch((error: unknown) => this.#setting.options.log.debug("egress connection", { error: String(error) }))
      .finally(() => {
        passage.end();
        this.#passages.delete(passage);
      });
    this.#passages.set(passage, carried);
  }
}

/**
 * Listens for one sandbox's connections.
 * @throws {WarrenError} `invalid_request` – for a secret that cannot be set, or of a host that `ca` was not made for; `driver_failed` – when it cannot listen
 */
export async function startProxy(options: ProxyOptions): Promise<EgressProxy> {
  const proxy = new Listening(options);
  await proxy.listen();
  return proxy;
}
