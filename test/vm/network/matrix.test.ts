/**
 * What a sandbox can reach: every mode × kind of destination × IPv4 and IPv6 × TCP, UDP, ICMP and another protocol, tried from
 * inside a real guest against hosts that all answer. And the control: with the rules taken away the forbidden ones answer.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import type { Egress } from "../../../src/contract/routes/network.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { ECHO_PORT, Internet, networkGate } from "../../harness/internet.ts";
import { until } from "../../harness/until.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { ADDRESSES, ALLOW, type Cell, cells, isReached, LISTED, type Mode } from "./destinations.ts";
import { create, FAST, guardNetworkLeaks, machineOf, openNetworkWarren, probe, reached } from "./ground.ts";
import { switchOff } from "./policy-off.ts";

const POLICIES: Readonly<Record<Mode, Egress>> = {
  none: { mode: "none", ...FAST },
  allowlist: { mode: "allowlist", allow: [...ALLOW], ...FAST },
  open: { mode: "open", ...FAST },
};
const EFFECT_MS = 1_000;

/** Says a number after each byte that came back, and why it ended; its peer is an echo. */
const HOLD = `
import socket, sys, time
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.settimeout(0.4)
s.connect((address, port))
print("connected", flush=True)
n = 0
while True:
    try:
        s.send(b"x")
        if not s.recv(4096):
            break
        n += 1
        print(n, flush=True)
    except OSError:  # with it a time-out
        break
    time.sleep(0.05)
print("ended", flush=True)
`;

/** An echo that goes on until it ends by itself; what it has said so far. */
function hold(
  sandbox: Sandbox,
  kind: string,
  address: string,
): { readonly said: () => string; readonly over: Promise<void> } {
  let said = "";
  const over = (async () => {
    for await (const event of await sandbox.stream(["python3", "-c", HOLD, kind, address, String(ECHO_PORT)])) {
      if (event.kind === "stdout" || event.kind === "stderr") said += new TextDecoder().decode(event.bytes);
    }
  })();
  return { said: () => said, over };
}

if (networkGate()) {
  guardNetworkLeaks();
  describe("A sandbox's network", () => {
    let internet: Internet;
    let warren: Warren;
    const boxes = new Map<Mode, Sandbox>();
    let table: readonly Cell[] = [];

    beforeAll(async () => {
      internet = await Internet.open(ADDRESSES);
      warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
      for (const mode of ["none", "allowlist", "open"] as const) boxes.set(mode, await create(warren, POLICIES[mode]));
      const machines = await Promise.all([...boxes.values()].map((sandbox) => machineOf(warren, sandbox)));
      table = cells(
        machines.flatMap(({ slot }) => [slot.hostAddress, slot.slotAddress, slot.hostAddress6, slot.slotAddress6]),
      );
    }, VM_BAKE_MS);
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      await internet[Symbol.asyncDispose]();
    });
    const box = (mode: Mode): Sandbox => boxes.get(mode)!;
    const expected = (mode: Mode): string[] => table.flatMap((cell) => (isReached(mode, cell) ? [cell.id] : [])).sort();

    for (const mode of ["none", "allowlist", "open"] as const) {
      test(
        `mode ${mode} lets out what it says and nothing else`,
        async () => {
          await internet.report();
          const outcomes = await probe(box(mode), table);
          expect(reached(outcomes)).toEqual(expected(mode));
          const { arrived } = await internet.report();
          const open = table.filter((cell) => isReached(mode, cell)).map(({ address }) => address);
          const elsewhere = arrived.filter(
            (line) => !open.some((address) => line.includes(`> ${address}:`) || line.includes(`> [${address}]:`)),
          );
          expect(elsewhere).toEqual([]);
          expect(internet.hostReached).toEqual([]);
          // A program is to fail with an error, not to wait for one that never comes. Only this host's own public address is
          // silent: to the sandbox's rules it is one like any other.
          const hangs = table.filter(
            ({ id, kind, destination }) => kind === "tcp" && destination.is !== "host" && "silent" in outcomes.get(id)!,
          );
          expect(hangs.map(({ id }) => id)).toEqual([]);
        },
        VM_TEST_MS,
      );
    }

    test(
      "a policy that is changed ends what is under way within a second, and opens as fast",
      async () => {
        const sandbox = box("open");
        const ways = LISTED.flatMap((address) =>
          (["tcp", "udp"] as const).map((kind) => ({ id: `${kind} ${address}`, kind, address, port: ECHO_PORT })),
        );
        const held = ways.map(({ kind, address }) => hold(sandbox, kind, address));
        for (const one of held) await until("the echo answers", () => /^5$/m.test(one.said()));
        await sandbox.setNetwork(POLICIES.none);
        const changed = performance.now();
        for (const one of held) await until("it has ended", () => one.said().includes("ended"));
        expect(performance.now() - changed).toBeLessThan(EFFECT_MS);
        await Promise.all(held.map(({ over }) => over));
        await sandbox.setNetwork({ ...POLICIES.allowlist, allow: [...LISTED] });
        const again = await probe(sandbox, ways);
        for (const { id, address } of ways) {
          expect(again.get(id)).toMatchObject({ reached: `ECHO ${address}` });
          expect(again.get(id)?.ms).toBeLessThan(EFFECT_MS);
        }
      },
      VM_TEST_MS,
    );

    test("what was tried is in the log and in the counters", async () => {
      const { events } = await box("allowlist").networkLog();
      const [listed] = LISTED;
      expect(events).toContainEqual(
        expect.objectContaining({ address: listed, port: ECHO_PORT, protocol: "tcp", verdict: "allowed" }),
      );
      expect(events).toContainEqual(
        expect.objectContaining({ address: "169.254.169.254", port: ECHO_PORT, protocol: "tcp", verdict: "refused" }),
      );
      const { usage } = await box("none").network();
      expect(usage?.refused).toBeGreaterThan(50);
      expect(usage?.connections).toBe(0);
    });

    // Last: nothing holds after it.
    test(
      "without the rules the forbidden ones are reached, so that the tests above can fail",
      async () => {
        const bare = await create(warren, POLICIES.none);
        const machine = await machineOf(warren, bare);
        const wanted = table.filter(({ destination }) => destination.silent !== true);
        let silent: string[] = [];
        await until("all are reached", async () => {
          switchOff(machine);
          const outcomes = await probe(bare, wanted);
          silent = wanted.flatMap(({ id }) =>
            "reached" in outcomes.get(id)! ? [] : [`${id} ${JSON.stringify(outcomes.get(id))}`],
          );
          return silent.length === 0;
        }).catch((cause: unknown) => {
          throw new Error(`not reached: ${silent.join("\n")}`, { cause });
        });
        expect(internet.hostReached.length).toBeGreaterThan(0);
      },
      VM_TEST_MS,
    );
  });
}
