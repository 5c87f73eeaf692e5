/** What is remembered of answers: bounds, shared addresses, and what a change of policy opens again. */
import { describe, expect, test } from "bun:test";
import { formatAddress, type IpAddress } from "../../src/base/address.ts";
import { Answered } from "../../src/egress/answered.ts";
import { DNS } from "../../src/egress/dns/bounds.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import { isWarrenError } from "../../src/errors.ts";
import type { Admitted } from "../../src/host/network.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock } from "../harness/clock.ts";

const all = parsePolicy({ mode: "allowlist", allow: ["*.b.example"] }, []);
const at = (n: number): IpAddress => ({ family: 4, value: 0x5db8_0000n + BigInt(n) });
const shown = (list: readonly Admitted[]) =>
  list.map(({ address, ports, seconds }) => `${formatAddress(address)} ${ports?.from ?? "all"} ${seconds}`);

function answered() {
  const clock = new FakeClock();
  return { clock, answered: new Answered(clock) };
}

describe("Answered", () => {
  test("names an address by its latest answer", () => {
    const { answered: one } = answered();
    one.answer(all, "x.b.example", [at(1)], 10);
    one.answer(all, "y.b.example", [at(1), at(2)], 10);
    one.answer(all, "x.b.example", [at(1)], 10);
    expect([at(1), at(2), at(3)].map((address) => one.nameOf(address))).toEqual(["x.b.example", "y.b.example", null]);
  });

  test("opens a shared address for as long as the longest of its names, and never for less than before", () => {
    const { answered: one } = answered();
    const policy = parsePolicy({ mode: "allowlist", allow: ["a.example:1", "b.example:9"] }, []);
    expect(shown(one.answer(policy, "a.example", [at(1)], 100))).toEqual(["93.184.0.1 1 100"]);
    expect(shown(one.answer(policy, "a.example", [at(1)], 10))).toEqual(["93.184.0.1 1 100"]);
    expect(shown(one.answer(policy, "b.example", [at(1)], 10))).toEqual(["93.184.0.1 1 100", "93.184.0.1 9 100"]);
  });

  test("counts the latest names of an address alone", () => {
    const { answered: one } = answered();
    const allow = ["first.example:7", "*.b.example:9"];
    const policy = parsePolicy({ mode: "allowlist", allow }, []);
    one.answer(policy, "first.example", [at(1)], 100);
    for (let i = 1; i < DNS.namesOfAddress; i++) one.answer(policy, `n${i}.b.example`, [at(1)], 100);
    expect(shown(one.again(policy))).toEqual(["93.184.0.1 7 100", "93.184.0.1 9 100"]);
    expect(shown(one.answer(policy, "last.b.example", [at(1)], 100))).toEqual(["93.184.0.1 9 100"]);
  });

  test("forgets the oldest, within its bound", async () => {
    const { answered: one, clock } = answered();
    for (let i = 0; i <= DNS.remembered; i++) {
      if (i % 500 === 0) await clock.advance(20_000);
      one.answer(all, `n${i}.b.example`, [at(i)], 10);
    }
    expect([one.nameOf(at(0)), one.nameOf(at(1)), one.nameOf(at(DNS.remembered))]).toEqual([
      null,
      "n1.b.example",
      `n${DNS.remembered}.b.example`,
    ]);
  });

  test("opens again no more than may be open, the latest first", async () => {
    const { answered: one, clock } = answered();
    const many = LIMITS.egressAddresses + 100;
    for (let i = 0; i < many; i++) {
      if (i % 500 === 0) await clock.advance(20_000);
      one.answer(all, `n${i}.b.example`, [at(i)], 10);
    }
    await clock.advance(20_000);
    const again = one.again(all);
    expect(again).toHaveLength(LIMITS.egressAddresses);
    expect(formatAddress(again[0]!.address)).toBe(formatAddress(at(many - 1)));
    expect(again.every(({ seconds }) => seconds === DNS.keptSeconds)).toBe(true);
    let refusal: unknown;
    try {
      one.answer(all, "more.b.example", [at(many)], 10);
    } catch (error) {
      refusal = error;
    }
    expect(isWarrenError(refusal, "capacity_exhausted")).toBe(true);
  });
});
