/** A home on real file systems: its image is made once, found again, grown, never beyond its host, and removed with all else. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountAt, unmountAt } from "../../ffi/mounts.ts";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import { removeAll } from "../../src/host/home/clean.ts";
import { openData } from "../../src/host/home/data.ts";
import { canReflink } from "../../src/host/home/disk.ts";
import { growImage, isMounted, unmountImage } from "../../src/host/home/image.ts";
import { tryLockFile } from "../../src/host/home/lock.ts";
import { LIMITS } from "../../src/limits.ts";
import { gate } from "../harness/gates.ts";
import { expectNoLeaks, traces } from "../harness/leaks.ts";

const ground = { clock: systemClock, log: createLog("silent") };
const made: string[] = [];

/** A file system of this size that cannot reflink, for a home. */
function smallDisk(mib: number): string {
  const dir = mkdtempSync(join(tmpdir(), "home-"));
  mountAt("none", dir, "tmpfs", `size=${mib}m`);
  made.push(dir);
  return join(dir, "home");
}

const clean = (home: string, force = false) => removeAll({ home, force, ...ground });

function loopsOf(home: string): number {
  return traces(home).filter((line) => line.startsWith("loop device")).length;
}

/** Opens a home in a process of its own. */
function opener(home: string) {
  const script = `import { openData } from ${JSON.stringify(join(import.meta.dir, "../../src/host/home/data.ts"))};
    import { systemClock } from ${JSON.stringify(join(import.meta.dir, "../../src/base/clock.ts"))};
    import { createLog } from ${JSON.stringify(join(import.meta.dir, "../../src/base/log.ts"))};
    const data = await openData(${JSON.stringify(home)}, { clock: systemClock, log: createLog("silent") });
    console.log(data.kind);`;
  return Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
}

