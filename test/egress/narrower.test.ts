/** Whether one policy is within another: by example, and as a property over what a child could try. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseAddress } from "../../src/base/address.ts";
import type { Egress, Secret } from "../../src/contract/routes/network.ts";
import { narrower, type Policy, parsePolicy, permits, permitsAddress } from "../../src/egress/policy.ts";

const list = (...allow: string[]): Egress => ({ mode: "allowlist", allow });
const why = (child: Egress, parent: Egress) => narrower(parsePolicy(child, []), parsePolicy(parent, []));

/** Child, parent: within. */
const WITHIN: readonly (readonly [Egress, Egress])[] = [
  [{ mode: "none" }, { mode: "none" }],
  [{ mode: "none" }, list("a.example")],
  [list("a.example"), { mode: "open" }],
  [{ mode: "open" }, { mode: "open" }],
  [list(), list()],
  [list("a.example"), list("a.example")],
  [list("a.example:443"), list("a.example")],
  [list("x.a.example"), list("*.a.example")],
  [list("*.x.a.example"), list("*.a.example")],
  [list("a.example:80-90"), list("a.example:80-84", "a.example:85", "*.a.example", "a.example:86-100")],
  [list("x.a.example:80-90"), list("x.a.example:80-84", "*.a.example:85-100")],
  [list("8.8.8.0/24"), list("8.8.8.0/25", "8.8.8.128/25")],
  [list("8.8.8.0/24:53"), list("8.8.8.0/25:50-60", "8.8.8.128/25")],
  [list("8.8.8.0/24:53-54"), list("8.8.8.0/24:53", "8.8.8.0/25:54", "8.8.8.128/25:54")],
  [list("[2606:4700::/33]:443"), list("2606:4700::/32")],
  [{ mode: "open", mbps: 1 }, { mode: "open" }],
  [
    { mode: "open", mbps: 1, connections: 3 },
    { mode: "open", mbps: 2, connections: 3 },
  ],
  [
    { mode: "open", inspect: true },
    { mode: "open", inspect: true },
  ],
  [{ mode: "open", inspect: true }, { mode: "open" }],
  [{ mode: "none" }, { mode: "open", inspect: true }],
];

const BEYOND: readonly (readonly [Egress, Egress, string])[] = [
  [{ mode: "open" }, { mode: "none" }, "egress.mode"],
  [list(), { mode: "none" }, "egress.mode"],
  [{ mode: "open" }, list("0.0.0.0/0", "::/0"), "egress.mode"],
  [list("b.example"), list("a.example"), "b.example"],
  [list("a.example", "b.example"), list("a.example"), "b.example"],
  [list("a.example"), list("a.example:443"), "a.example"],
  [list("a.example"), list("a.example:1-65535"), "a.example"], // all is more: what has no ports
  [list("a.example:80-90"), list("a.example:80-84", "a.example:86-90"), "a.example:80-90"],
  [list("a.example"), list("*.a.example"), "a.example"],
  [list("*.a.example"), list("a.example", "x.a.example"), "*.a.example"],
  [list("*.a.example"), list("*.x.a.example"), "*.a.example"],
  [list("xa.example"), list("*.a.example"), "xa.example"],
  [list("8.8.8.8"), list("dns.example"), "8.8.8.8"],
  [list("8.8.8.0/24"), list("8.8.8.0/25"), "8.8.8.0/24"],
  [list("8.8.8.0/24:53-54"), list("8.8.8.0/24:53", "8.8.8.0/25:54"), "8.8.8.0/24:53-54"],
  [list("2606:4700::/31"), list("2606:4700::/32"), "2606:4700::/31"],
  [{ mode: "open" }, { mode: "open", mbps: 5 }, "egress.mbps"],
  [{ mode: "open", mbps: 6 }, { mode: "open", mbps: 5 }, "egress.mbps"],
  [{ mode: "open" }, { mode: "open", connections: 5 }, "egress.connections"],
  [{ mode: "open", newConnectionsPerSecond: 6 }, { mode: "open", newConnectionsPerSecond: 5 }, "PerSecond"],
  [{ mode: "open" }, { mode: "open", inspect: true }, "egress.inspect"],
  [list("a.example"), { mode: "open", inspect: true }, "egress.inspect"],
];

describe("narrower", () => {
  for (const [child, parent] of WITHIN)
    test(`${JSON.stringify(child)} is within ${JSON.stringify(parent)}`, () => {
      expect(why(child, parent)).toBeNull();
    });
  for (const [child, parent, says] of BEYOND)
    test(`${JSON.stringify(child)} is not within ${JSON.stringify(parent)}`, () => {
      expect(why(child, parent)).toContain(says);
    });

  test("a child has its parent's secrets or some of them, with their values", () => {
    const secret = (host: string, value: string): Secret => ({ host, header: "X-Key", value });
    const open = (...secrets: Secret[]) => parsePolicy({ mode: "open" }, secrets);
    const parent = open(secret("a.example", "1"), secret("b.example", "2"));
    expect(narrower(open(), parent)).toBeNull();
    expect(narrower(open({ ...secret("A.example", "1"), header: "x-key" }), parent)).toBeNull();
    expect(narrower(open(secret("b.example", "1hush")), parent)).toBe(
      "secrets: its parent has not this X-Key for b.example",
    );
    expect(narrower(open(secret("c.example", "1")), parent)).toContain("c.example");
  });
});

