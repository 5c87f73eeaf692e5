/** Rules that a price alone does not tell, for the page that shows prices: what is charged, in which state, and how it is rounded. */
export const PRICING_NOTES: readonly string[] = [
  "A running sandbox is charged for its vCPUs and its memory, at the size that it was made with, by the millisecond: from the resume that first lets its guest run until its VMM ends. Waiting for a place, baking a template and creates that fail cost nothing.",
  "Paused it is charged for its memory alone, at the price of memory; hibernated for its image on disk; stopping, ended and failed for nothing.",
  "A fork's memory is charged at its nominal size: pages that it shares with its parent and siblings are charged once for each child.",
  "After a crash without a known end a sandbox is charged up to its last proof of life, never to when that was noticed.",
  "What is stored (images, snapshots, volumes, templates) is charged by the second, in MiB that have begun: bytes are rounded up to whole MiB.",
  "A meter without a price costs nothing.",
  "Prices are those of the day of UTC on which something was used; a day that has begun never changes its price. Months of invoices are of UTC too; days of usage reports are of the account's own time zone.",
  "Amounts are exact and are rounded once, for each line of an invoice: to the currency's smallest unit, halves away from zero. An invoice is the sum of its lines.",
  "Included amounts are used up in the order of days. A minimum and a cap are of a whole month, by the plan of its last day.",
  "What becomes known after a month's invoice is on the next one, at the price of its own day.",
];