if (gate("root")) {
  describe("A home", () => {
    afterAll(() => {
      for (const dir of made) {
        unmountAt(dir, "detach");
        rmSync(dir, { recursive: true });
      }
    });

    test("whose file system cannot reflink gets one that can, keeps it over a reboot, and is gone after clean", async () => {
      const home = smallDisk(4000);
      const before = traces(home);
      const first = await openData(home, ground);
      expect([first.kind, first.degraded, canReflink(home), canReflink(first.dir)]).toEqual([
        "image",
        null,
        false,
        true,
      ]);
      writeFileSync(join(first.dir, "template"), "kept");
      expect((await openData(home, ground)).kind).toBe("image");
      expect(loopsOf(home)).toBe(1);
      unmountImage(home); // what a reboot does
      expect([isMounted(home), loopsOf(home)]).toEqual([false, 0]);
      const again = await openData(home, ground);
      expect(readFileSync(join(again.dir, "template"), "utf8")).toBe("kept");
      await clean(home);
      expect(existsSync(home)).toBe(false);
      await expectNoLeaks(before, home);
    }, 30_000);

    test("is opened by several processes at once, with one image on one device", async () => {
      const home = smallDisk(4000);
      const openers = [1, 2, 3].map(() => opener(home));
      const said = await Promise.all(openers.map((child) => new Response(child.stdout).text()));
      expect(said).toEqual(["image\n", "image\n", "image\n"]);
      expect([loopsOf(home), traces(home).filter((line) => line.startsWith("mount at")).length]).toEqual([1, 1]);
      await clean(home);
    }, 30_000);

    test("is looked at for reflinks by one process at a time, and what a killed one left there is no data", async () => {
      const home = smallDisk(4000);
      const data = join(home, "data");
      mkdirSync(data, { recursive: true });
      utimesSync(data, 1, 1);
      const maker = tryLockFile(join(home, "data.lock"));
      const opened = openData(home, ground); // gets as far as it does without the lock
      expect(statSync(data).mtimeMs).toBe(1000);
      writeFileSync(join(data, ".probe-left"), "");
      maker?.[Symbol.dispose]();
      expect((await opened).kind).toBe("image");
      unmountImage(home);
      expect(readdirSync(data)).toEqual([]);
      await clean(home);
    }, 30_000);

    test("is whole after its maker was killed while making it", async () => {
      const home = smallDisk(4000);
      for (let i = 0; i < 8; i++) {
        const child = opener(home);
        await systemClock.sleep(15 + i * 9);
        child.kill("SIGKILL");
        await child.exited;
      }
      const data = await openData(home, ground);
      expect([data.kind, canReflink(data.dir), loopsOf(home)]).toEqual(["image", true, 1]);
      expect(readdirSync(home).sort()).toEqual(["bin", "data", "data.lock", "data.xfs", "run", "slots"]);
      await clean(home);
    }, 30_000);

    test("grows its image while its host has room, leaves the host its reserve, and then says that it is full", async () => {
      const home = smallDisk(3200);
      const data = await openData(home, ground);
      const size = () => statSync(join(home, "data.xfs")).size;
      const small = size();
      expect(small).toBeLessThan(LIMITS.dataLowBytes);
      const free = data.freeBytes();
      await data.ensureRoom();
      expect(size()).toBeGreaterThan(small + 2 ** 29);
      expect(size()).toBeLessThanOrEqual(3200 * 2 ** 20 - LIMITS.hostDiskReserveBytes);
      expect(data.freeBytes()).toBeGreaterThan(free);
      const grown = size();
      await growImage(home); // nothing left to grow into
      expect(size()).toBe(grown);
      // A host that others have filled: the image has room, the disk under it has not.
      mkdirSync(join(home, "..", "others"));
      await Bun.spawn(["fallocate", "-l", "2000M", join(home, "..", "others", "file")]).exited;
      await expect(data.ensureRoom()).rejects.toMatchObject({ code: "storage_exhausted" });
      rmSync(join(home, "..", "others"), { recursive: true });
      await data.ensureRoom();
      await clean(home);
    }, 30_000);

    test("gives space back to its host when files in it are removed", async () => {
      const home = smallDisk(4000);
      const data = await openData(home, ground);
      const used = () => statSync(join(home, "data.xfs")).blocks * 512;
      const empty = used();
      writeFileSync(join(data.dir, "big"), new Uint8Array(200 * 2 ** 20).fill(1), { flush: true });
      expect(used()).toBeGreaterThan(empty + 190 * 2 ** 20);
      rmSync(join(data.dir, "big"));
      unmountImage(home);
      expect(used()).toBeLessThan(empty + 20 * 2 ** 20);
      await clean(home);
    }, 30_000);

    test("on a disk too small for an image copies disks, and says why", async () => {
      const home = smallDisk(1200);
      const data = await openData(home, ground);
      expect([data.kind, loopsOf(home)]).toEqual(["copy", 0]);
      expect(data.degraded).toContain("too little space");
      await data.ensureRoom();
      await clean(home);
    });

    test("whose image is damaged is refused, and nothing is written where the image belongs", async () => {
      const home = smallDisk(4000);
      await openData(home, ground);
      unmountImage(home);
      const fd = openSync(join(home, "data.xfs"), "r+");
      writeSync(fd, new Uint8Array(1 << 20), 0, 1 << 20, 0);
      closeSync(fd);
      await expect(openData(home, ground)).rejects.toMatchObject({
        code: "host_unsupported",
        message: expect.stringContaining("xfs_repair"),
      });
      expect(readdirSync(join(home, "data"))).toEqual([]);
      await clean(home);
    });

    test("that cannot be written is refused", async () => {
      await expect(openData("/proc/nowhere", ground)).rejects.toMatchObject({
        code: expect.stringMatching(/host_unsupported|permission_denied/),
      });
    });

    test("is not cleaned when it is somebody else's folder, and need not exist to be clean", async () => {
      const dir = join(smallDisk(10), "..", "mine");
      mkdirSync(dir);
      writeFileSync(join(dir, "precious"), "x");
      await expect(clean(dir, true)).rejects.toMatchObject({ code: "invalid_request" });
      expect(readdirSync(dir)).toEqual(["precious"]);
      expect(await clean(join(dir, "nothing"))).toEqual({ killed: 0 });
    });

    test("in use by another process is not cleaned from under it", async () => {
      const home = smallDisk(4000);
      const data = await openData(home, ground);
      const child = Bun.spawn(["sleep", "60"], { cwd: data.dir });
      await expect(clean(home, true)).rejects.toMatchObject({ code: "wrong_state" });
      expect(isMounted(home)).toBe(true);
      child.kill("SIGKILL");
      await child.exited;
      await clean(home);
    }, 30_000);
  });
}
