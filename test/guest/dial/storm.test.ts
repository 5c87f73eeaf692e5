/** A storm of connections whose two sides do anything at any time, under the agent with its sanitizers: it neither breaks nor leaks. */
import { beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { isWarrenError } from "../../../src/errors.ts";
import type { GuestAgent } from "../../../src/guest/agent.ts";
import { Random } from "../../fuzz/random.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { BUILD_MS, binaries, connectAgent } from "../process.ts";

const CONNECTIONS = 1500;
const AT_ONCE = 60;
const SIZES = [1, 100, 5_000, 70_000, 400_000] as const;

/** What a server does with a connection, one step after another. */
function misbehave(socket: Socket, random: Random): void {
  const steps = 1 + (random.next() % 4);
  const step = (left: number): void => {
    if (socket.destroyed) return;
    if (left === 0) return void socket.end();
    const go = () => setImmediate(step, left - 1);
    switch (random.next() % 6) {
      case 0:
        return void socket.resetAndDestroy();
      case 1:
        return void socket.end(go);
      case 2:
        socket.pause();
        return void go();
      case 3:
        socket.resume();
        return void go();
      case 4:
        return void socket.destroy();
      default:
        if (socket.writableEnded) return void go();
        return void socket.write(new Uint8Array(random.pick(SIZES)), () => go());
    }
  };
  step(steps);
  socket.resume();
}

async function* body(random: Random): AsyncGenerator<Uint8Array> {
  for (let left = random.next() % 4; left > 0; left--) yield new Uint8Array(random.pick(SIZES));
  if (random.once(5)) throw new Error("the source breaks");
}

/** One connection, left at any point; errors are what the other side did. */
async function connection(
  agent: GuestAgent,
  ports: readonly number[],
  seed: number,
): Promise<"ended" | "left" | "failed"> {
  const random = new Random(seed);
  const abort = new AbortController();
  let pieces = random.next() % 6;
  try {
    for await (const _ of agent.dial({ port: random.pick(ports) }, body(random), abort.signal)) {
      if (random.once(12)) abort.abort();
      pieces -= 1;
      if (pieces < 0 && random.once(3)) return "left";
    }
    return "ended";
  } catch (cause) {
    if (isWarrenError(cause, "sandbox_lost") || isWarrenError(cause, "guest_protocol")) throw cause;
    return "failed";
  }
}

const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  test("Dialling survives whatever both sides do, and keeps nothing of it", async () => {
    await using it = await connectAgent();
    const behaviour = new Random(7);
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => socket.destroy());
      misbehave(socket, behaviour);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const open = typeof address === "object" && address !== null ? address.port : 0;
    const before = descriptors(it.process.pid);
    const outcomes = { ended: 0, left: 0, failed: 0 };
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < CONNECTIONS) {
        next += 1;
        // One in nine to a port that nothing listens on.
        const ports = [open, open, open, open, open, open, open, open, 1];
        outcomes[await connection(it.agent, ports, next)] += 1;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(CONNECTIONS / 50);
    await it.agent.ping();
    await until("every connection is closed", () => descriptors(it.process.pid) === before);
    server.close();
  }, 60_000);
}
