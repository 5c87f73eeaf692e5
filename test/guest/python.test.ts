/**
 * The warm interpreter against `python3 FILE`: for every program of the table the same stdout, stderr, exit code and signal,
 * byte for byte but for addresses in memory. Both run under the real agent, as processes of this machine.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecRequest, GuestAgent } from "../../src/guest/agent.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, type ConnectedAgent, connectAgent } from "./process.ts";
import { programs as basics, type Program } from "./programs.ts";
import { activities } from "./programs-activities.ts";

/** The guest's Python: the table's tracebacks and messages are those of one version. */
const PYTHON = "/usr/bin/python3";
const MODULES = ["json", "random", "re", "logging", "tempfile", "multiprocessing", "concurrent.futures", "asyncio"];

interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly end: string;
}

async function run(agent: GuestAgent, request: ExecRequest): Promise<Outcome> {
  const bytes = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  let end = "";
  for await (const event of agent.exec({ timeoutSeconds: 30, ...request })) {
    if (event.kind === "stdout" || event.kind === "stderr") bytes[event.kind].push(event.bytes);
    if (event.kind === "exit") end = `${event.exitCode} ${event.signal} ${event.timedOut}`;
  }
  const text = (parts: Uint8Array[]) =>
    Buffer.concat(parts)
      .toString("latin1")
      .replace(/0x[0-9a-f]{6,}/g, "0xADDRESS");
  return { stdout: text(bytes.stdout), stderr: text(bytes.stderr), end };
}

if (gate("gcc") && existsSync(PYTHON)) {
  let connected: ConnectedAgent;
  const home = mkdtempSync(join(tmpdir(), "warren-python-"));

  beforeAll(async () => {
    connected = await connectAgent(["--warm", join(import.meta.dir, "../../images/python/warm.py")]);
    await connected.agent.warm(MODULES);
  }, BUILD_MS);

  afterAll(async () => {
    await connected[Symbol.asyncDispose]();
    rmSync(home, { recursive: true, force: true });
  });

  /** One program both ways, each in a directory of its own with the same name, so that neither sees what the other left. */
  async function both(name: string, { code, args = [], stdin = "", env }: Program): Promise<[Outcome, Outcome]> {
    const dir = join(home, name.replaceAll(/[^a-z]/gi, "_"));
    const path = join(dir, "program.py");
    const outcomes: Outcome[] = [];
    for (const kind of ["plain", "warm"]) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(dir);
      await Bun.write(path, code);
      const command = kind === "plain" ? { argv: ["python3", path, ...args] } : { python: { path, args: [...args] } };
      outcomes.push(await run(connected.agent, { ...command, stdin, cwd: dir, ...(env === undefined ? {} : { env }) }));
    }
    return outcomes as [Outcome, Outcome];
  }

  const isWarm = async (path: string): Promise<boolean> => {
    const code = "import sys; print('_socket' in sys.modules and 'random' in sys.modules)\n";
    return (await run(connected.agent, { python: { path, code } })).stdout === "True\n";
  };

  describe("The warm interpreter", () => {
    test("The warm interpreter is what runs these programs", async () => {
      expect(await isWarm(join(home, "probe.py"))).toBe(true);
    });

    for (const [name, program] of Object.entries({ ...basics, ...activities })) {
      test(`The warm interpreter does as python3 does when a program ${name}`, async () => {
        const [plain, warm] = await both(name, program);
        expect(warm).toEqual(plain);
      }, 60_000);
    }
  });
}
