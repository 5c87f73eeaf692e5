/**
 * The schema of a database as text: the same from every version of PostgreSQL that is supported, so that what migrations sum
 * up to can be read, and compared.
 */
import type { Driver } from "./driver.ts";

/** Ours, and what is of an extension is not. */
const SCHEMAS = `('public'::regnamespace, to_regnamespace('billing')::oid)`;
const OURS = (oid: string) =>
  `not exists (select from pg_depend e where e.objid = ${oid} and e.deptype = 'e' and e.refclassid = 'pg_extension'::regclass)`;
const NAMED = (schema: string, name: string) =>
  `case ${schema}::regnamespace::text when 'public' then '' else ${schema}::regnamespace::text || '.' end || quote_ident(${name})`;

/** Types, nullability, defaults; of tables, and of types that are made of columns. */
const COLUMNS = (kind: "r" | "c") => `
  select ${NAMED("c.relnamespace", "c.relname")}, '  ' || quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
    || case when a.attidentity = 'a' then ' generated always as identity' else '' end
    || case when a.attnotnull then ' not null' else '' end
    || coalesce(case when a.attgenerated = 's' then ' generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
      else ' default ' || pg_get_expr(d.adbin, d.adrelid) end, '')
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where c.relkind = '${kind}' and c.relnamespace in ${SCHEMAS} and ${OURS("c.oid")} order by c.relname, a.attnum`;
/** From version 18 on, "not null" is a constraint too: columns tell of it. */
const CONSTRAINTS = `
  select ${NAMED("c.relnamespace", "c.relname")}, '  constraint ' || quote_ident(o.conname) || ' ' || pg_get_constraintdef(o.oid)
  from pg_constraint o join pg_class c on c.oid = o.conrelid
  where c.relnamespace in ${SCHEMAS} and o.contype in ('p', 'u', 'f', 'c', 'x')
  order by c.relname, o.contype, o.conname collate "C"`;
const INDEXES = `
  select pg_get_indexdef(i.indexrelid) || ';' from pg_index i join pg_class c on c.oid = i.indrelid
  where c.relnamespace in ${SCHEMAS} and c.relkind = 'r'
    and not exists (select from pg_constraint o where o.conindid = i.indexrelid and o.contype in ('p', 'u', 'x'))
  order by i.indexrelid::regclass::text collate "C"`;
const VIEWS = `
  select 'create view ' || ${NAMED("c.relnamespace", "c.relname")} || ' as' || E'\\n' || pg_get_viewdef(c.oid)
  from pg_class c where c.relkind = 'v' and c.relnamespace in ${SCHEMAS} order by c.relname collate "C"`;
const FUNCTIONS = `
  select rtrim(pg_get_functiondef(p.oid), E'\\n') || ';' from pg_proc p
  where p.pronamespace in ${SCHEMAS} and p.prokind = 'f' and ${OURS("p.oid")} order by p.proname collate "C"`;
const TRIGGERS = `
  select pg_get_triggerdef(t.oid) || ';' from pg_trigger t join pg_class c on c.oid = t.tgrelid
  where not t.tgisinternal and c.relnamespace in ${SCHEMAS} order by t.tgname collate "C"`;

/** @throws {WarrenError} `store_unavailable` */
export async function dumpSchema(driver: Pick<Driver, "query">): Promise<string> {
  const rows = (text: string) => driver.query({ text, parameters: [] });
  const texts = async (text: string) => (await rows(text)).map(([line]) => String(line));
  const grouped = async (...queries: string[]) => {
    const lines = new Map<string, string[]>();
    for (const query of queries) {
      for (const [table, line] of await rows(query)) {
        lines.set(String(table), [...(lines.get(String(table)) ?? []), String(line)]);
      }
    }
    return [...lines].sort(([a], [b]) => (a < b ? -1 : 1));
  };
  const tables = await grouped(COLUMNS("r"), CONSTRAINTS);
  const types = await grouped(COLUMNS("c"));
  const parts = [
    "-- What all migrations come to. Written by a test, which says how to renew it; never applied.",
    ...tables.map(([table, held]) => `create table ${table} (\n${held.join(",\n")}\n);`),
    ...types.map(([type, held]) => `create type ${type} as (\n${held.join(",\n")}\n);`),
    (await texts(INDEXES)).join("\n"),
    ...(await texts(VIEWS)),
    ...(await texts(FUNCTIONS)),
    (await texts(TRIGGERS)).join("\n"),
  ];
  return `${parts.join("\n\n")}\n`;
}
