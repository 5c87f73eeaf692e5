/** The pure halves of the host: what is read from /proc and /sys, mounts and cgroups of every kind of machine, status records. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { meminfoMib, memoryBound, pressure } from "../../src/host/capacity.ts";
import { parseMounts } from "../../src/host/home/mountinfo.ts";
import { parseStatus } from "../../src/host/jail/pipes.ts";
import { placesOf, settings } from "../../src/host/slots/controllers.ts";

const V1 = parseMounts(
  [
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct",
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory",
    "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids",
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
  ].join("\n"),
);
const V2 = parseMounts("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");

test("Mounts are parsed with octal escapes and optional fields, and nonsense is skipped", () => {
  const line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:3 - ext3 /dev/root\\134x rw,errors=continue";
  expect(parseMounts(`${line}\nnonsense\n`)).toEqual([
    { root: "/mnt1", at: "/mnt 2", type: "ext3", source: "/dev/root\\x", superOptions: ["rw", "errors=continue"] },
  ]);
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseMounts(text))));
});

test("Controllers are found on v1, on v2, and on a mixture of both", () => {
  const v1 = placesOf(V1, () => ["hugetlb"]);
  expect(v1.get("memory")).toEqual({ version: 1, parent: "/sys/fs/cgroup/memory/warren" });
  expect(v1.get("cpu")).toEqual(v1.get("cpuacct")!);
  const v2 = placesOf(V2, () => ["cpu", "memory", "pids"]);
  expect([...v2.values()].every((place) => place.version === 2 && place.parent === "/sys/fs/cgroup/warren")).toBe(true);
  expect(v2.size).toBe(4);
  const mixed = placesOf(
    V1.filter((mount) => mount.at !== "/sys/fs/cgroup/pids"),
    () => ["pids"],
  );
  expect(mixed.get("pids")).toEqual({ version: 2, parent: "/sys/fs/cgroup/unified/warren" });
  expect(placesOf(parseMounts(""), () => []).size).toBe(0);
});

test("Limits are written as each version takes them", () => {
  const limits = { memoryMib: 2, tasks: 7, cpu: 3 };
  const v1 = (name: "memory" | "cpu" | "pids") =>
    Object.fromEntries(settings({ version: 1, parent: "/x" }, name, limits));
  const v2 = (name: "memory" | "cpu" | "pids") =>
    Object.fromEntries(settings({ version: 2, parent: "/x" }, name, limits));
  expect(v1("memory")["memory.limit_in_bytes"]).toBe("2097152");
  expect(v2("memory")).toMatchObject({ "memory.max": "2097152", "memory.swap.max": "0" });
  expect(v1("cpu")["cpu.cfs_quota_us"]).toBe("300000");
  expect(v2("cpu")["cpu.max"]).toBe("300000 100000");
  expect([v1("pids"), v2("pids")]).toEqual([{ "pids.max": "7" }, { "pids.max": "7" }]);
});

test("Memory and pressure are read from the kernel's texts", () => {
  expect(meminfoMib("MemTotal:       2048 kB\nMemAvailable:   1023 kB\n", "MemAvailable")).toBe(0);
  expect(meminfoMib("MemTotal:       2048 kB\n", "MemTotal")).toBe(2);
  expect(meminfoMib("", "MemTotal")).toBe(0);
  expect(pressure("some avg10=1.25 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00")).toBe(1.25);
  expect(pressure("")).toBeNull();
});

test("A process that no cgroup bounds has no memory bound", () => {
  expect(memoryBound(parseMounts(""), "0::/\n")).toBeNull();
  expect(memoryBound(V2, "nonsense")).toBeNull();
});

test("Status records are told apart, and what init never writes is none", () => {
  const record = (...numbers: number[]) => new Uint8Array(new Int32Array([...numbers, 0, 0, 0, 0].slice(0, 4)).buffer);
  const started = { kind: "running" as const, sealed: true, exitsErrno: 0, startNs: (7n << 32n) + 5n };
  expect(parseStatus(record(1, 1, 5, 7))).toEqual(started);
  expect(parseStatus(record(1, 1 << 8, 5, 7))).toEqual({ ...started, sealed: false, exitsErrno: 1 });
  expect(parseStatus(record(2, 9, 2))).toEqual({ kind: "not_started", says: "exec: errno 2" });
  expect(parseStatus(record(3, 3, 7, 0))).toEqual({ kind: "ended", reason: 3, code: 7, signal: 0 });
  expect(parseStatus(record(4))).toBeNull();
  fc.assert(fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => parseStatus(bytes) !== undefined));
});
