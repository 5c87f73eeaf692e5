/**
 * Volumes in real guests: what one wrote the next one reads, also when the first was killed; who only reads cannot write,
 * not even as root; the lock ends with the VMM.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { nonce } from "../../../src/base/id.ts";
import { LOCAL_ACCOUNT, type Warren } from "../../../src/compose.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { Volume } from "../../../src/sandbox/volume.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, type Traces, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_TEST_MS } from "../../harness/vm.ts";
import { fails } from "../../suites/sandbox/subject.ts";

/** Bytes of a volume's image as they are on the host now. */
function imageOf(name: string): Uint8Array {
  return readFileSync(join(TEST_HOME, "data/volumes", `n-${LOCAL_ACCOUNT}`, name, "disk.ext4"));
}

if (gate("vm")) {
  guardLeaks("base");
  describe("Volumes", () => {
    let before: Traces;
    let warren: Warren;
    let volume: Volume;
    const box = (...mounts: Parameters<Volume["mount"]>[]) =>
      Sandbox.create({ volumes: mounts.map((args) => volume.mount(...args)) }, warren.sandboxes);
    const sh = async (on: Sandbox, cmd: string) => {
      const { exitCode, stdout, stderr } = await on.exec(cmd);
      return { exitCode, out: (stdout + stderr).trim() };
    };
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare(); // opens the template, which stays open for the process's life
    });
    afterAll(() => warren[Symbol.asyncDispose]());
    beforeEach(async () => {
      before = traces(TEST_HOME);
      volume = await Volume.create({ name: `v-${nonce()}`, sizeGb: 1 / 16 }, warren.sandboxes);
    });
    afterEach(async () => {
      await volume.remove();
      await expectNoLeaks(before, TEST_HOME);
    });
    const does = (says: string, body: () => Promise<void>) => test(says, body, VM_TEST_MS);

    does("hold what one sandbox wrote for the next, and give back what is deleted", async () => {
      await using first = await box(["/workspace"]);
      const written = "head -c 8388608 /dev/urandom > /workspace/big && sha256sum < /workspace/big";
      const { exitCode, out: digest } = await sh(first, `${written}; stat -c '%a %u' /workspace >&2`);
      expect(exitCode).toBe(0);
      expect(digest).toMatch(/^[0-9a-f]{64} {2}-\n755 0$/);
      await first.detachVolume(volume);
      const used = (await volume.info()).usedBytes;
      expect(used).toBeGreaterThan(8 * 2 ** 20);
      await using second = await box(["/elsewhere"]);
      expect(digest).toStartWith((await sh(second, "sha256sum < /elsewhere/big")).out);
      await sh(second, "rm /elsewhere/big");
      await second.detachVolume(volume);
      expect((await volume.info()).usedBytes).toBeLessThan(used - 7 * 2 ** 20);
      expect((await sh(second, "ls /elsewhere; mount | grep -c elsewhere")).out).toBe("0");
    });

    does("smaller than the sandbox's own disk leave that its size", async () => {
      await using sb = await box(["/workspace"]);
      const write = "head -c 33554432 /dev/urandom > /root/big && sync /root/big && sha256sum < /root/big";
      const written = await sh(sb, write);
      expect(written).toMatchObject({ exitCode: 0 });
      expect(await sh(sb, "echo 3 > /proc/sys/vm/drop_caches; sha256sum < /root/big")).toEqual(written);
    });

    does("are read by two at once and written by neither, whatever root does", async () => {
      {
        await using writer = await box(["/w"]);
        await sh(writer, "echo one > /w/file"); // closing flushes it
      }
      await using reader = await box(["/r", { readOnly: true }]);
      await using other = await box(["/r", { readOnly: true }]);
      const bytes = imageOf(volume.name);
      for (const on of [reader, other]) expect((await sh(on, "cat /r/file")).out).toBe("one");
      const refused = await sh(reader, "echo two > /r/file");
      expect(refused).toMatchObject({ exitCode: 2, out: expect.stringContaining("Read-only file system") });
      const python = "import os\ntry: open('/r/new', 'w')\nexcept OSError as e: print(e.errno)";
      expect((await reader.exec(["python3", "-c", python])).stdout.trim()).toBe("30"); // EROFS
      const evil =
        "mount -o remount,rw /r && echo evil > /r/file && sync && dd if=/dev/urandom of=/dev/vdb bs=1M count=4 conv=fsync";
      expect((await sh(reader, evil)).exitCode).toBe(0);
      expect((await sh(other, "echo 3 > /proc/sys/vm/drop_caches; cat /r/file")).out).toBe("one");
      expect(Buffer.compare(imageOf(volume.name), bytes)).toBe(0);
      await reader.close();
      await other.close();
    });

    does(
      "of a sandbox that was killed are free at once, their journal is replayed, what was synced is there",
      async () => {
        const first = await box(["/w"]);
        const files =
          "for i in $(seq 200); do echo $i > /w/f$i; done; sync; for i in $(seq 50); do echo lost > /w/g$i; done";
        expect((await sh(first, files)).exitCode).toBe(0);
        await first.close();
        await using second = await box(["/w"]);
        expect((await sh(second, "dmesg | grep -c 'vdb): recovery complete'")).out).toBe("1");
        const all = await sh(
          second,
          "cat $(seq -f /w/f%g 200) | tail -n1; ls /w/f* | wc -l; echo more > /w/more; sync",
        );
        expect(all.out).toBe("200\n200");
        await second.close();
        // One who only reads replays it too, beside the volume.
        const bytes = imageOf(volume.name);
        await using reader = await box(["/r", { readOnly: true }]);
        expect((await sh(reader, "cat /r/more; dmesg | grep -c 'vdb): recovery complete'")).out).toBe("more\n1");
        expect(Buffer.compare(imageOf(volume.name), bytes)).toBe(0);
      },
    );

    does("of a process that was killed are free when its VMM is gone", async () => {
      const options = JSON.stringify({ volumes: [volume.mount("/w")] });
      const child = Bun.spawn([process.execPath, join(import.meta.dir, "maker.ts"), "hold", options], {
        env: { ...process.env, WARREN_HOME: TEST_HOME },
        stdout: "pipe",
        stderr: "inherit",
      });
      const reader = child.stdout.getReader();
      expect((await reader.read()).done).toBe(false);
      expect((await volume.info()).attachedTo).toHaveLength(1);
      await fails("volume_in_use", box(["/w", { readOnly: true }]));
      await fails("volume_in_use", volume.remove());
      child.kill("SIGKILL");
      await child.exited;
      await reader.cancel();
      let next: Sandbox | null = null;
      await until("the lock has ended with the VMM", async () => {
        next = await box(["/w"]).catch((cause: unknown) => {
          if (isWarrenError(cause, "volume_in_use")) return null;
          throw cause;
        });
        return next !== null;
      });
      await using mine = next as unknown as Sandbox;
      expect((await mine.exec("test -d /w/lost+found")).exitCode).toBe(0);
      await mine.close();
      await warren.host.sweep();
    });

    does("grow while they are written, and at the next attach when nobody does", async () => {
      const mib = async (on: Sandbox) => Number((await sh(on, "df -m --output=size /w | tail -n1")).out);
      await using first = await box(["/w"]);
      await sh(first, "echo kept > /w/kept");
      expect(await mib(first)).toBeLessThan(64);
      await volume.resize({ sizeGb: 1 / 4 });
      expect(await mib(first)).toBeGreaterThan(220);
      await first.detachVolume(volume);
      await volume.resize({ sizeGb: 1 / 2 });
      await using reader = await box(["/w", { readOnly: true }]);
      expect(await mib(reader)).toBeLessThan(256);
      await reader.close();
      await using second = await box(["/w"]);
      expect(await mib(second)).toBeGreaterThan(450);
      expect((await sh(second, "cat /w/kept")).out).toBe("kept");
      await second.close();
    });

    does("that a process uses are not detached, and the refusal names it", async () => {
      await using one = await box(["/w"]);
      const busy = await one.spawn("cd /w && exec sleep 600");
      await until("it is there", async () => (await sh(one, `readlink /proc/${busy.pid}/cwd`)).out === "/w");
      const refused = await fails("volume_in_use", one.detachVolume(volume));
      expect(refused.details).toMatchObject({ mount: "/w", pids: [busy.pid] });
      await busy.signal("SIGKILL");
      await busy.wait();
      await one.detachVolume(volume);
      expect((await sh(one, "cat /sys/block/vdb/size")).out).toBe("1");
      await one.close();
    });

    does("with a damaged file system end the attach, and nothing else", async () => {
      const path = join(TEST_HOME, "data/volumes", `n-${LOCAL_ACCOUNT}`, volume.name, "disk.ext4");
      const file = Bun.file(path);
      await Bun.write(path, new Uint8Array(file.size).fill(0x5a));
      await using one = await Sandbox.create({}, warren.sandboxes);
      await fails("driver_failed", one.attachVolume(volume));
      expect((await one.info()).volumes).toEqual([]);
      expect((await sh(one, "cat /sys/block/vdb/size; echo alive")).out).toBe("1\nalive");
      await one.close();
    });
  });
}
