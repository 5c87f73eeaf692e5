/** Files under the real agent, as a process of this machine: whole or not at all, exact names, nothing that could block. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { isWarrenError, type WarrenError } from "../../src/errors.ts";
import { GuestAgent } from "../../src/guest/agent.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, type ConnectedAgent, connectAgent, startAgent } from "./process.ts";

async function failure(job: Promise<unknown>): Promise<WarrenError> {
  const error = await job.then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!isWarrenError(error)) throw new Error(`expected a WarrenError, got ${String(error)}`);
  return error;
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

if (gate("gcc", "root")) {
  let it: ConnectedAgent;
  let agent: GuestAgent;
  const home = mkdtempSync(join(tmpdir(), "warren-files-"));
  const at = (...names: string[]): string => join(home, ...names);

  beforeAll(async () => {
    it = await connectAgent();
    agent = it.agent;
  }, BUILD_MS);

  afterAll(async () => {
    await it[Symbol.asyncDispose]();
    rmSync(home, { recursive: true, force: true });
  });

  describe("A file", () => {
    test("A file of any size comes back as it was written, whole or in part", async () => {
      const random = crypto.getRandomValues(new Uint8Array(65_536));
      for (const size of [0, 1, 49_151, 49_152, 49_153, 65_536, 3_000_001]) {
        const body = Buffer.concat(Array.from({ length: Math.ceil(size / random.length) }, () => random)).subarray(
          0,
          size,
        );
        const info = await agent.writeFile({ path: at("sized", "f"), body: new Uint8Array(body) });
        expect(info).toMatchObject({ name: "f", path: at("sized", "f"), type: "file", size, mode: 0o644, uid: 0 });
        expect(Buffer.compare(await bytesOf(agent.readFile({ path: at("sized", "f") })), body)).toBe(0);
        const offset = Math.floor(size / 3);
        const part = await bytesOf(agent.readFile({ path: at("sized", "f"), offset, length: 70_000 }));
        expect(Buffer.compare(part, body.subarray(offset, offset + 70_000))).toBe(0);
      }
      expect((await bytesOf(agent.readFile({ path: at("sized", "f"), offset: 1e9 }))).length).toBe(0);
      expect((await bytesOf(agent.readFile({ path: at("sized", "f"), length: 0 }))).length).toBe(0);
    });

    test("A file keeps its mode and owner when it is replaced, and is replaced behind a symlink", async () => {
      writeFileSync(at("kept"), "old");
      await agent.chmod({ path: at("kept"), mode: 0o6750 });
      symlinkSync("kept", at("link"));
      const info = await agent.writeFile({ path: at("link"), body: "new" });
      expect(info).toMatchObject({ type: "symlink", symlinkTarget: "kept" });
      expect(await agent.stat({ path: at("kept") })).toMatchObject({ mode: 0o6750, size: 3, type: "file" });
      expect(await agent.writeFile({ path: at("kept"), body: "x", mode: 0o600 })).toMatchObject({ mode: 0o600 });
      symlinkSync("nowhere", at("dangling"));
      expect(await agent.writeFile({ path: at("dangling"), body: "x" })).toMatchObject({ type: "file" });
    });

    test("A file that fails or is left half way never appears, and leaves nothing", async () => {
      mkdirSync(at("half"));
      writeFileSync(at("half", "f"), "before");
      async function* body() {
        yield new Uint8Array(100_000);
        throw new Error("the source broke");
      }
      const broken = agent.writeFile({ path: at("half", "f"), body: body() }).catch((error: Error) => error.message);
      expect(await broken).toBe("the source broke");
      const abort = new AbortController();
      async function* stalled() {
        yield new Uint8Array(100_000);
        abort.abort();
        yield new Uint8Array(900_000);
      }
      const aborted = agent.writeFile({ path: at("half", "f"), body: stalled() }, abort.signal);
      expect((await failure(aborted)).code).toBe("cancelled");
      await agent.ping();
      expect(readdirSync(at("half"))).toEqual(["f"]);
      expect(readFileSync(at("half", "f"), "utf8")).toBe("before");
    });

    test("A file is not read when it is none, and nothing that could block is opened", async () => {
      Bun.spawnSync(["mkfifo", at("fifo")]);
      const table: [string, string, unknown][] = [
        [at("missing"), "file_not_found", "ENOENT"],
        [at("kept", "below"), "file_not_found", "ENOTDIR"],
        [home, "file_error", "EISDIR"],
        [at("fifo"), "file_error", "EINVAL"],
        ["/dev/zero", "file_error", "EINVAL"],
      ];
      for (const [path, code, errno] of table) {
        const error = await failure(bytesOf(agent.readFile({ path })));
        expect([path, error.code, error.details["errno"]]).toEqual([path, code, errno]);
      }
      for (const path of [at("fifo"), "/dev/null", home]) {
        expect((await failure(agent.writeFile({ path, body: "x" }))).code).toBe("file_error");
      }
      expect((await bytesOf(agent.readFile({ path: "/proc/version" }))).toString()).toStartWith("Linux version");
    });

    test("A file that does not fit leaves nothing behind", async () => {
      const disk = at("disk");
      mkdirSync(disk);
      const mounted = ["unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=200k none ${disk} && exec "$@"`, "sh"];
      const small = await startAgent([], mounted);
      const other = await GuestAgent.connect(small.link, { clock: systemClock });
      const large = await failure(other.writeFile({ path: `${disk}/big`, body: new Uint8Array(1_000_000) }));
      expect([large.code, large.details["errno"]]).toEqual(["file_error", "ENOSPC"]);
      for (let i = 0; i < 4; i++) await other.writeFile({ path: `${disk}/f${i}`, body: new Uint8Array(45_000) });
      const inline = await failure(other.writeFile({ path: `${disk}/more`, body: new Uint8Array(45_000) }));
      expect(inline.details["errno"]).toBe("ENOSPC");
      expect((await other.listDirectory({ path: disk })).map((entry) => entry.name)).toEqual(["f0", "f1", "f2", "f3"]);
      other.close();
      await small.end();
      expect(await small.stderr).toBe("");
    });

    test("A file stops being read when its reader leaves", async () => {
      writeFileSync(at("large"), new Uint8Array(5_000_000));
      for await (const _ of agent.readFile({ path: at("large") })) break;
      await agent.ping();
      const open = readdirSync(`/proc/${it.process.pid}/fd`).map((fd) => {
        try {
          return Bun.spawnSync(["readlink", `/proc/${it.process.pid}/fd/${fd}`])
            .stdout.toString()
            .trim();
        } catch {
          return ""; // closed meanwhile
        }
      });
      expect(open).not.toContain(at("large"));
    });
  });

  describe("A directory", () => {
    test("A directory is made with its parents, once or twice, and not over a file", async () => {
      await agent.mkdir({ path: at("a/b/c/"), mode: 0o1777 });
      await agent.mkdir({ path: at("a/b/c") });
      expect(statSync(at("a/b/c")).mode & 0o7777).toBe(0o1777);
      writeFileSync(at("a/file"), "");
      for (const path of [at("a/file"), at("a/file/below")]) {
        expect(["file_error", "file_not_found"]).toContain((await failure(agent.mkdir({ path }))).code);
      }
    });

    test("A directory lists every kind of entry by name, with bytes that are no text", async () => {
      mkdirSync(at("kinds"));
      writeFileSync(at("kinds", "file"), "12345", { mode: 0o640 });
      symlinkSync("nowhere/at all", at("kinds", "link"));
      Bun.spawnSync(["mkfifo", at("kinds", "pipe")]);
      mkdirSync(at("kinds", "sub"));
      const odd = Buffer.concat([Buffer.from(`${at("kinds")}/z`), Buffer.from([0xff, 0x0a])]);
      writeFileSync(odd, "");
      const entries = await agent.listDirectory({ path: at("kinds") });
      expect(entries.map(({ name, type, size }) => [name, type, type === "file" ? size : 0])).toEqual([
        ["file", "file", 5],
        ["link", "symlink", 0],
        ["pipe", "other", 0],
        ["sub", "directory", 0],
        ["z\ufffd\n", "file", 0],
      ]);
      expect(entries[1]).toMatchObject({ symlinkTarget: "nowhere/at all", path: at("kinds", "link") });
      expect(entries[4]?.nameBase64).toBe(Buffer.from([0x7a, 0xff, 0x0a]).toString("base64"));
      expect(entries[0]).toMatchObject({ mode: 0o640, uid: 0, gid: 0 });
      expect(Math.abs((entries[0]?.mtime ?? 0) - statSync(at("kinds", "file")).mtimeMs / 1000)).toBeLessThan(0.01);
    });

    test("A directory of many entries is listed whole, beyond what a window holds", async () => {
      mkdirSync(at("many"));
      const names = Array.from({ length: 4000 }, (_, i) => `${String(i).padStart(5, "0")}${"n".repeat(150)}`);
      for (const name of names) writeFileSync(at("many", name), "");
      const entries = await agent.listDirectory({ path: at("many") });
      expect(entries.map((entry) => entry.name)).toEqual(names);
    });

    test("A directory is removed only empty, or with all in it when told so", async () => {
      mkdirSync(at("full/of/things"), { recursive: true });
      writeFileSync(at("full/of/things/-rf"), "");
      expect((await failure(agent.removeFile({ path: at("full") }))).details["errno"]).toBe("ENOTEMPTY");
      await agent.removeFile({ path: at("full"), recursive: true });
      expect((await failure(agent.stat({ path: at("full") }))).code).toBe("file_not_found");
      expect((await failure(agent.removeFile({ path: at("full"), recursive: true }))).code).toBe("file_not_found");
      mkdirSync(at("empty"));
      await agent.removeFile({ path: at("empty") });
      symlinkSync("kept", at("gone"));
      await agent.removeFile({ path: at("gone") });
      expect(readFileSync(at("kept"), "utf8")).toBe("x");
    });

    test("A directory travels as an archive, and a file does", async () => {
      mkdirSync(at("tree/sub"), { recursive: true });
      writeFileSync(at("tree/sub/-file"), "content", { mode: 0o754 });
      symlinkSync("sub/-file", at("tree/link"));
      await agent.archiveIn({ path: at("copy/of"), body: agent.archiveOut({ path: at("tree/") }) });
      expect(readFileSync(at("copy/of/link"), "utf8")).toBe("content");
      expect(statSync(at("copy/of/sub/-file")).mode & 0o777).toBe(0o754);
      await agent.archiveIn({ path: at("one"), body: agent.archiveOut({ path: at("tree/sub/-file") }) });
      expect(readdirSync(at("one"))).toEqual(["-file"]);
      expect((await failure(bytesOf(agent.archiveOut({ path: at("nothing") })))).code).toBe("file_not_found");
      const nonsense = await failure(agent.archiveIn({ path: at("one"), body: "this is no archive" }));
      expect(nonsense.code).toBe("file_error");
      expect(nonsense.message).toContain("tar");
    });

    test("A rename replaces a file and says why it cannot be", async () => {
      writeFileSync(at("from"), "1");
      writeFileSync(at("to"), "2");
      await agent.rename({ path: at("from"), to: at("to") });
      expect(readFileSync(at("to"), "utf8")).toBe("1");
      expect((await failure(agent.rename({ path: at("from"), to: at("to") }))).code).toBe("file_not_found");
      expect(
        (await failure(agent.rename({ path: at("to"), to: "/dev/shm/warren-other-device" }))).details["errno"],
      ).toBe("EXDEV");
    });

    test("Paths that are none are refused by the agent itself", async () => {
      for (const path of ["relative", "", "/nul\0byte", `/${"x".repeat(5000)}`]) {
        expect((await failure(agent.stat({ path }))).code).toBe("file_error");
      }
    });
  });
}
