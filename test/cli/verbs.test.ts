/** Each verb over a host in memory: what it prints, where, and the exit code. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT_BY_FAULT } from "../../src/cli/exits.ts";
import { ERRORS, WarrenError } from "../../src/errors.ts";
import { StubHost } from "../batch/stub-host.ts";
import { FakeIo } from "./fake-io.ts";

let dir = "";
const cwd = process.cwd();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-cli-"));
  process.chdir(dir);
});
afterEach(() => {
  process.chdir(cwd);
  rmSync(dir, { recursive: true, force: true });
});

const jsonl = (items: readonly unknown[]) => items.map((item) => `${JSON.stringify(item)}\n`).join("");

describe("warren", () => {
  test("warren shows help for everything, with examples and exit codes", async () => {
    const here = ["batch", "run", "create", "ls", "exec", "cp", "rm", "templates", "doctor", "clean", "completion"];
    const served = [
      "serve",
      "login",
      "logout",
      "me",
      "keys",
      "accounts",
      "billing",
      "preview",
      "events",
      "logs",
      "terminal",
      "environment",
    ];
    const verbs = [...here, ...served];
    const io = new FakeIo();
    expect(await io.run("--help")).toBe(0);
    for (const verb of [...verbs, "bench"]) expect(io.text("out")).toContain(`\n  ${verb} `);
    expect(io.text("out")).toContain("130  Ctrl-C");
    for (const verb of verbs) {
      const own = new FakeIo();
      expect(await own.run(verb, "--help")).toBe(0);
      expect(own.text("out")).toContain("Examples:\n  $ ");
      expect(own.text("err")).toBe("");
    }
  });

  test("warren ends with 2 for a mistake in the call, and says what is allowed", async () => {
    const wrong: [string[], string][] = [
      [["nope"], "unknown command 'nope'"],
      [["ls", "--nope"], "unknown option '--nope'"],
      [["create", "--memory", "1"], "128 to"],
      [["create", "--ttl", "soon"], "20, 90s, 5m or 2h"],
      [["batch"], "give ITEMS, or --example"],
      [["batch", "x", "--example"], "give ITEMS, or --example"],
      [["batch", "--example", "--all", "--limit", "3"], "exclude each other"],
      [["batch", "x", "--concurrency", "0"], "whole number from 1"],
      [["run"], "name a FILE"],
      [["exec", "sb_1"], "missing required argument 'command'"],
      [["rm"], "give ids, or --all"],
      [["cp", "a", "b"], "SANDBOX:/PATH"],
      [["batch", "missing.jsonl"], "missing.jsonl cannot be read"],
      [["batch", "."], "it is a directory"],
      [["run", "missing.py"], "missing.py cannot be run"],
      [["batch", "-"], "--out FILE, or --out -"],
    ];
    for (const [args, says] of wrong) {
      const io = new FakeIo();
      expect([args.join(" "), await io.run(...args)]).toEqual([args.join(" "), 2]);
      expect(io.text("err")).toContain(says);
      expect(io.stub.created).toBe(0);
    }
  });

  test("warren ends with a code for each fault", async () => {
    for (const [code, { fault }] of Object.entries(ERRORS)) {
      const open = async () => {
        throw new WarrenError(code as keyof typeof ERRORS, "it is so \x1b[31m");
      };
      const io = new FakeIo({ ground: { open } });
      expect([code, await io.run("ls")]).toEqual([code, code === "cancelled" ? 130 : EXIT_BY_FAULT[fault]]);
      expect(io.text("err")).not.toContain("\x1b");
      if (code !== "cancelled") expect(io.text("err")).toContain("it is so");
    }
    const broken = new FakeIo({ ground: { open: () => Promise.reject(new TypeError("oops")) } });
    expect(await broken.run("ls")).toBe(70);
    expect(broken.text("err")).toContain("--verbose");
  });

  test("warren tells causes with --verbose only", async () => {
    const open = () => Promise.reject(new WarrenError("bake_failed", "no", { cause: new Error("deep") }));
    const [plain, verbose] = [new FakeIo({ ground: { open } }), new FakeIo({ ground: { open } })];
    await plain.run("ls");
    await verbose.run("--verbose", "ls");
    expect(plain.text("err")).not.toContain("deep");
    expect(verbose.text("err")).toContain("because Error: deep");
  });
});

describe("warren run", () => {
  test("warren run passes on streams, stdin, arguments and the exit code, and leaves nothing", async () => {
    writeFileSync("p.py", "print hello; error oops; exit 7");
    const io = new FakeIo();
    expect(await io.run("run", "p.py", "--flag", "x")).toBe(7);
    expect([io.text("out"), io.text("err")]).toEqual(["hello\n", "oops\n"]);
    expect(io.stub.alive).toBe(0);
    expect(await new FakeIo().run("run", "-c", "signal SIGKILL")).toBe(137);
    expect(await new FakeIo().run("run", "-c", "timeout")).toBe(124);
  });

  test("warren run gives exact bytes elsewhere and escaped text to a terminal, unless --raw", async () => {
    const code = "bytes 1b5b324a610d0aff";
    const pipe = new FakeIo();
    await pipe.run("run", "-c", code);
    expect(Buffer.from(pipe.bytes("out")).toString("hex")).toBe("1b5b324a610d0aff");
    const tty = new FakeIo({ isTty: true });
    await tty.run("run", "-c", code);
    expect(tty.text("out")).toBe("\\x1b[2Ja\n\ufffd");
    const raw = new FakeIo({ isTty: true });
    await raw.run("run", "--raw", "-c", code);
    expect(Buffer.from(raw.bytes("out")).toString("hex")).toBe("1b5b324a610d0aff");
  });
});

describe("warren create, ls, exec, cp, rm", () => {
  test("warren create makes a detached sandbox with an end, which ls shows and rm ends", async () => {
    const stub = new StubHost();
    const io = new FakeIo({ stub });
    expect(await io.run("create", "--metadata", "who=me\x1b[0m", "--memory", "1g")).toBe(0);
    expect(io.text("out")).toBe("sb_1\n");
    expect(stub.sandboxes.get("sb_1")?.input).toMatchObject({ detached: true, ttlSeconds: 3600, memoryMb: 1024 });
    const ls = new FakeIo({ stub });
    await ls.run("ls");
    expect(ls.text("out")).toContain("sb_1");
    const json = new FakeIo({ stub });
    await json.run("ls", "--json");
    expect(JSON.parse(json.text("out"))).toHaveLength(1);
    const rm = new FakeIo({ stub });
    expect(await rm.run("rm", "--all")).toBe(0);
    expect(rm.text("out")).toBe("sb_1\n");
    expect(stub.alive).toBe(0);
  });

  test("warren exec runs words or a string and passes the code on", async () => {
    const stub = new StubHost();
    await new FakeIo({ stub }).run("create");
    const io = new FakeIo({ stub });
    expect(await io.run("exec", "sb_1", "print hi; exit 3")).toBe(3);
    expect(io.text("out")).toBe("hi\n");
    const none = new FakeIo({ stub });
    expect(await none.run("exec", "sb_9", "true")).toBe(2);
    expect(none.text("err")).toContain("see `warren ls`");
  });

  test("warren cp copies files both ways, into directories by name", async () => {
    const stub = new StubHost();
    await new FakeIo({ stub }).run("create");
    writeFileSync("a.txt", "content");
    chmodSync("a.txt", 0o640);
    mkdirSync("d");
    const io = new FakeIo({ stub });
    expect(await io.run("cp", "a.txt", "sb_1:/work/")).toBe(0);
    expect(await io.run("cp", "a.txt", "sb_1:/work/b.txt")).toBe(0);
    expect([...(stub.sandboxes.get("sb_1")?.files.keys() ?? [])]).toEqual(["/work/a.txt", "/work/b.txt"]);
    expect(await io.run("cp", "sb_1:/work/b.txt", "d")).toBe(0);
    expect(await io.run("cp", "sb_1:/work/b.txt", "c.txt")).toBe(0);
    expect([readFileSync("d/b.txt", "utf8"), readFileSync("c.txt", "utf8")]).toEqual(["content", "content"]);
    expect(await io.run("cp", "sb_1:/work/none", "x")).toBe(2);
    expect(await io.run("cp", "sb_1:/work/b.txt", "no/such/dir/x")).toBe(2);
    expect(await io.run("cp", "sb_1:/work", "out")).toBe(0);
    expect(readFileSync("out/a.txt", "utf8")).toBe("content");
  });
});

describe("warren batch", () => {
  test("warren batch writes rows beside the items, tells each and sums up", async () => {
    writeFileSync(
      "items.jsonl",
      jsonl([
        { id: "a", code: "print 1" },
        { id: "b\u202e", code: "error \x1b[31mred; exit 1" },
      ]),
    );
    const io = new FakeIo();
    expect(await io.run("batch", "items.jsonl")).toBe(0);
    const rows = readFileSync("items.results.jsonl", "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(rows.map((row) => row.ok)).toEqual([true, false]);
    expect(io.text("out")).toContain("2/2  failed   b\\u{202e}");
    expect(io.text("out")).toContain("2 items: 1 ok, 1 failed, 0 timed out");
    expect(io.text("out")).toMatch(/ {2}price +\$0/);
    expect(io.text("out")).not.toContain("\x1b");
    const again = new FakeIo();
    expect(await again.run("batch", "items.jsonl", "--fail-on-error")).toBe(1);
    expect(again.stub.created).toBe(0);
    expect(again.text("out")).toContain("2 rows of an earlier run");
    const fresh = new FakeIo();
    await fresh.run("batch", "items.jsonl", "--fresh");
    expect(fresh.stub.created).toBe(2);
  });

  test("warren batch --json gives rows in order and the summary, and nothing else on stdout", async () => {
    writeFileSync("i.jsonl", jsonl([0, 1, 2, 3].map((id) => ({ id, code: `sleep ${5 - id}; print ${id}` }))));
    for (const out of [
      ["--out", "o.jsonl"],
      ["--out", "-"],
    ]) {
      const io = new FakeIo();
      expect(await io.run("batch", "i.jsonl", "--json", ...out)).toBe(0);
      const lines = io
        .text("out")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      expect(lines.slice(0, 4).map((row) => row.id)).toEqual([0, 1, 2, 3]);
      expect(lines[4].summary).toMatchObject({ rows: 4, ok: 4, interrupted: false });
      expect(lines).toHaveLength(5);
    }
  });

  test("warren batch reads stdin and streams to stdout", async () => {
    const io = new FakeIo({ stdin: jsonl([{ id: 1, cmd: "print x" }]) });
    expect(await io.run("batch", "-", "--out", "-")).toBe(0);
    expect(JSON.parse(io.text("out"))).toMatchObject({ id: 1, ok: true, stdout: "x\n" });
    expect(io.text("err")).toContain("1 item: 1 ok");
  });

  test("warren batch names bad lines, runs the rest and ends with 2", async () => {
    writeFileSync("i.jsonl", '{"id":1,"code":"print 1"}\nnot json\n{"id":1,"code":"x"}\n{"id":3,"code":"print 3"}\n');
    const io = new FakeIo();
    expect(await io.run("batch", "i.jsonl")).toBe(2);
    expect(io.text("err")).toContain("line 2 of i.jsonl is not JSON");
    expect(io.text("err")).toContain('line 3 of i.jsonl repeats the id "1" of line 1');
    expect(io.text("out")).toContain("2 items: 2 ok");
  });

  test("warren batch keeps exact numbers of its input", async () => {
    writeFileSync("i.jsonl", '{"id":1,"input":{"tweet": 12345678901234567890, "x": 1.0},"code":"echo"}\n');
    await new FakeIo().run("batch", "i.jsonl", "--out", "o");
    expect(JSON.parse(readFileSync("o", "utf8")).stdout).toBe('{"tweet": 12345678901234567890, "x": 1.0}');
  });

  test("warren batch stops at Ctrl-C with 130 and its rows written; once more ends it at once", async () => {
    writeFileSync("i.jsonl", jsonl([{ id: 0, code: "print 0" }, ...[1, 2, 3].map((id) => ({ id, code: "hang" }))]));
    const io = new FakeIo();
    io.onWrite = () => {
      if (io.text("out").includes("1/4")) {
        io.onWrite = () => undefined;
        io.interrupt();
        io.interrupt();
      }
    };
    expect(await io.run("batch", "i.jsonl", "--concurrency", "2")).toBe(130);
    expect(io.ended).toEqual([130]);
    expect(io.stub.alive).toBe(0);
    expect(io.text("out")).toContain("missing   3 items; the same command runs what is missing");
    expect(JSON.parse(readFileSync("i.results.jsonl", "utf8")).id).toBe(0);
  });

  test("warren batch says that a template does not exist and leaves nothing", async () => {
    writeFileSync("i.jsonl", jsonl([{ id: 0, code: "print 0" }]));
    const io = new FakeIo();
    expect(await io.run("batch", "i.jsonl", "--template", "nope")).toBe(2);
    expect(io.text("err")).toContain("there is no template nope");
    expect(() => readFileSync("i.results.jsonl.journal")).toThrow();
  });

  test("warren batch takes local files below --files only", async () => {
    mkdirSync("data");
    writeFileSync("data/a.txt", "local!");
    writeFileSync("secret", "s");
    const item = (id: number, local: string) => ({ id, code: "cat /work/x", files: { x: { local } } });
    writeFileSync("i.jsonl", jsonl([item(1, "a.txt"), item(2, "../secret"), item(3, "/etc/passwd"), item(4, "none")]));
    const io = new FakeIo();
    await io.run("batch", "i.jsonl", "--files", "data");
    const rows = readFileSync("i.results.jsonl", "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(rows[0].stdout).toBe("local!");
    expect(rows.map((row) => row.ok)).toEqual([true, false, false, false]);
    expect(rows[1].error).toContain("has to be a path below --files");
    const none = new FakeIo();
    await none.run("batch", "i.jsonl", "--out", "o2");
    expect(readFileSync("o2", "utf8")).toContain("name the directory that it is in with --files DIR");
    expect(await new FakeIo().run("batch", "i.jsonl", "--files", "nowhere")).toBe(2);
  });

  test("warren batch says something every two seconds, and draws a bar on a terminal", async () => {
    writeFileSync("i.jsonl", jsonl([{ id: 0, code: "sleep 2300" }]));
    const [plain, tty] = [new FakeIo(), new FakeIo({ isTty: true })];
    await Promise.all([plain.run("batch", "i.jsonl", "--out", "a"), tty.run("batch", "i.jsonl", "--out", "b")]);
    expect(plain.text("err")).toContain("0/1 done, 1 running");
    expect(tty.text("err")).toContain("\r\x1b[K");
    expect(tty.text("err").split("\r").length).toBeGreaterThan(5);
    expect(tty.text("err").endsWith("\r\x1b[K")).toBe(true);
  });
});

describe("warren doctor, clean, completion, templates", () => {
  test("warren doctor ends with 1 when something is missing, and tells the remedy", async () => {
    const findings = [
      { name: "rights", state: "ok", says: "root", remedy: null },
      { name: "kvm", state: "missing", says: "none\x1b", remedy: "buy one" },
    ] as const;
    const io = new FakeIo({ findings });
    expect(await io.run("doctor")).toBe(1);
    expect(io.text("out")).toContain("missing  kvm     none\\x1b");
    expect(io.text("out")).toContain("kvm: buy one");
    const json = new FakeIo({ findings: findings.slice(0, 1) });
    expect(await json.run("doctor", "--json")).toBe(0);
    expect(JSON.parse(json.text("out"))).toMatchObject({ ok: true, findings: [{ name: "rights" }] });
  });

  test("warren environment lists every variable with its default, and no value", async () => {
    const io = new FakeIo();
    expect(await io.run("environment")).toBe(0);
    for (const name of ["WARREN_HOME", "DATABASE_URL", "WARREN_API_KEY"])
      expect(io.text("out")).toContain(`\n  ${name} `);
    const json = new FakeIo();
    expect(await json.run("environment", "--json")).toBe(0);
    expect(JSON.parse(json.text("out")).home[0]).toMatchObject({ name: "WARREN_HOME", fallback: "/var/lib/warren" });
  });

  test("warren clean asks on a terminal, needs --yes elsewhere", async () => {
    const cleaned: boolean[] = [];
    const ground = {
      clean: async ({ force }: { force: boolean }) => {
        cleaned.push(force);
        return { killed: 2, home: "/fake/home" };
      },
    };
    expect(await new FakeIo({ ground }).run("clean")).toBe(2);
    expect(await new FakeIo({ ground, isTty: true, stdin: "n\n" }).run("clean")).toBe(2);
    expect(cleaned).toEqual([]);
    expect(await new FakeIo({ ground, isTty: true, stdin: "yes\n" }).run("clean")).toBe(0);
    const io = new FakeIo({ ground });
    expect(await io.run("clean", "--yes", "--force")).toBe(0);
    expect(io.text("out")).toBe("/fake/home is gone; 2 sandboxes ended\n");
    expect(cleaned).toEqual([false, true]);
  });

  test("warren completion gives each shell a script that it accepts, with every verb and option", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const io = new FakeIo();
      expect(await io.run("completion", shell)).toBe(0);
      for (const word of ["batch", "templates", "bake", "fail-on-error"]) expect(io.text("out")).toContain(word);
      const path = Bun.which(shell);
      if (path === null) continue;
      const child = Bun.spawn([path, "-n"], { stdin: Buffer.from(io.text("out")), stderr: "pipe" });
      expect([shell, await new Response(child.stderr).text(), await child.exited]).toEqual([shell, "", 0]);
    }
    expect(await new FakeIo().run("completion", "tcsh")).toBe(2);
  });

  test("warren completion completes in bash", async () => {
    const io = new FakeIo();
    await io.run("completion", "bash");
    const complete = (line: string) => {
      const words = line.split(" ");
      const script = `${io.text("out")}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _warren; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return Bun.spawnSync(["bash", "-c", script]).stdout.toString().trim().split("\n");
    };
    expect(complete("warren ba")).toEqual(["batch"]);
    expect(complete("warren templates b")).toEqual(["bake"]);
    expect(complete("warren batch --fail")).toEqual(["--fail-on-error"]);
    writeFileSync("items.jsonl", "");
    expect(complete("warren batch ite")).toEqual(["items.jsonl"]);
  });

  test("warren templates ls and bake tell what there is", async () => {
    const io = new FakeIo();
    expect(await io.run("templates", "ls")).toBe(0);
    expect(io.text("out")).toContain("code-interpreter  not baked");
    expect(await io.run("templates", "bake", "base")).toBe(0);
    expect(io.text("err")).toContain("was baked already");
    expect(await io.run("templates", "bake", "nope")).toBe(2);
  });
});
