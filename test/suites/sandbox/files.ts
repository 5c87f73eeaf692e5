/** Files: exact, whole or not at all, by any name. */
import { expect } from "bun:test";
import { Sandbox } from "../../../src/sandbox.ts";
import { fails, pattern, type Subject, sha256 } from "./subject.ts";

export function fileTests(subject: Subject): void {
  contentTests(subject);
  entryTests(subject);
  errorTests(subject);
  archiveTests(subject);
}

function contentTests({ shared, does }: Pick<Subject, "shared" | "does">): void {
  does("a file read is the file written, byte for byte", async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await shared().files.write("/tmp/all bytes ü", bytes);
    expect(await shared().files.read("/tmp/all bytes ü")).toEqual(bytes);
    await shared().files.write("/tmp/text", "grüße\n");
    expect(await shared().files.readText("/tmp/text")).toBe("grüße\n");
    await shared().files.write("/tmp/empty", "");
    expect((await shared().files.read("/tmp/empty")).length).toBe(0);
  });

  does("a file of many windows arrives whole, given at once or as it comes", async () => {
    const bytes = pattern(3_000_001);
    async function* pieces() {
      for (let at = 0; at < bytes.length; at += 99_991) yield bytes.subarray(at, at + 99_991);
    }
    const info = await shared().files.write("/work/large", pieces(), { mode: 0o600 });
    expect(info).toMatchObject({ size: bytes.length, mode: 0o600, type: "file", name: "large" });
    expect(sha256(await shared().files.read("/work/large"))).toBe(sha256(bytes));
    await shared().files.write("/work/large", bytes);
    expect(sha256(await shared().files.read("/work/large"))).toBe(sha256(bytes));
    await shared().files.remove("/work/large");
  });

  does("a range is read by offset and length", async () => {
    const bytes = pattern(200_000);
    await shared().files.write("/tmp/range", bytes);
    const read = async (offset?: number, length?: number) =>
      shared().files.read("/tmp/range", {
        ...(offset === undefined ? {} : { offset }),
        ...(length === undefined ? {} : { length }),
      });
    expect(await read(10, 5)).toEqual(bytes.subarray(10, 15));
    expect(sha256(await read(100_000))).toBe(sha256(bytes.subarray(100_000)));
    expect((await read(undefined, 70_000)).length).toBe(70_000);
    expect((await read(199_999, 100)).length).toBe(1);
    expect((await read(500_000)).length).toBe(0);
    expect((await read(0, 0)).length).toBe(0);
  });

  does("a write replaces the whole file and makes parents", async () => {
    await shared().files.write("/tmp/deep/er/file", "a longer first content");
    await shared().files.write("/tmp/deep/er/file", "short");
    expect(await shared().files.readText("/tmp/deep/er/file")).toBe("short");
  });

  does("a write that breaks off half-way leaves what was there, and nothing else", async () => {
    await shared().files.write("/tmp/atomic/file", "before");
    async function* broken() {
      yield pattern(300_000);
      throw new Error("the source broke");
    }
    await expect(shared().files.write("/tmp/atomic/file", broken())).rejects.toThrow("the source broke");
    await expect(shared().files.write("/tmp/atomic/new", broken())).rejects.toThrow("the source broke");
    expect(await shared().files.readText("/tmp/atomic/file")).toBe("before");
    expect((await shared().files.list("/tmp/atomic")).map((e) => e.name)).toEqual(["file"]);
  });

  does("a read that is left early does not block the next call", async () => {
    await shared().files.write("/tmp/long", pattern(2_000_000));
    for await (const part of await shared().files.stream("/tmp/long")) {
      expect(part.length).toBeGreaterThan(0);
      break;
    }
    expect((await shared().exec("echo still here")).stdout).toBe("still here\n");
  });
}

