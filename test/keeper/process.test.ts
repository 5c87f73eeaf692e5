/** A keeper as other processes have it: one a home, started when it is needed, gone when it is not, deaf to nonsense. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import { COMMAND_ENV, startApart } from "../../src/host/run.ts";
import { hostBootId, startTicksOf } from "../../src/host/slots/process-name.ts";
import { endKeeper, isKept, KeeperClient } from "../../src/keeper/client.ts";
import { PROGRAM, PROTOCOL, socketName } from "../../src/keeper/protocol.ts";
import { LIMITS } from "../../src/limits.ts";
import { until } from "../harness/until.ts";
import { EVENT, OPEN, PYPI, recordFor } from "./ground.ts";

const CHILD = join(import.meta.dir, "child.ts");
const SOCKET = socketName();
const homes: string[] = [];
const sleepers: Bun.Subprocess[] = [];
const started: number[] = [];

function newHome(): string {
  const home = mkdtempSync(join(tmpdir(), "keeper-"));
  mkdirSync(join(home, "records"));
  writeFileSync(join(home, "opened"), "");
  homes.push(home);
  return home;
}

function clientOf(home: string, speed = 1): KeeperClient {
  const start = () => {
    const child = startApart([process.execPath, CHILD, home, String(speed)], COMMAND_ENV);
    started.push(child.pid);
    return child;
  };
  return new KeeperClient({ home, clock: systemClock, start });
}

/** A process that stands for a VMM, and its record. */
function sleeper(id: string): { readonly record: SandboxRecord; end(): Promise<unknown> } {
  const child = Bun.spawn(["sleep", "1000"]);
  sleepers.push(child);
  const ref = {
    id,
    pid: child.pid,
    startTicks: startTicksOf(child.pid) ?? 0,
    hostBootId: hostBootId(),
    socketDir: "/run",
  };
  const end = () => {
    child.kill("SIGKILL");
    return child.exited;
  };
  return { record: { ...recordFor(id, 1), ref }, end };
}

function register(home: string, record: SandboxRecord): SandboxRecord {
  writeFileSync(join(home, "records", `${record.id}.json`), JSON.stringify(record));
  return record;
}

/** Who opened what, in order. */
function openedIn(home: string): { readonly pid: number; readonly id: string; readonly egress: unknown }[] {
  const lines = readFileSync(join(home, "opened"), "utf8").trim().split("\n");
  return lines.filter(Boolean).map((line) => {
    const [pid = "", id = ""] = line.split(" ");
    return { pid: Number(pid), id, egress: JSON.parse(line.slice(pid.length + id.length + 2)) };
  });
}

/** Sends bytes, and takes what comes until the other side hangs up. */
async function talk(
  home: string,
  bytes: string | Uint8Array,
): Promise<{ readonly kind?: string; readonly [key: string]: unknown }> {
  let text = "";
  const closed = Promise.withResolvers<void>();
  let left = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
  const push = (socket: { write(data: Uint8Array): number }) => {
    if (left.length > 0) left = left.subarray(Math.max(0, socket.write(left)));
  };
  await Bun.connect({
    unix: join(home, SOCKET),
    socket: {
      open: push,
      drain: push,
      data: (_, chunk) => {
        text += chunk.toString();
      },
      close: () => closed.resolve(),
    },
  });
  await closed.promise;
  return text === "" ? {} : JSON.parse(text);
}

const ask = (home: string, more: object) =>
  talk(home, `${JSON.stringify({ protocol: PROTOCOL, program: PROGRAM, question: null, ...more })}\n`);

const ground = (home: string) => ({ home, clock: systemClock });

afterEach(async () => {
  for (const home of homes) await endKeeper(ground(home), "now");
});
afterAll(async () => {
  for (const child of sleepers) child.kill("SIGKILL");
  await until("every process that was started is gone", () => started.every((pid) => startTicksOf(pid) === null));
  for (const home of homes) rmSync(home, { recursive: true });
});

