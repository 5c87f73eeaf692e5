/** Webhooks of an account: made, listed, removed. */
import { nonce, randomBytes } from "../../../base/id.ts";
import { WarrenError } from "../../../errors.ts";
import type { RowCalls } from "../../parts.ts";
import type { Store } from "../../store.ts";
import { BOUNDS } from "../bounds.ts";
import { type ReachParts, reachableUrl } from "./reach.ts";
import { secretOf } from "./sign.ts";

const SECRET_BYTES = 32;

export interface WebhookParts extends ReachParts {
  readonly store: Store;
  /** The account has one now. */
  readonly made: (account: string) => void;
}

export function webhookRows(parts: WebhookParts): RowCalls<"webhooks" | "createWebhook" | "removeWebhook"> {
  const { store, clock, settings, made } = parts;
  return {
    webhooks: async ({ account }) => ({ items: await store.webhooks(account) }),
    createWebhook: async ({ account, signal }, input) => {
      if (!settings.webhooks) throw new WarrenError("invalid_request", "this server sends no webhooks");
      const url = await reachableUrl(input.url, parts, signal);
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
