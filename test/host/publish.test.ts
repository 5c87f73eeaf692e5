/** What a killed process left half-filled is removed, with what it had mounted in there, and nothing behind those mounts. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountAt } from "../../ffi/mounts.ts";
import { partialOf, removePartials } from "../../src/host/home/publish.ts";
import { runOk } from "../../src/host/run.ts";
import { gate } from "../harness/gates.ts";

if (gate("root")) {
  test("A folder half-filled by a dead process is removed with mounts in it, and a living one's stays", async () => {
    const dir = mkdtempSync(join(tmpdir(), "warren-publish-"));
    try {
      const link = join(dir, "home");
      mkdirSync(join(dir, "real"));
      symlinkSync(join(dir, "real"), link);
      const dead = join(link, "rootfs.partial-1-1-abc");
      const living = partialOf(join(link, "rootfs"));
      const elsewhere = join(dir, "elsewhere");
      for (const path of [join(dead, "root/proc"), join(dead, "root/dev"), living, elsewhere]) {
        mkdirSync(path, { recursive: true });
      }
      writeFileSync(join(elsewhere, "file"), "of the host");
      await runOk(["mount", "--bind", elsewhere, join(dead, "root/dev")], { deadlineMs: 10_000 });
      mountAt("none", join(dead, "root/proc"), "tmpfs", "size=1m");
      mkdirSync(join(dead, "root/proc/inner"));
      mountAt("none", join(dead, "root/proc/inner"), "tmpfs", "size=1m");
      removePartials(link);
      expect(existsSync(dead)).toBe(false);
      expect(existsSync(living)).toBe(true);
      expect(readFileSync(join(elsewhere, "file"), "utf8")).toBe("of the host");
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("rootfs.partial-1-1-abc");
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}
