/** What a report sums up, as bytes: asked of the store a page at a time, as fast as it is taken. */
import type { UsageEntry } from "../../../contract/routes/api/billing.ts";
import { csv } from "../../../report/formats/csv.ts";
import { entriesGrid } from "../../../report/formats/entries.ts";
import type { BillingStore, UsageRange } from "../../billing.ts";
import { BOUNDS } from "../../bounds.ts";

/** Text that is written together; a piece of a stream costs as much as some thousand characters. */
const PIECE_CHARS = 32_768;

const DAY_MS = 24 * 3600 * 1000;
/** Of a range in which little was used; a page of what is asked for costs as much as all of it. */
const DAYS_MAX = 32;

/**
 * What was used, by its beginning: a day of UTC at a time, as what is settled lies within one each, and more days at a time
 * where there is little.
 */
export async function* entriesOf(
  store: BillingStore,
  account: string,
  { fromMs, toMs }: UsageRange,
  nowMs: number,
): AsyncGenerator<UsageEntry> {
  const limit = BOUNDS.usagePageRows;
  let days = 1;
  for (let atMs = fromMs; atMs < toMs; ) {
    const endMs = Math.min(toMs, (Math.floor(atMs / DAY_MS) + days) * DAY_MS);
    let after: string | null = null;
    let pages = 0;
    do {
      const page: Awaited<ReturnType<BillingStore["usageEntries"]>> = await store.usageEntries(
        account,
        { fromMs: atMs, toMs: endMs, after, limit },
        nowMs,
      );
      yield* page.items;
      after = page.next;
      pages += 1;
    } while (after !== null);
    days = pages > 1 ? 1 : Math.min(DAYS_MAX, days * 2);
    atMs = endMs;
  }
}

async function* pieces(lines: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let text = "";
  for await (const line of lines) {
    text += line;
    if (text.length < PIECE_CHARS) continue;
    yield encoder.encode(text);
    text = "";
  }
  if (text !== "") yield encoder.encode(text);
}

async function* jsonLines(entries: AsyncIterable<UsageEntry>): AsyncGenerator<string> {
  for await (const entry of entries) yield `${JSON.stringify(entry)}\n`;
}

export function asLines(entries: AsyncIterable<UsageEntry>): AsyncIterable<Uint8Array> {
  return pieces(jsonLines(entries));
}

export function asCsv(entries: AsyncIterable<UsageEntry>): AsyncIterable<Uint8Array> {
  return pieces(csv(entriesGrid(entries)));
}
