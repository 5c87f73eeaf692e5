/** Both ends of the network bench, each a process in a namespace: `serve PORT` until its stdin ends, `load URL WHAT SECONDS` prints one number. */
import { createServer, connect as tcpConnect } from "node:net";
import { systemClock } from "../../src/base/clock.ts";

const CHUNK = new Uint8Array(256 * 1024).fill(120);
const AT_ONCE = 8;
const MIB = 2 ** 20;

/** `G`: bytes until the other side has enough. Any other byte: one back. */
function serve(port: number): void {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes: Buffer) => {
      if (bytes[0] !== 71) return void socket.write(bytes.subarray(0, 1));
      const more = (): void => {
        while (!socket.destroyed && socket.write(CHUNK));
      };
      socket.on("drain", more);
      more();
    });
  });
  server.listen(port, "0.0.0.0", () => process.stdout.write("ready\n"));
  process.stdin.on("end", () => process.exit(0)).resume();
}

interface To {
  readonly host: string;
  readonly port: number;
}

/** One byte there and back, over a connection of its own (`fresh`) or over those that there are. */
async function roundTrips(to: To, fresh: boolean, seconds: number): Promise<number> {
  const endMs = systemClock.monotonicMs() + seconds * 1000;
  let count = 0;
  const one = async (): Promise<void> => {
    let socket = fresh ? null : await opened(to);
    while (systemClock.monotonicMs() < endMs) {
      socket ??= await opened(to);
      await answered(socket);
      count += 1;
      if (!fresh) continue;
      socket.resetAndDestroy(); // a port in TIME_WAIT would end the run after 28,000
      socket = null;
    }
    socket?.destroy();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return count / seconds;
}

async function throughput(to: To, seconds: number): Promise<number> {
  const socket = await opened(to);
  let bytes = 0;
  const startMs = systemClock.monotonicMs();
  const over = Promise.withResolvers<void>();
  socket.on("data", (part: Buffer) => {
    bytes += part.length;
    if (systemClock.monotonicMs() - startMs >= seconds * 1000) over.resolve();
  });
  socket.write("G");
  await over.promise;
  const tookSeconds = (systemClock.monotonicMs() - startMs) / 1000;
  socket.destroy();
  return bytes / MIB / tookSeconds;
}

type Socket = ReturnType<typeof tcpConnect>;

function opened({ host, port }: To): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = tcpConnect({ host, port, noDelay: true }, () => resolve(socket));
  socket.on("error", reject);
  return promise;
}

function answered(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("data", () => resolve());
  socket.write("x");
  return promise;
}

const [verb, first = "", what = "", seconds = "1"] = process.argv.slice(2);
if (verb === "serve") serve(Number(first));
else {
  const url = new URL(first);
  const to = { host: url.hostname, port: Number(url.port) };
  const figure =
    what === "throughput"
      ? await throughput(to, Number(seconds))
      : await roundTrips(to, what === "connections", Number(seconds));
  process.stdout.write(`${figure}\n`);
  process.exit(0);
}
