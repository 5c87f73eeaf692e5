/**
 * The reader of egress policies under entries that are right, nearly right or made up. Run by hand for long:
 * `bun test/fuzz/dns-policy.fuzz.ts --runs 1000000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: nothing but `invalid_request`, which names the entry, is ever thrown; what is taken reads back as itself; a name
 * that is taken is one to every reader of names, never an address; a range that is taken holds what it says and no other
 * address; what is not public is not taken; a policy is within itself.
 */
import { type AddressRange, formatAddress, type IpAddress } from "../../src/base/address.ts";
import { isForbidden } from "../../src/base/forbidden.ts";
import { egressOf, narrower, type Policy, parsePolicy, permits, permitsAddress } from "../../src/egress/policy.ts";
import { isWarrenError } from "../../src/errors.ts";
import { campaign, rounds } from "./campaign.ts";
import { Random } from "./random.ts";

/** What is fuzzed; a test puts a broken one in its place. */
export type ParsePolicy = (allow: readonly string[]) => Policy;

export const REAL: ParsePolicy = (allow) => parsePolicy({ mode: "allowlist", allow: [...allow] }, []);

export interface PolicyReport {
  runs: number;
  names: number;
  ranges: number;
  refused: number;
}

const LABELS = [
  "a",
  "example",
  "com",
  "x-y",
  "_z",
  "WWW",
  "xn--bcher-kva",
  "0x7f",
  "127",
  "1",
  "010",
  "é",
  "localhost",
];
const PIECES = [
  ".",
  "*",
  "*.",
  ":",
  "-",
  "/",
  "[",
  "]",
  "::",
  "0",
  "65535",
  "65536",
  "443",
  "%",
  "\n",
  "\0",
  " ",
  "ﬁ",
  "://",
];

function nameText(random: Random): string {
  const labels = Array.from({ length: 1 + random.below(4) }, () => {
    return random.once(40) ? "a".repeat(60 + random.below(8)) : random.pick(LABELS.slice(0, random.once(3) ? 99 : 7));
  });
  return `${random.once(4) ? "*." : ""}${labels.join(".")}${random.once(12) ? "." : ""}`;
}

function four(random: Random): string {
  const value = BigInt(random.next()) & (0xffff_ffffn << BigInt(random.below(33)));
  return `${formatAddress({ family: 4, value })}${random.once(2) ? `/${random.below(34)}` : ""}`;
}

function six(random: Random): string {
  const high = (BigInt(random.once(3) ? random.next() : 0x26064700) << 96n) | BigInt(random.next());
  const value = high & ((2n ** 128n - 1n) << BigInt(random.below(129)));
  return `${formatAddress({ family: 6, value })}${random.once(2) ? `/${random.below(130)}` : ""}`;
}

function portText(random: Random): string {
  if (random.once(2)) return "";
  const port = () => (random.once(8) ? random.below(70_000) : 1 + random.below(65_535));
  return random.once(2) ? `:${port()}` : `:${Math.min(port(), port())}-${port()}`;
}

/** An entry, mostly nearly right. */
function entryText(random: Random): string {
  const ports = portText(random);
  const texts = [
    () => nameText(random) + ports,
    () => four(random) + ports,
    () => (ports === "" ? six(random) : `[${six(random)}]${ports}`),
  ];
  const text = random.pick(texts)();
  if (!random.once(4)) return text;
  const at = random.below(text.length + 1);
  return text.slice(0, at) + random.pick(PIECES) + text.slice(at + random.below(3));
}

function taken(parse: ParsePolicy, allow: readonly string[]): Policy | null {
  try {
    return parse(allow);
  } catch (error) {
    if (isWarrenError(error, "invalid_request") && /^egress\.allow\[\d+\]: got "/.test(error.message)) return null;
    throw error;
  }
}

/** The reader of browsers agrees that it is a name; of names in punycode it decides otherwise which are wrong. */
function checkName(name: string): void {
  if (!/^[a-z0-9_.-]+$/.test(name) || name.length > 253) throw new Error("a name has what no name has");
  if (/(^|\.)xn--/.test(name)) return;
  if (new URL(`http://${name}/`).hostname !== name) throw new Error("a name is something else to others");
}

function checkRange({ family, first, last }: AddressRange, policy: Policy): void {
  const probe = (value: bigint): IpAddress => ({ family, value });
  const own = [first, (first + last) / 2n, last].map(probe);
  if (!own.every((address) => permitsAddress(policy, address))) throw new Error("a range has not what is in it");
  const edges = [first - 1n, last + 1n].filter((value) => value >= 0n && value < 2n ** (family === 4 ? 32n : 128n));
  if (edges.some((value) => permitsAddress(policy, probe(value)))) throw new Error("a range has more than is in it");
  // Forbidden ranges are as coarse as prefixes of eight bits: if all of these are, what lies between is.
  const size = last - first + 1n;
  const steps = Array.from({ length: 257 }, (_, i) => probe(first + ((size - 1n) * BigInt(i)) / 256n));
  if (size < 2n ** 8n && steps.every((address) => isForbidden(address, [])))
    throw new Error("a range that is not public is taken");
}

/** A name means what was written, and nothing else. */
function checkNames(text: string, policy: Policy): void {
  const written = text.toLowerCase().replace(/\.(?=:|$)/, "");
  for (const { name, wildcard } of policy.names) {
    checkName(name);
    if (written.replace(/:[^:]*$/, "") !== `${wildcard ? "*." : ""}${name}`)
      throw new Error("a name is not what was written");
    if (permits(policy, name) === wildcard || permits(policy, `w.${name}`) !== wildcard)
      throw new Error("a name does not mean itself");
  }
}

function checkOne(text: string, policy: Policy, report: PolicyReport): void {
  checkNames(text, policy);
  for (const { range } of policy.ranges) checkRange(range, policy);
  report.names += policy.names.length;
  report.ranges += policy.ranges.length;
}

function round(parse: ParsePolicy, random: Random, report: PolicyReport): void {
  const allow = Array.from({ length: 1 + random.below(3) }, () => entryText(random));
  const alone = allow.map((text) => taken(parse, [text]));
  for (const [i, policy] of alone.entries()) {
    if (policy === null) report.refused++;
    else checkOne(allow[i] ?? "", policy, report);
  }
  const all = taken(parse, allow);
  if ((all === null) !== alone.includes(null)) throw new Error("entries are not read alone");
  if (all === null) return;
  const again = parse(egressOf(all).allow ?? []);
  const text = (policy: Policy) => JSON.stringify(egressOf(policy));
  if (text(again) !== text(all)) throw new Error("what is shown reads back as something else");
  if (narrower(all, again) !== null || narrower(again, all) !== null) throw new Error("a policy is not within itself");
}

/** @throws {Error} what does not hold, with the input's number. */
export function fuzzPolicies(
  runs: number,
  seed: number,
  { parse = REAL, tick = () => undefined }: { readonly parse?: ParsePolicy; readonly tick?: () => void } = {},
): PolicyReport {
  const random = new Random(seed);
  const report: PolicyReport = { runs, names: 0, ranges: 0, refused: 0 };
  rounds(runs, seed, tick, () => {
    round(parse, random, report);
  });
  return report;
}

if (import.meta.main) {
  await campaign({
    name: "egress policies",
    file: "dns-policy.fuzz.ts",
    blockRuns: 10_000,
    block: (runs, seed, tick) => {
      const { names, ranges, refused } = fuzzPolicies(runs, seed, { tick });
      return { names, ranges, refused };
    },
  });
}
