/**
 * The launcher in a checkout of its own, with tools that only write down how they were called: what it brings, what it says,
 * what it hands over, and that the second start does none of it.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PROJECT = join(import.meta.dir, "../..");
const TOOLS = "cat cksum cp cut env flock ls mkdir mktemp readlink rm sh sleep tail tr".split(" ");
const PACKAGED = ["qemu-system-x86_64", "mmdebstrap", "mke2fs", "mkfs.xfs", "gcc", "tar"];
/** A Bun that writes down what it was to run. */
const BUN = 'if [ "$1" = --version ]; then echo 1.4.5; else echo "bun $*" >>"$LOG"; fi';

let dir = "";
let root = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren launcher "));
  root = join(dir, "check out");
  mkdirSync(join(root, "node_modules/commander"), { recursive: true });
  mkdirSync(join(dir, "bin"));
  copyFileSync(join(PROJECT, "warren"), join(root, "warren"));
  for (const name of ["bun.lock", "package.json", "bunfig.toml"]) copyFileSync(join(PROJECT, name), join(root, name));
  for (const name of TOOLS) symlinkSync(Bun.which(name) ?? "", join(dir, "bin", name));
  for (const name of PACKAGED) tool(name, "");
  tool("id", "echo 0");
  tool("bun", BUN);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function tool(name: string, script: string): void {
  const path = join(dir, "bin", name);
  rmSync(path, { force: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

function without(...names: string[]): void {
  for (const name of names) rmSync(join(dir, "bin", name));
}

interface Outcome {
  readonly code: number;
  readonly err: string;
  /** Calls of the tools that write themselves down, in order. */
  readonly calls: string[];
}

function run(
  args: readonly string[],
  more: { path?: string; cwd?: string; env?: Record<string, string> } = {},
): Outcome {
  const log = join(dir, "log");
  writeFileSync(log, "");
  const env = { PATH: join(dir, "bin"), LOG: log, WARREN_HOME: join(dir, "home"), TMPDIR: dir, ...more.env };
  const child = Bun.spawnSync([more.path ?? join(root, "warren"), ...args], {
    cwd: more.cwd ?? dir,
    env,
    stderr: "pipe",
  });
  const calls = readFileSync(log, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => line.trim().replaceAll(root, "ROOT").replaceAll(dir, "DIR"));
  return { code: child.exitCode, err: child.stderr.toString(), calls };
}

const HANDED = "bun --no-env-file --config=/dev/null ROOT/src/cli/main.ts";

describe("warren, the launcher", () => {
  test("The launcher installs the checkout's packages once, and after that only hands over", () => {
    const first = run(["ls", "--json", "a b"]);
    expect(first).toMatchObject({ code: 0, calls: ["bun install --frozen-lockfile", `${HANDED} ls --json a b`] });
    const second = run(["ls"]);
    expect(second).toEqual({ code: 0, err: "", calls: [`${HANDED} ls`] });
  });

  test("The launcher sets up again when the lock file, the checkout's packages or Bun changed", () => {
    const again = () => run(["ls"]).calls.length;
    expect([again(), again()]).toEqual([2, 1]);
    writeFileSync(join(root, "bun.lock"), "other");
    expect([again(), again()]).toEqual([2, 1]);
    rmSync(join(root, "node_modules"), { recursive: true });
    expect(again()).toBe(2);
    mkdirSync(join(root, "node_modules/commander"), { recursive: true });
    expect(again()).toBe(1);
    tool("bun", BUN);
    utimesSync(join(dir, "bin/bun"), new Date(), new Date(Date.now() + 5000));
    expect(again()).toBe(2);
  });

  test("The launcher finds its checkout through symlinks, from anywhere, by name in PATH", () => {
    symlinkSync("../check out/warren", join(dir, "bin/warren-link"));
    symlinkSync("warren-link", join(dir, "bin/warren"));
    expect(run(["ls"], { path: join(dir, "bin/warren"), cwd: "/" }).calls.at(-1)).toBe(`${HANDED} ls`);
    expect(run(["ls"], { path: "./warren", cwd: root }).calls.at(-1)).toBe(`${HANDED} ls`);
    const byName = Bun.spawnSync(["sh", "-c", "warren ls"], {
      env: { PATH: join(dir, "bin"), LOG: join(dir, "log"), WARREN_HOME: join(dir, "home") },
    });
    expect(byName.exitCode).toBe(0);
  });

  test("The launcher installs missing Debian packages after saying which and why, and says that it still works", () => {
    without("qemu-system-x86_64", "mmdebstrap");
    tool("apt-get", 'echo "apt-get $*" >>"$LOG"; case $* in *install*) sleep 3; echo Unpacking;; esac');
    const { code, err, calls } = run(["ls"]);
    expect(code).toBe(0);
    expect(err).toContain("installing Debian packages: qemu-system-x86 mmdebstrap (QEMU runs the microVMs");
    expect(err).toContain("installing packages, 2 s:");
    expect(calls.slice(0, 2)).toEqual([
      "apt-get -q update",
      "apt-get -q -y --no-install-recommends install qemu-system-x86 mmdebstrap",
    ]);
  });

  test("The launcher tells what apt said when it failed, and ends with 71", () => {
    without("mmdebstrap");
    tool("apt-get", "echo 'E: no such thing'; exit 100");
    const { code, err } = run(["ls"]);
    expect([code, err.includes("E: no such thing"), err.includes("apt-get could not install mmdebstrap")]).toEqual([
      71,
      true,
      true,
    ]);
    without("apt-get");
    expect(run(["ls"])).toMatchObject({ code: 71, calls: [] });
  });

  test("The launcher brings the pinned Bun by npm, by another Bun, or by npm from apt", () => {
    const install = (where: string) =>
      `mkdir -p ${where}/node_modules/.bin; cp "$OWN_BUN" ${where}/node_modules/.bin/bun`;
    writeFileSync(join(dir, "own-bun"), `#!/bin/sh\n${BUN}\n`);
    chmodSync(join(dir, "own-bun"), 0o755);
    const env = { OWN_BUN: join(dir, "own-bun") };
    const npm = `echo "npm $*" >>"$LOG"; ${install('"$6"')}`;

    without("bun");
    tool("npm", npm);
    const byNpm = run(["ls"], { env });
    expect(byNpm.calls[0]).toBe("npm install --loglevel=http --no-audit --no-fund --prefix DIR/home/bun bun@1.4.5");
    expect(byNpm).toMatchObject({ code: 0 });
    expect(byNpm.err).toContain("installing Bun 1.4.5 with npm");
    expect(run(["ls"], { env }).calls).toEqual([`${HANDED} ls`]);

    rmSync(join(dir, "home"), { recursive: true });
    without("npm");
    tool("bun", `if [ "$1" = --version ]; then echo 1.0.0; else echo "old bun $*" >>"$LOG"; ${install('"$3"')}; fi`);
    expect(run(["ls"], { env }).calls[0]).toBe("old bun add --cwd DIR/home/bun --exact bun@1.4.5");

    rmSync(join(dir, "home"), { recursive: true });
    without("bun");
    writeFileSync(join(dir, "npm-script"), `#!/bin/sh\n${npm}\n`);
    chmodSync(join(dir, "npm-script"), 0o755);
    tool("apt-get", 'case $* in *install*) cp "$NPM" "$BIN/npm";; esac');
    const byApt = run(["ls"], { env: { ...env, NPM: join(dir, "npm-script"), BIN: join(dir, "bin") } });
    expect(byApt).toMatchObject({ code: 0 });
    expect(byApt.err).toContain("installing Debian packages: npm (to install Bun 1.4.5");
  });

  test("The launcher uses the binary of a Bun whose install script was not run", () => {
    without("bun");
    const own = join(dir, "home/bun/node_modules");
    mkdirSync(join(own, ".bin"), { recursive: true });
    mkdirSync(join(own, "@oven/bun-linux-x64/bin"), { recursive: true });
    writeFileSync(join(own, ".bin/bun"), "#!/bin/sh\necho postinstall was not run >&2; exit 1\n");
    writeFileSync(join(own, "@oven/bun-linux-x64/bin/bun"), `#!/bin/sh\n${BUN}\n`);
    chmodSync(join(own, ".bin/bun"), 0o755);
    chmodSync(join(own, "@oven/bun-linux-x64/bin/bun"), 0o755);
    expect(run(["ls"])).toMatchObject({ code: 0, calls: ["bun install --frozen-lockfile", `${HANDED} ls`] });
  });

  test("The launcher needs no root for what a server does, whichever way the server is named", () => {
    tool("id", "echo 1000");
    tool("sudo", 'echo "sudo" >>"$LOG"');
    const asks = (words: string[], env: Record<string, string> = {}) =>
      run(words, { env: { HOME: join(dir, "nobody"), ...env } }).calls.includes("sudo");
    const here = [
      ["ls"],
      ["ls", "--host", "local"],
      ["serve", "--host", "::1"],
      ["exec", "sb_1", "curl", "--host", "x"],
    ];
    for (const words of [...here, ["run", "p.py", "--host", "x"], ["run", "--", "--host", "x"]]) {
      expect([words.join(" "), asks(words)]).toEqual([words.join(" "), true]);
    }
    const there = [
      ["ls", "--host", "https://a.test"],
      ["--host=https://a.test", "ls"],
      ["login"],
      ["me"],
      ["keys", "ls"],
    ];
    for (const words of [...there, ["exec", "--host", "https://a.test", "sb_1", "true"]]) {
      expect([words.join(" "), asks(words)]).toEqual([words.join(" "), false]);
    }
    expect(asks(["ls"], { WARREN_API: "https://a.test" })).toBe(false);
    expect(asks(["serve"], { WARREN_API: "https://a.test" })).toBe(true);
    mkdirSync(join(dir, "nobody/.config/warren"), { recursive: true });
    writeFileSync(join(dir, "nobody/.config/warren/credentials.json"), "{}");
    expect([asks(["ls"]), asks(["ls", "--host", "local"])]).toEqual([false, true]);
  });

  test("The launcher keeps a server's secrets off the command line of sudo", () => {
    tool("id", "echo 1000");
    tool("sudo", 'echo "sudo $*" >>"$LOG"');
    const env = { DATABASE_URL: "postgres://u:pw@db.test/w", WARREN_ADMIN_KEY: "wrn_k", WARREN_LISTEN: "[::1]:1" };
    expect(run(["serve"], { env }).calls).toEqual([
      "sudo --preserve-env=DATABASE_URL,WARREN_ADMIN_KEY -- env WARREN_LISTEN=[::1]:1 WARREN_HOME=DIR/home ROOT/warren serve",
    ]);
  });

  test("The launcher becomes root with sudo, saying so and keeping the settings; without sudo it ends with 71", () => {
    tool("id", "echo 1000");
    tool("sudo", 'echo "sudo $*" >>"$LOG"');
    const { code, err, calls } = run(["batch", "x y"], { env: { WARREN_LOG: "debug" } });
    expect([code, calls]).toEqual([0, ["sudo -- env WARREN_LOG=debug WARREN_HOME=DIR/home ROOT/warren batch x y"]]);
    expect(err).toContain("needs root");
    without("sudo");
    expect(run(["batch", "x"])).toMatchObject({ code: 71, calls: [] });
  });

  test("The launcher shows help without rights and without QEMU", () => {
    tool("id", "echo 1000");
    without("qemu-system-x86_64");
    for (const args of [
      [],
      ["--help"],
      ["batch", "--help"],
      ["templates", "bake", "-h"],
      ["doctor"],
      ["completion", "bash"],
    ]) {
      const handed = [HANDED, ...args].join(" ");
      expect(run(args)).toMatchObject({ code: 0, calls: ["bun install --frozen-lockfile", handed] });
    }
    // What follows the program is the program's own.
    expect(run(["run", "x.py", "--help"]).code).toBe(71);
    expect(existsSync(join(dir, "home/bun/ready"))).toBe(false);
  });

  test("The launcher needs no lock file where it was installed as a package", () => {
    rmSync(join(root, "bun.lock"));
    rmSync(join(root, "node_modules"), { recursive: true });
    expect(run(["ls"]).calls).toEqual([`${HANDED} ls`]);
  });

  test("The launcher pins the Bun that package.json names, and its own test command ends with the totals", () => {
    const script = readFileSync(join(PROJECT, "warren"), "utf8");
    const { engines } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    expect(script).toContain(`bun_version=${engines.bun}\n`);
    expect(run(["test"])).toMatchObject({ code: 71 });
    mkdirSync(join(root, "test"));
    writeFileSync(join(root, "test/run.ts"), "");
    expect(run(["test", "some/where"]).calls.at(-1)).toBe(
      "bun --no-env-file --config=/dev/null ROOT/test/run.ts some/where",
    );
  });

  test("The launcher is plain POSIX sh", () => {
    const dash = Bun.which("dash");
    if (dash === null) throw new Error("dash is not here; Debian's sh is dash");
    expect(Bun.spawnSync([dash, "-n", join(PROJECT, "warren")]).exitCode).toBe(0);
    expect(readFileSync(join(PROJECT, "warren"), "utf8")).not.toMatch(
      /\[\[|<\(|\bfunction |\$'|\blocal |\(\(\s*[a-z]+\+\+/,
    );
  });
});
