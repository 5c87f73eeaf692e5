/**
 * Tests in a network namespace of their own: the file runs itself again under `unshare`, so that nothing it makes is in the
 * machine's. Also what such tests look at and damage with.
 */
import { expect, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { Netlink } from "../../../src/host/net/message.ts";
import { up } from "../../../src/host/net/route.ts";
import { lockSlot } from "../../../src/host/slots/slots.ts";
import { gate } from "../../harness/gates.ts";

const INSIDE = "WARREN_TEST_NETNS";

/** Registers `tests` inside; outside one test that runs all of them. */
export function inNamespace(file: string, tests: () => void): void {
  if (!gate("root")) return;
  const outer = process.env[INSIDE];
  if (outer === undefined) {
    const name = file.slice(file.lastIndexOf("/") + 1);
    test(`${name} in a network namespace of its own`, () => runInside(file), 120_000);
    return;
  }
  if (readlinkSync("/proc/self/ns/net") === outer) throw new Error("still in the machine's network namespace");
  const nl = new Netlink(openNetlink(NETLINK_ROUTE));
  up(nl, { name: "lo", index: 1 });
  nl.flush();
  tests();
}

async function runInside(file: string): Promise<void> {
  const child = Bun.spawn(["unshare", "--net", process.execPath, "test", "--timeout", "30000", file], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, [INSIDE]: readlinkSync("/proc/self/ns/net") },
  });
  const said = (await Promise.all([child.stdout, child.stderr].map((stream) => new Response(stream).text()))).join("");
  if ((await child.exited) !== 0) throw new Error(said);
  expect(said).toContain("0 fail");
}

/** Runs a command in a namespace that is open here; gives what it says. */
export function inside(ns: number, ...command: string[]): string {
  return run("nsenter", `--net=/proc/${process.pid}/fd/${ns}`, ...command);
}

/** A process with the tap of a namespace that is open here; disposing ends it. */
export async function holdTap(ns: number, ...args: string[]): Promise<AsyncDisposable & { readonly pid: number }> {
  const script = `${import.meta.dir}/tap-holder.ts`;
  const child = Bun.spawn(["nsenter", `--net=/proc/${process.pid}/fd/${ns}`, process.execPath, script, ...args], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await child.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toBe("open\n");
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await child.exited;
    },
  };
}

export function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Devices of slots that this namespace has. */
export function slotDevices(): string[] {
  const names = readFileSync("/proc/self/net/dev", "utf8")
    .split("\n")
    .map((line) => line.trim().split(":")[0] ?? "");
  return names.filter((name) => name.startsWith("wrn")).sort();
}

/** Locks slots one after another, as a home's books would. */
export function locks(first: number): () => { readonly slot: number; readonly fd: number } | null {
  let next = first;
  return () => {
    const slot = next++;
    const fd = lockSlot(slot);
    return fd === null ? null : { slot, fd };
  };
}
