/** A guest's own side of its network: as it was said before the snapshot, the same in every guest, and silent. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { Warren } from "../../../src/compose.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { networkGate } from "../../harness/internet.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { create, guardNetworkLeaks, openNetworkWarren } from "./ground.ts";

if (networkGate()) {
  guardNetworkLeaks();
  describe("A guest's network", () => {
    let warren: Warren;
    let sandbox: Sandbox;
    beforeAll(async () => {
      warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
      sandbox = await create(warren, { mode: "none" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    const lines = async (path: string): Promise<string[]> => (await sandbox.files.readText(path)).trim().split("\n");

    test(
      "has said nothing on its link, at boot or since",
      async () => {
        const counters = (await lines("/proc/net/dev")).find((line) => line.trim().startsWith("eth0:")) ?? "";
        const numbers = counters.split(":")[1]?.trim().split(/\s+/) ?? [];
        expect([numbers[9], numbers[11]]).toEqual(["0", "0"]); // sent, and what could not be
      },
      VM_TEST_MS,
    );

    test(
      "has its addresses, and every route by its gateway",
      async () => {
        const addresses = (await lines("/proc/net/if_inet6")).map((line) => line.split(/\s+/));
        expect(addresses.map(([address, , bits, , , device]) => `${address} ${bits} ${device}`).sort()).toEqual([
          "00000000000000000000000000000001 80 lo",
          "fd575752000000000000000000000002 40 eth0",
        ]);
        expect(await lines("/proc/net/route")).toEqual([
          expect.stringMatching(/^Iface/),
          expect.stringMatching(/^eth0\t00000000\t0100630A\t0003/),
          expect.stringMatching(/^eth0\t0000630A\t00000000\t0001/),
        ]);
        const six = (await lines("/proc/net/ipv6_route")).filter((line) => /^0{32} 00 .* eth0$/.test(line));
        expect(six).toEqual([expect.stringContaining(" fd575752000000000000000000000001 ")]);
        expect((await lines("/proc/net/arp")).slice(1)).toEqual([
          expect.stringMatching(/^10\.99\.0\.1 +0x1 +0x6 +02:57:52:00:00:01/), // 4 of the flags: for good
        ]);
      },
      VM_TEST_MS,
    );

    test(
      "asks its gateway for names, and knows nothing of this host's name servers",
      async () => {
        const resolver = await sandbox.files.readText("/etc/resolv.conf");
        expect(resolver.match(/^nameserver .*$/gm)).toEqual(["nameserver 10.99.0.1"]);
        const host = existsSync("/etc/resolv.conf") ? readFileSync("/etc/resolv.conf", "utf8") : "";
        for (const [, server] of host.matchAll(/^nameserver\s+(\S+)/gm)) expect(resolver).not.toContain(server!);
        expect(await lines("/etc/hosts")).toEqual(["127.0.0.1 localhost", "::1 localhost"]);
      },
      VM_TEST_MS,
    );
  });
}
