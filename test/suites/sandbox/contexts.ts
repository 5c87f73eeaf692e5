/** Code contexts: variables that live on, what cells show, and what ends them. */
import { expect } from "bun:test";
import { fails, type Subject } from "./subject.ts";

export function contextTests({ host, shared, does, needs }: Subject): void {
  does("a context that is not there, or input that no context could take, is an error of its own", async () => {
    await fails("context_not_found", shared().contexts.get(987_654).run("1"));
    await fails("context_not_found", shared().contexts.get(987_654).interrupt());
    await fails("context_not_found", shared().contexts.get(987_654).close());
    await fails("invalid_request", shared().contexts.get(0).run("1"));
    await fails("invalid_request", shared().contexts.create({ cwd: "relative" }));
    await fails("invalid_request", shared().contexts.create({ language: "cobol" as "python" }));
    await fails("not_found", host().contexts({ id: "sb_nobody" }));
  });

  needs("python", "a context keeps its variables, its environment and its directory from cell to cell", async () => {
    const context = await shared().contexts.create({ cwd: "/tmp", env: { OWN: "own" } });
    expect(await context.run("import os\nx = 20\nprint('ran')")).toMatchObject({
      status: "ok",
      stdout: "ran\n",
      text: null,
    });
    expect((await context.run("x + 1, os.environ['OWN'], os.environ['FROM'], os.getcwd()")).text).toBe(
      "(21, 'own', 'sandbox', '/tmp')",
    );
    expect(await shared().contexts.list()).toMatchObject([
      { context: context.context, language: "python", state: "idle", cwd: "/tmp" },
    ]);
    await context.close();
    await fails("context_not_found", context.run("x"));
    expect(await shared().contexts.list()).toEqual([]);
  });

  needs("python", "contexts are independent, and one that dies is told as dead", async () => {
    const [one, two] = [await shared().contexts.create(), await shared().contexts.create()];
    await one.run("x = 1");
    await two.run("x = 2");
    expect([(await one.run("x")).text, (await two.run("x")).text]).toEqual(["1", "2"]);
    const end = await one.run("import os; os._exit(9)");
    expect(end).toMatchObject({ status: "dead", exitCode: 9, error: { name: "ContextDied" } });
    await fails("wrong_state", one.run("x"));
    expect((await two.run("x")).text).toBe("2");
    const states = (await shared().contexts.list()).map(({ context, state }) => [context, state]);
    expect(states).toEqual([
      [one.context, "dead"],
      [two.context, "idle"],
    ]);
    await two.close();
  });

  needs("python", "a failed cell is a result, with the lines that failed", async () => {
    const context = await shared().contexts.create();
    const { status, error } = await context.run("def f():\n  raise KeyError('no')\nf()");
    expect({ status, name: error?.name, value: error?.value }).toEqual({
      status: "error",
      name: "KeyError",
      value: "'no'",
    });
    expect(error?.traceback.filter((line) => line.includes("<cell 1>"))).toHaveLength(2);
    expect((await context.run("1 +")).error?.name).toBe("SyntaxError");
    await context.close();
  });

  needs("python", "a timed-out or interrupted cell ends, and the next has its own answer", async () => {
    const context = await shared().contexts.create();
    await context.run("import time; x = 7");
    expect((await context.run("time.sleep(600)", { timeoutSeconds: 0.5 })).status).toBe("timeout");
    expect((await context.run("x")).text).toBe("7");
    const events = (await context.stream("print('go')\ntime.sleep(600)"))[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ kind: "stdout", text: "go\n" });
    const next = context.run("x + 1");
    await context.interrupt();
    let last: unknown;
    for (let item = await events.next(); item.done !== true; item = await events.next()) last = item.value;
    expect(last).toMatchObject({ kind: "end", status: "interrupted" });
    expect((await next).text).toBe("8");
    await context.close();
  });
}