const NAMES = ["a.x", "b.x", "z.a.x", "y.z.a.x", "aa.x", "a.y"];
const ADDRESSES = ["8.8.8.0", "8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.7", "8.8.9.0", "2606::", "2606::1", "2606::5"];
const PORTS = [1, 2, 3, 4, 5, 6];
const RANGES = ["8.8.8.0", "8.8.8.1", "8.8.8.2/31", "8.8.8.0/31", "8.8.8.0/30", "8.8.8.0/29", "8.8.8.0/23"];
const RANGES6 = ["[2606::]", "[2606::/127]", "[2606::4/126]", "[2606::/125]"];

const entry = fc
  .tuple(
    fc.constantFrom(...NAMES, ...NAMES.slice(0, 4).map((name) => `*.${name}`), ...RANGES, ...RANGES6),
    fc.option(fc.tuple(fc.constantFrom(...PORTS), fc.nat(2))),
  )
  .map(([host, ports]) => (ports === null ? host : `${host}:${ports[0]}-${ports[0] + ports[1]}`));
const policies = (entries: number) =>
  fc
    .record({
      mode: fc.constantFrom("allowlist", "allowlist", "allowlist", "open", "none"),
      allow: fc.array(entry, { minLength: entries / 2, maxLength: entries }),
      mbps: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined, freq: 1 }),
      inspect: fc.nat(7).map((n) => n === 0),
    })
    .map(({ mode, allow, mbps, inspect }) => {
      const egress = { mode, inspect, ...(mbps !== undefined && { mbps }), ...(mode === "allowlist" && { allow }) };
      return parsePolicy(egress as Egress, []);
    });

/** Every name, address and port that a child could try; without a port for what has none. */
function allowed(policy: Policy): Set<string> {
  const found = new Set<string>();
  for (const port of [...PORTS, 7, 8, 443]) {
    for (const name of NAMES) if (permits(policy, name, port)) found.add(`${name}:${port}`);
    for (const text of ADDRESSES) if (permitsAddress(policy, parseAddress(text)!, port)) found.add(`${text}:${port}`);
  }
  return found;
}

/** Counts in `met` how often policies that differ were within each other, so that the property is not held by nothing. */
function holds(judge: typeof narrower, met: { within: number; beyond: number }, runs: number): void {
  fc.assert(
    fc.property(policies(2), policies(24), (child, parent) => {
      const [mine, theirs] = [allowed(child), allowed(parent)];
      if (judge(child, parent) !== null) {
        met.beyond++;
        return;
      }
      if (mine.size > 0 && child.mode === "allowlist" && parent.mode === "allowlist") met.within++;
      for (const probe of mine) if (!theirs.has(probe)) throw new Error(`its parent does not allow ${probe}`);
    }),
    { numRuns: runs, seed: 7 },
  );
}

test("A child that is within its parent may reach nothing that its parent may not", () => {
  const met = { within: 0, beyond: 0 };
  holds(narrower, met, 5000);

  expect(met.within).toBeGreaterThan(200);
  expect(met.beyond).toBeGreaterThan(1000);
}, 60_000);

test("A child that lists what its parent lists is within it, and so is one of a part", () => {
  fc.assert(
    fc.property(policies(8), fc.nat(), (parent, cut) => {
      const child = { ...parent, names: parent.names.slice(cut % 3), ranges: parent.ranges.slice(cut % 2) };
      expect(narrower(child, parent)).toBeNull();
    }),
    { numRuns: 2000, seed: 7 },
  );
});

describe("The property fails for a judge that", () => {
  const without = (policy: Policy, part: "names" | "ranges"): Policy => ({
    ...policy,
    [part]: policy[part].map((one) => ({ ...one, ports: null })),
  });
  const BROKEN: Readonly<Record<string, typeof narrower>> = {
    "does not look at ports of names": (child, parent) => narrower(child, without(parent, "names")),
    "does not look at ports of ranges": (child, parent) => narrower(child, without(parent, "ranges")),
    "takes a wildcard for its name too": (child, parent) => {
      const more = parent.names.filter(({ wildcard }) => wildcard).map((one) => ({ ...one, wildcard: false }));
      return narrower(child, { ...parent, names: [...parent.names, ...more] });
    },
    "takes a name for all below it": (child, parent) =>
      narrower(child, { ...parent, names: parent.names.flatMap((one) => [one, { ...one, wildcard: true }]) }),
    "looks at the ends of ranges only": (child, parent) => {
      const firsts = child.ranges.map((one) => ({ ...one, range: { ...one.range, last: one.range.first } }));
      return narrower({ ...child, ranges: firsts }, parent);
    },
  };
  for (const [fault, judge] of Object.entries(BROKEN))
    test(fault, () => {
      expect(() => holds(judge, { within: 0, beyond: 0 }, 10_000)).toThrow("Property failed");
    }, 60_000);
});
