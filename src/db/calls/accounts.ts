/** Accounts: made, read, changed; the secrets of this installation. */
import { and, asc, eq, sql } from "drizzle-orm";
import type { Store } from "../../api/store.ts";
import type { AccountInfo, Quota } from "../../contract/routes/api/accounts.ts";
import { WarrenError } from "../../errors.ts";
import type { Database } from "../database.ts";
import { accounts, secrets } from "../schema/accounts.ts";

type Calls = Pick<Store, "createAccount" | "accounts" | "account" | "updateAccount" | "secret">;

/** `creditUsd` is told with as many decimals as the contract has; what is kept has all of them. */
export const accountColumns = {
  id: accounts.id,
  name: accounts.name,
  createdAt: accounts.createdAt,
  suspended: accounts.suspended,
  quotaSandboxes: accounts.quotaSandboxes,
  quotaVcpus: accounts.quotaVcpus,
  quotaMemoryMib: accounts.quotaMemoryMib,
  quotaStorageMib: accounts.quotaStorageMib,
  quotaRequestsPerSecond: accounts.quotaRequestsPerSecond,
  creditUsd: sql<string | null>`trim_scale(round(${accounts.creditUsd}, 12))::text`,
  onEmpty: accounts.onEmpty,
  timeZone: accounts.timeZone,
  billTo: accounts.billTo,
};
type Row = typeof accounts.$inferSelect;

export function toAccount(row: Row): AccountInfo {
  return {
    id: row.id,
    name: row.name,
    createdAt: new Date(row.createdAt).toISOString(),
    suspended: row.suspended,
    quota: {
      sandboxes: row.quotaSandboxes,
      vcpus: row.quotaVcpus,
      memoryMb: row.quotaMemoryMib,
      storageMb: row.quotaStorageMib,
      requestsPerSecond: row.quotaRequestsPerSecond,
    },
    creditUsd: row.creditUsd,
    onEmpty: row.onEmpty === "hibernate" ? "hibernate" : "nothing",
    timeZone: row.timeZone,
    billTo: row.billTo,
  };
}

const COLUMN_OF = {
  sandboxes: "quotaSandboxes",
  vcpus: "quotaVcpus",
  memoryMb: "quotaMemoryMib",
  storageMb: "quotaStorageMib",
  requestsPerSecond: "quotaRequestsPerSecond",
} as const satisfies Record<keyof Quota, keyof Row>;

function quotaColumns(quota: Partial<Quota>): Partial<Row> {
  const columns: Partial<Row> = {};
  for (const [name, limit] of Object.entries(quota) as [keyof Quota, number | null | undefined][]) {
    if (limit === undefined) continue;
    if (limit !== null && !Number.isSafeInteger(limit)) {
      throw new WarrenError("invalid_request", `quota.${name}: ${limit} is more than can be counted`, {
        details: { field: `quota.${name}` },
      });
    }
    columns[COLUMN_OF[name]] = limit;
  }
  return columns;
}

/** Its days are the database's to find: what only this program knows as a time zone is none. */
async function checkTimeZone(db: Database, timeZone: string): Promise<void> {
  if (timeZone === "UTC") return;
  if (await db.value(sql`select true from pg_timezone_names where name = ${timeZone}`)) return;
  const says = `timeZone: ${JSON.stringify(timeZone)} is no time zone that the database knows; allowed is an IANA name such as Europe/Berlin`;
  throw new WarrenError("invalid_request", says, { details: { field: "timeZone", timeZone } });
}

/** What is prepaid is in US dollars, and so is what is taken from it. */
async function checkCurrency(db: Database, account: string): Promise<void> {
  const other = await db.value(sql`
    select l.id || ' is in ' || l.currency from billing.subscriptions s join billing.plans p on p.id = s.plan
    join billing.price_lists l on l.id = p.list where s.account = ${account} and l.currency <> 'USD' limit 1`);
  if (other === null) return;
  const says = `creditUsd: this account cannot be prepaid in USD, since its price list ${other}; allowed is null`;
  throw new WarrenError("invalid_request", says, { details: { field: "creditUsd", account } });
}

