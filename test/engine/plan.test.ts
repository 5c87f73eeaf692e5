/** Defaults, plans and identities: pure, and nothing left open. */
import { expect, test } from "bun:test";
import type { SandboxCreate } from "../../src/contract/routes/sandboxes.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import type { NetworkFacts } from "../../src/engine/network/policies.ts";
import { hostname, newIdentity, newInfo, notesOn, resolve, vmPlan } from "../../src/engine/plan.ts";
import type { OpenTemplate } from "../../src/engine/templates.ts";
import { FakeHost } from "../../src/host/fake.ts";
import { FakeClock } from "../harness/clock.ts";

const own = () => ({ cpu: 2, memoryMib: 1024 });
const NETWORKS: NetworkFacts = { degraded: null, exempt: [] };
const resolved = (input: SandboxCreate) => resolve(input, own, null, NETWORKS);

test("resolve fills everything and keeps what was asked", () => {
  expect(resolved({})).toEqual({
    ...{ template: "base", snapshotId: null, cpu: 2, memoryMib: 1024, ttlSeconds: null, idle: null, detached: false },
    ...{ metadata: {}, env: {}, workdir: null, policy: parsePolicy({ mode: "open" }, []), anyPolicy: true },
  });
  const asked = { template: "t", cpu: 1, memoryMb: 128, ttlSeconds: 5, detached: true, workdir: "/w", env: { A: "b" } };
  expect(resolved(asked)).toMatchObject({ template: "t", cpu: 1, memoryMib: 128, ttlSeconds: 5, detached: true });
});

test("notesOn tells when more vCPUs than cores were granted", () => {
  expect(notesOn(resolved({ cpu: 2 }), 2)).toEqual([]);
  expect(notesOn(resolved({ cpu: 4 }), 2)).toEqual(["4 vCPUs share the host's 2 cores"]);
});

test("vmPlan maps the template private and puts the lease's jail around it", async () => {
  const snapshot = { memory: { layerFds: [7], tableFd: 6 }, layers: [], openState: () => 8, diskFd: 9 };
  const machine = { cpu: 1, memoryMib: 512, accel: { kind: "tcg" } } as const;
  const template: OpenTemplate = {
    ...{
      size: { name: "base", cpu: 1, memoryMib: 512 },
      machine,
      snapshot,
      digest: "d",
      workingSetMib: 1,
      warm: false,
      hold: () => () => undefined,
    },
  };
  const host = new FakeHost(new FakeClock());
  const lease = await host.lease({ id: "sb_x", cpu: 1, memoryMib: 512, snapshot, detached: false });
  const plan = vmPlan(template, lease, { deadlineNs: 5n, detached: false });
  expect(plan).toMatchObject({
    id: "sb_x",
    machine,
    memory: { kind: "image", image: { layerFds: [7], tableFd: 6 } },
    start: { kind: "restore" },
  });
  expect(plan.jail).toMatchObject({ uid: lease.jail.uid, hostname: "sb-x", deadlineNs: 5n, detached: false });
});

test("newIdentity is new at every call, and in the forms the guest's files have", () => {
  const all = Array.from({ length: 50 }, () => newIdentity("sb_abc", 1_700_000_000_123.5, true));
  for (const key of ["bootId", "machineId"] as const) expect(new Set(all.map((i) => i[key])).size).toBe(50);
  expect(new Set(all.map((i) => Buffer.from(i.entropy).toString("hex"))).size).toBe(50);
  const [one] = all;
  expect(one?.entropy.length).toBe(64);
  expect(one?.bootId).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(one?.machineId).toMatch(/^[0-9a-f]{32}$/);
  expect(one?.wallNs).toBe(1_700_000_000_123_500_000n);
  expect(hostname("sb_abc")).toBe("sb-abc");
});

test("newInfo has its times in UTC", () => {
  const at = { wallMs: Date.UTC(2031, 1, 3), cores: 2, ownerPid: 1, path: "none", parentId: null } as const;
  const info = newInfo("sb_x", resolved({ ttlSeconds: 90 }), at);
  expect([info.createdAt, info.expiresAt]).toEqual(["2031-02-03T00:00:00.000Z", "2031-02-03T00:01:30.000Z"]);
});
