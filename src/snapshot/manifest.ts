/**
 * What a saved snapshot is: digests of its parts, chained so that one figure stands for the whole, and everything that a
 * restore depends on. Snapshots are users' data: one that does not fit is refused and kept, never made again and never guessed at.
 */
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { Egress, Secrets } from "../contract/routes/network.ts";
import { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { Run } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { digestOf } from "../template/manifest.ts";

const Text = Type.String();
const Bytes = Type.Integer({ minimum: 0 });
const Sha256 = Type.String({ pattern: "^[0-9a-f]{64}$" });
const TextOrNull = Type.Union([Text, Type.Null()]);

/** What has to be the same where a snapshot is restored. */
export const Ground = Type.Object({
  accel: Type.Union([Type.Literal("kvm"), Type.Literal("tcg")]),
  /** Model and flags of the host's CPU under KVM, the emulated model under TCG. */
  cpuModel: Text,
  /** The guest's clock counts the host's TSC: kHz. */
  tscKhz: Type.Integer(),
  devices: Text,
  /** Version and digests of the VMM and its firmware. */
  vmm: Type.Record(Text, Text),
});
export type Ground = Static<typeof Ground>;

const Memory = Type.Object({
  xxh3: Text,
  /** First page and number of pages of each stretch, flat. */
  runs: Type.Array(Type.Integer({ minimum: 0 })),
});

export const Manifest = Type.Object({
  format: Type.Literal(1),
  ground: Ground,
  cpu: Type.Integer(),
  memoryMib: Type.Integer(),
  warm: Type.Boolean(),
  /** The template whose memory is the lowest layer, for whoever has to find what a guest changed since; null when not known. */
  base: Type.Union([
    Type.Object({ name: Text, cpu: Type.Integer(), memoryMib: Type.Integer(), digest: Text }),
    Type.Null(),
  ]),
  workingSetMib: Type.Number(),
  meta: Type.Object({
    id: Text,
    account: Text,
    name: TextOrNull,
    sandboxId: Text,
    template: Text,
    metadata: Type.Record(Text, Text),
    env: Type.Record(Text, Text),
    workdir: TextOrNull,
    egress: Egress,
    secrets: Secrets,
    pauseMs: Type.Number(),
    createdAt: Text,
    parentSnapshotId: TextOrNull,
    sandbox: Type.Union([SandboxInfo, Type.Null()]),
    axis: Type.Optional(Type.Object({ axisMs: Type.Number(), hostBootId: Text, atMs: Type.Number() })),
  }),
  /** Lowest first: the template's, then at least one layer of its own. */
  memory: Type.Array(Memory, { minItems: 2 }),
  state: Type.Object({ bytes: Bytes, sha256: Sha256 }),
  /** `head` is of its first MiB, where a file system says what it is; the rest is not read, since that would take seconds. */
  disk: Type.Object({ bytes: Bytes, head: Sha256 }),
  /** Over all of the above. */
  digest: Text,
});
export type Manifest = Static<typeof Manifest>;

export const MANIFEST = "manifest.json";
export const PAGE = 4096;

/** Each link takes in the one before: the base, the layers upwards, state, disk, then the rest. */
export function chained(manifest: Omit<Manifest, "digest">): string {
  const { memory, state, disk, ...rest } = manifest;
  const links = [...memory, state, disk, rest];
  return links.reduce((digest: string, link) => digestOf([digest, link]), "").slice(0, 32);
}

/** @throws {WarrenError} `snapshot_invalid` */
export function parseManifest(text: string, id: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw damaged(id, "its manifest is not readable");
  }
  if (!Value.Check(Manifest, value)) throw damaged(id, "its manifest is of another version, or damaged");
  const { digest, ...rest } = value;
  if (chained(rest) !== digest) throw damaged(id, "its manifest is not the one that was written");
  return value;
}

/** @throws {WarrenError} `snapshot_invalid` – naming what differs */
export function refuseMisfit(id: string, found: Ground, here: Ground): void {
  const keys = Object.keys(here) as (keyof Ground)[];
  const differs = keys.filter((key) => !Bun.deepEquals(found[key], here[key]));
  if (differs.length === 0) return;
  throw new WarrenError("snapshot_invalid", `snapshot ${id} cannot be restored here: ${differs.join(", ")} differ`, {
    details: { id, differs, saved: pick(found, differs), here: pick(here, differs) },
  });
}

function pick(ground: Ground, keys: readonly (keyof Ground)[]): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, ground[key]]));
}

export function damaged(id: string, why: string): WarrenError {
  return new WarrenError("snapshot_invalid", `snapshot ${id} is damaged: ${why}`, { details: { id } });
}

export function encodeRuns(runs: readonly Run[]): number[] {
  return runs.flatMap(({ offset, length }) => [offset / PAGE, length / PAGE]);
}

/** @throws {WarrenError} `snapshot_invalid` – not sorted and apart within the guest's memory */
export function decodeRuns(flat: readonly number[], sizeBytes: number, id: string): Run[] {
  const runs: Run[] = [];
  let end = 0;
  for (let i = 0; i < flat.length; i += 2) {
    const offset = (flat[i] ?? 0) * PAGE;
    const length = (flat[i + 1] ?? 0) * PAGE;
    if (offset < end || length === 0) throw damaged(id, "its stretches of memory overlap");
    end = offset + length;
    runs.push({ offset, length });
  }
  if (end > sizeBytes) throw damaged(id, "its stretches of memory go beyond it");
  return runs;
}
