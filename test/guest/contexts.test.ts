/** Code contexts under the real agent and Python, as processes of this machine: what cells come to, and what breaks them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import type { CellEvent } from "../../src/contract/routes/contexts.ts";
import { isWarrenError } from "../../src/errors.ts";
import {
  type ContextAgent,
  closeContext,
  createContext,
  interruptContext,
  listContexts,
} from "../../src/guest/contexts/contexts.ts";
import { runCell } from "../../src/guest/contexts/run.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, type ConnectedAgent, connectAgent } from "./process.ts";

const INTERPRETER = join(import.meta.dir, "../../images/python");
const PYTHON = "/usr/bin/python3";
const WARM = ["ast", "binascii", "json", "random", "select", "threading", "traceback"];

/** Interrupts lines to the host at random, as a session does, and counts how often their lock was then still taken. */
const INTERRUPTED_LINES = `
import os, random, signal, sys, threading
sys.path.insert(0, sys.argv[1])
import wire
reading, writing = os.pipe()
def read():
    while os.read(reading, 1 << 16): pass
threading.Thread(target=read, daemon=True).start()
line, armed, left = wire.Wire(wire.move_aside(writing)), False, 0
def interrupt(number, frame):
    global armed
    if not armed: return
    armed = False
    if line.holding: line.interrupted = True
    else: raise KeyboardInterrupt
def probe():
    global left
    if line.changed.acquire(blocking=False): line.changed.release()
    else: left += 1
signal.signal(signal.SIGALRM, interrupt)
line.begin("cell")
for _ in range(1000):
    armed = True
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.001))
        while True:
            line.unread = 0
            line.say("cell", "out", d="text")
    except KeyboardInterrupt: pass
    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    if left: break
print(left)
`;

interface Cell {
  readonly stdout: string;
  readonly stderr: string;
  readonly text: string | undefined;
  readonly shown: Record<string, string>[];
  readonly error: Extract<CellEvent, { kind: "error" }> | null;
  readonly end: Extract<CellEvent, { kind: "end" }>;
}

async function collected(events: AsyncIterable<CellEvent>): Promise<Cell> {
  const output = { stdout: "", stderr: "" };
  const shown: Record<string, string>[] = [];
  let text: string | undefined;
  let error: Cell["error"] = null;
  for await (const event of events) {
    if (event.kind === "stdout" || event.kind === "stderr") output[event.kind] += event.text;
    if (event.kind === "display" || event.kind === "result") shown.push(event.data);
    if (event.kind === "result") text = event.data["text/plain"];
    if (event.kind === "error") error = event;
    if (event.kind === "end") return { ...output, shown, text, error, end: event };
  }
  throw new Error("no end");
}