describe("A keeper", () => {
  test("is started by whoever needs it first: five at once have one and the same", async () => {
    const home = newHome();
    const { record } = sleeper("a");
    const clients = [1, 2, 3, 4, 5].map(() => clientOf(home));
    const all = await Promise.all(clients.map((client) => client.open(record)));
    expect(all).toEqual(Array.from({ length: 5 }, () => ({ certificatePem: "pem" })));
    expect(openedIn(home).length).toBe(1);
    const [{ pid } = { pid: 0 }] = openedIn(home);
    await until("the others have seen that and ended", () =>
      started.every((p) => p === pid || startTicksOf(p) === null),
    );
    expect(await ask(home, {})).toMatchObject({ kind: "here", pid, sandboxes: 1 });
  }, 30_000);

  test("has a session of its own, at the root directory, with nothing of its starter but what it was given", async () => {
    const home = newHome();
    await clientOf(home).open(sleeper("a").record);
    const [{ pid } = { pid: 0 }] = openedIn(home);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const session = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]);
    expect(session).toBe(pid);
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean);
    expect(environment.map((line) => line.split("=")[0]).sort()).toEqual(Object.keys(COMMAND_ENV).sort());
    expect(statSync(join(home, SOCKET)).mode & 0o777).toBe(0o600);
    expect(statSync(`/proc/${pid}/cwd`).ino).toBe(statSync("/").ino);
  }, 30_000);

  test("answers what the engine asks, and refuses with the error's code", async () => {
    const home = newHome();
    const client = clientOf(home);
    register(home, sleeper("a").record);
    expect(await client.log("a")).toEqual({ events: [EVENT], lost: 7 });
    expect(await client.change("a", OPEN)).toEqual({ bytesOut: 1, bytesIn: 2, connections: 3, refused: 4 });
    expect(JSON.parse(readFileSync(join(home, "records/a.json"), "utf8"))).toMatchObject({ egress: OPEN });
    await expect(client.change("b", OPEN)).rejects.toMatchObject({ code: "not_found", details: { id: "b" } });
    const wrong = client.change("a", { mode: "allowlist", allow: ["127.0.0.1"] });
    await expect(wrong).rejects.toMatchObject({ code: "invalid_request" });
  }, 30_000);

  test("that is killed comes back at the next call, with what there was and as it was last", async () => {
    const home = newHome();
    const client = clientOf(home);
    for (const id of ["a", "b"]) await client.open(register(home, sleeper(id).record));
    await client.change("b", OPEN);
    const first = openedIn(home)[0]?.pid ?? 0;
    process.kill(first, "SIGKILL");
    await until("it is gone", () => startTicksOf(first) === null);
    expect([existsSync(join(home, SOCKET)), await isKept(ground(home))]).toEqual([true, false]);
    await client.log("a");
    const again = openedIn(home).filter(({ pid }) => pid !== first);
    expect(again.map(({ id, egress }) => ({ id, egress })).sort((x, y) => x.id.localeCompare(y.id))).toEqual([
      { id: "a", egress: PYPI },
      { id: "b", egress: OPEN },
    ]);
  }, 30_000);

  test("that is told to end leaves no socket, and the next one takes up where it stopped", async () => {
    const home = newHome();
    await clientOf(home).open(register(home, sleeper("a").record));
    const first = openedIn(home)[0]?.pid ?? 0;
    process.kill(first, "SIGTERM");
    await until("it is gone", () => startTicksOf(first) === null);
    expect(existsSync(join(home, SOCKET))).toBe(false);
    await clientOf(home).log("a");
    expect(openedIn(home).map(({ id }) => id)).toEqual(["a", "a"]);
  }, 30_000);

  test("ends by itself when its sandboxes have ended, and is there again for the next", async () => {
    const home = newHome();
    const client = clientOf(home, 40);
    const { record, end } = sleeper("a");
    await client.open(record);
    const first = openedIn(home)[0]?.pid ?? 0;
    expect(await endKeeper(ground(home), "idle")).toBe(false);
    await end();
    await until("it has ended", () => startTicksOf(first) === null);
    expect(existsSync(join(home, SOCKET))).toBe(false);
    await client.open(sleeper("b").record);
    expect(openedIn(home).map(({ id }) => id)).toEqual(["a", "b"]);
  }, 30_000);

  test("does not lose who asks in the moment in which it ends", async () => {
    const home = newHome();
    const client = clientOf(home);
    const { record } = sleeper("a");
    await client.open(record);
    const during = [1, 2, 3, 4, 5, 6].map(async (n) => {
      if (n % 2 === 0) await endKeeper(ground(home), "now");
      return client.open(record);
    });
    await Promise.all(during);
    expect(await client.open(record)).toEqual({ certificatePem: "pem" });
  }, 60_000);

  test("is not kept from starting by what another left under its socket's name", async () => {
    const home = newHome();
    writeFileSync(join(home, SOCKET), "no socket at all");
    await clientOf(home).open(sleeper("a").record);
    expect(await isKept(ground(home))).toBe(true);
  }, 30_000);

  test("hears nonsense, halves and too much without harm, and tells who can be told", async () => {
    const home = newHome();
    await clientOf(home).open(sleeper("a").record);
    const pid = openedIn(home)[0]?.pid;
    const invalid = { kind: "refusal", code: "invalid_request" };
    expect(await talk(home, "GET / HTTP/1.1\r\n\r\n")).toMatchObject(invalid);
    expect(await talk(home, new Uint8Array([0, 255, 254, 10]))).toMatchObject(invalid);
    expect(await talk(home, "[]\n")).toMatchObject(invalid);
    expect(await ask(home, { question: { kind: "steal", id: "a" } })).toMatchObject(invalid);
    expect(await ask(home, { question: { kind: "change", id: "a", egress: { mode: "all" } } })).toMatchObject(invalid);
    expect(await ask(home, { question: { kind: "open", sandbox: { ...recordFor("x", 1) } } })).toMatchObject(invalid);
    expect(await talk(home, new Uint8Array(LIMITS.keeperRequestBytes + 100).fill(0x20))).toMatchObject(invalid);
    const half = await Bun.connect({ unix: join(home, SOCKET), socket: { data: () => undefined } });
    half.write('{"protocol":');
    expect(await ask(home, {})).toMatchObject({ kind: "here", pid, sandboxes: 1 });
    half.end();
  }, 30_000);

  test("of another version makes room when it has nothing to keep, serves when it can, and else is named", async () => {
    const home = newHome();
    const client = clientOf(home);
    const { record, end } = sleeper("a");
    await client.open(register(home, record));
    expect(await ask(home, { program: "9.0.0", question: { kind: "log", id: "a" } })).toMatchObject({ kind: "answer" });
    const stranger = { protocol: PROTOCOL + 1, program: "9.0.0", question: { kind: "unheard of" } };
    expect(await ask(home, stranger)).toMatchObject({ kind: "here", program: PROGRAM, sandboxes: 1 });
    await end();
    expect(await ask(home, stranger)).toEqual({ kind: "ending" });
    await until("it has ended", async () => !(await isKept(ground(home))));
  }, 30_000);

  test("that does not understand its client is an error that says what to do", async () => {
    const home = newHome();
    const here = { kind: "here", protocol: PROTOCOL + 1, program: "9.0.0", pid: 4711, sandboxes: 2 };
    const other = Bun.listen({
      unix: join(home, SOCKET),
      socket: { data: (socket) => void socket.end(`${JSON.stringify(here)}\n`) },
    });
    const refused = clientOf(home).log("a");
    await expect(refused).rejects.toMatchObject({
      code: "host_unsupported",
      message: expect.stringContaining("version 9.0.0"),
    });
    other.stop(true);
  });

  test("that cannot start is an error at once, and so is one that says what nobody understands", async () => {
    const home = newHome();
    const start = () => startApart([process.execPath, "-e", "process.exit(71)"], COMMAND_ENV);
    const failing = new KeeperClient({ home, clock: systemClock, start });
    await expect(failing.log("a")).rejects.toMatchObject({
      code: "driver_failed",
      message: expect.stringContaining("exit code 71"),
    });
    const mad = Bun.listen({ unix: join(home, SOCKET), socket: { data: (socket) => void socket.end("what?\n") } });
    await expect(failing.log("a")).rejects.toMatchObject({ code: "driver_failed" });
    mad.stop(true);
  });
});
