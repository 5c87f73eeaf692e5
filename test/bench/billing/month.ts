/**
 * A month of many accounts' use, made in the database from a seed: the same rows whenever it is made. Each sandbox is two
 * intervals (vCPUs, memory) of up to twenty minutes within one day of UTC, written in the order of time. An account has one template:
 * a day of it is two rows of the rollups.
 */
import type { PrivatePostgres } from "../../harness/stores/postgres.ts";

export const FIRST_DAY = "2030-01-01";
export const DAYS = 30;

export interface Month {
  readonly intervals: number;
  readonly accounts: number;
}

/**
 * The constraint against overlaps and the foreign keys' triggers are off, and stay off: what is measured afterwards reads, and settles. Two
 * indexes are made at the end, as that is faster. @returns seconds
 */
export async function makeMonth(server: PrivatePostgres, url: string, { intervals, accounts }: Month): Promise<number> {
  const begin = performance.now();
  await server.run(
    `insert into accounts (id, name, created_at, time_zone)
     select 'acc-' || lpad(n::text, 4, '0'), 'Account ' || n, '${FIRST_DAY}', 'America/St_Johns' from generate_series(1, ${accounts}) as n`,
    url,
  );
  await server.run("alter table billing.intervals drop constraint intervals_once", url);
  const indexes = await server.run(
    "select indexname, indexdef from pg_indexes where schemaname = 'billing' and indexname in ('intervals_account', 'intervals_subject')",
    url,
  );
  for (const { indexname } of indexes) await server.run(`drop index billing.${String(indexname)}`, url);
  const each = Math.ceil(intervals / DAYS / 2);
  for (let day = 0; day < DAYS; day++) {
    // Hashes are of the row's number: no state, and no order that the planner could change.
    await server.run(
      `set session_replication_role = replica;
       insert into billing.intervals (account, subject, template, meter, units, during, recorded_at)
       select 'acc-' || lpad(owner::text, 4, '0'), 'sb_' || to_hex(n) || '00000000',
         case owner % 3 when 0 then 'base' when 1 then 'code-interpreter' else 'node' end, m.meter, m.units,
         tstzrange(at, least(at + make_interval(secs => (1000 + abs(hashint8(n)::bigint) % 1199000) / 1000.0), day + interval '1 day')), at
       from generate_series(${day * each}::bigint, ${(day + 1) * each - 1}::bigint) as n,
         lateral (select 1 + abs(hashint8(n + 7)::bigint) % ${accounts}) as a(owner),
         lateral (select timestamptz '${FIRST_DAY} 00:00:00+00' + interval '${day} days') as d(day),
         lateral (select day + make_interval(secs => floor((n - ${day * each}) * 86399000.0 / ${each}) / 1000.0)) as t(at),
         lateral (values ('vcpu_ms', 1 + n % 4), ('memory_mib_ms', 512 * (1 + n % 4))) as m(meter, units)`,
      url,
    );
  }
  for (const { indexdef } of indexes) await server.run(`set maintenance_work_mem = '512MB'; ${String(indexdef)}`, url);
  await server.run("vacuum (analyze) billing.intervals", url);
  await server.run("analyze accounts", url);
  return (performance.now() - begin) / 1000;
}
