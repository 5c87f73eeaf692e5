/** The plan of addresses: every slot's is its own, within the ranges that rules know, and leads back to its number. */
import { expect, test } from "bun:test";
import { contains, parseAddress, parseRange } from "../../../src/base/address.ts";
import { LINKS, LINKS6, ROOT_DEVICE, rootIndex, slotAddresses, slotOfLink } from "../../../src/host/net/plan.ts";
import { LIMITS } from "../../../src/limits.ts";

const all = Array.from({ length: LIMITS.slots }, (_, slot) => slotAddresses(slot));

function value(text: string): bigint {
  const address = parseAddress(text);
  if (address === null) throw new Error(`no address: ${text}`);
  return address.value;
}

test("Addresses of links are each used once among all slots, and no two links share a network", () => {
  const four = all.flatMap(({ hostAddress, slotAddress }) => [value(hostAddress), value(slotAddress)]);
  expect(new Set(four).size).toBe(2 * LIMITS.slots);
  expect(new Set(all.map(({ hostAddress }) => value(hostAddress) >> 2n)).size).toBe(LIMITS.slots);
  const six = all.flatMap(({ hostAddress6, slotAddress6 }) => [value(hostAddress6), value(slotAddress6)]);
  expect(new Set(six).size).toBe(2 * LIMITS.slots);
  expect(new Set(all.map(({ hostAddress6 }) => value(hostAddress6) >> 64n)).size).toBe(LIMITS.slots);
  for (const at of all) {
    // Both ends in one /30 and one /64, neither of them the network's own or its broadcast address.
    expect(value(at.hostAddress) >> 2n).toBe(value(at.slotAddress) >> 2n);
    expect([value(at.hostAddress) & 3n, value(at.slotAddress) & 3n]).toEqual([1n, 2n]);
    expect(value(at.hostAddress6) >> 64n).toBe(value(at.slotAddress6) >> 64n);
  }
});

test("Addresses of links are within the ranges that rules name, and those of guests are not", () => {
  const [four, six] = [parseRange(LINKS)!, parseRange(LINKS6)!];
  for (const at of all) {
    for (const text of [at.hostAddress, at.slotAddress]) expect(contains(four, parseAddress(text)!)).toBe(true);
    for (const text of [at.hostAddress6, at.slotAddress6]) expect(contains(six, parseAddress(text)!)).toBe(true);
  }
  const { guestAddress, tapAddress, guestAddress6, tapAddress6 } = slotAddresses(0);
  for (const text of [guestAddress, tapAddress]) expect(contains(four, parseAddress(text)!)).toBe(false);
  for (const text of [guestAddress6, tapAddress6]) expect(contains(six, parseAddress(text)!)).toBe(false);
});

test("Hardware addresses, devices and interface numbers are each used once", () => {
  const macs = all.flatMap(({ hostMac, slotMac }) => [hostMac, slotMac]);
  const { guestMac, tapMac } = slotAddresses(0);
  expect(new Set([...macs, guestMac, tapMac]).size).toBe(2 * LIMITS.slots + 2);
  for (const mac of macs) expect(mac).toMatch(/^02(:[0-9a-f]{2}){5}$/);
  expect(new Set(all.map(({ rootDevice }) => rootDevice)).size).toBe(LIMITS.slots);
  for (const { rootDevice } of all) expect(rootDevice).toMatch(ROOT_DEVICE);
  expect(new Set(all.map(({ slot }) => rootIndex(slot))).size).toBe(LIMITS.slots);
  for (const name of ["wrn", "wrn01", "wrnx", "xwrn1", "wrn123456"]) expect(name).not.toMatch(ROOT_DEVICE);
});

test("An address of a link leads back to its slot, and no other address to any", () => {
  for (const { slot, hostAddress, slotAddress } of all) {
    expect(slotOfLink(hostAddress)).toBe(slot);
    expect(slotOfLink(slotAddress)).toBe(slot);
  }
  const others = ["198.18.0.0", "198.18.0.3", "198.18.255.255", "198.19.0.1", "198.18.256.1", "10.99.0.2", "", "::1"];
  for (const text of others) expect(slotOfLink(text)).toBeNull();
  for (const slot of [-1, 0.5, LIMITS.slots, Number.NaN]) expect(() => slotAddresses(slot)).toThrow(RangeError);
});
