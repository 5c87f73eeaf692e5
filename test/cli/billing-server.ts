/** Verbs about billing over a server that keeps no books: the same answers each time, and a list of what was asked. */
import { systemClock } from "../../src/base/clock.ts";
import { connectedTo } from "../../src/cli/ground/connected.ts";
import type {
  Difference,
  Invoice,
  PriceList,
  Pricing,
  SandboxUsage,
  UsageEntry,
  UsageReport,
} from "../../src/contract/routes/api/billing.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { ApiHost } from "../../src/contract/table.ts";
import type { WarrenError } from "../../src/errors.ts";
import { StubHost } from "../batch/stub-host.ts";
import { FakeIo } from "./fake-io.ts";

export const REPORT: UsageReport = {
  ...{ from: "2026-10-31T18:30:00.000Z", to: "2026-11-02T18:30:00.000Z", timeZone: "Asia/Kolkata", currency: "USD" },
  groupBy: ["day", "metadata.team"],
  rows: [
    { group: { day: "2026-11-01", "metadata.team": "=web\x1b[2J" }, meters: { vcpu_ms: "3600000" }, amount: "0.036" },
    { group: { day: "2026-11-02", "metadata.team": null }, meters: { vcpu_ms: "7200000" }, amount: "0.0720000001" },
  ],
  meters: { vcpu_ms: "10800000" },
  total: "0.1080000001",
  seenUntil: "2026-11-02T18:29:30.000Z",
};
export const ENTRIES: readonly UsageEntry[] = [1, 2, 3].map((n) => ({
  ...{ subject: `sb_${n}`, template: n === 3 ? null : "base", meter: "vcpu_ms", currency: "USD", open: n === 3 },
  ...{ from: `2026-11-0${n}T00:00:00.000Z`, to: `2026-11-0${n}T01:00:00.000Z`, quantity: "3600000", amount: "0.036" },
}));
const PRICING: Pricing = {
  ...{ list: "default", currency: "USD", notes: ["A fork's memory is charged once for each child."] },
  prices: [
    {
      ...{ meter: "vcpu_ms", unit: "vCPU-second", price: "0.000010", fromDay: "0001-01-01" },
      describes: "vCPUs of running sandboxes",
    },
  ],
  plan: { id: "team", list: "default", minimum: "20", cap: null, included: { egress_bytes: "1073741824" } },
};
const INVOICE: Invoice = {
  ...{ id: "2026-10-0001", account: "acme", month: "2026-10", currency: "USD", plan: "team", total: "20.00" },
  issuedAt: "2026-11-01T00:11:00.000Z",
  billTo: { name: "Acme\x1b[2J Ltd", address: ["1 Main St"], taxId: null },
  lines: [
    {
      ...{ kind: "usage", meter: "vcpu_ms", describes: "vCPUs of running sandboxes", quantity: "3600" },
      ...{ unit: "vCPU-second", price: "0.000010", amount: "0.04" },
    },
    {
      ...{ kind: "minimum", meter: null, describes: "Minimum of plan team", quantity: null, unit: null, price: null },
      amount: "19.96",
    },
  ],
};
export const LIST: PriceList = { id: "acme-2027", currency: "EUR", account: "acme", prices: PRICING.prices };
const ME = {
  account: { id: "acme", creditUsd: "12.5" },
  key: { prefix: "wrn_abcd", label: "ci", scopes: [] },
  usage: { sandboxes: 2, vcpus: 4, memoryMb: 1024 },
};
const USED: SandboxUsage = {
  ...{ sandbox: "sb_1", from: "2026-11-01T00:00:00.000Z", to: null, open: true, currency: "USD" },
  ...{ meters: { vcpu_ms: "5000", creates: "1" }, amount: "0.00005" },
};
const SINK = { id: "meter", kind: "openmeter", account: null, url: "https://o.test/", waiting: 3, lastError: null };

export class BillingServer {
  readonly asked: [string, unknown][] = [];
  failing: Readonly<Record<string, WarrenError>> = {};
  differences: Difference[] = [];

  get client(): SandboxHost & ApiHost {
    const entries = async function* (format: unknown) {
      const lines = ENTRIES.map((entry) => (format === "csv" ? `${entry.subject}\r\n` : `${JSON.stringify(entry)}\n`));
      // Cut anywhere, as a network does.
      const bytes = new TextEncoder().encode(lines.join(""));
      for (let at = 0; at < bytes.length; at += 97) yield bytes.slice(at, at + 97);
    };
    const answers: Readonly<Record<string, (input: { format?: unknown }) => unknown>> = {
      me: () => ME,
      usage: () => REPORT,
      sandboxUsage: () => USED,
      usageEntries: ({ format }) => entries(format),
      pricing: () => PRICING,
      priceLists: () => ({ items: [LIST] }),
      setPrices: () => LIST,
      setPlan: () => PRICING.plan,
      subscribe: () => undefined,
      invoices: () => ({ items: [{ ...INVOICE, id: "draft-2026-11", issuedAt: null, total: "1234.5" }, INVOICE] }),
      invoice: () => INVOICE,
      invoicePdf: async function* () {
        yield new TextEncoder().encode("%PDF-1.7");
      },
      settleBooks: () => ({ cut: 1, charged: 20, closed: 3, issued: 4 }),
      reconcileBooks: () => ({ sandboxes: 7, differences: this.differences }),
      correct: () => ({ entries: ["8", "9"] }),
      sinks: () => ({ items: [SINK] }),
      createSink: () => SINK,
      removeSink: () => undefined,
    };
    const calls = Object.entries(answers).map(([name, answer]) => [
      name,
      async (input: { format?: unknown }) => {
        this.asked.push([name, input]);
        const failure = this.failing[name];
        if (failure !== undefined) throw failure;
        return answer(input);
      },
    ]);
    return { ...new StubHost().host, ...Object.fromEntries(calls) } as unknown as SandboxHost & ApiHost;
  }

  /** One command line; what it printed, and its exit code. */
  async run(line: readonly string[], options: { readonly isTty?: boolean; readonly stdin?: string } = {}) {
    const io = new FakeIo({
      ...options,
      ground: {
        target: async () => ({ url: "https://a.test", key: "k" }),
        connect: async () => connectedTo(this.client, systemClock, async () => undefined),
      },
    });
    const code = await io.run("billing", ...line);
    return { code, out: io.text("out"), err: io.text("err"), bytes: io.bytes("out") };
  }
}
