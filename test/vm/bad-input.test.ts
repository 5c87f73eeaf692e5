/**
 * What a user or a host can get wrong, through the command line and embedded: a clear error with its exit code, that names
 * what came and what to do, and nothing left behind. With BAKE_FRESH=1 two processes also bake on a home that holds nothing yet.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { LIMITS } from "../../src/limits.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { cli, MAIN } from "../harness/cli.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../harness/leaks.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../harness/vm.ts";

const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const IN_OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private", "sh", "-c"];

/** Kills a bake as soon as it has said so much. */
async function killBake(home: string, args: readonly string[], at: string): Promise<void> {
  const child = Bun.spawn([process.execPath, MAIN, "templates", "bake", "base", ...args], {
    env: { ...process.env, WARREN_HOME: home },
    stderr: "pipe",
  });
  let said = "";
  for await (const chunk of child.stderr) {
    said += new TextDecoder().decode(chunk);
    if (said.includes(at)) child.kill("SIGKILL");
  }
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
}

let dir = "";
const WARNED = /^warren: .+/;

/** Runs the command line with a file system of `sizeMib` as its home, which is gone afterwards; `then` runs beside it. */
function onSmallDisk(sizeMib: number, args: readonly string[], beside = ":"): ReturnType<typeof cli> {
  const home = join(dir, "small");
  mkdirSync(home, { recursive: true });
  const look = `find ${home} -name '*.partial-*'; losetup -a | grep ${home}; grep " ${home}/" /proc/self/mounts`;
  const script = `mount -t tmpfs -o size=${sizeMib}m none ${home} && { { ${beside}; } & "$@"; code=$?; wait; ${look}; exit $code; }`;
  return cli(args, { env: { WARREN_HOME: home }, by: [...IN_OWN_MOUNTS, script, "sh"] });
}

/** Two processes bake at once; what each said. */
async function bakeTwice(home: string, size: readonly string[]): Promise<readonly string[]> {
  const one = () => cli(["templates", "bake", "base", ...size], { env: { WARREN_HOME: home } });
  const both = await Promise.all([one(), one()]);
  expect(both.map(({ code, out }) => [code, out])).toEqual([
    [0, ""],
    [0, ""],
  ]);
  return both.map(({ err }) => err);
}

/** Exactly one of them baked, and the other said that it waits for that. */
function expectOneBaked(said: readonly string[]): void {
  expect(said.filter((text) => text.includes("booting the guest")).length).toBe(1);
  const waiter = said.find((text) => !text.includes("booting the guest"));
  expect(waiter).toContain("another process is baking base; waiting for it");
}

function snapshots(home: string, size: string): string[] {
  return readdirSync(join(home, "data/templates/base")).filter((name) => name.startsWith(size));
}

