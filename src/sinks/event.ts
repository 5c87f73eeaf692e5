/**
 * Usage as CloudEvents 1.0 in JSON (specification: cloudevents/spec, `json-format.md`). Pure: the same interval is the same
 * event whenever it is made, so whoever gets it twice can tell by `source` and `id`. Quantities are decimal text: a 64-bit
 * number is more than many readers of JSON hold.
 */
import type { UsageEvent } from "../api/billing.ts";

export interface CloudEvent {
  readonly specversion: "1.0";
  /** `warren.<meter>`: receivers count one type by one meter. */
  readonly type: string;
  readonly id: string;
  /** Where the interval begins: it ends at midnight (UTC) at the latest, which is another day's already. */
  readonly time: string;
  readonly source: string;
  readonly subject: string;
  readonly datacontenttype: "application/json";
  readonly data: Readonly<Record<string, string>>;
}

const SOURCE = "warren";

/** What receivers call a meter. */
export function codeOf(meter: string): string {
  return `warren_${meter}`;
}

export function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}

/** `subject` is who used it, as the receiver knows the account. */
export function cloudEventOf(event: UsageEvent, subject: string): CloudEvent {
  const { id, account, subject: used, meter, template, fromMs, toMs, quantity } = event;
  return {
    ...{ specversion: "1.0", type: `warren.${meter}`, id, time: isoOf(fromMs), source: SOURCE, subject },
    datacontenttype: "application/json",
    data: {
      ...{ account, subject: used, meter, quantity, from: isoOf(fromMs), to: isoOf(toMs) },
      ...(template === null ? {} : { template }),
    },
  };
}

/** The same id, or its SHA-256 in hex where it is longer than a receiver takes or has characters that it may not. */
export function idWithin(id: string, chars: number): string {
  if (id.length <= chars && /^[\x21-\x7e]+$/.test(id)) return id;
  return new Bun.CryptoHasher("sha256").update(id).digest("hex");
}
