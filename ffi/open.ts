/**
 * The only importer of bun:ffi. It opens libc and compiles our C inside this process, each when first needed, and hands out
 * raw functions that only native.ts may call. The C is freestanding and reaches the compiler through a memfd, so a bare
 * host without headers and a compiled binary without source files both work.
 */
import { cc, dlopen, ptr, read } from "bun:ffi";
import { writeSync } from "node:fs";
import netnsSource from "./net/netns.c" with { type: "text" };
import spawnSource from "./spawn.c" with { type: "text" };
import { C_TYPES, LIBC, OURS, type Prototype } from "./symbols.ts";
import sysSource from "./sys.h" with { type: "text" };
import tscSource from "./tsc.c" with { type: "text" };

export type Raw = (...args: (number | bigint | Uint8Array | null)[]) => number | bigint;

interface Declaration {
  args: ("i32" | "u32" | "i64" | "u64" | "ptr")[];
  returns: "i32" | "i64";
}

function declare(table: Readonly<Record<string, Prototype>>): Record<string, Declaration> {
  const out: Record<string, Declaration> = {};
  for (const [name, p] of Object.entries(table)) {
    out[name] = { args: p.args.map((a) => C_TYPES[a].ffi), returns: p.returns === "int" ? "i32" : "i64" };
  }
  return out;
}

/** libc's functions and the address of this thread's errno. */
export function openLibc(): { readonly functions: Readonly<Record<string, Raw>>; readonly errno: () => number } {
  const location = { __errno_location: { args: [], returns: "ptr" } } as const;
  const at = dlopen("libc.so.6", location).symbols.__errno_location;
  const { symbols } = dlopen("libc.so.6", declare(LIBC));
  // The address is asked for each time: it differs per thread, and asking costs 8 ns.
  return { functions: symbols as unknown as Record<string, Raw>, errno: () => read.i32(at()!, 0) };
}

/** Our C, compiled in 3 ms. @throws when cc is switched off (`--no-ffi-cc`) or /proc is missing. */
export function openOurs(memfd: (name: string) => number, close: (fd: number) => void): Readonly<Record<string, Raw>> {
  const fd = memfd("warren-spawn.c");
  try {
    writeSync(fd, `${sysSource}\n${spawnSource}\n${netnsSource}\n${tscSource}`);
    const { symbols } = cc({ source: `/proc/self/fd/${fd}`, flags: "-nostdlib", symbols: declare(OURS) });
    return symbols as unknown as Record<string, Raw>;
  } finally {
    close(fd);
  }
}

/**
 * Where `bytes` lie. Valid while `bytes` is referenced, and only for memory that native.ts made on an ArrayBuffer of its own:
 * the storage of small typed arrays moves (measured in 1.4.5).
 */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(ptr(bytes));
}
