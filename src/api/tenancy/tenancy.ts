/**
 * The one place where a request meets an account: the engine as that account sees it, within its quota and credit, with what
 * a server decides for whoever does not say, and with what the store still knows of sandboxes that have ended.
 */
import { Mailbox } from "../../base/mailbox.ts";
import type { CallOptions } from "../../contract/route.ts";
import type { AccountInfo } from "../../contract/routes/api/accounts.ts";
import type { SandboxCreate, SandboxInfo } from "../../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import type { AppParts } from "../parts.ts";
import type { Idempotency, KnownKey } from "../store.ts";
import { Baking, type Size } from "./baking.ts";
import { booked, refusalOf } from "./booked.ts";
import { GivenBack } from "./given-back.ts";
import { Idempotents, idempotencyKeyOf, requestHashOf } from "./idempotency.ts";
import { storageCalls } from "./storage.ts";

/** Templates are everyone's. @throws {WarrenError} `forbidden` */
function refuseOthers({ scopes, prefix }: KnownKey, what: string): void {
  if (scopes.includes("admin")) return;
  const says = `templates are every account's: only an administrator ${what}, and ${prefix}… has not the scope admin`;
  throw new WarrenError("forbidden", says, { details: { scope: "admin" } });
}

/**
 * What the store would refuse whatever else the account has: before anything is baked for it. What is known of the account may be
 * half a minute old; the store has the last word.
 * @throws {WarrenError} `out_of_credit`, `quota_exceeded`
 */
function refuseHopeless({ creditUsd, quota }: Omit<AccountInfo, "id">, size: Size | null): void {
  if (creditUsd !== null && Number(creditUsd) <= 0) throw refusalOf({ kind: "no-credit", creditUsd });
  const asked = { sandboxes: 1, vcpus: size?.cpu ?? 0, memoryMb: size?.memoryMb ?? 0 };
  for (const name of ["sandboxes", "vcpus", "memoryMb"] as const) {
    const limit = quota[name];
    if (limit === null || asked[name] <= limit) continue;
    throw refusalOf({ kind: "over-quota", quota: name, limit, used: 0, asked: asked[name] });
  }
}

type TenancyParts = Pick<AppParts, "hostFor" | "store" | "clock" | "log" | "settings" | "templateSize">;

export class Tenancy {
  readonly #parts: TenancyParts;
  readonly #baking: Baking;
  readonly #idempotents = new Idempotents();
  readonly #givenBack: GivenBack;
  /** What takes room on disk, one at a time for each account, so that two do not share the same room. */
  readonly #storage = new Mailbox<string>();

  constructor(parts: TenancyParts) {
    this.#parts = parts;
    this.#baking = new Baking(parts);
    this.#givenBack = new GivenBack(parts);
  }

