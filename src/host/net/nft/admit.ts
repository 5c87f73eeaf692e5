/** Addresses that names were answered with, opened for a while in a slot's table. */

import { hasCode } from "../../../../ffi/native.ts";
import { addressBytes, formatAddress, type PortRange } from "../../../base/address.ts";
import type { Admitted } from "../../network.ts";
import type { Netlink } from "../message.ts";
import { Batch, type Element } from "./batch.ts";
import { portBlocks } from "./intervals.ts";
import { FAMILIES, type Family } from "./names.ts";
import { ADMITTED_AT_ONCE } from "./table.ts";

/** A member that expires between two looks of the kernel fails its change, before Linux 6.9: the next try finds it gone. */
const TRIES = 3;

/** What becomes of one address; the time of each key. */
interface Opened {
  readonly key: Uint8Array;
  proxiedMs: number;
  allPortsMs: number;
  readonly ports: Map<string, Element & { readonly timeoutMs: number }>;
}

function blockKey(address: Uint8Array, bits: number, first: number): Uint8Array {
  return Uint8Array.of(...address, first >> 8, first & 255, bits, 0);
}

function addPorts(into: Opened, ports: PortRange, timeoutMs: number): void {
  for (const { bits, first } of portBlocks(ports)) {
    const name = `${bits}:${first}`;
    const before = into.ports.get(name)?.timeoutMs ?? 0;
    into.ports.set(name, { key: blockKey(into.key, bits, first), timeoutMs: Math.max(before, timeoutMs) });
  }
}

/** The list by address: an address that is in it twice is open for all that is said of it. */
function byAddress(list: readonly Admitted[], family: 4 | 6): Opened[] {
  const found = new Map<string, Opened>();
  for (const { address, ports, seconds, proxied } of list) {
    if (address.family !== family || seconds <= 0) continue;
    const name = formatAddress(address);
    const opened = found.get(name) ?? { key: addressBytes(address), proxiedMs: 0, allPortsMs: 0, ports: new Map() };
    const timeoutMs = Math.ceil(seconds * 1000);
    if (proxied) opened.proxiedMs = Math.max(opened.proxiedMs, timeoutMs);
    if (ports === null) opened.allPortsMs = Math.max(opened.allPortsMs, timeoutMs);
    else addPorts(opened, ports, timeoutMs);
    found.set(name, opened);
  }
  return [...found.values()];
}

function replace(batch: Batch, set: string, all: readonly Opened[], time: "proxiedMs" | "allPortsMs"): void {
  const members = all.map((opened) => ({ key: opened.key, timeoutMs: opened[time] }));
  batch.renew(
    set,
    members.filter(({ timeoutMs }) => timeoutMs > 0),
  );
  batch.forget(
    set,
    members.filter(({ timeoutMs }) => timeoutMs === 0).map(({ key }) => ({ key, timeoutMs: 1000 })),
  );
}

/** Room in one change for port blocks: three messages of 80 bytes for each. */
const BLOCKS_AT_ONCE = 400;

/** Parts that are small enough for one change each, an address in one of them only. */
function parts(all: readonly Opened[]): Opened[][] {
  const out: Opened[][] = [];
  let blocks = Number.POSITIVE_INFINITY;
  for (const opened of all) {
    blocks += opened.ports.size;
    if (blocks > BLOCKS_AT_ONCE || (out.at(-1)?.length ?? 0) === ADMITTED_AT_ONCE) {
      out.push([]);
      blocks = opened.ports.size;
    }
    out.at(-1)?.push(opened);
  }
  return out;
}

function write(nl: Netlink, f: Family, all: readonly Opened[]): void {
  for (let tried = 1; ; tried++) {
    const batch = new Batch(nl);
    replace(batch, f.admitted, all, "allPortsMs");
    replace(batch, f.proxied, all, "proxiedMs");
    batch.renew(
      f.admittedPorts,
      all.flatMap(({ ports }) => [...ports.values()]),
    );
    try {
      batch.commit();
      return;
    } catch (error) {
      if (tried === TRIES || !hasCode(error, "ENOENT")) throw error;
    }
  }
}

/**
 * Opens addresses for their time, in place of what was said of them before – but for ports, which stay open for the time that
 * they were given. An address at one instant; a long list in several steps.
 * @throws {NativeError} `ENFILE` – more addresses of a family than `LIMITS.egressAddresses` would be open: the rest of the list is not
 */
export function admitInto(nl: Netlink, list: readonly Admitted[]): void {
  for (const f of FAMILIES) for (const part of parts(byAddress(list, f.family))) write(nl, f, part);
}
