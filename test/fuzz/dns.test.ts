/** Short runs of the fuzzers of DNS messages and egress policies, and that each catches one that is broken. */
import { describe, expect, test } from "bun:test";
import { parseRange } from "../../src/base/address.ts";
import { DnsFault, decodeMessage } from "../../src/egress/dns/message.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import { type DnsSubject, fuzzDns, REAL } from "./dns.fuzz.ts";
import { fuzzPolicies, type ParsePolicy, REAL as REAL_POLICIES } from "./dns-policy.fuzz.ts";

test("The reader of DNS messages holds under right, nearly right and hostile ones", () => {
  const report = fuzzDns(10_000, 7);
  // All sides have been met: messages, what is none, queries, and addresses behind aliases.
  expect(report.messages).toBeGreaterThan(3000);
  expect(report.refused).toBeGreaterThan(3000);
  expect(report.queries).toBeGreaterThan(300);
  expect(report.addresses).toBeGreaterThan(300);
}, 30_000);

test("The reader of egress policies holds under right, nearly right and made up entries", () => {
  const report = fuzzPolicies(10_000, 7);
  expect(report.names).toBeGreaterThan(1000);
  expect(report.ranges).toBeGreaterThan(1000);
  expect(report.refused).toBeGreaterThan(5000);
}, 30_000);

describe("The fuzzer of DNS messages catches one that", () => {
  const BROKEN: Readonly<Record<string, readonly [Partial<DnsSubject>, string]>> = {
    "takes bytes behind the message": [
      {
        decode(bytes) {
          for (let cut = 0; cut < 3; cut++) {
            try {
              return decodeMessage(bytes.subarray(0, bytes.length - cut));
            } catch (error) {
              if (!(error instanceof DnsFault)) throw error;
            }
          }
          return decodeMessage(bytes);
        },
      },
      "what is refused",
    ],
    "reads past its end": [
      { decode: (bytes) => ({ ...decodeMessage(bytes), id: new DataView(bytes.buffer).getUint16(bytes.length - 1) }) },
      "RangeError",
    ],
    "has names in the case in which they came": [
      {
        decode(bytes) {
          const read = decodeMessage(bytes);
          const questions = read.questions.map((one) => ({ ...one, name: one.name.toUpperCase() }));
          return { ...read, questions };
        },
      },
      "something else",
    ],
    "takes every address of a message": [
      {
        follow: (message) => {
          const addresses = message.answers.flatMap(({ address }) => address ?? []);
          return { kind: "addresses", addresses, ttlSeconds: 0 };
        },
      },
      "an address of another name",
    ],
  };
  for (const [fault, [broken, says]] of Object.entries(BROKEN))
    test(fault, () => {
      expect(() => fuzzDns(10_000, 7, { subject: { ...REAL, ...broken } })).toThrow(says);
    }, 30_000);
});

describe("The fuzzer of egress policies catches one that", () => {
  const changed = (change: (text: string) => string): ParsePolicy => {
    return (allow) => REAL_POLICIES(allow.map(change));
  };
  const BROKEN: Readonly<Record<string, readonly [ParsePolicy, string]>> = {
    "throws what is no typed error": [
      (allow) => {
        for (const text of allow) decodeURIComponent(text);
        return REAL_POLICIES(allow);
      },
      "URIError",
    ],
    "takes what is not public": [
      (allow) => parsePolicy({ mode: "allowlist", allow: [...allow] }, [], [parseRange("0.0.0.0/0")!]),
      "not public",
    ],
    "leaves an entry out": [(allow) => REAL_POLICIES(allow.slice(0, 1)), "entries are not read alone"],
    "takes a wildcard for its name": [
      (allow) => {
        const policy = REAL_POLICIES(allow);
        return { ...policy, names: policy.names.map((entry) => ({ ...entry, wildcard: false })) };
      },
      "a name is not what was written",
    ],
    "takes a range for a wider one": [
      (allow) => {
        const policy = REAL_POLICIES(allow);
        const wider = policy.ranges.map((one) => ({ ...one, range: { ...one.range, last: one.range.last + 1n } }));
        return { ...policy, ranges: wider };
      },
      "a policy is not within itself",
    ],
    "cuts what does not belong to a name": [
      changed((text) => text.replace(/[^\w.*:/[\]-]/g, "")),
      "a name is not what was written",
    ],
  };
  for (const [fault, [parse, says]] of Object.entries(BROKEN))
    test(fault, () => {
      expect(() => fuzzPolicies(10_000, 7, { parse })).toThrow(says);
    }, 30_000);
});
