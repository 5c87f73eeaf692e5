/** How a server's process ends when it is told to. */
import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { until } from "../harness/until.ts";

const children: Bun.Subprocess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});

/** A child that is ready, and where it listens. */
async function started() {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "child.ts")], { stdout: "pipe", stderr: "inherit" });
  children.push(child);
  let text = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) text += decoder.decode(chunk, { stream: true });
  })();
  await until("it is ready", () => text.includes('"ready"'));
  const url = /"url":"([^"]+)"/.exec(text)?.[1] ?? "";
  const stopping = () => until("it is stopping", () => text.includes('"stopping"'));
  return { child, url, stopping, told: async () => reading.then(() => text) };
}

describe("a server's process", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`${signal} ends it with 0 after the requests under way`, async () => {
      const { child, url, stopping, told } = await started();
      const slow = fetch(`${url}/slow`);
      await until("it is under way", async () => (await (await fetch(`${url}/under`)).json()) === 1);
      const finish = new AbortController();
      child.kill(signal);
      await stopping();
      await until("nobody listens", () =>
        fetch(`${url}/`, { signal: finish.signal }).then(
          () => false,
          () => true,
        ),
      );
      expect(child.exitCode).toBeNull();
      child.kill("SIGUSR2"); // the request's work is done
      expect((await slow).status).toBe(200);
      expect(await child.exited).toBe(0);
      expect((await told()).match(/admin-key/g)?.length).toBe(1);
    });
  }

  test("A second signal ends it at once, whatever is under way", async () => {
    const { child, url, stopping } = await started();
    const slow = fetch(`${url}/slow`).catch(() => null); // it is cut off
    await until("it is under way", async () => (await (await fetch(`${url}/under`)).json()) === 1);
    child.kill("SIGTERM");
    await stopping();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(130);
    expect(await slow).toBeNull();
  });
});
