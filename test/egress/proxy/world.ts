/** A small internet on loopback for the proxy: servers with real TLS under an authority of their own, and guests that speak raw. */
import { connect as connectTcp, createServer as createTcp, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls, createServer as createTls, type TLSSocket } from "node:tls";
import { parseAddress } from "../../../src/base/address.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import type { NetworkEvent } from "../../../src/contract/routes/network.ts";
import { createAuthority } from "../../../src/egress/proxy/ca/authority.ts";
import { startProxy } from "../../../src/egress/proxy/proxy.ts";
import type { CertificateAuthority, EgressProxy, ProxyOptions } from "../../../src/egress/proxy/types.ts";
import { until } from "../../harness/until.ts";

/** The one with a secret, one that is spliced, one whose certificate is for another name, one that nobody may reach. */
export const NAMES = {
  secret: "api.secret.test",
  open: "open.test",
  wrong: "wrong.test",
  denied: "denied.test",
} as const;
export const VALUE = "Bearer s3cr3t-value-that-no-guest-sees";
const LOOPBACK = parseAddress("127.0.0.1");

/** Bytes of one connection as text, and what was said to it. */
export class Talk {
  readonly #socket: Socket;
  #text = "";
  closed = false;
  ended = false;
  error: string | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Uint8Array) => (this.#text += Buffer.from(bytes).toString("latin1")));
    socket.on("end", () => (this.ended = true));
    socket.on("error", (error) => (this.error = `${"code" in error ? error.code : ""} ${error.message}`));
    socket.on("close", () => (this.closed = true));
  }

  get text(): string {
    return this.#text;
  }

  say(text: string | Uint8Array): this {
    this.#socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
    return this;
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Until what came holds `part`; the answer is all of it. */
  async hears(part: string | RegExp): Promise<string> {
    const has = (): boolean => (typeof part === "string" ? this.#text.includes(part) : part.test(this.#text));
    await until(`${String(part)} in ${this.#text.slice(0, 400)} (error: ${this.error})`, has, 10_000);
    return this.#text;
  }

  async isOver(): Promise<string> {
    await until(`the end of a connection that said ${this.#text.slice(0, 200)}`, () => this.closed || this.ended);
    return this.#text;
  }
}

/** What a server of the world does with one connection. */
export type Serve = (socket: Socket) => void;

/** Answers each whole head (bodies it does not read) with what it heard, byte for byte. */
export function echoHeads(socket: Socket): void {
  let text = "";
  socket.on("data", (bytes: Uint8Array) => {
    text += Buffer.from(bytes).toString("latin1");
    for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
      const head = text.slice(0, end + 4);
      text = text.slice(end + 4);
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${head.length}\r\n\r\n${head}`);
    }
  });
}

export interface World extends AsyncDisposable {
  readonly proxy: EgressProxy;
  readonly events: NetworkEvent[];
  readonly logged: string[];
  /** Everything that servers heard, in order, as latin-1. */
  readonly heard: () => string;
  /** Connections that servers took. */
  readonly served: () => number;
  readonly ca: CertificateAuthority;
  plain(): Talk;
  plainSocket(): Socket;
  /** `asked`: its SNI; trusts the world's authority and, unless told not to, the sandbox's. */
  tls(asked: string, options?: { readonly protocols?: string[]; readonly trust?: readonly string[] }): Talk;
  /** The same as a socket. */
  tlsSocket(asked: string): TLSSocket;
  readonly worldPem: string;
}

export interface WorldOptions extends Partial<ProxyOptions> {
  readonly serve?: Serve;
  /** Connections to port 443 get to `serve` as they are. */
  readonly bare?: boolean;
}

/** A proxy that allows all but `denied.test`, in front of a server for every name, in plain and over TLS. */
export async function world({ serve = echoHeads, bare = false, ...options }: WorldOptions = {}): Promise<World> {
  const outside = createAuthority(systemClock, ["test"]);
  const real = createAuthority(systemClock, [NAMES.secret, NAMES.open, NAMES.wrong]);
  const ca = createAuthority(systemClock, [NAMES.secret, NAMES.wrong]);
  let [heard, served] = ["", 0];
  const open = new Set<Socket>();
  const take = (socket: Socket): void => {
    served++;
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => undefined); // proxies hang up
    socket.on("data", (bytes: Uint8Array) => {
      if (heard.length < 1_000_000) heard += Buffer.from(bytes).toString("latin1");
    });
    serve(socket);
  };
  const tcp = createTcp({ allowHalfOpen: true }, take);
  const own = (name: string) => {
    const { certPem, keyPem } = real.leafFor(name === NAMES.wrong || name === "" ? NAMES.open : name);
    return { cert: certPem, key: keyPem };
  };
  const tls = createTls({ ...own(NAMES.secret), ALPNProtocols: ["http/1.1", "h2"] }, take);
  for (const name of [NAMES.open, NAMES.wrong]) tls.addContext(name, own(name));
  tls.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.on("error", () => undefined); // proxies hang up
  });
  tls.on("tlsClientError", () => undefined); // what is expected of some clients
  const ports = await Promise.all([tcp, tls].map((server) => listening(server)));
  const events: NetworkEvent[] = [];
  const logged: string[] = [];
  const proxy = await startProxy({
    hostname: "127.0.0.1",
    alsoOn: null,
    permits: (name) => name !== NAMES.denied,
    secrets: [{ host: NAMES.secret, header: "Authorization", value: VALUE }],
    inspect: true,
    resolve: () => Promise.resolve(LOOPBACK === null ? [] : [LOOPBACK]),
    ca,
    clock: systemClock,
    log: createLog("debug", (line) => logged.push(line)),
    onRequest: (event) => events.push(event),
    connectTo: {
      port: (asked) => (asked === 443 && !bare ? (ports[1] ?? 0) : (ports[0] ?? 0)),
      roots: [real.certificatePem],
    },
    ...options,
  });
  const guests = new Set<Socket>();
  const dial = (asked: string, trust: readonly string[], protocols: string[] = ["http/1.1"]): TLSSocket => {
    const to = { host: "127.0.0.1", port: proxy.port, servername: asked, ca: [...trust], ALPNProtocols: protocols };
    const socket = connectTls(asked === "" ? { ...to, servername: "", checkServerIdentity: () => undefined } : to);
    guests.add(socket);
    return socket;
  };
  const plainSocket = (): Socket => {
    const socket = connectTcp({ host: "127.0.0.1", port: proxy.port, allowHalfOpen: true });
    guests.add(socket);
    return socket;
  };
  const both = [real.certificatePem, ca.certificatePem, outside.certificatePem];
  return {
    proxy,
    events,
    logged,
    heard: () => heard,
    served: () => served,
    ca,
    worldPem: real.certificatePem,
    plain: () => new Talk(plainSocket()),
    plainSocket,
    tls: (asked, { protocols, trust = both } = {}) => new Talk(dial(asked, trust, protocols)),
    tlsSocket: (asked) => dial(asked, both),
    async [Symbol.asyncDispose]() {
      for (const socket of [...guests, ...open]) socket.destroy();
      await proxy.close();
      await Promise.all([tcp, tls].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

async function listening(server: ReturnType<typeof createTcp>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** A request with nothing but what it needs. */
export function get(host: string, path = "/", ...fields: readonly string[]): string {
  return [`GET ${path} HTTP/1.1`, `Host: ${host}`, ...fields, "", ""].join("\r\n");
}

/** The first flight of a real client. */
export async function clientHello(name: string): Promise<Uint8Array> {
  return await new Promise((resolve) => {
    const sink = new Duplex({
      read: () => undefined,
      write: (chunk: Uint8Array, _, done) => {
        resolve(chunk);
        done();
      },
    });
    connectTls({ socket: sink, servername: name }).on("error", () => undefined); // it gets no answer
  });
}
