/** Webhooks of an account: made, listed, removed. */
import type { Clock } from "../../../base/clock.ts";
import { nonce, randomBytes } from "../../../base/id.ts";
import { isWarrenError, WarrenError } from "../../../errors.ts";
import type { ApiSettings, RowCalls } from "../../parts.ts";
import type { Store } from "../../store.ts";
import { BOUNDS } from "../bounds.ts";
import { publicAddress, type Resolve, webhookUrl } from "./address.ts";
import { secretOf } from "./sign.ts";
import { within } from "./within.ts";

const SECRET_BYTES = 32;

export interface WebhookParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly settings: ApiSettings;
  readonly resolve: Resolve;
  /** The account has one now. */
  readonly made: (account: string) => void;
}

export function webhookRows(parts: WebhookParts): RowCalls<"webhooks" | "createWebhook" | "removeWebhook"> {
  const { store, clock, settings, resolve, made } = parts;
  return {
    webhooks: async ({ account }) => ({ items: await store.webhooks(account) }),
    createWebhook: async ({ account, signal }, input) => {
      if (!settings.webhooks) throw new WarrenError("invalid_request", "this server sends no webhooks");
      const url = webhookUrl(input.url);
      const look = (): Promise<string> => publicAddress(url, resolve, settings.webhooksToPrivate);
      await within(clock, BOUNDS.deliveryMs, signal, look).catch((cause: unknown) => {
        if (isWarrenError(cause)) throw cause;
        const says = "url: its name could not be resolved in time";
        throw new WarrenError("invalid_request", says, { details: { field: "url" }, cause });
      });
      const limit = BOUNDS.webhooksPerAccount;
      if ((await store.webhooks(account)).length >= limit) {
        const says = `the account has ${limit} webhooks, as many as it may: remove one first`;
        throw new WarrenError("quota_exceeded", says, { details: { limit } });
      }
      const secret = secretOf(randomBytes(SECRET_BYTES));
      const info = {
        id: `wh_${nonce()}`,
        url: url.href,
        events: [...new Set(input.events ?? ["*"])],
        createdAt: new Date(clock.wallMs()).toISOString(),
        waiting: 0,
        lastAt: null,
        lastStatus: null,
      };
      await store.createWebhook(account, info, secret);
      made(account);
      return { ...info, secret };
    },
    removeWebhook: async ({ account }, { id }) => {
      if (await store.removeWebhook(account, id)) return;
      throw new WarrenError("not_found", `there is no webhook ${id}`, { details: { id } });
    },
  };
}
