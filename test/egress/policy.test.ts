/** Policies: what entries mean, what is refused with which words, how they are shown, and secrets. */
import { describe, expect, test } from "bun:test";
import { parseAddress, parseRange } from "../../src/base/address.ts";
import type { Egress, Secret } from "../../src/contract/routes/network.ts";
import {
  egressOf,
  parsePolicy,
  permits,
  permitsAddress,
  portsOf,
  rulesOf,
  wantsProxy,
} from "../../src/egress/policy.ts";
import { isWarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";

const allow = (...entries: string[]) => parsePolicy({ mode: "allowlist", allow: entries }, []);
const address = (text: string) => parseAddress(text)!;
const range = (text: string) => parseRange(text)!;

function refusal(input: Egress, secrets: readonly Secret[] = []): string {
  try {
    parsePolicy(input, secrets);
  } catch (error) {
    if (isWarrenError(error, "invalid_request")) return error.message;
    throw error;
  }
  throw new Error(`taken: ${JSON.stringify(input)}`);
}

const SHOWN: Readonly<Record<string, string>> = {
  "example.com": "example.com",
  "Example.COM.": "example.com",
  "*.Example.com": "*.example.com",
  "example.com:443": "example.com:443",
  "example.com:443-443": "example.com:443",
  "example.com:1-65535": "example.com:1-65535",
  "_acme-challenge.my_bucket.s3.example.com": "_acme-challenge.my_bucket.s3.example.com",
  "xn--bcher-kva.example": "xn--bcher-kva.example",
  "8.8.8.8": "8.8.8.8",
  "8.8.8.8/32:53": "8.8.8.8:53",
  "8.8.8.0/23:80-90": "8.8.8.0/23:80-90",
  "0.0.0.0/0": "0.0.0.0/0",
  "2606:4700::/32": "2606:4700::/32",
  "2606:4700:0:0::1": "2606:4700::1",
  "[2606:4700::1]": "2606:4700::1",
  "[2606:4700::1]:443": "[2606:4700::1]:443",
  "[2606:4700::/32]:443-444": "[2606:4700::/32]:443-444",
  "[2606:4700::]/32": "2606:4700::/32",
  "[2606:4700::]/32:443": "[2606:4700::/32]:443",
};

describe("parsePolicy takes", () => {
  for (const [text, shown] of Object.entries(SHOWN)) {
    test(`${text} as ${shown}, which reads back as the same`, () => {
      const policy = allow(text);
      expect(egressOf(policy)).toEqual({ mode: "allowlist", allow: [shown] });
      expect(parsePolicy(egressOf(policy), [])).toEqual(policy);
    });
  }

  test("duplicates, as one", () => {
    expect(egressOf(allow("a.example", "A.example.", "a.example:80", "8.8.8.8", "8.8.8.8/32")).allow).toEqual([
      "a.example",
      "a.example:80",
      "8.8.8.8",
    ]);
  });

  test("an allowlist without a list, which lets nothing out", () => {
    const policy = parsePolicy({ mode: "allowlist" }, []);
    expect(permits(policy, "example.com")).toBe(false);
    expect(permitsAddress(policy, address("8.8.8.8"))).toBe(false);
  });

  test("a name of 253 characters and none of 254", () => {
    const label = "a".repeat(63);
    const longest = `${label}.${label}.${label}.${"a".repeat(61)}`;
    expect(longest).toHaveLength(253);
    expect(permits(allow(longest), longest)).toBe(true);
    expect(refusal({ mode: "allowlist", allow: [`${longest}a`] })).toContain("254 characters");
  });
});

const REFUSED: Readonly<Record<string, string>> = {
  "*": "mode open",
  "*.com": "whole top-level domain",
  "a.*.example": "* in another place",
  "**.example.com": "* in another place",
  "": "is no name",
  ".": "is no name",
  "a..example": "is no name",
  ".example.com": "is no name",
  "example.com..": "is no name",
  "-a.example": "is no name",
  "a-.example": "is no name",
  "a b.example": "is no name",
  "a.example\n": "is no name",
  "a.exam\u0000ple": "is no name",
  " a.example": "is no name",
  localhost: "one label",
  "foo.localhost": "no name of the public DNS",
  "printer.local": "no name of the public DNS",
  "1.0.0.10.in-addr.arpa": "no name of the public DNS",
  "bücher.example": "xn--bcher-kva.example",
  "日本.example": "xn--wgv71a.example",
  "ex\u00adample.com": "example.com",
  [`${"a".repeat(64)}.example`]: "more than 63",
  "2130706433": "ends in a number",
  "0x7f.1": "ends in a number",
  "0x7f000001": "ends in a number",
  "a.0x7f": "ends in a number",
  "017700000001": "ends in a number",
  "127.1": "ends in a number",
  "1.2.3.4.5": "ends in a number",
  "010.8.8.8": "ends in a number",
  "8.8.8.8.": "ends in a number",
  "256.8.8.8": "ends in a number",
  "a.example:0": 'port "0"',
  "a.example:70000": 'port "70000"',
  "a.example:65536": 'port "65536"',
  "a.example:": 'port ""',
  "a.example:080": 'port "080"',
  "a.example:+80": 'port "+80"',
  "a.example:http": 'port "http"',
  "a.example:80-": 'port "80-"',
  "a.example:80-90-99": 'port "80-90-99"',
  "a.example:90-80": "first is above the last",
  "a.example:80:90": "no IPv6 address",
  "8.8.9.0/23": "the range is 8.8.8.0/23",
  "2606:4700::1/32": "the range is 2606:4700::/32",
  "[2606:4700::1/32]:443": "the range is 2606:4700::/32",
  "8.8.8.8/33": "prefix of 0 to 32",
  "8.8.8.8/": "prefix of 0 to 32",
  "8.8.8.8/08": "prefix of 0 to 32",
  "8.8.8.0/24/24": "prefix of 0 to 32",
  "2606:4700::/129": "prefix of 0 to 128",
  "2606:4700::1%eth0": "no IPv6 address",
  "[2606:4700::/32]/32": "prefix of 0 to 128",
  "[2606:4700::1]/32:443": "the range is 2606:4700::/32",
  "[8.8.8.0]/24": "no IPv6 address in its brackets",
  "[8.8.8.8]:443": "no IPv6 address in its brackets",
  "[2606:4700::1": "no IPv6 address",
  "[2606:4700::1]443": "no IPv6 address",
  "https://example.com/": "is a URL",
  "example.com/path": "neither a name nor a range",
  "10.0.0.0/8": "not public",
  "127.0.0.1": "not public",
  "169.254.169.254:80": "not public",
  "192.168.1.1": "not public",
  "::1": "not public",
  "fd00::/8": "not public",
  "::ffff:8.8.8.8": "write it as IPv4",
  "[::ffff:10.0.0.1]:80": "write it as IPv4",
};

describe("parsePolicy refuses", () => {
  for (const [text, why] of Object.entries(REFUSED)) {
    test(`${JSON.stringify(text)}: ${why}`, () => {
      const says = refusal({ mode: "allowlist", allow: ["a.example", "b.example", "c.example", text] });
      expect(says).toStartWith("egress.allow[3]: got ");
      expect(says).toContain(why);
    });
  }

  test("a list in another mode", () => {
    expect(refusal({ mode: "open", allow: ["a.example"] })).toContain("egress.allow: only with mode allowlist");
    expect(refusal({ mode: "none", allow: [] })).toContain("egress.allow: only with mode allowlist");
  });

  test("a range that is not public, unless all of it is exempt", () => {
    const input: Egress = { mode: "allowlist", allow: ["10.1.0.0/16"] };
    expect(parsePolicy(input, [], [range("10.0.0.0/8")]).ranges).toHaveLength(1);
    expect(parsePolicy(input, [], [range("10.1.0.0/17"), range("10.1.128.0/17")]).ranges).toHaveLength(1);
    expect(() => parsePolicy(input, [], [range("10.1.0.0/17")])).toThrow("not public");
  });
});

describe("permits", () => {
  test("a name means itself, a wildcard all below and not itself", () => {
    const policy = allow("a.example", "*.b.example");
    for (const name of ["a.example", "x.b.example", "x.y.b.example"]) expect(permits(policy, name)).toBe(true);
    for (const name of ["x.a.example", "b.example", "xb.example", "ab.example", "a.example.com", "example"])
      expect(permits(policy, name)).toBe(false);
  });

  test("ports are those of all entries that match", () => {
    const policy = allow("a.example:443", "*.example.com:80-90", "x.example.com:91", "x.example.com:443");
    expect(portsOf(policy, "a.example")).toEqual([{ from: 443, to: 443 }]);
    expect(portsOf(policy, "x.example.com")).toEqual([
      { from: 80, to: 91 },
      { from: 443, to: 443 },
    ]);
    expect(portsOf(policy, "y.example.com")).toEqual([{ from: 80, to: 90 }]);
    expect(portsOf(policy, "example.com")).toBeNull();
    expect(permits(policy, "a.example", 80)).toBe(false);
    expect(permits(policy, "a.example", 443)).toBe(true);
    expect(portsOf(allow("a.example", "a.example:80"), "a.example")).toBe("all");
  });

  test("a range is of addresses, never of names", () => {
    const policy = allow("8.8.8.0/24:53", "[2606:4700::/32]:443");
    expect(permitsAddress(policy, address("8.8.8.8"), 53)).toBe(true);
    expect(permitsAddress(policy, address("8.8.8.8"), 54)).toBe(false);
    expect(permitsAddress(policy, address("8.8.9.8"), 53)).toBe(false);
    expect(permitsAddress(policy, address("2606:4700::8"), 443)).toBe(true);
    expect(permits(policy, "8.8.8.8")).toBe(false);
  });

  test("mode open is all, none is nothing", () => {
    const [open, none] = [parsePolicy({ mode: "open" }, []), parsePolicy({ mode: "none" }, [])];
    expect([permits(open, "a.example", 1), permitsAddress(open, address("8.8.8.8"), 1)]).toEqual([true, true]);
    expect([permits(none, "a.example", 1), permitsAddress(none, address("8.8.8.8"), 1)]).toEqual([false, false]);
  });
});

describe("Secrets", () => {
  const secret = (host: string, header = "Authorization", value = "v1"): Secret => ({ host, header, value });
  const list: Egress = { mode: "allowlist", allow: ["api.example:443", "plain.example:80", "*.b.example"] };

  test("are of hosts that may be reached at port 443", () => {
    const policy = parsePolicy(list, [secret("API.example."), secret("x.b.example")]);
    expect(policy.secrets.map(({ host }) => host)).toEqual(["api.example", "x.b.example"]);
    expect(parsePolicy({ mode: "open" }, [secret("anything.example")]).secrets).toHaveLength(1);
    expect(refusal(list, [secret("api.example"), secret("b.example")])).toStartWith("secrets[1].host");
    expect(refusal(list, [secret("plain.example")])).toContain("port 443");
    expect(refusal({ mode: "none" }, [secret("api.example")])).toContain("mode none");
    expect(refusal({ mode: "open" }, [secret("*.b.example")])).toContain("one exact name");
    expect(refusal({ mode: "open" }, [secret("8.8.8.8")])).toContain("ends in a number");
    expect(refusal({ mode: "open" }, [secret("a.example:443")])).toContain("is no name");
  });

  test("are in no header that frames a request", () => {
    for (const header of ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Proxy-Authorization", "TE"])
      expect(refusal({ mode: "open" }, [secret("a.example", header)])).toContain("secrets[0].header");
    expect(parsePolicy({ mode: "open" }, [secret("a.example", "X-Api-Key")]).secrets).toHaveLength(1);
  });

  test("may be said twice, but not with two values, and no value is ever told", () => {
    const twice = [secret("a.example"), secret("A.example", "authorization")];
    expect(parsePolicy({ mode: "open" }, twice).secrets).toHaveLength(1);
    const says = refusal({ mode: "open" }, [secret("a.example", "X", "hush1"), secret("a.example", "x", "hush2")]);
    expect(says).toContain("another value");
    expect(says).not.toContain("hush");
    expect(JSON.stringify(egressOf(parsePolicy({ mode: "open" }, [secret("a.example", "X", "hush1")])))).not.toContain(
      "hush",
    );
  });
});

describe("rulesOf", () => {
  const parts = { dnsPort: 5, proxyPort: 6, exempt: [range("10.0.0.0/8")] };

  test("hands on ranges and limits, and sends to the proxy what belongs there", () => {
    const rules = rulesOf(
      parsePolicy({ mode: "allowlist", allow: ["a.example", "8.8.8.0/24:53"], mbps: 8, connections: 7 }, []),
      parts,
    );
    expect(rules).toEqual({
      mode: "allowlist",
      ranges: [{ range: range("8.8.8.0/24"), ports: { from: 53, to: 53 } }],
      exempt: parts.exempt,
      limits: { bytesPerSecond: 1_000_000, newConnectionsPerSecond: LIMITS.egressNewPerSecond, connections: 7 },
      dnsPort: 5,
      proxyPort: 6,
      caught: "none",
    });
    const secrets = [{ host: "a.example", header: "X", value: "v" }];
    const named = parsePolicy({ mode: "open" }, secrets);
    const all = parsePolicy({ mode: "open", inspect: true }, secrets);
    expect([wantsProxy(named), rulesOf(named, parts).caught]).toEqual([true, "named"]);
    expect([wantsProxy(all), rulesOf(all, parts).caught]).toEqual([true, "all"]);
    expect(rulesOf(all, { ...parts, proxyPort: null }).caught).toBe("none");
    expect(wantsProxy(parsePolicy({ mode: "none", inspect: true }, []))).toBe(false);
  });

  test("limits are shown as they were said, defaults not at all", () => {
    const said: Egress = { mode: "open", inspect: true, mbps: 0.1, newConnectionsPerSecond: 3, connections: 4 };
    expect(egressOf(parsePolicy(said, []))).toEqual(said);
    expect(egressOf(parsePolicy({ mode: "open" }, []))).toEqual({ mode: "open" });
  });
});