  /** What a request gets as its host. @throws {WarrenError} `invalid_request` – its Idempotency-Key */
  hostOf(key: KnownKey, request: Request): SandboxHost {
    const account = key.account.id;
    const host = this.#parts.hostFor(account);
    const idempotencyKey = idempotencyKeyOf(request);
    return {
      ...host,
      ...storageCalls(host, key.account, this.#storage),
      create: (input, options = {}) => this.#create(host, key.account, input, idempotencyKey, options),
      fork: async (input, options = {}) => {
        const { count = 1 } = input;
        return this.#several(host, account, count, options, (stop) => host.fork(input, stop));
      },
      forkTree: async (input, options = {}) => {
        const { count = 1 } = input;
        return this.#several(host, account, count, options, (stop) => host.forkTree(input, stop));
      },
      get: (input, options) =>
        this.#orEnded(
          account,
          input.id,
          () => host.get(input, options),
          (ended) => ended,
        ),
      close: (input, options) =>
        this.#orEnded(
          account,
          input.id,
          () => host.close(input, options),
          () => undefined,
        ),
      bake: async (input, options) => {
        if (input.force === true) refuseOthers(key, "builds them again");
        const size = this.#baking.sizeOf({ ...input, template: input.name });
        if (size !== null) await this.#baking.refuseMore(host, size);
        return host.bake(input, options);
      },
      promoteSnapshot: async (input, options) => {
        refuseOthers(key, "makes them of snapshots");
        await host.promoteSnapshot(input, options);
        this.#baking.forget();
      },
      removeTemplate: async (input, options) => {
        refuseOthers(key, "deletes them");
        await host.removeTemplate(input, options);
        this.#baking.forget();
      },
    };
  }

  /** What a create leaves open is this server's to say. */
  #filled(input: SandboxCreate): SandboxCreate {
    const { defaultTtlSeconds, persistentIdleSeconds } = this.#parts.settings;
    const isPersistent = input.idleAction === "hibernate";
    const needsIdle = input.idleAction !== undefined && input.idleSeconds === undefined;
    const needsTtl = input.ttlSeconds === undefined && !isPersistent && defaultTtlSeconds !== null;
    return {
      ...input,
      detached: input.detached ?? true,
      ...(needsIdle ? { idleSeconds: persistentIdleSeconds } : {}),
      ...(needsTtl ? { ttlSeconds: defaultTtlSeconds } : {}),
    };
  }

  async #create(
    host: SandboxHost,
    { id: account, ...may }: AccountInfo,
    input: SandboxCreate,
    key: string | null,
    { signal: gone }: CallOptions,
  ): Promise<SandboxInfo> {
    const { clock, settings } = this.#parts;
    const late = new AbortController();
    const says = `the sandbox could not be made within ${settings.createWaitMs / 1000} s: there is no room, or this host is slow`;
    const cancelTimer = clock.after(settings.createWaitMs, () => late.abort(new WarrenError("create_timeout", says)));
    const signal = gone === undefined ? late.signal : AbortSignal.any([gone, late.signal]);
    const make = (idempotency: Idempotency | null) => this.#made(host, account, input, idempotency, signal);
    refuseHopeless(may, this.#baking.sizeOf(input));
    try {
      if (key === null) return await make(null);
      const idempotency = { key, requestHash: requestHashOf(input) };
      const other = await this.#idempotents.other(account, idempotency);
      if (other !== null) return await this.#replayed(host, account, other);
      return await this.#idempotents.during(account, idempotency, () => make(idempotency));
    } finally {
      cancelTimer();
    }
  }

  async #made(
    host: SandboxHost,
    account: string,
    input: SandboxCreate,
    idempotency: Idempotency | null,
    signal: AbortSignal,
  ): Promise<SandboxInfo> {
    const { store, clock } = this.#parts;
    const size = input.snapshot === undefined ? this.#baking.sizeOf(input) : null;
    if (size !== null) await this.#baking.ready(host, size, signal);
    const made = await booked({
      ...{ store, clock, givenBack: this.#givenBack, host, account, idempotency, signal },
      count: 1,
      make: (options) => host.create(this.#filled(input), options),
      idsOf: ({ id }) => [id],
    });
    return made.kind === "made" ? made.value : this.#replayed(host, account, made.sandbox);
  }

  /** What was made before, as it is now. */
  #replayed(host: SandboxHost, account: string, id: string): Promise<SandboxInfo> {
    return this.#orEnded(
      account,
      id,
      () => host.get({ id }),
      (ended) => ended,
    );
  }

  async #several<T extends { readonly children: readonly SandboxInfo[] }>(
    host: SandboxHost,
    account: string,
    count: number,
    { signal = new AbortController().signal }: CallOptions,
    make: (options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const { store, clock } = this.#parts;
    const made = await booked({
      ...{ store, clock, givenBack: this.#givenBack, host, account, count, signal, make },
      idempotency: null,
      idsOf: ({ children }) => children.map(({ id }) => id),
    });
    if (made.kind === "made") return made.value;
    throw new WarrenError("internal", "a fork was answered as a replay");
  }

  /** One that the engine has forgotten may have ended long ago. */
  async #orEnded<T>(account: string, id: string, call: () => Promise<T>, ended: (info: SandboxInfo) => T): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      if (!isWarrenError(cause, "not_found")) throw cause;
      const info = await this.#parts.store.endedSandbox(account, id);
      if (info === null) throw cause;
      return ended(info);
    }
  }
}
