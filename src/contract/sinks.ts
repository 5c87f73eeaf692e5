/** What each kind of receiver of usage needs to be told, so that nothing is made whose every event would be refused. Pure. */
import { WarrenError } from "../errors.ts";
import type { SinkInfo } from "./routes/api/billing.ts";

export interface WantedSink {
  readonly kind: SinkInfo["kind"];
  /** Null: of every account. */
  readonly account: string | null;
  readonly token: string | null;
  /** Account → how the receiver knows it. Lago and Stripe get the usage of those that it names alone. */
  readonly customers: Readonly<Record<string, string>>;
}

interface Needs {
  /** What a token looks like; `needed` false: there may be none. */
  readonly token: { readonly looks: RegExp; readonly says: string; readonly needed: boolean };
  readonly customers: { readonly looks: RegExp; readonly says: string; readonly use: "needed" | "allowed" | "none" };
}

/** Printable, as a header takes it. */
const BEARER = /^[\x21-\x7e]{1,1024}$/;
const NAMED = /^[\x20-\x7e]{1,255}$/;

const NEEDS: Readonly<Record<SinkInfo["kind"], Needs>> = {
  webhook: {
    // Standard Webhooks: 24 to 64 bytes.
    token: {
      looks: /^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/,
      says: "the secret that signs events: whsec_ and 24 to 64 bytes as base64",
      needed: true,
    },
    customers: { looks: NAMED, says: "", use: "none" },
  },
  openmeter: {
    token: { looks: BEARER, says: "an API token; one's own installation may need none", needed: false },
    customers: { looks: NAMED, says: "account → subject", use: "allowed" },
  },
  lago: {
    token: { looks: BEARER, says: "an API key", needed: true },
    customers: { looks: NAMED, says: "account → external_subscription_id", use: "needed" },
  },
  stripe: {
    token: { looks: /^[rs]k_[\x21-\x7e]{1,512}$/, says: "a secret or restricted key, sk_… or rk_…", needed: true },
    customers: { looks: /^cus_\w{1,200}$/, says: "account → customer, cus_…", use: "needed" },
  },
};

/** @throws {WarrenError} `invalid_request` – something is missing, or not what this receiver takes; it names the field */
export function checkSink({ kind, account, token, customers }: WantedSink): void {
  const needs = NEEDS[kind];
  if (token === null ? needs.token.needed : !needs.token.looks.test(token))
    throw refused("token", `a sink of kind ${kind} takes ${needs.token.says}`);
  const { use, looks, says } = needs.customers;
  const named = Object.entries(customers);
  if (use === "none" && named.length > 0) throw refused("customers", `a sink of kind ${kind} has none`);
  if (use === "needed" && named.length === 0)
    throw refused("customers", `a sink of kind ${kind} needs ${says}: it gets the usage of the accounts named there`);
  for (const [of, as] of named)
    if (!looks.test(as)) throw refused("customers", `${JSON.stringify(of)}: a sink of kind ${kind} takes ${says}`);
  if (account === null || named.length === 0) return;
  if (!Object.hasOwn(customers, account))
    throw refused("customers", `it does not name ${account}, the only account of this sink`);
}

function refused(field: string, says: string): WarrenError {
  return new WarrenError("invalid_request", `${field}: ${says}`, { details: { field } });
}