/** What the contract can tell: twelve digits before the point. */
const CREDIT_BOUND = "1000000000000";

/** Only what is prepaid has something to add to: in the statement itself, as credit falls at any time. */
const mayAdd = (amount: string | undefined) =>
  amount === undefined ? undefined : sql`abs(${accounts.creditUsd} + ${amount}::numeric) < ${CREDIT_BOUND}::numeric`;

function refusedCredit({ creditUsd }: AccountInfo, amount: string): WarrenError {
  const allowed =
    creditUsd === null
      ? "creditUsd: this account is not prepaid, so that there is nothing to add to"
      : `what keeps its credit of ${creditUsd} USD below ${CREDIT_BOUND}`;
  const says = `addCreditUsd: got ${JSON.stringify(amount)}, allowed is ${allowed}`;
  return new WarrenError("invalid_request", says, { details: { field: "addCreditUsd", allowed } });
}

export function accountCalls(db: Database, changed: () => void): Calls {
  const known = async (id: string): Promise<AccountInfo | null> => {
    const [row] = await db.ask((orm) => orm.select(accountColumns).from(accounts).where(eq(accounts.id, id)));
    return row === undefined ? null : toAccount(row);
  };
  return {
    async createAccount(account) {
      const { id, name, suspended, creditUsd, onEmpty, timeZone, billTo } = account;
      await checkTimeZone(db, timeZone);
      const row = {
        ...{ id, name, suspended, creditUsd, onEmpty, timeZone, billTo },
        createdAt: Date.parse(account.createdAt),
        ...quotaColumns(account.quota),
      };
      const made = await db.ask((orm) =>
        orm.insert(accounts).values(row).onConflictDoNothing().returning({ id: accounts.id }),
      );
      if (made.length === 0) throw new WarrenError("already_exists", `there is an account ${id}`, { details: { id } });
    },
    async accounts() {
      const rows = await db.ask((orm) =>
        orm.select(accountColumns).from(accounts).orderBy(asc(accounts.createdAt), asc(accounts.id)),
      );
      return rows.map(toAccount);
    },
    account: known,
    async updateAccount(id, { quota, name, addCreditUsd, ...others }) {
      if (others.timeZone !== undefined) await checkTimeZone(db, others.timeZone);
      if (others.creditUsd != null) await checkCurrency(db, id);
      const change = {
        name: name ?? sql`${accounts.name}`, // always set: the trigger that tells other servers is on it
        ...others, // what is undefined stays
        ...quotaColumns(quota ?? {}),
        ...(addCreditUsd === undefined ? {} : { creditUsd: sql`${accounts.creditUsd} + ${addCreditUsd}::numeric` }),
      };
      const which = and(eq(accounts.id, id), mayAdd(addCreditUsd));
      const [row] = await db.ask((orm) => orm.update(accounts).set(change).where(which).returning(accountColumns));
      if (row === undefined) {
        const kept = addCreditUsd === undefined ? null : await known(id);
        if (addCreditUsd === undefined || kept === null) return null;
        throw refusedCredit(kept, addCreditUsd);
      }
      changed();
      return toAccount(row);
    },
    async secret(name, make) {
      const [made] = await db.ask((orm) => orm.select().from(secrets).where(eq(secrets.name, name)));
      if (made !== undefined) return made.value;
      const [row] = await db.ask((orm) =>
        orm
          .insert(secrets)
          .values({ name, value: make() })
          .onConflictDoUpdate({ target: secrets.name, set: { value: sql`${secrets.value}` } }) // another server's was first
          .returning(),
      );
      if (row === undefined) throw new Error(`secret ${name} was neither made nor found`);
      return row.value;
    },
  };
}
