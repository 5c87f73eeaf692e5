/**
 * Who may share a host. Under software emulation the jail around a VMM is the only boundary that is promised, so that
 * accounts which do not trust each other need the operator's word before they share one.
 */
import { ADMIN } from "../api/access/admin.ts";
import type { Store } from "../api/store.ts";
import { WarrenError } from "../errors.ts";

/** What an operator and `/healthz` are told. */
export const TCG_NOTE =
  "no KVM: guests are emulated (TCG), 10 to 20 times slower, and QEMU promises no isolation then: the jail around each VMM is the boundary";

/** Accounts beside the administrator's that may share a host without KVM. */
const ALONE = 1;

function refusal(says: string): WarrenError {
  return new WarrenError(
    "host_unsupported",
    `${says}: this host has no KVM, and under emulation QEMU promises no isolation between accounts. \`warren serve --allow-emulation\` takes the jail as the boundary`,
    { details: { flag: "--allow-emulation" } },
  );
}

/** @throws {WarrenError} `host_unsupported` – several accounts are there already */
export async function refuseSharing(store: Store, isEmulated: () => Promise<boolean>): Promise<void> {
  const others = (await store.accounts()).filter(({ id }) => id !== ADMIN);
  if (others.length > ALONE && (await isEmulated())) throw refusal(`there are ${others.length} accounts`);
}

/** The same store, in which no account is made that the host is not to be shared with. */
export function guarded(store: Store, isEmulated: () => Promise<boolean>): Store {
  const createAccount: Store["createAccount"] = async (account) => {
    const others = (await store.accounts()).filter(({ id }) => id !== ADMIN);
    if (account.id !== ADMIN && others.length >= ALONE && (await isEmulated())) {
      throw refusal(`account ${account.id} cannot be made beside ${others.map(({ id }) => id).join(", ")}`);
    }
    await store.createAccount(account);
  };
  return new Proxy(store, {
    get(target, name) {
      if (name === "createAccount") return createAccount;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
