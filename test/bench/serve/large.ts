/** A large file through a server, up and down, exactly; how long that took, what the raw channel takes, what memory it needed. */
import { readFileSync } from "node:fs";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import type { ServerProcess } from "../../harness/server.ts";

const MIB = 2 ** 20;
const PIECE = MIB;

export interface Large {
  readonly mib: number;
  readonly upSeconds: number;
  readonly downSeconds: number;
  /** Of the server process, resident, at its highest. */
  readonly peakMib: number;
}

/** Bytes that no pattern of a length hides in: each piece says which one it is. */
export async function* pieces(mib: number): AsyncGenerator<Uint8Array> {
  const piece = new Uint8Array(PIECE);
  crypto.getRandomValues(piece.subarray(0, 65_536));
  for (let at = 65_536; at < PIECE; at += 65_536) piece.copyWithin(at, 0, 65_536);
  for (let i = 0; i < mib; i++) {
    const each = piece.slice();
    new DataView(each.buffer).setUint32(0, i);
    yield each;
  }
}

export function peakMib(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

/** @throws when what comes back is not what was sent */
export async function throughServer(server: ServerProcess, id: string, mib: number): Promise<Large> {
  const url = `${server.url}/v1/sandboxes/${id}/fs?path=/var/tmp/large`;
  const headers = { authorization: `Bearer ${server.key}` };
  const sent = new Bun.CryptoHasher("sha256");
  const source = pieces(mib);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value, done } = await source.next();
      if (done === true) return controller.close();
      sent.update(value);
      controller.enqueue(value);
    },
  });
  const startUp = performance.now();
  const put = await fetch(url, { method: "PUT", headers, body });
  if (!put.ok) throw new Error(`PUT: ${put.status} ${await put.text()}`);
  await put.arrayBuffer();
  const startDown = performance.now();
  const got = new Bun.CryptoHasher("sha256");
  const answer = await fetch(url, { headers });
  if (!answer.ok || answer.body === null) throw new Error(`GET: ${answer.status}`);
  let bytes = 0;
  for await (const chunk of answer.body) {
    got.update(chunk);
    bytes += chunk.length;
  }
  const end = performance.now();
  if (bytes !== mib * MIB || got.digest("hex") !== sent.digest("hex"))
    throw new Error(`${bytes} other bytes came back`);
  await fetch(url, { method: "DELETE", headers });
  return {
    mib,
    upSeconds: (startDown - startUp) / 1000,
    downSeconds: (end - startDown) / 1000,
    peakMib: peakMib(server.pid),
  };
}

/** MiB a second that the guest's channel takes without a server in between: up, then down. */
export async function rawChannel(
  host: SandboxHost,
  mib: number,
): Promise<{ readonly up: number; readonly down: number }> {
  await using box = await Sandbox.create({}, host);
  const start = performance.now();
  await box.files.write("/var/tmp/large", pieces(mib));
  const half = performance.now();
  for await (const _ of await box.files.stream("/var/tmp/large"));
  const end = performance.now();
  return { up: (mib * 1000) / (half - start), down: (mib * 1000) / (end - half) };
}