if (gate("vm")) {
  guardLeaks("base");
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "warren-bad-input-"));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  describe("warren", () => {
    test("warren names the template that does not exist and those that do", async () => {
      writeFileSync(join(dir, "one.jsonl"), '{"id":1,"cmd":"true"}\n');
      for (const args of [
        ["create", "--template", "nope"],
        ["run", "-t", "nope", "-c", "print(1)"],
        ["batch", "one.jsonl", "-t", "nope"],
        ["templates", "bake", "nope"],
        ["templates", "rm", "nope"],
      ]) {
        const { code, out, err } = await cli(args, { cwd: dir });
        expect([args, code, out]).toEqual([args, 2, ""]);
        expect(err).toContain('there is no template "nope"; there are base, code-interpreter');
      }
      expect(readdirSync(dir)).toEqual(["one.jsonl"]);
      await using warren = await openTestWarren({ prepared: 0 });
      const error = await Sandbox.create({ template: "nope" }, warren.sandboxes).catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: "template_not_found", details: { field: "template", got: "nope" } });
    });

    test("warren names the memory that came and what is allowed", async () => {
      for (const args of [
        ["create"],
        ["run", "-c", "print(1)"],
        ["batch", "one.jsonl"],
        ["templates", "bake", "base"],
      ]) {
        const { code, out, err } = await cli([...args, "--memory", "64"], { cwd: dir });
        expect([args, code, out]).toEqual([args, 2, ""]);
        expect(err).toContain("'--memory <mib>' argument '64' is invalid");
        expect(err).toContain(`${LIMITS.memoryMibMin} to ${LIMITS.memoryMibMax} MiB`);
      }
    });

    test(
      "warren batch names a malformed line by its number, runs the rest and ends with 2",
      async () => {
        const lines = ['{"id":1,"cmd":"echo one"}', '{"id":2,"cmd":', '{"id":3}', '{"id":4,"cmd":"echo four"}'];
        writeFileSync(join(dir, "items.jsonl"), `${lines.join("\n")}\n`);
        const { code, err } = await cli(["batch", "items.jsonl", "-t", "base", "-o", "rows.jsonl"], { cwd: dir });
        expect(code).toBe(2);
        expect(err).toContain("warren: line 2 of items.jsonl is not JSON");
        expect(err).toContain("warren: line 3 of items.jsonl");
        const rows = readFileSync(join(dir, "rows.jsonl"), "utf8")
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line));
        expect(rows.map(({ id, ok, stdout }) => [id, ok, stdout])).toEqual([
          [1, true, "one\n"],
          [4, true, "four\n"],
        ]);
      },
      VM_TEST_MS,
    );

    test("warren names a file that cannot be read, and why", async () => {
      const wrong = [
        [["batch", "missing.jsonl"], "missing.jsonl cannot be read", "ENOENT"],
        [["batch", "."], ". cannot be read", "it is a directory"],
        [["batch", "/proc/self/mem"], "/proc/self/mem cannot be read", "EIO"], // root may open anything else
        [["run", "missing.py"], "missing.py cannot be run", "ENOENT"],
        [["run", "."], ". cannot be run", "directory"],
        [["run", "/proc/self/mem"], "/proc/self/mem cannot be run", "EIO"],
      ] as const;
      for (const [args, what, why] of wrong) {
        const { code, out, err } = await cli([...args, ...(args[0] === "batch" ? ["-o", "x.jsonl"] : [])], {
          cwd: dir,
        });
        expect([args, code, out]).toEqual([args, 2, ""]);
        expect(err).toContain(what);
        expect(err).toContain(why);
      }
      expect(readdirSync(dir).filter((name) => name.startsWith("x"))).toEqual([]);
    });
  });

  describe("A host", () => {
    test(
      "without a KVM that works is told as such when KVM is demanded, in time, and what is missing with QEMU, too",
      async () => {
        const before = traces(TEST_HOME);
        const known = readdirSync(join(TEST_HOME, "data"));
        const hidden = [...IN_OWN_MOUNTS, '[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; exec "$@"', "sh"];
        const startMs = systemClock.monotonicMs();
        const told = await cli(["run", "-t", "base", "-c", "print(1)"], { env: { WARREN_ACCEL: "kvm" }, by: hidden });
        expect(systemClock.monotonicMs() - startMs).toBeLessThan(LIMITS.kvmProbeMs + 10_000);
        expect([told.code, told.out]).toEqual([71, ""]);
        expect(told.err).toContain("WARREN_ACCEL=kvm, but ");
        expect(told.err).toContain("or set WARREN_ACCEL=auto for software emulation");
        for (const name of readdirSync(join(TEST_HOME, "data"))) {
          if (name.startsWith("kvm-") && !known.includes(name)) rmSync(join(TEST_HOME, "data", name)); // the kept answer
        }
        await expectNoLeaks(before, TEST_HOME);

        for (const [qemu, says] of [
          ["/nowhere/qemu", "WARREN_QEMU names /nowhere/qemu, which is no program"],
          ["/bin/false", "is no QEMU that runs here; WARREN_QEMU may name another"],
        ] as const) {
          const { code, err } = await cli(["run", "-t", "base", "-c", "print(1)"], { env: { WARREN_QEMU: qemu } });
          expect(code).toBe(71);
          expect(err).toContain(says);
        }
        await expectNoLeaks(before, TEST_HOME);
      },
      VM_TEST_MS,
    );

    const mayRead = Bun.spawnSync([...AS_NOBODY, "test", "-r", MAIN, "-a", "-x", process.execPath]).exitCode === 0;
    if (!mayRead) console.warn(`skipped: without root: the user nobody cannot read ${MAIN} or run Bun`);
    if (mayRead)
      test("without root is told so, with the remedy, and nothing is made", async () => {
        const home = join(tmpdir(), `warren-nobody-${process.pid}`);
        for (const where of [home, TEST_HOME]) {
          for (const args of [["ls"], ["create"], ["run", "-c", "print(1)"], ["templates", "bake", "base"]]) {
            const told = await cli(args, { env: { WARREN_HOME: where }, by: AS_NOBODY });
            expect([args, told.code, told.out]).toEqual([args, 71, ""]);
            expect(told.err).toMatch(WARNED);
            expect(told.err).toContain("microVMs need root");
            expect(told.err).toContain("run it as root, for instance with sudo");
          }
        }
        expect(existsSync(home)).toBe(false);
        const clean = await cli(["clean", "--yes", "--force"], { by: AS_NOBODY });
        expect([clean.code, clean.err.includes("microVMs need root")]).toEqual([71, true]);
        const doctor = await cli(["doctor"], { env: { WARREN_HOME: home }, by: AS_NOBODY });
        expect([doctor.code, doctor.out.includes("rights: run as root")]).toEqual([1, true]);
        expect(existsSync(home)).toBe(false);
      });

    test("without the room for a bake is told the place, what is free and what is needed, before anything is built", async () => {
      const before = traces(TEST_HOME);
      const { code, out, err } = await onSmallDisk(300, ["templates", "bake", "base"]);
      expect([code, out]).toEqual([71, ""]);
      expect(err).toMatch(/warren: only \d+ MiB are left for templates and disks in .*small, and \d{4} MiB are needed/);
      expect(err).toContain("free some space where WARREN_HOME is");
      expect(readdirSync(join(dir, "small"))).toEqual([]);
      await expectNoLeaks(before, TEST_HOME);
    });

    test(
      "whose disk is filled while it bakes is told so, and no part of the bake stays",
      async () => {
        // Enough for the look at the beginning; then others take nearly all of it.
        const begun = `ls -d ${dir}/small/data/images/rootfs-* >/dev/null 2>&1`;
        const others = `for i in $(seq 600); do ${begun} && break; sleep 0.1; done; mount -o remount,size=150m ${dir}/small`;
        const { code, out, err } = await onSmallDisk(2000, ["templates", "bake", "base"], others);
        expect([code, out]).toEqual([71, ""]);
        expect(err).toMatch(/warren: the disk filled up while packages were unpacked to .*small\/data\/images/);
        expect(err).not.toContain("WARREN_MIRROR");
      },
      VM_BAKE_MS,
    );
  });

  describe("Two processes that bake the same template", () => {
    const SIZE = "1x192-";
    const forget = () => {
      for (const name of snapshots(TEST_HOME, SIZE))
        rmSync(join(TEST_HOME, "data/templates/base", name), { recursive: true });
    };
    afterAll(forget);

    test(
      "do it once: the other says that it waits, and uses what was baked",
      async () => {
        forget();
        expectOneBaked(await bakeTwice(TEST_HOME, ["--memory", "192"]));
        expect(snapshots(TEST_HOME, SIZE).length).toBe(1);
        const again = await cli(["templates", "bake", "base", "--memory", "192"]);
        expect(again).toMatchObject({ code: 0, err: "warren: base was baked already; --force builds it again\n" });
      },
      VM_BAKE_MS,
    );

    test(
      "leave nothing of a bake whose process was killed: the next start removes it",
      async () => {
        forget();
        const before = traces(TEST_HOME);
        await killBake(TEST_HOME, ["--memory", "192"], "booting the guest");
        const half = () => snapshots(TEST_HOME, ".partial-");
        expect(half().length).toBe(1);
        expect((await cli(["ls"])).code).toBe(0);
        expect(half()).toEqual([]);
        await expectNoLeaks(before, TEST_HOME, 1_000);
      },
      VM_TEST_MS,
    );

    if (process.env["BAKE_FRESH"] === "1")
      test(
        "do it once on a home that holds nothing yet, images and all, and clean removes it whole",
        async () => {
          const home = join(dir, "fresh");
          const before = traces(home);
          const unpacking = () => readdirSync(tmpdir()).filter((name) => name.startsWith("mmdebstrap."));
          const elsewhere = unpacking();
          await killBake(home, [], "extracting archives");
          expect((await cli(["ls"], { env: { WARREN_HOME: home } })).code).toBe(0);
          expect(readdirSync(join(home, "data/images")).filter((name) => name.includes(".partial-"))).toEqual([]);
          expect(unpacking()).toEqual(elsewhere);
          expectOneBaked(await bakeTwice(home, []));
          expect(snapshots(home, "1x512-").length).toBe(1);
          expect(readdirSync(join(home, "data/images")).filter((name) => name.startsWith("rootfs-")).length).toBe(1);
          expect((await cli(["clean", "--yes"], { env: { WARREN_HOME: home } })).code).toBe(0);
          expect(existsSync(home)).toBe(false);
          await expectNoLeaks(before, home);
        },
        VM_BAKE_MS,
      );
  });
}
