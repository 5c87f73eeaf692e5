/** Text of the command line → values, each with an error that says what is allowed. */
import { InvalidArgumentError } from "commander";
import type { VolumeMount } from "../contract/routes/volumes.ts";
import { LIMITS } from "../limits.ts";

const SECONDS: Readonly<Record<string, number>> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 };
const MIB: Readonly<Record<string, number>> = { "": 1, m: 1, mib: 1, g: 1024, gib: 1024 };

/** `90`, `90s`, `1.5m`, `2h`, `1d` → seconds. */
export function seconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text);
  const value = Number(match?.[1]) * (SECONDS[match?.[2] ?? ""] ?? Number.NaN);
  if (!(value > 0)) throw new InvalidArgumentError("allowed is a time such as 20, 90s, 5m or 2h.");
  return value;
}

/** `512`, `512m`, `2g` → MiB. */
export function mib(text: string): number {
  const match = /^(\d+)([a-z]*)$/i.exec(text);
  const value = Number(match?.[1]) * (MIB[(match?.[2] ?? "").toLowerCase()] ?? Number.NaN);
  if (Number.isInteger(value) && value >= LIMITS.memoryMibMin && value <= LIMITS.memoryMibMax) return value;
  throw new InvalidArgumentError(
    `allowed are ${LIMITS.memoryMibMin} to ${LIMITS.memoryMibMax} MiB, for instance 512 or 2g.`,
  );
}

/** A whole number within bounds. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`allowed is a whole number from ${least} to ${most}.`);
  };
}

/** `NAME=VALUE`, given any number of times. */
export function pairs(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("allowed is NAME=VALUE.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** `NAME`, `NAME:/PATH` or either with `:ro`, given any number of times. */
export function volumeMounts(text: string, before: readonly VolumeMount[] = []): VolumeMount[] {
  const [, name, mount, ro] = /^([a-z0-9][a-z0-9_-]{0,62})(?::(\/.*?))?(:ro)?$/.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError("allowed is NAME:/PATH, with :ro to read only.");
  return [...before, { name, readOnly: ro !== undefined, ...(mount === undefined ? {} : { mount }) }];
}

/** MiB as in `512m` or `2g`, for a volume. */
export function volumeSize(text: string): number {
  const match = /^(\d+)([a-z]*)$/i.exec(text);
  const value = Number(match?.[1]) * (MIB[(match?.[2] ?? "").toLowerCase()] ?? Number.NaN);
  if (Number.isInteger(value) && value >= LIMITS.volumeMbMin && value <= LIMITS.volumeMbMax) return value;
  throw new InvalidArgumentError(
    `allowed are ${LIMITS.volumeMbMin} to ${LIMITS.volumeMbMax} MiB, for instance 512 or 10g.`,
  );
}

/** Only what was given: an absent option is absent, not `undefined`. */
export function given<T extends Readonly<Record<string, unknown>>>(
  options: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
