/** Accounts, their API keys, quotas and the log of who did what. */
import { type Static, Type } from "@sinclair/typebox";
import { type Contract, SCOPES } from "../../route.ts";
import { BillTo } from "./billing.ts";

const AccountId = Type.String({ pattern: "^[a-z0-9][a-z0-9_-]{0,62}$" });
const Timestamp = Type.String();
const OrNull = <S extends Parameters<typeof Type.Union>[0][number]>(schema: S) => Type.Union([schema, Type.Null()]);
export const ScopeName = Type.Union(SCOPES.map((scope) => Type.Literal(scope)));
const Label = Type.String({ minLength: 1, maxLength: 128 });
/** US dollars, exact. */
const Usd = Type.String({ pattern: "^-?\\d{1,12}(\\.\\d{1,12})?$" });

/** What an account may have at one time; null: as much as the host has. */
export const Quota = Type.Object(
  {
    sandboxes: OrNull(Type.Integer({ minimum: 0 })),
    vcpus: OrNull(Type.Integer({ minimum: 0 })),
    memoryMb: OrNull(Type.Integer({ minimum: 0 })),
    /** Volumes at their nominal size, snapshots and hibernated sandboxes as they are on disk. */
    storageMb: OrNull(Type.Integer({ minimum: 0 })),
    requestsPerSecond: OrNull(Type.Integer({ minimum: 1 })),
  },
  { additionalProperties: false },
);
export type Quota = Static<typeof Quota>;

const OnEmpty = Type.Union([Type.Literal("nothing"), Type.Literal("hibernate")]);

export const AccountInfo = Type.Object({
  id: AccountId,
  name: Type.String(),
  createdAt: Timestamp,
  /** Its keys are refused; what runs goes on. */
  suspended: Type.Boolean(),
  quota: Quota,
  /** Prepaid and not used yet; null: it is not prepaid. At 0 nothing new is made. */
  creditUsd: OrNull(Usd),
  /** What happens to what runs when the credit is used up. */
  onEmpty: OnEmpty,
  /** IANA name, in which days of its reports begin. */
  timeZone: Type.String(),
  /** On invoices; null: its name. */
  billTo: OrNull(BillTo),
});
export type AccountInfo = Static<typeof AccountInfo>;

export const Me = Type.Object({
  account: AccountInfo,
  key: Type.Object({ prefix: Type.String(), label: Type.String(), scopes: Type.Array(ScopeName) }),
  usage: Type.Object({
    sandboxes: Type.Integer(),
    vcpus: Type.Integer(),
    memoryMb: Type.Integer(),
  }),
});
export type Me = Static<typeof Me>;

export const TokenInfo = Type.Object({
  /** By which it is known and revoked. */
  prefix: Type.String(),
  label: Type.String(),
  scopes: Type.Array(ScopeName),
  createdAt: Timestamp,
  lastUsedAt: OrNull(Timestamp),
  expiresAt: OrNull(Timestamp),
});
export type TokenInfo = Static<typeof TokenInfo>;

/** The token itself is told this once. */
export const NewToken = Type.Composite([TokenInfo, Type.Object({ token: Type.String() })]);
export type NewToken = Static<typeof NewToken>;

const tokenFields = {
  label: Type.Optional(Label),
  /** Default: those of the key that asks, without `admin`; never more than it has. */
  scopes: Type.Optional(Type.Array(ScopeName, { minItems: 1, maxItems: SCOPES.length })),
  expiresInDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650 })),
};

const billingFields = {
  onEmpty: Type.Optional(OnEmpty),
  /** IANA name, as `Europe/Berlin`. */
  timeZone: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  billTo: Type.Optional(OrNull(BillTo)),
};

export const AuditEntry = Type.Object({
  at: Timestamp,
  account: OrNull(Type.String()),
  /** Prefix of the key, or `server`. */
  actor: Type.String(),
  /** Name of the operation, for instance `create`. */
  action: Type.String(),
  /** What it was done to. */
  target: OrNull(Type.String()),
  /** HTTP status of the answer. */
  status: Type.Integer(),
  requestId: Type.String(),
});
export type AuditEntry = Static<typeof AuditEntry>;

