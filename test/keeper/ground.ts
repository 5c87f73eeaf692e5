/** What keepers of tests stand on: a register in memory, VMMs that are numbers, egress that remembers what was done to it. */
import { createLog } from "../../src/base/log.ts";
import type { Egress, NetworkEvent } from "../../src/contract/routes/network.ts";
import { egressOf, type Policy } from "../../src/egress/policy.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeRegistry } from "../../src/host/fake.ts";
import { FakeNetwork } from "../../src/host/fake-network.ts";
import type { KeeperParts, KeptEgress } from "../../src/keeper/keeper.ts";
import { FakeClock } from "../harness/clock.ts";

export const OPEN: Egress = { mode: "open" };
export const PYPI: Egress = { mode: "allowlist", allow: ["pypi.org"] };

/** As much of a record as a keeper looks at. */
export function recordFor(id: string, pid: number, egress: Egress = PYPI, detached = true): SandboxRecord {
  const ref = { id, pid, startTicks: pid * 10, hostBootId: "boot", socketDir: `/run/${id}` };
  const known = { id, account: "local", ref, env: {}, workdir: null, egress, secrets: [], base: null };
  return { ...known, info: { id, detached, egress } as SandboxRecord["info"] };
}

export const EVENT: NetworkEvent = {
  at: "2030-01-01T00:00:00.000Z",
  ...{ kind: "dns", name: "pypi.org", address: null, port: null, protocol: "udp", verdict: "allowed", reason: null },
};

export class FakeEgress implements KeptEgress {
  readonly certificatePem = "pem";
  readonly policies: Policy[];
  closed = 0;
  failing = false;

  constructor(policy: Policy) {
    this.policies = [policy];
  }

  get shown(): Egress | null {
    const last = this.policies.at(-1);
    return last === undefined ? null : egressOf(last);
  }

  async change(policy: Policy): Promise<void> {
    if (this.failing) throw new WarrenError("driver_failed", "no rules today");
    this.policies.push(policy);
  }

  usage(): { bytesOut: number; bytesIn: number; connections: number; refused: number } {
    return { bytesOut: 1, bytesIn: 2, connections: 3, refused: 4 };
  }

  log(): { events: NetworkEvent[]; lost: number } {
    return { events: [EVENT], lost: 7 };
  }

  async close(): Promise<void> {
    this.closed += 1;
  }
}

export class KeeperWorld {
  readonly clock: FakeClock;
  /** Pids of VMMs that run. */
  readonly running = new Set<number>();
  readonly registry = new FakeRegistry<SandboxRecord>(
    ({ ref }) => this.running.has(ref.pid),
    () => undefined,
  );
  /** Every egress that was opened, by sandbox. */
  readonly opened = new Map<string, FakeEgress[]>();
  /** Lines of the log from `warn` up. */
  readonly said: string[] = [];
  /** Holds opening up until it resolves. */
  opening: () => Promise<void> = async () => undefined;

  constructor(clock = new FakeClock()) {
    this.clock = clock;
  }

  /** A sandbox that runs, in the register. */
  async run(record: SandboxRecord): Promise<SandboxRecord> {
    this.running.add(record.ref.pid);
    await this.registry.put(record);
    return record;
  }

  of(id: string): FakeEgress {
    const last = this.opened.get(id)?.at(-1);
    if (last === undefined) throw new Error(`no egress of ${id} was opened`);
    return last;
  }

  get parts(): KeeperParts {
    return {
      registry: this.registry,
      networkOf: ({ pid }) => (this.running.has(pid) ? new FakeNetwork() : null),
      lives: ({ pid }) => this.running.has(pid),
      open: async (_, policy, id) => {
        await this.opening();
        const egress = new FakeEgress(policy);
        this.opened.set(id, [...(this.opened.get(id) ?? []), egress]);
        return egress;
      },
      exempt: [],
      clock: this.clock,
      log: createLog("warn", (line) => this.said.push(line)),
    };
  }
}
