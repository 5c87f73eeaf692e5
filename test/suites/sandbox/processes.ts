/** Commands in the background: they go on by themselves, are found again, followed, fed and signalled. */
import { expect } from "bun:test";
import { LIMITS } from "../../../src/limits.ts";
import { SandboxProcess } from "../../../src/sandbox/process.ts";
import { until } from "../../harness/until.ts";
import { fails, type Subject } from "./subject.ts";

export function processTests({ host, shared, does }: Subject): void {
  does("spawn returns while the command goes on, and wait has its end", async () => {
    const process = await shared().spawn("echo first; sleep 0.2; echo last; exit 7");
    expect(process.process).toBeGreaterThan(0);
    const result = await process.wait();
    expect(result).toMatchObject({ stdout: "first\nlast\n", exitCode: 7, timedOut: false });
  });

  does("processes has a background command while it runs and after", async () => {
    const process = await shared().spawn(["sleep", "1000"]);
    const find = async () => (await shared().processes()).find((p) => p.process === process.process);
    expect(await find()).toMatchObject({ pid: process.pid, background: true, running: true, exitCode: null });
    expect((await find())?.command).toContain("sleep");
    await process.signal("SIGTERM");
    await until("it has ended", async () => (await find())?.running === false);
    expect(await find()).toMatchObject({ running: false, exitCode: null, signal: "SIGTERM" });
  });

  does("attach replays from the start and can be done twice, also after the end", async () => {
    const process = await shared().spawn("echo one; echo two");
    const again = await shared().process(process.process);
    expect((await process.wait()).stdout).toBe("one\ntwo\n");
    expect((await again.wait()).stdout).toBe("one\ntwo\n");
  });

  does("attach that is left does not end the command", async () => {
    const process = await shared().spawn("echo here; sleep 1000");
    for await (const event of await process.attach()) if (event.kind === "stdout") break;
    const { running } = (await shared().processes()).find((p) => p.process === process.process) ?? {};
    expect(running).toBe(true);
    await process.signal(9);
    expect(await process.wait()).toMatchObject({ signal: "SIGKILL", exitCode: null });
  });

  does("attach says how much of the output is no longer there", async () => {
    const total = 4 * LIMITS.ringBytes;
    const process = await shared().spawn(`head -c ${total} /dev/zero; echo end`);
    await until("it has ended", async () => {
      const found = (await shared().processes()).find((p) => p.process === process.process);
      return found?.running === false;
    });
    const seen = { gap: 0, bytes: 0, tail: "" };
    for await (const event of await process.attach()) {
      if (event.kind === "gap") seen.gap += event.bytes;
      if (event.kind !== "stdout") continue;
      seen.bytes += event.bytes.length;
      seen.tail = new TextDecoder().decode(event.bytes.slice(-4));
    }
    expect(seen.bytes).toBeLessThanOrEqual(LIMITS.ringBytes);
    expect(seen.bytes).toBeGreaterThan(LIMITS.ringBytes / 2);
    expect(seen.gap + seen.bytes).toBe(total + 4);
    expect(seen.tail).toBe("end\n");
  });

  does("stdin of a background command is written to and closed from outside", async () => {
    const process = await shared().spawn("cat", { stdinOpen: true });
    await process.write("one ");
    await process.write(new Uint8Array(0));
    const again = await shared().process(process.process);
    await again.write(new TextEncoder().encode("two"));
    await again.closeStdin();
    expect(await process.wait()).toMatchObject({ stdout: "one two", exitCode: 0 });
  });

  does("a background command ends at its timeout", async () => {
    const process = await shared().spawn("sleep 1000", { timeoutSeconds: 0.3 });
    expect(await process.wait()).toMatchObject({ timedOut: true, signal: "SIGKILL" });
  });

  does("calls to a process that is not there are refused", async () => {
    await fails("process_not_found", shared().process(99_999));
    const none = new SandboxProcess(host(), shared().id, 99_999, 1);
    await fails("process_not_found", none.signal(9));
    await fails("process_not_found", none.wait());
    await fails("process_not_found", none.write("x"));
  });
}