const Nothing = Type.Object({}, { additionalProperties: false });
const ByAccount = Type.Object({ account: AccountId }, { additionalProperties: false });

export const accountRoutes = {
  me: {
    method: "GET",
    path: "/v1/me",
    scope: "account:read",
    says: "Read whose key this is, and what the account may and does use",
    input: Nothing,
    returns: Me,
    errors: [],
  },
  tokens: {
    method: "GET",
    path: "/v1/me/tokens",
    scope: "account:read",
    says: "List the account's API keys that are not revoked, newest first",
    input: Nothing,
    returns: Type.Object({ items: Type.Array(TokenInfo) }),
    errors: [],
  },
  createToken: {
    method: "POST",
    path: "/v1/me/tokens",
    scope: "account:write",
    status: 201,
    says: "Create an API key; it is shown this once and kept hashed",
    input: Type.Object(tokenFields, { additionalProperties: false }),
    returns: NewToken,
    errors: ["invalid_request"],
  },
  revokeToken: {
    method: "DELETE",
    path: "/v1/me/tokens/:prefix",
    scope: "account:write",
    says: "Revoke an API key, at once",
    input: Type.Object({ prefix: Type.String({ minLength: 1, maxLength: 64 }) }, { additionalProperties: false }),
    returns: "nothing",
    errors: ["not_found"],
  },
  audit: {
    method: "GET",
    path: "/v1/audit",
    scope: "account:read",
    says: "Read who changed what, newest first",
    input: Type.Object(
      { limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })), before: Type.Optional(Type.String()) },
      { additionalProperties: false },
    ),
    returns: Type.Object({ items: Type.Array(AuditEntry) }),
    errors: ["invalid_request"],
  },
  accounts: {
    method: "GET",
    path: "/v1/admin/accounts",
    scope: "admin",
    says: "List accounts",
    input: Nothing,
    returns: Type.Object({ items: Type.Array(AccountInfo) }),
    errors: [],
  },
  createAccount: {
    method: "POST",
    path: "/v1/admin/accounts",
    scope: "admin",
    status: 201,
    says: "Create an account",
    input: Type.Object(
      {
        id: Type.Optional(AccountId),
        name: Label,
        quota: Type.Optional(Type.Partial(Quota, { additionalProperties: false })),
        creditUsd: Type.Optional(OrNull(Usd)),
        ...billingFields,
      },
      { additionalProperties: false },
    ),
    returns: AccountInfo,
    errors: ["invalid_request", "already_exists", "host_unsupported"],
  },
  account: {
    method: "GET",
    path: "/v1/admin/accounts/:account",
    scope: "admin",
    says: "Read one account",
    input: ByAccount,
    returns: AccountInfo,
    errors: ["not_found"],
  },
  updateAccount: {
    method: "PATCH",
    path: "/v1/admin/accounts/:account",
    scope: "admin",
    says: "Change an account's name, quota or credit, add to its credit, or suspend it",
    input: Type.Object(
      {
        account: AccountId,
        name: Type.Optional(Label),
        suspended: Type.Optional(Type.Boolean()),
        quota: Type.Optional(Type.Partial(Quota, { additionalProperties: false })),
        creditUsd: Type.Optional(OrNull(Usd)),
        /** Added to what is left of a prepaid account's credit, whatever is taken meanwhile; less than 0 takes away. Not with the other. */
        addCreditUsd: Type.Optional(Usd),
        ...billingFields,
      },
      { additionalProperties: false },
    ),
    returns: AccountInfo,
    errors: ["invalid_request", "not_found"],
  },
  createAccountToken: {
    method: "POST",
    path: "/v1/admin/accounts/:account/tokens",
    scope: "admin",
    status: 201,
    says: "Create an API key for an account",
    input: Type.Object({ account: AccountId, ...tokenFields }, { additionalProperties: false }),
    returns: NewToken,
    errors: ["invalid_request", "not_found"],
  },
} as const satisfies Contract;
