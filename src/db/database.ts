/**
 * The one way from the store to its driver: through `ask`, so that no failure tells of parameters, and through `owned` for
 * what belongs to an account, so that no statement forgets whose it is.
 */
import { and, eq, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import type { PgColumn, PgTable } from "drizzle-orm/pg-core";
import { drizzle, type PgRemoteDatabase } from "drizzle-orm/pg-proxy";
import type { Driver, Parameter } from "./driver.ts";
import { hidden } from "./failure.ts";

export type Orm = PgRemoteDatabase<Record<string, never>>;

export class Database {
  readonly #orm: Orm;

  constructor(driver: Pick<Driver, "query">) {
    this.#orm = drizzle(async (text, parameters: Parameter[]) => ({
      rows: await driver.query({ text, parameters: parameters.map(storable) }),
    }));
  }

  /** @throws {WarrenError} `store_unavailable` – and what `job` throws of ours */
  async ask<T>(job: (orm: Orm) => Promise<T>): Promise<T> {
    try {
      return await job(this.#orm);
    } catch (cause) {
      throw hidden(cause);
    }
  }

  /** The rows of a statement that is written by hand, as arrays. */
  rows(statement: SQLWrapper): Promise<unknown[][]> {
    return this.ask(async (orm) => (await orm.execute(statement)) as unknown as unknown[][]);
  }

  /** The only value of a statement's only row. */
  async value(statement: SQLWrapper): Promise<unknown> {
    const [row] = await this.rows(statement);
    return row?.[0] ?? null;
  }
}

/** Rows of a table that are this account's, and fulfil the rest. */
export function owned(table: PgTable & { readonly account: PgColumn }, account: string, ...rest: SQL[]): SQL {
  const mine = eq(table.account, account);
  return and(mine, ...rest) ?? mine;
}

/** `= any of these`, which finds each by its index however many there are. */
export function equalsAny(texts: readonly string[]): SQL {
  return sql`= any (array(select jsonb_array_elements_text(${asJson(texts)}::text::jsonb)))`;
}

/** PostgreSQL's text has no NUL: what a caller sends with one is found nowhere, and kept with a mark in its place. */
function storable(value: Parameter): Parameter {
  return typeof value === "string" ? value.replaceAll("\0", "\ufffd") : value;
}

/** A value as one parameter: rows of any number in a statement whose text stays the same. NULs and lone surrogates become marks. */
export function asJson(value: unknown): string {
  return JSON.stringify(value).replace(/\\(?:\\|u(?:0000|d[89a-f][0-9a-f]{2}))/g, (found) =>
    found === "\\\\" ? found : "\\ufffd",
  );
}
