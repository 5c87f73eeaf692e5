/**
 * Code contexts on real microVMs, beside what the shared suite holds every host to: data frames and figures, floods, hostile
 * cells, forks of a sandbox with a context in it, and the randomness of its children.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { isWarrenError } from "../../../src/errors.ts";
import type { SandboxContext } from "../../../src/sandbox/contexts.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

/** Width and height from a PNG's header. @throws when it is none */
function sizeOf(png: string): [number, number] {
  const bytes = Buffer.from(png, "base64");
  expect([...bytes.subarray(0, 8)]).toEqual([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  expect(bytes.subarray(-8, -4).toString()).toBe("IEND");
  return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
}

if (gate("vm")) {
  guardLeaks("code-interpreter");
  describe("Code contexts on real microVMs", tests);
}

function tests(): void {
  let warren: Warren;
  let sandbox: Sandbox;
  let context: SandboxContext;

  beforeAll(async () => {
    warren = await openTestWarren();
    sandbox = await Sandbox.create({ template: "code-interpreter" }, warren.sandboxes);
    context = await sandbox.contexts.create();
  }, VM_BAKE_MS);
  afterAll(async () => {
    await sandbox?.close();
    await warren?.[Symbol.asyncDispose]();
  }, VM_TEST_MS);

  const does = (says: string, body: () => Promise<void>) => test(says, body, VM_TEST_MS);

  does("A data frame is shown as text and as a table", async () => {
    const { results, text } = await context.run(
      "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2], 'ü': ['x', '<b>']})\ndf",
    );
    expect(text).toBe("   a    ü\n0  1    x\n1  2  <b>");
    expect(results[0]?.["text/html"]).toContain("<th>ü</th>");
    expect(results[0]?.["text/html"]).toContain("<td>&lt;b&gt;</td>");
  });

  does("Figures that are open at the end of a cell are shown as images, once", async () => {
    const code =
      "import matplotlib.pyplot as plt\nfor n in (1, 2):\n  plt.figure(figsize=(4, 3), dpi=100)\n  plt.plot([1, n])";
    const { results, status } = await context.run(code);
    expect(status).toBe("ok");
    expect(results.map((bundle) => Object.keys(bundle).sort())).toEqual(Array(2).fill(["image/png", "text/plain"]));
    for (const { "image/png": png } of results) {
      const [width, height] = sizeOf(png ?? "");
      expect(Math.abs(width - 400) < 80 && Math.abs(height - 300) < 60).toBe(true);
    }
    expect((await context.run("1")).results).toEqual([{ "text/plain": "1" }]);
    const image = await context.run("from PIL import Image\nImage.new('RGB', (31, 17))");
    expect(sizeOf(image.results[0]?.["image/png"] ?? "")).toEqual([31, 17]);
    const noisy = "import numpy as np\nImage.fromarray(np.random.randint(0, 255, (700, 800, 3), dtype=np.uint8))";
    expect(sizeOf((await context.run(noisy)).results[0]?.["image/png"] ?? "")).toEqual([800, 700]); // 1.6 MB: far more than a ring
  });

  does("What is JSON is shown as JSON too", async () => {
    const { results } = await context.run("{'a': [1, 2.5, None, 'ü']}");
    expect(JSON.parse(results[0]?.["application/json"] ?? "")).toEqual({ a: [1, 2.5, null, "ü"] });
    expect(Object.keys((await context.run("{1, 2}")).results[0] ?? {})).toEqual(["text/plain"]);
  });

  does("Printing without end is cut, told, interrupted, and the next cell is itself", async () => {
    const most = 4 * 1024 * 1024;
    let length = 0;
    let end: unknown;
    for await (const event of await context.stream("while True: print('spam ' * 200)", { timeoutSeconds: 120 })) {
      if (event.kind === "stdout") {
        length += event.text.length;
        if (length === most) await context.interrupt();
      }
      end = event;
    }
    expect(length).toBe(most);
    expect(end).toMatchObject({ kind: "end", truncated: true, status: "interrupted" });
    expect((await context.run("'after'")).text).toBe("'after'");
  });

  does("Output of subprocesses and of C comes with the cell's", async () => {
    const { stdout, stderr } = await context.run(
      "import os, subprocess\nprint('a')\nos.system('echo b; echo c >&2')\nprint('é😀')",
    );
    expect({ stdout, stderr }).toEqual({ stdout: "a\nb\né😀\n", stderr: "c\n" });
  });

  does("A stack that overflows in C ends its own context alone", async () => {
    const other = await sandbox.contexts.create();
    expect((await other.run("def r(): r()\nr()")).error?.name).toBe("RecursionError");
    const end = await other.run("import ctypes; ctypes.string_at(0)");
    expect(end).toMatchObject({ status: "dead", exitCode: null, signal: "SIGSEGV" });
    expect((await context.run("40 + 2")).text).toBe("42");
  });

  does("Nonsense in a context's own pipes, from any process, breaks that context only", async () => {
    const other = await sandbox.contexts.create();
    const pid = (await other.run("import os; os.getpid()")).text;
    const attack = `for f in /proc/${pid}/fd/1??; do [ -p $f ] && (timeout 1 head -c 300000 /dev/urandom > $f); done; true`;
    const events = (await other.stream("print('go')\nimport time; time.sleep(30); 1"))[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ kind: "stdout", text: "go\n" });
    await sandbox.exec(attack);
    const rest = async () => {
      for (let item = await events.next(); item.done !== true; item = await events.next());
    };
    expect(isWarrenError(await rest().catch((cause: unknown) => cause), "guest_protocol")).toBe(true);
    expect((await context.run("40 + 2")).text).toBe("42");
    expect((await sandbox.exec("echo fine")).stdout).toBe("fine\n");
  });

  does("A context lives on in every fork with its variables, and each draws its own random numbers", async () => {
    const seeded = await sandbox.contexts.create();
    await seeded.run("import random, numpy; random.seed(7); numpy.random.seed(7); kept = list(range(3))");
    const free = await sandbox.contexts.create();
    await free.run("import random, numpy; big = bytearray(b'x' * 5_000_000); random.random(); numpy.random.random()");
    const children = await sandbox.forks(2);
    try {
      const all = [sandbox, ...children];
      const of = (which: SandboxContext, code: string) =>
        Promise.all(all.map(async (each) => (await each.contexts.get(which.context).run(code)).text));
      expect(await of(seeded, "kept")).toEqual(Array(3).fill("[0, 1, 2]"));
      expect(await of(free, "len(big), big[-1]")).toEqual(Array(3).fill("(5000000, 120)"));
      expect(new Set(await of(seeded, "random.random(), numpy.random.random()")).size).toBe(1);
      expect(new Set(await of(free, "random.random()")).size).toBe(3);
      expect(new Set(await of(free, "numpy.random.random()")).size).toBe(3);
      const lists = await Promise.all(
        all.map(async (each) => (await each.contexts.list()).map((info) => info.context)),
      );
      expect(lists[1]).toEqual(lists[0] ?? []);
      await children[0]?.contexts.get(free.context).run("big = 'mine'");
      expect(await of(free, "len(big)")).toEqual(["5000000", "4", "5000000"]);
    } finally {
      await Promise.all(children.map((child) => child.close()));
    }
  });
}
