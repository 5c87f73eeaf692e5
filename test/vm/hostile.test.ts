/**
 * Hostile items in a batch: each ends as exactly one row of its own, the rest of the batch is unharmed, and the host's
 * memory, disk, process count and event loop stay bounded.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { batch } from "../../src/batch/batch.ts";
import type { Item } from "../../src/batch/items/item.ts";
import type { Row } from "../../src/batch/row.ts";
import { batchParts, type Warren } from "../../src/compose.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS } from "../harness/vm.ts";

interface Hostile {
  readonly item: Record<string, unknown>;
  /** What its row must look like. */
  readonly ends: (row: Row) => void;
}

const failed = (row: Row): void => expect(row.ok).toBe(false);
const harmless = (row: Row): void => expect(typeof row.ok).toBe("boolean");

const HOSTILE: Readonly<Record<string, Hostile>> = {
  "fork bomb": { item: { code: "import os\nwhile True: os.fork()", timeout_seconds: 8 }, ends: failed },
  "shell fork bomb": { item: { cmd: "bomb() { bomb | bomb & }; bomb; sleep 20", timeout_seconds: 8 }, ends: failed },
  "rm -rf /": { item: { cmd: "rm -rf --no-preserve-root /; echo done", timeout_seconds: 60 }, ends: harmless },
  "allocation to death": {
    item: { code: "held = []\nwhile True: held.append(bytearray(1 << 24))", timeout_seconds: 60 },
    ends: failed,
  },
  "filling the disk": {
    item: { cmd: "dd if=/dev/zero of=/work/fill bs=1M count=100000; exit 3", timeout_seconds: 90 },
    ends: failed,
  },
  "endless stdout": { item: { cmd: "yes", timeout_seconds: 8 }, ends: (row) => expect(row.timed_out).toBe(true) },
  "2 GiB without a newline": {
    item: { cmd: "head -c 2147483648 /dev/zero | tr '\\0' x", timeout_seconds: 60 },
    ends: (row) => expect(row.truncated).toBe(true),
  },
  "busy loop ignoring SIGTERM": {
    item: {
      code: "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
      timeout_seconds: 6,
    },
    ends: (row) => expect(row.timed_out).toBe(true),
  },
  "killing PID 1": {
    item: {
      code: "import os, signal\nfor s in range(1, 65):\n    try: os.kill(1, s)\n    except OSError: pass\nprint('alive')",
      timeout_seconds: 30,
    },
    ends: harmless,
  },
  "killing every process": { item: { cmd: "kill -9 -1; echo done", timeout_seconds: 30 }, ends: harmless },
  "writing into the agent's memory": {
    item: {
      code: "f = open('/proc/1/mem', 'r+b', 0)\nfor line in open('/proc/1/maps'):\n    a, b = (int(x, 16) for x in line.split()[0].split('-'))\n    try:\n        f.seek(a)\n        f.write(b'\\xcc' * min(b - a, 1 << 20))\n    except (OSError, ValueError): pass\n",
      timeout_seconds: 20,
    },
    ends: harmless,
  },
  "garbage on the agent's port": {
    item: {
      code: "import os, ctypes\nlibc = ctypes.CDLL(None)\npidfd = os.pidfd_open(1)\nfor n in range(256):\n    fd = libc.syscall(438, pidfd, n, 0)\n    if fd >= 0 and 'vport' in os.readlink(f'/proc/self/fd/{fd}'):\n        os.write(fd, os.urandom(1 << 16))\nimport time; time.sleep(5)\n",
      timeout_seconds: 20,
    },
    ends: failed,
  },
  "kernel panic": { item: { cmd: "echo c > /proc/sysrq-trigger; sleep 20", timeout_seconds: 20 }, ends: failed },
  "power off": {
    item: { code: "import ctypes\nctypes.CDLL(None).reboot(0x4321fedc)", timeout_seconds: 20 },
    ends: failed,
  },
  "setting the clock": {
    item: { cmd: "date -s '1999-01-01' && date +%Y", timeout_seconds: 20 },
    ends: (row) => expect(row.stdout).toContain("1999"),
  },
  "symlinks as artifacts": {
    item: {
      cmd: "ln -s /etc/passwd /work/out; ln -s / /work/all; mkdir /work/d; ln -s /etc/shadow /work/d/s; echo x > /work/d/f",
      output_paths: ["/work/out", "/work/all", "/work/d", "/work/../../etc/hostname"],
    },
    ends: (row) => {
      for (const { path } of row.artifacts) expect(path).not.toContain("..");
      expect(new TextDecoder().decode(row.artifacts.find(({ path }) => path === "/work/d/f")?.bytes)).toBe("x\n");
    },
  },
  "a file name that is not UTF-8": {
    item: {
      code: "import os\nos.mkdir('/work/d')\nopen(b'/work/d/\\xff\\xfe', 'w').write('x')",
      output_paths: ["/work/d"],
    },
    ends: (row) =>
      expect(row.artifacts.map(({ path_base64 }) => path_base64)).toEqual([
        Buffer.from("/work/d/\xff\xfe", "latin1").toString("base64"),
      ]),
  },
};

/** Processes on this host. */
function processes(): number {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length;
}

if (gate("vm")) {
  guardLeaks("base");
  describe("Hostile items", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren();
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    test("each end as one row of their own, and the items between them are right", async () => {
      const names = Object.keys(HOSTILE);
      const items: Item[] = names.flatMap((id, i) => [
        { id, ...HOSTILE[id]!.item } as Item,
        { id: `good ${i}`, code: `print(${i} * 7)` },
      ]);
      const before = { processes: processes(), rss: process.memoryUsage().rss, free: warren.host.data.freeBytes() };
      let stalledMs = 0;
      let last = performance.now();
      const beat = setInterval(() => {
        stalledMs = Math.max(stalledMs, performance.now() - last - 50);
        last = performance.now();
      }, 50);
      const rows: Row[] = [];
      let most = 0;
      for await (const row of batch(batchParts(warren), items, {
        template: "base",
        concurrency: 4,
        outputBytes: 1 << 20,
      })) {
        rows.push(row);
        most = Math.max(most, processes());
      }
      clearInterval(beat);
      expect(rows.map(({ id }) => id)).toEqual(items.map(({ id }) => id));
      for (const [i, name] of names.entries()) {
        try {
          HOSTILE[name]!.ends(rows[2 * i]!);
        } catch (error) {
          throw new Error(`${name}: ${JSON.stringify(rows[2 * i]).slice(0, 2000)}`, { cause: error });
        }
        expect(rows[2 * i + 1]).toMatchObject({ ok: true, stdout: `${i * 7}\n`, exit_code: 0, error: null });
      }
      expect(most - before.processes).toBeLessThan(200);
      expect(process.memoryUsage().rss - before.rss).toBeLessThan(512 * 2 ** 20);
      expect(before.free - warren.host.data.freeBytes()).toBeLessThan(2 ** 30);
      expect(stalledMs).toBeLessThan(2_000);
    }, 600_000);
  });
}
