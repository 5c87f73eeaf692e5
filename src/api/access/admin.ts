/** The first key of an installation: made at its first start, told once. */
import type { Clock } from "../../base/clock.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import type { Store } from "../store.ts";
import { createKey, hashOf, isToken, newAccount, newKey } from "./tokens.ts";

/** Account of whoever runs the server. */
export const ADMIN = "admin";
/** Label of the key that the configuration names: another one there takes its place. */
const PRESET = "preset";

/**
 * Sees to an account `admin` with a key that may do everything. The token, when one was made now, and null when there is one
 * already or `preset` names it. Safe to call at every start.
 * @throws {WarrenError} `invalid_request` – `preset` is no key; `store_unavailable`
 */
export async function ensureAdmin(store: Store, preset: string | undefined, clock: Clock): Promise<string | null> {
  if (preset !== undefined && !isToken(preset))
    throw new WarrenError("invalid_request", "the preset key is not wrn_ and 43 characters of base64url");
  await ensureAccount(store, clock);
  if (preset !== undefined) {
    await replace(store, preset, clock);
    return null;
  }
  const keys = await store.keys(ADMIN);
  if (keys.some(({ scopes }) => scopes.includes("admin"))) return null;
  const asked = { label: "first key", scopes: ["admin"] } as const;
  return (await createKey(store, ADMIN, asked, { wallMs: clock.wallMs() })).token;
}

async function ensureAccount(store: Store, clock: Clock): Promise<void> {
  if ((await store.account(ADMIN)) !== null) return;
  try {
    await store.createAccount(newAccount({ id: ADMIN, name: "Administrator" }, {}, clock.wallMs()));
  } catch (cause) {
    if (!isWarrenError(cause, "already_exists")) throw cause; // another server that starts was faster
  }
}

async function replace(store: Store, preset: string, clock: Clock): Promise<void> {
  const known = await store.keyByHash(hashOf(preset));
  const { key } = newKey(preset, { label: PRESET, scopes: ["admin"] }, clock.wallMs());
  for (const { label, prefix } of await store.keys(ADMIN))
    if (label === PRESET && prefix !== key.prefix) await store.revokeKey(ADMIN, prefix);
  if (known === null) await store.createKey(ADMIN, key);
}
