/** The facts about the host's processor that a snapshot depends on. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { measureTscKhz } from "../host/tsc.ts";
import { digestOf } from "./manifest.ts";

function field(key: string): string {
  const info = readFileSync("/proc/cpuinfo", "utf8");
  return new RegExp(`^${key}\\s*: (.*)$`, "m").exec(info)?.[1] ?? "unknown";
}

/** Under TCG the emulated model, the same on every host; under KVM the host's own, told apart by model and flags. */
export function cpuModel(accel: "kvm" | "tcg"): string {
  return accel === "tcg" ? "max" : `${field("model name")} ${digestOf(field("flags")).slice(0, 16)}`;
}

/** Two measurements of the same counter differ by less: 100 in a million, 0.36 s an hour. */
const SAME = 1e-4;

/**
 * Rate of the host's time stamp counter in kHz, kept in `dir`: snapshots have to agree on one figure, while each measurement
 * differs in its last digits. Another processor behind the same data is noticed and gets a figure of its own.
 */
export async function tscKhz(dir: string, clock: Clock): Promise<number> {
  const file = Bun.file(join(dir, "tsc-khz"));
  const kept = (await file.exists()) ? Number(await file.text()) : 0;
  const now = await measureTscKhz(clock, kept > 0 ? 50 : 200);
  if (kept > 0 && Math.abs(now / kept - 1) < SAME) return kept;
  await Bun.write(file, String(now));
  return now;
}
