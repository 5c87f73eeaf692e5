/** The database of the runs, looked at from outside of the server: what is charged, what is booked, and the same told again. */
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import type { Move } from "../../../src/contract/move.ts";
import type { Stored } from "../../../src/contract/stored.ts";
import { openStore } from "../../../src/db/store.ts";
import type { PrivatePostgres } from "../../harness/stores/postgres.ts";
import type { Billed } from "./judge.ts";

/** What two looks must agree on. */
export interface Books {
  readonly intervals: string;
  readonly ledger: string;
  readonly rollups: string;
}

export class Ledger {
  readonly postgres: PrivatePostgres;
  readonly url: string;

  constructor(postgres: PrivatePostgres, url: string) {
    this.postgres = postgres;
    this.url = url;
  }

  rows(text: string): Promise<Record<string, unknown>[]> {
    return this.postgres.run(text, this.url);
  }

  /** Sandboxes of the database that have no end yet. */
  async open(): Promise<Set<string>> {
    return new Set((await this.rows("select id from sandboxes where ended_at is null")).map(({ id }) => String(id)));
  }

  /** Subjects that are charged for a machine. */
  async charged(): Promise<Set<string>> {
    const rows = await this.rows(`select distinct subject from billing.intervals where meter in ${MACHINE}`);
    return new Set(rows.map(({ subject }) => String(subject)));
  }

  /** For what time one is charged, running or paused, on CLOCK_MONOTONIC. */
  async billed(id: string, axisMs: number): Promise<Billed> {
    const rows = await this.rows(
      `select meter, (extract(epoch from lower(during)) * 1000)::float8 as a, (extract(epoch from upper(during)) * 1000)::float8 as b
       from billing.intervals where subject = '${id}' and meter in ${MACHINE} order by lower(during)`,
    );
    const spans = rows.map(({ meter, a, b }) => ({ meter, fromMs: Number(a) - axisMs, toMs: Number(b) - axisMs }));
    return {
      running: spans.filter(({ meter }) => meter === "vcpu_ms"),
      paused: spans.filter(({ meter }) => meter !== "vcpu_ms"),
    };
  }

  async books(): Promise<Books> {
    const [found] = await this.rows(`select
      (select count(*) || ' ' || coalesce(md5(string_agg(i::text, ' ' order by id)), '') from billing.intervals i) as intervals,
      (select count(*) || ' ' || coalesce(md5(string_agg(l::text, ' ' order by id)), '') from billing.ledger l) as ledger,
      (select coalesce(sum(quantity), 0) || ' ' || coalesce(sum(amount), 0) from billing.rollups) as rollups`);
    return found as unknown as Books;
  }

  /** What is not as it should be once all is settled: none. */
  async faults(): Promise<string[]> {
    const [row] = await this.rows(`select
      (select count(*)::int from (select interval from billing.ledger where kind = 'charge' group by interval having count(*) > 1) d) as twice,
      (select count(*)::int from billing.intervals i where not exists (select from billing.ledger l where l.interval = i.id)
        and exists (select from billing.prices p where p.meter = i.meter)) as uncharged,
      (select coalesce(sum(amount), 0) from billing.ledger) = (select coalesce(sum(amount), 0) from billing.rollups) as amounts,
      (select coalesce(sum(quantity), 0) from billing.ledger) = (select coalesce(sum(quantity), 0) from billing.rollups) as quantities`);
    const { twice, uncharged, amounts, quantities } = row ?? {};
    return [
      ...(twice === 0 ? [] : [`${twice} intervals are charged twice`]),
      ...(uncharged === 0 ? [] : [`${uncharged} intervals are not charged`]),
      ...(amounts === true && quantities === true ? [] : ["rollups are not what the ledger says"]),
    ];
  }

  async settle(): Promise<void> {
    await using store = await this.#store();
    await store.settleBooks(systemClock.wallMs());
  }

  /** Every event of the journal of moves and of what is stored, so many times, in batches of the server's size. @returns how many */
  async replay(times: number): Promise<number> {
    const moves = (await this.rows(MOVES)).map(moveOf);
    const stored = (await this.rows(STORED)) as unknown as Stored[];
    await using store = await this.#store();
    for (let time = 0; time < times; time++) {
      for (const batch of batches(moves)) await store.record(batch);
      for (const batch of batches(stored)) await store.recordStored(batch);
      await store.settleBooks(systemClock.wallMs());
    }
    return moves.length + stored.length;
  }

  #store() {
    return openStore({ url: this.url, dir: "", clock: systemClock, log: createLog("error"), node: "replay" });
  }
}

const MACHINE = "('vcpu_ms', 'paused_memory_mib_ms')";
const BATCH = 100;

const MOVES = `select sandbox, account, template, cpu, memory_mib as "memoryMib", sequence::int as sequence, from_state as "from",
  to_state as "to", event, reason, network_out_bytes::float8 as "bytesOut", network_in_bytes::float8 as "bytesIn",
  network_connections::int as connections, cpu_used_ms::float8 as "cpuUsedMs", monotonic_ms as "monotonicMs",
  (extract(epoch from "at") * 1000)::float8 as "wallMs" from moves order by random()`;
const STORED = `select account, kind, id, size_bytes::float8 as "sizeBytes", monotonic_ms as "monotonicMs",
  (extract(epoch from "at") * 1000)::float8 as "wallMs" from stored order by random()`;

function moveOf(row: Record<string, unknown>): Move {
  const { bytesOut, bytesIn, connections, cpuUsedMs, ...rest } = row;
  const network = bytesOut === null ? {} : { network: { bytesOut, bytesIn, connections } };
  return { ...rest, ...network, ...(cpuUsedMs === null ? {} : { cpuUsedMs }) } as unknown as Move;
}

function batches<T>(rows: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(rows.length / BATCH) }, (_, i) => rows.slice(i * BATCH, (i + 1) * BATCH));
}
