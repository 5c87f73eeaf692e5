/** Databases of the tests about the store: each engine, opened the way that a server opens it, with a way to look inside. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { Driver } from "../../src/db/driver.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openPglite } from "../../src/db/pglite.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { storeOver } from "../../src/db/store.ts";
import type { StoreForm } from "../suites/store.ts";

export const parts = { clock: systemClock, log: createLog("error"), node: "node-1" };

/** A folder that is removed at the end. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "warren-store-"));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** What the database has of a sandbox's use. */
export function meterOf(driver: Driver): NonNullable<StoreForm["meter"]> {
  return async (sandbox) => {
    const [row] = await driver.query({
      text: `select closed_vcpu_ms, closed_memory_mib_ms, egress_bytes, open_since_ms, open_vcpus, open_memory_mib
        from meters where sandbox = $1`,
      parameters: [sandbox],
    });
    if (row === undefined) return null;
    const [vcpuMs, memoryMibMs, egressBytes, sinceMs, vcpus, memoryMib] = row;
    const closed = {
      ...{
        vcpuMs: BigInt(String(vcpuMs)),
        memoryMibMs: BigInt(String(memoryMibMs)),
        egressBytes: BigInt(String(egressBytes)),
      },
    };
    const open = { sinceMs: BigInt(String(sinceMs ?? 0)), vcpus: Number(vcpus), memoryMib: Number(memoryMib) };
    return { closed, open: sinceMs === null ? null : open };
  };
}

export async function pgliteForm(folder: string) {
  const driver = await openPglite(folder, parts);
  await migrate(driver);
  const store = await storeOver(driver, parts);
  return { driver, store, second: null, meter: meterOf(driver), close: () => store[Symbol.asyncDispose]() };
}

/** With a second server, of the same name: what it does is this host's too. */
export async function postgresForm(url: string) {
  const driver = openPostgres(url, parts);
  await migrate(driver);
  const store = await storeOver(driver, parts);
  const second = await storeOver(openPostgres(url, parts), parts);
  const close = async () => {
    await second[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  };
  return { driver, store, second, meter: meterOf(driver), close };
}