if (existsSync(PYTHON)) {
  test("A cell's interrupt leaves no lock of its lines to the host taken", async () => {
    const argv = [PYTHON, "-B", "-c", INTERRUPTED_LINES, join(INTERPRETER, "context")];
    const python = Bun.spawn(argv, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    expect(await new Response(python.stdout).text()).toBe("0\n");
  });
}

if (gate("gcc") && existsSync(PYTHON)) {
  for (const kind of ["warm", "fresh"]) {
    describe(`A context in a ${kind} interpreter`, () => {
      let connected: ConnectedAgent;
      let agent: ContextAgent;
      let context = 0;

      beforeAll(async () => {
        connected = await connectAgent(["--warm", join(INTERPRETER, "warm.py")]);
        if (kind === "warm") await connected.agent.warm(WARM);
        const real = connected.agent;
        agent = {
          contextScript: join(INTERPRETER, "context/run.py"),
          exec: (...given) => real.exec(...given),
          attach: (...given) => real.attach(...given),
          stdin: (...given) => real.stdin(...given),
          signal: (...given) => real.signal(...given),
          processes: (...given) => real.processes(...given),
        };
        context = await open();
      }, BUILD_MS);
      afterAll(async () => {
        for (const { context: each } of await listContexts(agent, systemClock)) await closeContext(agent, each);
        await connected[Symbol.asyncDispose]();
      });

      const open = async () => (await createContext(agent, { cwd: "/" }, systemClock)).context;
      const stream = (code: string, timeoutSeconds = 20, of = context) =>
        runCell(agent, { context: of, code, timeoutSeconds }, systemClock);
      const run = (code: string, timeoutSeconds?: number, of?: number) => collected(stream(code, timeoutSeconds, of));

      test("variables live on, and the last expression is the result", async () => {
        expect((await run("x = 20\ndef twice(n):\n  return 2 * n")).end).toMatchObject({
          status: "ok",
          exitCode: null,
        });
        const { text, end, shown } = await run("twice(x) + 1");
        expect({ text, status: end.status, shown }).toEqual({
          ...{ text: "41", status: "ok" },
          shown: [{ "text/plain": "41" }],
        });
        expect((await run("x;")).shown).toEqual([]);
        expect((await run("None")).shown).toEqual([]);
        expect((await run("")).end.status).toBe("ok");
      });

      test("it runs in the interpreter that it should", async () => {
        const { text } = await run("import sys; 'ctypes' in sys.modules");
        expect(text).toBe(kind === "warm" ? "True" : "False");
        expect((await run("__name__, sys.path[0], 'session' in sys.modules")).text).toBe("('__main__', '', False)");
      });

      test("output of the cell and of its subprocesses, in order with what it shows", async () => {
        const code =
          "import os, sys\nprint('a'); os.system('echo b'); print('c', file=sys.stderr); display(1); print('d')";
        const kinds: string[] = [];
        for await (const event of stream(code)) kinds.push(event.kind === "stdout" ? event.text : event.kind);
        expect(kinds.join("|").replace("a\n|b\n", "a\nb\n")).toBe("a\nb\n|stderr|display|d\n|end");
        expect((await run("print('é😀' * 3); '\\ud800'")).stdout).toBe("é😀é😀é😀\n");
      });

      test("an error tells the frames of cells only, with their source", async () => {
        await run("def bad(n):\n  return 1 / n");
        const { error, end } = await run("\nbad(0)");
        expect(end.status).toBe("error");
        expect(error).toMatchObject({ name: "ZeroDivisionError", value: "division by zero" });
        const files = (error?.traceback ?? []).filter((line) => line.includes("File")).map((line) => line.trim());
        const cell = end.executionCount;
        expect(files).toEqual([
          `File "<cell ${cell}>", line 2, in <module>`,
          `File "<cell ${cell - 1}>", line 2, in bad`,
        ]);
        expect(error?.traceback.join("\n")).toContain("return 1 / n");
        expect((await run("x = = 1")).error?.name).toBe("SyntaxError");
        expect((await run("def r(): r()\nr()")).error?.name).toBe("RecursionError");
        expect((await run("input()")).error?.name).toBe("EOFError");
        expect((await run("import sys; sys.exit()")).end.status).toBe("ok");
        expect((await run("sys.exit('why')")).error).toMatchObject({ name: "SystemExit", value: "why" });
        expect((await run("1 + 1")).text).toBe("2");
      });

      test("representations by MIME type", async () => {
        expect((await run("{'a': [1, None]}")).shown).toEqual([
          { "text/plain": "{'a': [1, None]}", "application/json": '{"a": [1, null]}' },
        ]);
        const code =
          "class H:\n  def _repr_html_(self): return '<b>h</b>'\n  def _repr_png_(self): return b'\\x89PNG'\nH()";
        const [bundle] = (await run(code)).shown;
        expect(bundle).toMatchObject({ "text/html": "<b>h</b>", "image/png": "iVBORw==" });
        expect((await run("class R:\n  def __repr__(self): raise ValueError('no')\nR()")).error?.name).toBe(
          "ValueError",
        );
      });

      test("a large value comes whole, though a ring of 256 KiB is between", async () => {
        const { text, end } = await run("'x' * 3_000_000");
        expect({ length: text?.length, truncated: end.truncated }).toEqual({ length: 3_000_002, truncated: false });
      });

      test("a flood of output is cut and told, and the next cell has its own answer", async () => {
        const { stdout, end } = await run("for i in range(2_000_000): print('spam and eggs')");
        expect({ length: stdout.length, truncated: end.truncated, status: end.status }).toEqual({
          ...{ length: 4 * 1024 * 1024, truncated: true, status: "ok" },
        });
        expect((await run("'after'")).text).toBe("'after'");
      }, 60_000);

      test("a timed-out cell is interrupted and the next one gets its own answer", async () => {
        await run("import time; kept = 'kept'");
        const { end, error } = await run("time.sleep(30)", 0.3);
        expect({ status: end.status, error: error?.name }).toEqual({ status: "timeout", error: "KeyboardInterrupt" });
        expect((await run("kept")).text).toBe("'kept'");
        const busy = await run("while True: pass", 0.3);
        expect(busy.end.status).toBe("timeout");
        const nested = await run("import subprocess; subprocess.run(['sleep', '30'])", 0.3);
        expect(nested.end.status).toBe("timeout");
        expect((await run("kept")).text).toBe("'kept'");
      });

      test("interrupting ends the cell under way, and nothing when there is none", async () => {
        await interruptContext(agent, context, systemClock);
        const cell = stream("print('go', flush=True)\ntime.sleep(30)");
        expect((await cell.next()).value).toMatchObject({ kind: "stdout" });
        expect((await listContexts(agent, systemClock))[0]?.state).toBe("busy");
        await interruptContext(agent, context, systemClock);
        expect((await collected(cell)).end.status).toBe("interrupted");
        expect((await listContexts(agent, systemClock))[0]?.state).toBe("idle");
        expect((await run("kept")).text).toBe("'kept'");
      });

      test("a cell that is sent already begins right behind what an interrupt or a look at the contexts is told", async () => {
        await run("import time; kept = 'kept'");
        for (let round = 0; round < 30; round++) {
          const cell = stream("print('go', flush=True)\ntime.sleep(30)");
          expect((await cell.next()).value).toMatchObject({ kind: "stdout" });
          const next = run("kept");
          await Promise.all([interruptContext(agent, context, systemClock), listContexts(agent, systemClock)]);
          expect((await collected(cell)).end.status).toBe("interrupted");
          expect((await next).text).toBe("'kept'");
        }
      });

      test("a cell that awaits is interrupted like one that does not, and does not go on in the next one's time", async () => {
        const code = "import asyncio\nwhile True:\n  print('first')\n  await asyncio.sleep(0.001)";
        expect((await run(code, 0.3)).end.status).toBe("timeout");
        const { stdout, text, end } = await run("for n in range(100):\n  await asyncio.sleep(0.001)\nn");
        expect({ stdout, text, status: end.status }).toEqual({ stdout: "", text: "99", status: "ok" });
      });

      test("a cell that waits for its reader hears an interrupt too, and the next one runs", async () => {
        const cell = stream("while True: display('x' * 10_000)");
        expect((await cell.next()).value).toMatchObject({ kind: "display" });
        await interruptContext(agent, context, systemClock); // while nobody reads
        const { end, error } = await collected(cell);
        expect({ status: end.status, error: error?.name }).toEqual({
          status: "interrupted",
          error: "KeyboardInterrupt",
        });
        expect((await run("'next'", 5)).text).toBe("'next'");
      });

      test("cells that are sent together run in order, and leaving one interrupts it alone", async () => {
        const cells = Array.from({ length: 5 }, (_, i) => run(`log = (log if ${i} else []) + [${i}]; log`));
        expect((await Promise.all(cells)).at(-1)?.text).toBe("[0, 1, 2, 3, 4]");
        for await (const event of stream("print('go', flush=True)\ntime.sleep(30)")) {
          expect(event.kind).toBe("stdout");
          break;
        }
        expect((await run("'next'", 5)).text).toBe("'next'");
      });

      test("a context that ends under its cell is dead, told as such, and others go on", async () => {
        const other = await open();
        const { end, error } = await run("import os; os._exit(7)", 5, other);
        expect(end).toMatchObject({ status: "dead", exitCode: 7, signal: null });
        expect(error?.name).toBe("ContextDied");
        const late = await run("x", 5, other).catch((cause: unknown) => cause);
        expect(isWarrenError(late, "wrong_state")).toBe(true);
        const dead = (await listContexts(agent, systemClock)).find(({ context: each }) => each === other);
        expect(dead).toMatchObject({ state: "dead", exitCode: 7, cwd: "/" });
        expect((await run("x")).text).toBe("20");
      });

      test("a cell that ignores its interrupt takes its context along, and no other", async () => {
        const other = await open();
        const code = "import time\nwhile True:\n  try: time.sleep(1)\n  except KeyboardInterrupt: pass";
        expect((await run(code, 0.2, other)).end).toMatchObject({ status: "dead", signal: "SIGKILL" });
        const held = await open();
        expect((await run("9 ** 9 ** 8", 0.2, held)).end).toMatchObject({ status: "dead", signal: "SIGKILL" });
        expect((await run("x")).text).toBe("20");
      }, 30_000);

      test("what writes nonsense to a context's own pipes breaks that context only", async () => {
        const other = await open();
        const code = "import os\nfor n in range(100, 120):\n  try: os.write(n, b'nonsense\\n')\n  except OSError: pass";
        const broken = await run(code, 5, other).catch((cause: unknown) => cause);
        expect(isWarrenError(broken, "guest_protocol")).toBe(true);
        expect((await run("x")).text).toBe("20");
        await closeContext(agent, other);
      });

      test("a closed context is not there any more", async () => {
        const other = await open();
        await closeContext(agent, other);
        expect((await listContexts(agent, systemClock)).some(({ context: each }) => each === other)).toBe(false);
        const after = await run("1", 5, other).catch((cause: unknown) => cause);
        expect(isWarrenError(after, "context_not_found")).toBe(true);
      });

      test("source of any length and shape", async () => {
        const long = `s = '''${"😀é".repeat(60_000)}'''; len(s)`;
        expect((await run(long)).text).toBe("120000");
        expect((await run("'\ud800'")).error?.name).toBe("UnicodeEncodeError");
        expect((await run("import asyncio\nawait asyncio.sleep(0, 5)")).text).toBe("5");
      });
    });
  }
}
