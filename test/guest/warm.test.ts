/** When the warm interpreter is used and when a fresh one is, and that losing it at any moment costs time and nothing else. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isWarrenError } from "../../src/errors.ts";
import type { ExecRequest, GuestAgent } from "../../src/guest/agent.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, binaries, type ConnectedAgent, connectAgent } from "./process.ts";

const SCRIPT = join(import.meta.dir, "../../images/python/warm.py");
/** Only the warm interpreter has this loaded without an import. */
const WHICH = "import sys; print('warm' if 'ctypes' in sys.modules else 'fresh')\n";

async function warmAgent(modules: readonly string[] = ["json", "random"]): Promise<ConnectedAgent> {
  const connected = await connectAgent(["--warm", SCRIPT]);
  await connected.agent.warm(modules);
  return connected;
}

async function run(agent: GuestAgent, request: ExecRequest): Promise<string> {
  let out = "";
  for await (const event of agent.exec({ timeoutSeconds: 20, cwd: "/", ...request })) {
    if (event.kind === "stdout" || event.kind === "stderr") out += Buffer.from(event.bytes).toString();
    if (event.kind === "exit" && event.exitCode !== 0) out += `[${event.exitCode ?? event.signal}]`;
  }
  return out;
}

/** The interpreter's processes below this agent: the zygote first, then the child that waits. */
function interpreters(agentPid: number): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    const stat = Bun.spawnSync(["cat", `/proc/${name}/stat`]).stdout.toString();
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(fields[1]) !== agentPid || fields[0] === "Z") continue;
    if (readFileSync(`/proc/${name}/cmdline`, "utf8").includes("warm.py")) found.push(Number(name));
  }
  return found.sort((a, b) => a - b);
}

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);

  const home = mkdtempSync(join(tmpdir(), "warren-warm-"));
  const at = (...names: string[]): string => join(home, ...names);
  afterAll(() => rmSync(home, { recursive: true, force: true }));
  const program = (name: string, code = WHICH): string => {
    mkdirSync(join(at(name), ".."), { recursive: true });
    writeFileSync(at(name), code);
    return at(name);
  };

  describe("The warm interpreter", () => {
    test("The warm interpreter runs what could not tell, and a fresh one the rest", async () => {
      await using it = await warmAgent();
      const which = (path: string, more: ExecRequest = {}) => run(it.agent, { python: { path }, ...more });
      const plain = program("plain/p.py");
      expect(await which(plain)).toBe("warm\n");
      expect(await which(plain, { env: { A: "1", HOME: at("plain") } })).toBe("warm\n");
      expect(await which(plain, { cwd: "/tmp", stdin: "x" })).toBe("warm\n");
      symlinkSync("plain/p.py", at("linked.py"));
      expect(await which(at("linked.py"))).toBe("warm\n");
      program("data/json.csv", "");
      expect(await which(program("data/p.py"))).toBe("warm\n");

      for (const name of ["PYTHONPATH", "PYTHONHASHSEED", "LC_ALL", "LANG", "TZ", "LD_LIBRARY_PATH", "MPLBACKEND"]) {
        expect([name, await which(plain, { env: { [name]: "1" } })]).toEqual([name, "fresh\n"]);
      }
      for (const name of ["random.py", "json/__init__.py", "_random.cpython-311-x86_64-linux-gnu.so"]) {
        program(`shadow-${name}/${name}`, "raise SystemExit\n");
        expect([name, await which(program(`shadow-${name}/p.py`))]).toEqual([name, "fresh\n"]);
      }
      expect(await which(program("plain/no-suffix"))).toBe("fresh\n");
      program("package/__main__.py");
      expect(await which(at("package"))).toBe("fresh\n");
      mkdirSync(at("owner/.local/lib/python3.11/site-packages"), { recursive: true });
      expect(await which(plain, { env: { HOME: at("owner") } })).toBe("fresh\n");
      expect(await which(at("missing.py"))).toContain("can't open file");
    });

    test("A program that waits for its interpreter gets all of its stdin, and the end of it", async () => {
      await using it = await warmAgent();
      const path = program("stdin/p.py", "import sys; print(len(sys.stdin.read()))\n");
      // One child waits; the others' programs and their input come before there is a child for them.
      const lengths = Array.from({ length: 12 }, (_, i) => (i % 2) * i * 10_007);
      const said = lengths.map((length) => run(it.agent, { python: { path }, stdin: "x".repeat(length) }));
      expect(await Promise.all(said)).toEqual(lengths.map((length) => `${length}\n`));
    });

    test("The warm interpreter notices packages that were installed since", async () => {
      await using it = await connectAgent(
        ["--warm", SCRIPT],
        ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /usr/local/lib/python3.11/dist-packages && exec "$@"', "sh"],
      );
      await it.agent.warm(["json"]);
      const path = program("plain/p.py");
      expect(await run(it.agent, { python: { path } })).toBe("warm\n");
      await it.agent.writeFile({ path: "/usr/local/lib/python3.11/dist-packages/new.py", body: "" });
      expect(await run(it.agent, { python: { path } })).toBe("fresh\n");
    });

    test("The warm interpreter runs as another user, with that user's rights", async () => {
      await using it = await warmAgent();
      const code =
        "import os, sys; print(os.getuid(), os.getgid(), os.getgroups(), os.environ['USER'], 'ctypes' in sys.modules)\n";
      mkdirSync(at("open"), { mode: 0o755 });
      Bun.spawnSync(["chmod", "755", home]);
      expect(await run(it.agent, { python: { path: at("open/p.py"), code }, user: "nobody" })).toBe(
        "65534 65534 [65534] nobody True\n",
      );
      expect((await it.agent.stat({ path: at("open/p.py") })).uid).toBe(65534);
      writeFileSync(at("open/secret.py"), "print('read')", { mode: 0o600 });
      expect(await run(it.agent, { python: { path: at("open/secret.py") }, user: "nobody" })).toContain(
        "Permission denied",
      );
      mkdirSync(at("closed"), { mode: 0o700 });
      const locked = await run(it.agent, {
        python: { path: at("open/q.py"), code },
        user: "nobody",
        cwd: at("closed"),
      });
      expect(locked).toBe(`${at("closed")}: Permission denied\n[126]`);
    });

    test("The warm interpreter serves many at once, each in a child of its own", async () => {
      await using it = await warmAgent();
      const code = "import os, random, sys; print(os.getpid(), random.random(), 'ctypes' in sys.modules, input())\n";
      const runs = Array.from({ length: 12 }, (_, i) =>
        run(it.agent, { python: { path: at(`many/${i}.py`), code }, stdin: `${i}` }),
      );
      mkdirSync(at("many"), { recursive: true });
      const answers = (await Promise.all(runs)).map((line) => line.trim().split(" "));
      expect(answers.map((words) => words.slice(2))).toEqual(answers.map((_, i) => ["True", String(i)]));
      for (const column of [0, 1]) expect(new Set(answers.map((words) => words[column])).size).toBe(12);
    }, 30_000);

    test("The warm interpreter runs in the background, and with its stdin open", async () => {
      await using it = await warmAgent();
      const code =
        "import sys\nfor line in sys.stdin: print('got', line, end='', flush=True)\nprint('ctypes' in sys.modules)\n";
      let process = 0;
      const request = { python: { path: at("echo.py"), code }, background: true, stdinOpen: true, cwd: "/" };
      for await (const event of it.agent.exec(request)) if (event.kind === "started") process = event.process;
      await it.agent.stdin(process, "a\n");
      await it.agent.stdin(process, "");
      let out = "";
      for await (const event of it.agent.attach(process)) {
        if (event.kind === "stdout") out += Buffer.from(event.bytes).toString();
      }
      expect(out).toBe("got a\nTrue\n");
      expect((await it.agent.processes())[0]?.command).toBe(`python3 ${at("echo.py")}`);
    });

    test("The warm interpreter may be killed at any time: what runs ends as it does, what comes starts afresh", async () => {
      await using it = await warmAgent();
      const [zygote] = interpreters(it.process.pid);
      const path = program("plain/p.py");
      const running = it.agent.exec({
        python: { path: at("long.py"), code: "input(); raise SystemExit(7)\n" },
        stdinOpen: true,
        cwd: "/",
      });
      const started = (await running.next()).value as { process: number };
      process.kill(zygote ?? 0, "SIGKILL");
      while (interpreters(it.process.pid).includes(zygote ?? 0)) await it.agent.ping();
      await it.agent.stdin(started.process, "\n");
      const last = [];
      for await (const event of running) last.push(event);
      expect(last.at(-1)).toMatchObject({ kind: "exit", exitCode: 7 });
      const after = [await run(it.agent, { python: { path } }), await run(it.agent, { python: { path } })];
      expect(after.at(-1)).toBe("fresh\n");
    });

    test("The warm interpreter makes another child when the waiting one is killed", async () => {
      await using it = await warmAgent();
      const [, spare] = interpreters(it.process.pid);
      process.kill(spare ?? 0, "SIGKILL");
      while (interpreters(it.process.pid).includes(spare ?? 0)) await it.agent.ping();
      expect(await run(it.agent, { python: { path: program("plain/p.py") } })).toBe("warm\n");
    });

    test("The warm interpreter that is stuck is not waited for beyond a program's time", async () => {
      await using it = await warmAgent();
      const [zygote, spare] = interpreters(it.process.pid);
      process.kill(zygote ?? 0, "SIGSTOP");
      process.kill(spare ?? 0, "SIGKILL");
      while (interpreters(it.process.pid).includes(spare ?? 0)) await it.agent.ping();
      const path = program("plain/p.py");
      const late = run(it.agent, { python: { path }, timeoutSeconds: 0.2 }).catch((error: unknown) => error);
      expect(isWarrenError(await late)).toBe(true);
      const abort = new AbortController();
      const events = it.agent.exec({ python: { path }, cwd: "/" }, abort.signal);
      const first = events.next().catch((error: unknown) => error);
      await it.agent.ping();
      abort.abort();
      expect(isWarrenError(await first, "cancelled")).toBe(true);
      await it.agent.ping();
      expect(await it.agent.processes()).toEqual([]);
      process.kill(zygote ?? 0, "SIGCONT");
      expect(await run(it.agent, { python: { path } })).toBe("warm\n");
    });

    test("The warm interpreter that cannot start says why, and Python runs without it", async () => {
      await using it = await connectAgent(["--warm", SCRIPT]);
      const error = await it.agent.warm(["no_such_module_anywhere"]).catch((cause: unknown) => cause);
      expect(String(error)).toContain("No module named 'no_such_module_anywhere'");
      expect(await run(it.agent, { python: { path: program("plain/p.py") } })).toBe("fresh\n");
      await it.agent.warm(["json"]);
      expect(String(await it.agent.warm(["json"]).catch((cause: unknown) => cause))).toContain("already");
      expect(await run(it.agent, { python: { path: program("plain/p.py") } })).toBe("warm\n");
    });

    test("The warm interpreter takes a program of any size", async () => {
      await using it = await warmAgent();
      const code = `${"# padding\n".repeat(200_000)}print('end')\n`;
      expect(await run(it.agent, { python: { path: at("big.py"), code } })).toBe("end\n");
      const args = Array.from({ length: 5000 }, (_, i) => `${i}`);
      expect(
        await run(it.agent, { python: { path: at("args.py"), code: "import sys; print(len(sys.argv))\n", args } }),
      ).toBe("5001\n");
    });
  });
}
