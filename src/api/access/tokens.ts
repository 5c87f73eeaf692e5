/**
 * API keys: 256 random bits behind a prefix that names the product. Only their SHA-256 is kept: a key cannot be read back,
 * and as it is not made by people, a slow hash would add nothing.
 */
import { randomBytes } from "../../base/id.ts";
import type { Scope } from "../../contract/route.ts";
import type { AccountInfo, NewToken } from "../../contract/routes/api/accounts.ts";
import { isWarrenError } from "../../errors.ts";
import type { NewKey, Store } from "../store.ts";

const DAY_MS = 24 * 3600 * 1000;
const PREFIX_CHARS = 12;
const TOKEN = /^wrn_[A-Za-z0-9_-]{43}$/;

/** True of what may be a key: anything else need not be looked up. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** `wrn_` and 43 characters of base64url. */
export function mintToken(): string {
  return `wrn_${Buffer.from(randomBytes(32)).toString("base64url")}`;
}

/** SHA-256 in hex: what a store knows a key by. */
export function hashOf(token: string): string {
  return new Bun.CryptoHasher("sha256").update(token).digest("hex");
}

/** By which people know a key; 48 of its bits. */
export function prefixOf(token: string): string {
  return token.slice(0, PREFIX_CHARS);
}

export interface KeyAsked {
  readonly label?: string;
  readonly scopes: readonly Scope[];
  readonly expiresInDays?: number;
}

/** What a store keeps of a key, and what its maker is told this once. */
export function newKey(token: string, asked: KeyAsked, wallMs: number): { key: NewKey; told: NewToken } {
  const { label = "key", scopes, expiresInDays } = asked;
  const expiresAtMs = expiresInDays === undefined ? null : wallMs + expiresInDays * DAY_MS;
  const prefix = prefixOf(token);
  const iso = (ms: number) => new Date(ms).toISOString();
  return {
    key: { hash: hashOf(token), prefix, label, scopes, createdAtMs: wallMs, expiresAtMs },
    told: {
      token,
      prefix,
      label,
      scopes: [...scopes],
      createdAt: iso(wallMs),
      lastUsedAt: null,
      expiresAt: expiresAtMs === null ? null : iso(expiresAtMs),
    },
  };
}

/** Keys are called by a part of their letters: of two that begin alike the second is made anew. */
const TRIES = 3;

/**
 * Makes a key; the token is told this once.
 * @throws {WarrenError} `not_found` – no such account; `already_exists` – three tokens in a row began like others', which is no chance
 */
export async function createKey(
  store: Pick<Store, "createKey">,
  account: string,
  asked: KeyAsked,
  { wallMs, mint = mintToken }: { readonly wallMs: number; readonly mint?: () => string },
): Promise<NewToken> {
  for (let tries = 1; ; tries += 1) {
    const { key, told } = newKey(mint(), asked, wallMs);
    try {
      await store.createKey(account, key);
      return told;
    } catch (cause) {
      if (!isWarrenError(cause, "already_exists") || tries === TRIES) throw cause;
    }
  }
}

/** An account as it begins: nothing is bounded but what was asked for. */
export function newAccount(
  asked: Pick<AccountInfo, "id" | "name"> & Partial<Pick<AccountInfo, "creditUsd" | "onEmpty" | "timeZone" | "billTo">>,
  quota: Partial<AccountInfo["quota"]>,
  wallMs: number,
): AccountInfo {
  const unbounded = { sandboxes: null, vcpus: null, memoryMb: null, storageMb: null, requestsPerSecond: null };
  return {
    id: asked.id,
    name: asked.name,
    createdAt: new Date(wallMs).toISOString(),
    suspended: false,
    quota: { ...unbounded, ...quota },
    creditUsd: asked.creditUsd ?? null,
    onEmpty: asked.onEmpty ?? "nothing",
    timeZone: asked.timeZone ?? "UTC",
    billTo: asked.billTo ?? null,
  };
}
