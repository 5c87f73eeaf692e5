/**
 * A server over real VMs, killed with what it made or without: what the next one writes down is when each VMM really ended, by
 * this machine's own clock on both sides of its end.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { type Client, connect } from "../../../src/client.ts";
import type { SandboxRecord } from "../../../src/engine/registry.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import { LIMITS } from "../../../src/limits.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { until } from "../../harness/until.ts";
import { TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

/** What the kernel's word may lack of the truth. */
const SHORT_MS = 30;

interface Row {
  readonly sequence: number;
  readonly to: string;
  readonly monotonicMs: number;
}

if (gate("vm", "postgres")) {
  mkdirSync(join(TEST_HOME, "server"), { recursive: true }); // stays in a home that was served once: no leak
  let database: PrivatePostgres;
  let databaseUrl = "";
  let sql: postgres.Sql;
  let server: ServerProcess;
  let client: Client;

  /** Another one when the last was killed. */
  async function served(): Promise<void> {
    if (startTicksOf(server.pid) === null) await serve();
  }

  async function serve(): Promise<void> {
    server = await startServerProcess({ home: TEST_HOME, databaseUrl, readyMs: VM_BAKE_MS });
    client = connect({ url: server.url, key: server.key });
  }

  beforeAll(async () => {
    database = await PrivatePostgres.open();
    databaseUrl = await database.database();
    sql = postgres(databaseUrl, { onnotice: () => undefined });
  }, VM_BAKE_MS);
  beforeAll(serve, VM_BAKE_MS);
  afterAll(async () => {
    await server.end("SIGTERM");
    await sql.end();
    await database[Symbol.asyncDispose]();
  }, 60_000);
  guardLeaks("base"); // after the server's end: hooks of a kind run in this order

  const rows = (id: string): Promise<Row[]> =>
    sql<Row[]>`select sequence::integer, to_state as "to", monotonic_ms as "monotonicMs" from moves
      where sandbox = ${id} order by sequence`;

  async function ended(id: string): Promise<Row[]> {
    await until("its end is written", async () => ["deleted", "failed"].includes((await rows(id)).at(-1)?.to ?? ""));
    return rows(id);
  }

  const recordOf = (id: string): SandboxRecord =>
    JSON.parse(readFileSync(join(TEST_HOME, "run", id, "sandbox.json"), "utf8"));

  function vmmOf({ ref }: SandboxRecord): number {
    return Number(readFileSync(`/proc/${ref.pid}/task/${ref.pid}/children`, "utf8").trim());
  }

  async function gone({ ref }: SandboxRecord): Promise<void> {
    await until("its jail is gone", () => startTicksOf(ref.pid) !== ref.startTicks);
  }

  /** On this machine's clock: when it first ran, and when that ended. */
  function times(all: readonly Row[], { time }: SandboxRecord): { readonly fromMs: number; readonly toMs: number } {
    const running = all.findIndex(({ to }) => to === "running");
    const axisMs = time?.axisMs ?? Number.NaN;
    return {
      fromMs: (all[running]?.monotonicMs ?? Number.NaN) - axisMs,
      toMs: (all[running + 1]?.monotonicMs ?? Number.NaN) - axisMs,
    };
  }

  const kills: Record<string, (record: SandboxRecord) => Promise<void> | void> = {
    "the VMM": (record) => void process.kill(vmmOf(record), "SIGKILL"),
    "the jail": ({ ref }) => void process.kill(ref.pid, "SIGKILL"),
    "the server, then the VMM": async (record) => {
      await server.end("SIGKILL");
      process.kill(vmmOf(record), "SIGKILL");
    },
    "the VMM with its server": async (record) => {
      process.kill(server.pid, "SIGKILL");
      process.kill(record.ref.pid, "SIGKILL");
      await server.end("SIGKILL");
    },
  };

  for (const [name, kill] of Object.entries(kills)) {
    test(
      `A sandbox is billed to the end of its VMM when the killed one is ${name}`,
      async () => {
        await served();
        const beforeMs = hostClock.monotonicMs();
        const { id } = await client.Sandbox.create({ template: "base", ttlSeconds: 600 });
        const madeMs = hostClock.monotonicMs();
        const record = recordOf(id);
        const fromMs = hostClock.monotonicMs();
        await kill(record);
        await gone(record);
        const toMs = hostClock.monotonicMs();
        await served();
        const billed = times(await ended(id), record);
        expect(billed.fromMs).toBeGreaterThanOrEqual(beforeMs);
        expect(billed.fromMs).toBeLessThanOrEqual(madeMs);
        expect(billed.toMs).toBeGreaterThanOrEqual(fromMs - SHORT_MS);
        expect(billed.toMs).toBeLessThanOrEqual(toMs);
      },
      VM_TEST_MS,
    );
  }

  test(
    "A lifetime that runs out while no server is there ends the bill, to the millisecond",
    async () => {
      await served();
      const { id } = await client.Sandbox.create({ template: "base", ttlSeconds: 15 });
      const record = recordOf(id);
      await server.end("SIGKILL");
      await gone(record);
      await serve();
      const { toMs } = times(await ended(id), record);
      const endsMs = record.time?.endsMs ?? Number.NaN;
      expect(toMs).toBeLessThanOrEqual(endsMs + 0.01);
      expect(toMs).toBeGreaterThan(endsMs - SHORT_MS);
    },
    VM_TEST_MS,
  );

  test(
    "What lives has proofs of life, a heartbeat apart, with the CPU time that it used",
    async () => {
      await served();
      const { id } = await client.Sandbox.create({ template: "base", ttlSeconds: 600 });
      const { time } = recordOf(id);
      interface Seen {
        readonly seenMs: number;
        readonly cpuMs: number | null;
      }
      const seen = async (): Promise<Seen | undefined> =>
        (
          await sql<Seen[]>`select seen_ms::double precision as "seenMs",
            open_cpu_used_ms::double precision as "cpuMs" from sandboxes where id = ${id}`
        )[0];
      const madeMs = hostClock.monotonicMs() + (time?.axisMs ?? 0);
      await until("it was seen", async () => ((await seen())?.seenMs ?? 0) > madeMs, 3 * LIMITS.heartbeatMs);
      const first = await seen();
      const nowMs = hostClock.monotonicMs() + (time?.axisMs ?? 0);
      expect(first?.seenMs).toBeLessThanOrEqual(nowMs);
      expect(first?.seenMs).toBeGreaterThan(nowMs - 2 * LIMITS.heartbeatMs);
      expect(first?.cpuMs).toBeGreaterThan(0);
      await client.host.close({ id });
      expect((await ended(id)).map(({ to }) => to)).toEqual(["creating", "running", "stopping", "deleted"]);
    },
    VM_TEST_MS,
  );
}
