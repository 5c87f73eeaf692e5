/** A connection as a link: what concurrent writers write arrives whole, however little the socket takes at once. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectUnix } from "../../src/driver/socket.ts";

const FRAME = 100_000;
const WRITERS = 40;

test("A link hands on whole writes, also those that come in the instant in which another is done", async () => {
  const dir = mkdtempSync(join(tmpdir(), "link-"));
  const got: Uint8Array[] = [];
  const whole = Promise.withResolvers<void>();
  let length = 0;
  const server = Bun.listen({
    unix: join(dir, "s"),
    socket: {
      data(_, chunk) {
        got.push(chunk.slice());
        length += chunk.length;
        if (length === WRITERS * FRAME) whole.resolve();
      },
    },
  });
  try {
    const link = await connectUnix(dir, "s");
    // Each writes when the one before is done, in a microtask, which is when a quick path is tempting.
    let before: Promise<void> = Promise.resolve();
    const writes: Promise<void>[] = [];
    for (let i = 0; i < WRITERS; i += 2) {
      writes.push(link.write(new Uint8Array(FRAME).fill(i)));
      before = writes.at(-1)!;
      const next = i + 1;
      writes.push(before.then(() => link.write(new Uint8Array(FRAME).fill(next))));
    }
    await Promise.all(writes);
    await whole.promise;
    const bytes = Buffer.concat(got);
    const seen = new Set<number>();
    for (let at = 0; at < bytes.length; at += FRAME) {
      const frame = bytes.subarray(at, at + FRAME);
      expect(frame.every((byte) => byte === frame[0])).toBe(true);
      seen.add(frame[0]!);
    }
    expect(seen.size).toBe(WRITERS);
    link.close();
  } finally {
    server.stop(true);
    rmSync(dir, { recursive: true, force: true });
  }
});
