/** Webhooks: a sandbox's events sent to a URL of the account's, signed, until they are taken. */
import { type Static, Type } from "@sinclair/typebox";
import type { Contract } from "../../route.ts";

const WebhookId = Type.String({ minLength: 1, maxLength: 64 });
const ById = Type.Object({ id: WebhookId }, { additionalProperties: false });
/** `sandbox.running`, `sandbox.deleted`, … or `*`. */
const EventType = Type.String({ pattern: "^(\\*|sandbox\\.[a-z]+)$" });

export const WebhookInfo = Type.Object({
  id: Type.String(),
  url: Type.String(),
  events: Type.Array(EventType),
  createdAt: Type.String(),
  /** Deliveries that wait for their next try, and when and how the last one ended. */
  waiting: Type.Integer(),
  lastAt: Type.Union([Type.String(), Type.Null()]),
  lastStatus: Type.Union([Type.Integer(), Type.Null()]),
});
export type WebhookInfo = Static<typeof WebhookInfo>;

export const webhookRoutes = {
  webhooks: {
    method: "GET",
    path: "/v1/webhooks",
    scope: "account:read",
    says: "List webhooks",
    input: Type.Object({}, { additionalProperties: false }),
    returns: Type.Object({ items: Type.Array(WebhookInfo) }),
    errors: [],
  },
  createWebhook: {
    method: "POST",
    path: "/v1/webhooks",
    scope: "account:write",
    status: 201,
    says: "Send events to a URL; the secret that signs them is shown this once",
    input: Type.Object(
      {
        url: Type.String({ pattern: "^https?://", maxLength: 2048 }),
        /** Default: all. */
        events: Type.Optional(Type.Array(EventType, { minItems: 1, maxItems: 16 })),
      },
      { additionalProperties: false },
    ),
    returns: Type.Composite([WebhookInfo, Type.Object({ secret: Type.String() })]),
    errors: ["invalid_request", "quota_exceeded"],
  },
  removeWebhook: {
    method: "DELETE",
    path: "/v1/webhooks/:id",
    scope: "account:write",
    says: "Stop a webhook; what waits is not delivered",
    input: ById,
    returns: "nothing",
    errors: ["not_found"],
  },
} as const satisfies Contract;
