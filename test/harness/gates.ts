/**
 * Tests that need more than a plain process: a gate says whether it is there and prints why it is not.
 * `REQUIRE=vm,root` (which CI sets) turns a skip into a failure.
 */

import { test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";

function inPath(program: string): string | null {
  const path = (process.env["PATH"] ?? "").split(":");
  return path.some((dir) => existsSync(`${dir}/${program}`)) ? null : `${program} is not in PATH`;
}

/** Each answers with what is missing, or null. */
const GATES = {
  root: () => (process.getuid?.() === 0 ? null : "not root"),
  vm: () => {
    if (process.getuid?.() !== 0) return "VMMs are started by root: not root";
    return inPath("qemu-system-x86_64");
  },
  kvm: () => (existsSync("/dev/kvm") ? null : "there is no /dev/kvm"),
  gcc: () => inPath("gcc"),
  node: () => inPath("node"),
  chromium: () => inPath("chromium"),
  poppler: () => inPath("pdftotext"),
  postgres: () => {
    const dirs = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
    const has = dirs.some((version) => existsSync(`/usr/lib/postgresql/${version}/bin/initdb`));
    return has ? null : "there is no PostgreSQL server below /usr/lib/postgresql";
  },
  cgroups: () => (existsSync("/sys/fs/cgroup") && readdirSync("/sys/fs/cgroup").length > 0 ? null : "no cgroups here"),
} as const;

export type Gate = keyof typeof GATES;
const told = new Set<string>();

/**
 * True when every gate is open; registers a failing test for one that `REQUIRE` names and that is not.
 * @example
 * if (gate("vm")) sandboxSuite("a real VM", …);
 */
export function gate(...gates: readonly Gate[]): boolean {
  const required = new Set((process.env["REQUIRE"] ?? "").split(",").map((name) => name.trim()));
  for (const name of gates) {
    const missing = GATES[name]();
    if (missing === null) continue;
    if (required.has(name)) {
      test(`Gate ${name} is open, as REQUIRE demands`, () => {
        throw new Error(`REQUIRE names ${name}, but ${missing}`);
      });
    } else if (!told.has(name)) {
      told.add(name);
      console.warn(`skipped: gate ${name} is closed: ${missing}`);
    }
    return false;
  }
  return true;
}
