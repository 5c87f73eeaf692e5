/** Files, memory files, sockets, processes and mounts through the boundary, against the real kernel. */
import { afterAll, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import {
  closeFd,
  dupFd,
  lockByte,
  openFd,
  openUnnamed,
  pipe,
  punchHole,
  reopenFd,
  setSize,
  tryLock,
} from "../../ffi/files.ts";
import { copySparse, createMemfd, extents, isSealed, readExactly, sealForever } from "../../ffi/memfd.ts";
import { memory } from "../../ffi/native.ts";
import { bootTimeNs, hasEnded, killPid, openPid, reap } from "../../ffi/process.ts";
import { canOpenNetlink, listenUnix, takeName } from "../../ffi/sockets.ts";
import { until } from "../harness/until.ts";

const dir = mkdtempSync(join(tmpdir(), "ffi-"));
afterAll(() => rmSync(dir, { recursive: true }));

const flagsOf = (fd: number) => readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
const CLOEXEC = 0o2000000;

test("Descriptors are close-on-exec, whichever way they were made", () => {
  const [read, write] = pipe();
  const fds = [
    read,
    write,
    openFd(dir, "directory"),
    createMemfd("x", 0),
    dupFd(read),
    openUnnamed(dir),
    takeName(`t-${process.pid}`)!,
  ];
  for (const fd of fds) {
    const flags = Number.parseInt(/flags:\s+(\d+)/.exec(flagsOf(fd))![1]!, 8);
    expect(flags & CLOEXEC).toBe(CLOEXEC);
    closeFd(fd);
  }
});

test("A file without a name is gone with its last descriptor, and can be opened once more for reading", () => {
  const fd = openUnnamed(dir);
  writeSync(fd, "hello");
  const again = reopenFd(fd, "read");
  expect(readFileSync(`/proc/self/fd/${again}`, "utf8")).toBe("hello");
  expect(() => writeSync(again, "x")).toThrow("EBADF");
  expect(statSync(`/proc/self/fd/${fd}`).nlink).toBe(0);
  closeFd(fd);
  closeFd(again);
});

test("A sealed memfd can never be written, mapped writable, resized or unsealed", () => {
  const fd = createMemfd("sealed", 8192);
  writeSync(fd, "template", 0);
  expect(isSealed(fd)).toBe(false);
  sealForever(fd);
  expect(isSealed(fd)).toBe(true);
  expect(() => writeSync(fd, "x", 0)).toThrow("EPERM");
  expect(() => setSize(fd, 4096)).toThrow("EPERM");
  expect(() => setSize(fd, 16384)).toThrow("EPERM");
  expect(() => punchHole(fd, 0, 4096)).toThrow("EPERM");
  expect(() => sealForever(fd)).toThrow("EPERM");
  const again = openSync(`/proc/self/fd/${fd}`, "r+"); // a fresh open file of it is no way around
  expect(() => writeSync(again, "x", 0)).toThrow("EPERM");
  closeSync(again);
  closeFd(fd);
});

test("Sparse copies equal their source and are no denser, for any layout of data and holes", () => {
  const BLOCK = 4096;
  const layout = fc.array(
    fc.record({ at: fc.nat(63), blocks: fc.integer({ min: 1, max: 9 }), byte: fc.integer({ min: 1, max: 255 }) }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(layout, fc.nat(BLOCK), (writes, cut) => {
      const size = 64 * BLOCK - cut;
      const from = createMemfd("from", size);
      const to = createMemfd("to", size);
      for (const { at, blocks, byte } of writes) {
        const bytes = memory(Math.max(0, Math.min(blocks * BLOCK, size - at * BLOCK))).fill(byte);
        writeSync(from, bytes, 0, bytes.length, at * BLOCK);
      }
      const copied = copySparse(from, to, size);
      const [a, b] = [memory(size), memory(size)];
      readExactly(from, a, 0);
      readExactly(to, b, 0);
      const data = [...extents(from, size, 2 ** 30)].reduce((sum, [start, end]) => sum + end - start, 0);
      const same = Buffer.from(a).equals(Buffer.from(b));
      const denser = statSync(`/proc/self/fd/${to}`).blocks > statSync(`/proc/self/fd/${from}`).blocks;
      closeFd(from);
      closeFd(to);
      return same && !denser && copied === data;
    }),
    { numRuns: 60 },
  );
});

test("Sparse copies cross file systems, in both directions", () => {
  const size = 3 * 1024 * 1024;
  const mem = createMemfd("m", size);
  writeSync(mem, "start", 0);
  writeSync(mem, "end", size - 3);
  const file = openUnnamed(dir);
  setSize(file, size);
  expect(copySparse(mem, file, size)).toBe(8192);
  const back = createMemfd("back", size);
  copySparse(file, back, size);
  const bytes = memory(size);
  readExactly(back, bytes, 0);
  expect(Buffer.from(bytes.subarray(0, 5)).toString() + Buffer.from(bytes.subarray(size - 3)).toString()).toBe(
    "startend",
  );
  expect(statSync(`/proc/self/fd/${back}`).blocks).toBeLessThan(64);
  for (const fd of [mem, file, back]) closeFd(fd);
});

test("Sockets listen in a directory whose path is longer than a socket's address", async () => {
  const deep = join(dir, "d".repeat(100), "e".repeat(100));
  mkdirSync(deep, { recursive: true });
  const dirFd = openFd(deep, "directory");
  const fd = listenUnix(dirFd, "qmp", 4);
  expect(() => listenUnix(dirFd, "qmp", 4)).toThrow("EADDRINUSE");
  expect(() => listenUnix(dirFd, "n".repeat(120), 4)).toThrow(TypeError);
  const socket = connect(`/proc/self/fd/${dirFd}/qmp`);
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.destroy();
  closeFd(fd);
  closeFd(dirFd);
});

test("A name is held until the last process that inherited it has ended", async () => {
  const name = `warren-test-${process.pid}`;
  const fd = takeName(name)!;
  expect(takeName(name)).toBeNull();
  const heir = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore", fd] });
  closeFd(fd);
  expect(takeName(name)).toBeNull();
  heir.kill("SIGKILL");
  await heir.exited;
  const again = takeName(name);
  expect(again).not.toBeNull();
  closeFd(again!);
});

test("A byte of a file is held until the last process that inherited its lock has ended, and no other byte is", async () => {
  const path = join(dir, "bytes");
  const fd = lockByte(path, 7)!;
  const [taken, other] = [lockByte(path, 7), lockByte(path, 8)!];
  expect(taken).toBeNull();
  const heir = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore", fd] });
  closeFd(fd);
  closeFd(other); // another lock of the same process on the same file: an ordinary one would end all of them here
  expect(lockByte(path, 7)).toBeNull();
  heir.kill("SIGKILL");
  await heir.exited;
  const again = lockByte(path, 7);
  expect(again).not.toBeNull();
  closeFd(again!);
});

test("A file's lock keeps other open files out until it is closed, shared ones with each other", () => {
  const path = join(dir, "lock");
  const [a, b, c] = [openFd(path, "lock"), openFd(path, "lock"), openFd(path, "lock")];
  expect([tryLock(a, "shared"), tryLock(b, "shared"), tryLock(c, "exclusive")]).toEqual([true, true, false]);
  closeFd(a);
  closeFd(b);
  expect(tryLock(c, "exclusive")).toBe(true);
  closeFd(c);
});

test("A pidfd tells when its process has ended, and kills no other", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  const pidfd = openPid(child.pid)!;
  expect(hasEnded(pidfd)).toBe(false);
  expect(killPid(pidfd)).toBe(true);
  await child.exited;
  await until("the pidfd says so", () => hasEnded(pidfd));
  expect(killPid(pidfd)).toBe(false);
  expect(reap(pidfd)).toBe("gone"); // Bun has reaped it
  closeFd(pidfd);
  expect(openPid(2 ** 22 + 1)).toBeNull();
});

test("The clock of deadlines is the machine's uptime", () => {
  const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  expect(Math.abs(Number(bootTimeNs()) / 1e9 - uptime)).toBeLessThan(1);
});

test("Netlink sockets of an unknown protocol are said to be missing", () => {
  expect(canOpenNetlink(0)).toBe(true);
  expect(canOpenNetlink(31)).toBe(false);
});

test("Pipes carry bytes from their second end to their first", () => {
  const [read, write] = pipe();
  writeSync(write, "x");
  const into = memory(4);
  expect(readSync(read, into)).toBe(1);
  closeFd(read);
  closeFd(write);
});
