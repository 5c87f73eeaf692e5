/** Addresses that names were answered with, opened for a while in a slot's table. */

import { hasCode } from "../../../../ffi/native.ts";
import { addressBytes, formatAddress, type PortRange } from "../../../base/address.ts";
import type { Admitted } from "../../network.ts";
import type { Netlink } from "../message.ts";
import { Batch, type Element } from "./batch.ts";
import { portBlocks } from "./intervals.ts";
import { FAMILIES, type Family } from "./names.ts";
import { GROUP } from "./table.ts";

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

function write(batch: Batch, f: Family, all: readonly Opened[]): void {
  replace(batch, f.admitted, all, "allPortsMs");
  replace(batch, f.proxied, all, "proxiedMs");
  batch.renew(
    f.admittedPorts,
    all.flatMap(({ ports }) => [...ports.values()]),
  );
}

/**
 * Opens addresses for their time, in place of what was said of them before – but for single ports, which stay open for the
 * time that they were given. In one step.
 * @throws {NativeError} `ENFILE` – more addresses of a family than `LIMITS.egressAddresses` would be open; nothing has changed
 */
export function admitInto(nl: Netlink, list: readonly Admitted[]): void {
  if (list.length === 0) return;
  for (let tried = 1; ; tried++) {
    const batch = new Batch(nl);
    for (const f of FAMILIES) write(batch, f, byAddress(list, f.family));
    try {
      batch.commit(GROUP.policy);
      return;
    } catch (error) {
      if (tried === TRIES || !hasCode(error, "ENOENT")) throw error;
    }
  }
}
