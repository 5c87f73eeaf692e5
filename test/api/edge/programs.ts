/** Programs "in a sandbox": servers of this process on loopback, which a host's `dial` leads to. Some are well-behaved. */
import { connect, createServer, type Socket } from "node:net";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { WarrenError } from "../../../src/errors.ts";

export interface Program extends Disposable {
  readonly port: number;
  readonly sockets: Set<Socket>;
  /** All that came, one character a byte. */
  readonly heard: () => string;
}

/** Calls `answer` with each connection once its first bytes are there. */
export async function program(answer: (socket: Socket, first: string) => void): Promise<Program> {
  const sockets = new Set<Socket>();
  let heard = "";
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.once("data", (chunk) => answer(socket, chunk.toString("latin1")));
    socket.on("end", () => socket.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, sockets, heard: () => heard, [Symbol.dispose]: stop };
}

/** Answers every request with these lines and this body. */
export function answering(status: string, headers: readonly string[] = [], body = ""): Promise<Program> {
  const length = headers.some((line) => /^(content-length|transfer-encoding):/i.test(line))
    ? []
    : [`Content-Length: ${Buffer.byteLength(body)}`];
  const head = [`HTTP/1.1 ${status}`, ...headers, ...length, "Connection: close"].join("\r\n");
  return program((socket) => socket.end(`${head}\r\n\r\n${body}`));
}

/** The request's own head lines, in lower case, from the first request that a program heard. */
export function headOf({ heard }: Program): readonly string[] {
  const [first = "", ...rest] = (heard().split("\r\n\r\n")[0] ?? "").split("\r\n");
  return [first, ...rest.map((line) => line.toLowerCase())];
}

/** The same host, whose sandboxes' ports are those of this machine's loopback. */
export function onLoopback(host: SandboxHost, listening: () => readonly number[] = () => []): SandboxHost {
  return {
    ...host,
    ports: async ({ id }) => {
      await host.get({ id });
      return listening().map((port) => ({ port, address: "127.0.0.1", protocol: "tcp" as const }));
    },
    dial: async ({ id, port, body }, { signal } = {}) => {
      const { state } = await host.get({ id });
      if (state !== "running") throw new WarrenError("wrong_state", `sandbox ${id} is ${state}`);
      const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
      await new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", () => {
          const says = `nothing listens on port ${port} of sandbox ${id}: it listens on ${listening().join(", ")}`;
          reject(new WarrenError("wrong_state", says, { details: { id, port, listening: listening() } }));
        });
      });
      const end = () => socket.destroy(signal?.reason as Error);
      signal?.addEventListener("abort", end, { once: true });
      void sent(socket, body as AsyncIterable<Uint8Array>).catch(() => socket.destroy());
      return socket as AsyncIterable<Uint8Array>;
    },
  };
}

async function sent(socket: Socket, body: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const piece of body) {
    if (socket.destroyed) return;
    if (!socket.write(piece)) await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
  }
  socket.end();
}