function entryTests({ shared, does, needs }: Pick<Subject, "shared" | "does" | "needs">): void {
  does("stat and list tell type, size, mode and time, by name", async () => {
    await shared().files.write("/tmp/dir/b", "12345", { mode: 0o640 });
    await shared().files.mkdir("/tmp/dir/a/nested");
    await shared().files.write("/tmp/dir/C", "");
    const entries = await shared().files.list("/tmp/dir");
    expect(entries.map((e) => [e.name, e.type])).toEqual([
      ["C", "file"],
      ["a", "directory"],
      ["b", "file"],
    ]);
    const info = await shared().files.stat("/tmp/dir/b");
    expect(info).toMatchObject({ name: "b", path: "/tmp/dir/b", type: "file", size: 5, mode: 0o640, uid: 0, gid: 0 });
    expect(Math.abs(info.mtime - Date.now() / 1000)).toBeLessThan(120);
    expect(entries[2]).toEqual(info);
  });

  does("mkdir is idempotent, chmod sets bits, rename replaces, remove removes", async () => {
    const { files } = shared();
    await files.mkdir("/tmp/ops/sub", { mode: 0o700 });
    await files.mkdir("/tmp/ops/sub");
    await files.write("/tmp/ops/from", "1");
    await files.write("/tmp/ops/to", "2");
    await files.chmod("/tmp/ops/from", 0o755);
    expect((await files.stat("/tmp/ops/from")).mode).toBe(0o755);
    await files.rename("/tmp/ops/from", "/tmp/ops/to");
    expect(await files.readText("/tmp/ops/to")).toBe("1");
    await fails("file_not_found", files.stat("/tmp/ops/from"));
    await fails("file_error", files.remove("/tmp/ops"));
    await files.remove("/tmp/ops", { recursive: true });
    await fails("file_not_found", files.stat("/tmp/ops"));
  });

  needs("shell", "names that are not UTF-8 are told exactly, and symlinks are not followed", async () => {
    await shared().exec(`mkdir -p /tmp/odd && cd /tmp/odd && touch "$(printf 'a\\377b')" && ln -s /etc/passwd link`);
    const entries = await shared().files.list("/tmp/odd");
    const odd = entries.find((e) => e.nameBase64 !== undefined);
    expect(odd?.name).toBe("a\uFFFDb");
    expect([...Buffer.from(odd?.nameBase64 ?? "", "base64")]).toEqual([0x61, 0xff, 0x62]);
    const link = entries.find((e) => e.name === "link");
    expect(link).toMatchObject({ type: "symlink", symlinkTarget: "/etc/passwd" });
    expect((await shared().files.stat("/tmp/odd/link")).type).toBe("symlink");
  });

  needs("shell", "a read refuses what is not a regular file, at once", async () => {
    await shared().exec("mkfifo /tmp/fifo");
    await fails("file_error", shared().files.read("/tmp/fifo"));
    await fails("file_error", shared().files.read("/dev/zero"));
  });

  does("what a command writes is read, and what is written is seen by a command", async () => {
    await shared().exec("echo from inside > /tmp/inside");
    expect(await shared().files.readText("/tmp/inside")).toBe("from inside\n");
    await shared().files.write("/tmp/outside", "from outside\n");
    expect((await shared().exec("cat /tmp/outside")).stdout).toBe("from outside\n");
  });
}

function errorTests({ shared, does }: Pick<Subject, "shared" | "does">): void {
  does("calls on files say what is wrong", async () => {
    const { files } = shared();
    expect((await fails("file_not_found", files.read("/no/such"))).message).toContain("/no/such");
    await fails("file_not_found", files.stat("/no/such"));
    await fails("file_not_found", files.list("/no/such"));
    await fails("file_not_found", files.rename("/no/such", "/tmp/x"));
    await fails("file_not_found", files.chmod("/no/such", 0o644));
    await fails("file_not_found", files.remove("/no/such"));
    await fails("file_error", files.read("/tmp"));
    await files.write("/tmp/plain", "x");
    await fails("file_error", files.write("/tmp", "x"));
    // ENOTDIR: what is asked for as a directory is not there, whatever else may be.
    await fails("file_not_found", files.list("/tmp/plain"));
    await fails("file_not_found", files.read("/tmp/plain/below"));
    await expect(files.mkdir("/tmp/plain")).rejects.toThrow("/tmp/plain");
    await expect(files.write("/tmp/plain/below", "x")).rejects.toThrow("/tmp/plain");
  });

  does("paths that are not absolute or hold a zero byte are refused before they travel", async () => {
    for (const path of ["relative", "", "/a\0b", `/${"x".repeat(5000)}`]) {
      await fails("invalid_request", shared().files.read(path));
      await fails("invalid_request", shared().files.write(path, "x"));
    }
    await fails("invalid_request", shared().files.chmod("/tmp", 0o10000));
  });
}

function archiveTests({ host, shared, needs }: Pick<Subject, "host" | "shared" | "needs">): void {
  needs("tar", "a directory travels as an archive, with names, bytes and modes", async () => {
    const bytes = pattern(500_000);
    await shared().files.write("/tmp/tree/deep/data", bytes, { mode: 0o600 });
    await shared().files.write("/tmp/tree/ü", "text");
    await using other = await Sandbox.create({}, host());
    await other.files.mkdir("/tmp/into");
    await other.files.unarchive("/tmp/into", await shared().files.archive("/tmp/tree"));
    const { stdout } = await other.exec("cd /tmp/into && find . -type f | sort");
    expect(stdout).toContain("deep/data");
    const path = `/tmp/into/${stdout.split("\n").find((line) => line.includes("deep/data")) ?? ""}`;
    expect(sha256(await other.files.read(path))).toBe(sha256(bytes));
    expect((await other.files.stat(path)).mode).toBe(0o600);
  });

  needs("tar", "an archive of nothing and into nothing says so", async () => {
    await expect(shared().files.archive("/no/such").then(drain)).rejects.toThrow();
    await expect(shared().files.unarchive("/tmp", new TextEncoder().encode("no tar"))).rejects.toThrow();
  });
}

async function drain(stream: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of stream);
}
