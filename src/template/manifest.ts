/**
 * What a published snapshot is: digests of every part and everything that a restore depends on. A snapshot is used only when
 * all of it equals what this host would bake now; otherwise it is baked anew, never guessed at.
 */
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

const Digest = Type.String({ pattern: "^[0-9a-f]{64}$" });

/** Whatever changes one of these makes another snapshot. */
export const Fit = Type.Object({
  /** Version of the manifest and of the bake procedure. */
  format: Type.Integer(),
  template: Type.String(),
  cpu: Type.Integer(),
  memoryMib: Type.Integer(),
  accel: Type.Union([Type.Literal("kvm"), Type.Literal("tcg")]),
  /** Model and flags of the host's CPU under KVM, the emulated model under TCG. */
  cpuModel: Type.String(),
  /** The guest's clock counts the host's TSC: kHz. */
  tscKhz: Type.Integer(),
  devices: Type.String(),
  vmm: Type.Record(Type.String(), Type.String()),
  kernel: Digest,
  initrd: Digest,
  /** Digest of what the root file system was made from: packages, files, suite. */
  rootfs: Digest,
  /** Digest of the warm interpreter's program, and what it has imported. */
  interpreter: Digest,
  warm: Type.Array(Type.String()),
});
export type Fit = Static<typeof Fit>;

export const Manifest = Type.Object({
  fit: Fit,
  /** Digest of the whole unit, and the directory's name. */
  digest: Type.String(),
  bakedAt: Type.String(),
  agentVersion: Type.String(),
  bootNonce: Type.String(),
  parts: Type.Object({
    memory: Type.Object({ bytes: Type.Integer(), allocatedBytes: Type.Integer(), xxh3: Type.String() }),
    state: Type.Object({ bytes: Type.Integer(), sha256: Digest }),
    disk: Type.Object({ bytes: Type.Integer(), allocatedBytes: Type.Integer() }),
  }),
  /** MiB that a clone dirtied when it was tried right after the bake. */
  workingSetMib: Type.Number(),
});
export type Manifest = Static<typeof Manifest>;

export const FORMAT = 1;

/** The manifest in this text, or null when it is not one of this version. */
export function parseManifest(text: string): Manifest | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null; // torn or foreign: the unit is not used, and baked again
  }
  return Value.Check(Manifest, value) ? value : null;
}

/** The names of what differs; empty when the snapshot fits. */
export function misfits(wanted: Fit, found: Fit): string[] {
  return (Object.keys(wanted) as (keyof Fit)[]).filter((key) => !Bun.deepEquals(wanted[key], found[key]));
}

/** SHA-256 over JSON with sorted keys: equal content, equal digest. */
export function digestOf(value: unknown): string {
  const sorted = (v: unknown): unknown => {
    if (Array.isArray(v)) return v.map(sorted);
    if (typeof v !== "object" || v === null) return v;
    return Object.fromEntries(
      Object.entries(v)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, inner]) => [key, sorted(inner)]),
    );
  };
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(sorted(value))).digest("hex");
}

/** Writes a file and, beside it, its SHA-256 as `PATH.sha256`: hashed once, when it is made. */
export async function writeDigested(path: string, bytes: Uint8Array): Promise<void> {
  await Bun.write(path, bytes);
  await Bun.write(`${path}.sha256`, new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));
}
