/** Accounts, their keys and what they did: rows over the store alone. Nobody gives a key more than their own may do. */
import { nonce } from "../../base/id.ts";
import { type Input, SCOPES, type Scope } from "../../contract/route.ts";
import type { AccountInfo, accountRoutes, NewToken } from "../../contract/routes/api/accounts.ts";
import { WarrenError } from "../../errors.ts";
import { mayDo } from "../access/gate.ts";
import { createKey, newAccount } from "../access/tokens.ts";
import type { AppParts, RequestContext, RowCalls } from "../parts.ts";
import type { CreditChange } from "../store.ts";
import { isTimeZone } from "./billing/moments.ts";

type Rows = typeof accountRoutes;
type Asked = Pick<Input<Rows["createToken"]>, "label" | "scopes" | "expiresInDays">;

function noAccount(id: string): WarrenError {
  return new WarrenError("not_found", `there is no account ${id}`, { details: { field: "account", account: id } });
}

export function accountCalls({ store, clock }: Pick<AppParts, "store" | "clock">): RowCalls<keyof Rows> {
  const create = async (account: string, by: RequestContext, asked: Asked): Promise<NewToken> => {
    const { scopes = by.key.scopes.filter((scope) => scope !== "admin"), label, expiresInDays } = asked;
    refuseMore(by, scopes);
    const wanted = {
      scopes: scopes.length > 0 ? scopes : ALL,
      ...(label === undefined ? {} : { label }),
      ...(expiresInDays === undefined ? {} : { expiresInDays }),
    };
    return createKey(store, account, wanted, { wallMs: clock.wallMs() });
  };
  const existing = async (id: string): Promise<AccountInfo> => {
    const account = await store.account(id);
    if (account === null) throw noAccount(id);
    return account;
  };
  return {
    me: async ({ account: id, key }) => {
      const { sandboxes, vcpus, memoryMib } = await store.inUse(id);
      const { prefix, label, scopes, account } = key;
      return { account, key: { prefix, label, scopes: [...scopes] }, usage: { sandboxes, vcpus, memoryMb: memoryMib } };
    },
    tokens: async ({ account }) => ({ items: await store.keys(account) }),
    createToken: (by, asked) => create(by.account, by, asked),
    revokeToken: async ({ account }, { prefix }) => {
      if (await store.revokeKey(account, prefix)) return;
      throw new WarrenError("not_found", `there is no API key ${prefix}`, { details: { field: "prefix", prefix } });
    },
    audit: async ({ account, key }, { limit = 100, before = null }) => {
      const whose = key.scopes.includes("admin") ? null : account;
      return { items: await store.auditLog(whose, { limit, before }) };
    },
    accounts: async () => ({ items: await store.accounts() }),
    createAccount: async (_by, { id = `a-${nonce()}`, quota = {}, ...asked }) => {
      refuseNoZone(asked.timeZone);
      const account = newAccount({ id, ...asked }, quota, clock.wallMs());
      await store.createAccount(account);
      return account;
    },
    account: (_by, { account }) => existing(account),
    updateAccount: async (_by, { account, creditUsd, addCreditUsd, ...change }) => {
      refuseNoZone(change.timeZone);
      const updated = await store.updateAccount(account, { ...change, ...creditChange(creditUsd, addCreditUsd) });
      if (updated === null) throw noAccount(account);
      return updated;
    },
    createAccountToken: async (by, { account, ...asked }) => {
      await existing(account);
      return create(account, by, asked);
    },
  };
}

/** @throws {WarrenError} `invalid_request` – both */
function creditChange(creditUsd: string | null | undefined, addCreditUsd: string | undefined): CreditChange {
  if (addCreditUsd === undefined) return creditUsd === undefined ? {} : { creditUsd };
  if (creditUsd === undefined) return { addCreditUsd };
  const says = `addCreditUsd: got ${JSON.stringify(addCreditUsd)} beside creditUsd, allowed is one of them`;
  throw new WarrenError("invalid_request", says, { details: { field: "addCreditUsd", allowed: "without creditUsd" } });
}

/** What a key of an administrator makes when nobody says what it may do. */
const ALL: readonly Scope[] = SCOPES.filter((scope) => scope !== "admin");

/** @throws {WarrenError} `forbidden` */
function refuseMore({ key }: RequestContext, scopes: readonly Scope[]): void {
  const scope = scopes.find((one) => !mayDo(key, one));
  if (scope === undefined) return;
  const says = `a key cannot give what it lacks: ${key.prefix}… has not the scope ${scope}`;
  throw new WarrenError("forbidden", says, { details: { field: "scopes", scope } });
}

/** @throws {WarrenError} `invalid_request` */
function refuseNoZone(timeZone: string | undefined): void {
  if (timeZone === undefined || isTimeZone(timeZone)) return;
  const allowed = "a name of IANA's, such as Europe/Berlin or UTC";
  const says = `timeZone: got ${JSON.stringify(timeZone)}, allowed is ${allowed}`;
  throw new WarrenError("invalid_request", says, { details: { field: "timeZone", allowed } });
}
