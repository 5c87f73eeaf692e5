/** Reports and invoices that the tests of this folder share. */
import type { Invoice, InvoiceLine, UsageReport } from "../../src/contract/routes/api/billing.ts";
import type { Terms } from "../../src/report/invoice/head.ts";

const row = (day: string, team: string | null, vcpu: string, amount: string) => ({
  group: { day, "metadata.team": team },
  meters: { vcpu_ms: vcpu, memory_mib_ms: "9999999999" },
  amount,
});

/** Three days in Berlin, one of them with 23 hours, and a correction. */
export const usage: UsageReport = {
  from: "2026-03-27T23:00:00Z",
  to: "2026-03-30T22:00:00Z",
  timeZone: "Europe/Berlin",
  currency: "USD",
  groupBy: ["day", "metadata.team"],
  rows: [
    row("2026-03-28", "ingest", "3600000", "0.036123456789"),
    row("2026-03-29", '日本, "語"', "36000000", "12.36"),
    row("2026-03-30", null, "1", "-4.5"),
  ],
  meters: { vcpu_ms: "39600001", memory_mib_ms: "29999999997" },
  total: "7.896123456789",
  seenUntil: "2026-03-30T22:00:00Z",
};

export const TERMS: Terms = {
  seller: {
    name: "Warren Sandboxes GmbH",
    address: ["Musterstraße 12", "10115 Berlin"],
    taxId: "DE123456789",
    payment: ["By bank transfer within 30 days: IBAN DE00 0000 0000 0000 0000 00."],
  },
};

const DESCRIBES = [
  "vCPUs of running sandboxes",
  "Memory of running sandboxes: pages that a fork shares are charged once per child",
];

function usageLine(i: number): InvoiceLine {
  const [unit = "", price = ""] = [
    ["vCPU-second", "0.00001"],
    ["GiB-second", "0.000004"],
  ][i % 2] as string[];
  const describes = DESCRIBES[i % 2] ?? "";
  return { kind: "usage", meter: "vcpu_ms", describes, quantity: `${1234567 + i}.125`, unit, price, amount: "12.35" };
}

/** An issued invoice with so many lines of usage of 12.35 each, an included amount and a correction; name and address as given. */
export function invoice(count: number, billTo: Partial<Invoice["billTo"]> = {}): Invoice {
  const cents = count * 1235 - 550;
  const total = `${cents < 0 ? "-" : ""}${Math.floor(Math.abs(cents) / 100)}.${String(Math.abs(cents) % 100).padStart(2, "0")}`;
  const none = { meter: null, quantity: null, unit: null, price: null } as const;
  return {
    ...{ id: "2026-10-0007", account: "acme", month: "2026-10", currency: "USD", plan: "team", total },
    issuedAt: "2026-11-01T00:03:00.000Z",
    billTo: { name: "Acme Ltd", address: ["1 High Street", "London"], taxId: "GB123", ...billTo },
    lines: [
      ...Array.from({ length: count }, (_, i) => usageLine(i)),
      { ...none, kind: "included", describes: "Included in plan team", amount: "-1.00" },
      { ...none, kind: "correction", describes: "Outage on 14 September (entry 4711)", amount: "-4.50" },
    ],
  };
}
