/** The compiler's word on everything that ffi/ believes about C: prototypes, numbers, layouts, orders of enums. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { C, LAYOUTS } from "../../ffi/layout.ts";
import { LIBC, OURS, type Prototype, SPAWN_SPEC, SPAWN_STEPS } from "../../ffi/symbols.ts";
import { INIT_STEPS } from "../../src/host/jail/pipes.ts";
import { gate } from "../harness/gates.ts";

const FFI = join(import.meta.dir, "../../ffi");

/** What gcc says against a C text; "" when it agrees. */
async function objections(text: string): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "abi-"));
  try {
    await Bun.write(join(dir, "t.c"), text);
    const gcc = Bun.spawn(["gcc", "-std=gnu11", "-fsyntax-only", `-I${FFI}`, join(dir, "t.c")], { stderr: "pipe" });
    const said = await new Response(gcc.stderr).text();
    return (await gcc.exited) === 0 ? "" : said;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function typeOf(p: Prototype): string {
  const args = p.args.slice(0, p.variadic ?? p.args.length).join(", ");
  return `${p.returns}(${p.variadic === undefined ? args : `${args}, ...`})`;
}

function agree(name: string, p: Prototype): string {
  return `_Static_assert(__builtin_types_compatible_p(__typeof__(${name}), ${typeOf(p)}), "${name}");\n`;
}

const HEADERS = `#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
`;
const KERNEL_HEADERS = `#include <stddef.h>
#include <linux/fs.h>
#include <linux/fiemap.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/falloc.h>
`;
const FROM_KERNEL =
  /^(FICLONERANGE|FS_IOC_|FIEMAP_|LOOP_|LO_|XFS_|CGROUP2_|NETLINK_|FALLOC_|FSOPEN_|FSMOUNT_|FSCONFIG_)/;

if (gate("gcc")) {
  test("Symbols agree with the prototypes of the system's headers", async () => {
    let text = `#define _GNU_SOURCE\n${HEADERS}`;
    // With _GNU_SOURCE glibc declares bind with a union of all address types; it is compared without.
    for (const [name, p] of Object.entries(LIBC)) if (name !== "bind") text += agree(name, p);
    expect(await objections(text)).toBe("");
    expect(await objections(`#include <sys/socket.h>\n${agree("bind", LIBC.bind)}`)).toBe("");
  });

  test("Symbols of our own C agree with it, and its spec is laid out as TypeScript fills it", async () => {
    let text = `#include "sys.h"\n#include "spawn.c"\n#include "net/netns.c"\n#include "tsc.c"\n`;
    for (const [name, p] of Object.entries(OURS)) text += agree(name, p);
    for (const [i, name] of SPAWN_SPEC.entries()) {
      text += `_Static_assert(__builtin_offsetof(struct spawn_spec, ${name}) == ${8 * i}, "${name}");\n`;
    }
    text += `_Static_assert(sizeof(struct spawn_spec) == ${8 * SPAWN_SPEC.length}, "spawn_spec");\n`;
    for (const [i, step] of SPAWN_STEPS.entries()) {
      text += `_Static_assert(AT_${step.toUpperCase()} == ${i + 1}, "${step}");\n`;
    }
    expect(await objections(text)).toBe("");
  });

  test("Steps of init have the names that TypeScript gives them", async () => {
    const c = { privileges: "PRIVS" } as Record<string, string>;
    let text = `#include "init/init.h"\n`;
    for (const [i, step] of INIT_STEPS.entries()) {
      text += `_Static_assert(AT_${c[step] ?? step.toUpperCase()} == ${i + 1}, "${step}");\n`;
    }
    expect(await objections(text)).toBe("");
  });

  test("Numbers of the ABI are those of the headers", async () => {
    const own = Object.entries(C).filter(([name]) => !FROM_KERNEL.test(name));
    const kernel = Object.entries(C).filter(([name]) => FROM_KERNEL.test(name));
    const check = ([name, value]: [string, number]) =>
      `_Static_assert((unsigned long)(${name}) == ${value}ul, "${name}");\n`;
    expect(own.length).toBeGreaterThan(40);
    expect(await objections(`#define _GNU_SOURCE\n${HEADERS}${own.map(check).join("")}`)).toBe("");
    expect(await objections(`${KERNEL_HEADERS}${kernel.map(check).join("")}`)).toBe("");
  });

  test("Layouts of structs are those of the headers", async () => {
    const kernel = new Set(["file_clone_range", "fiemap", "fiemap_extent", "loop_config", "loop_info64"]);
    let own = `#define _GNU_SOURCE\n${HEADERS}#include <signal.h>\n`;
    let theirs = KERNEL_HEADERS;
    for (const [struct, fields] of Object.entries(LAYOUTS)) {
      const type = struct === "siginfo" ? "siginfo_t" : `struct ${struct}`;
      let text = "";
      for (const [field, [offset, size]] of Object.entries(fields as Record<string, readonly [number, number]>)) {
        const is =
          field === ""
            ? `sizeof(${type}) == ${size}`
            : `offsetof(${type}, ${field}) == ${offset} && sizeof(((${type} *)0)->${field}) == ${size}`;
        text += `_Static_assert(${is}, "${struct}.${field}");\n`;
      }
      if (kernel.has(struct)) theirs += text;
      else own += text;
    }
    expect(await objections(own)).toBe("");
    expect(await objections(theirs)).toBe("");
  });

  test("System call numbers in C are those of the headers, the refused ones too", async () => {
    const sys = readFileSync(join(FFI, "sys.h"), "utf8");
    const numbers = [...sys.matchAll(/\bNR_(\w+) = (\d+)/g)].map(([, name, nr]) => [name, nr]);
    const refused = readFileSync(join(FFI, "init/refused.h"), "utf8");
    const more = [...refused.matchAll(/^REFUSE\((\w+), (\d+), \w+\)/gm)].map(([, name, nr]) => [name, nr]);
    expect(numbers.length).toBeGreaterThan(40);
    expect(more.length).toBeGreaterThan(60);
    const all = [...numbers, ...more, ["socket", "41"], ["socketpair", "53"]];
    const text = all.map(([name, nr]) => `_Static_assert(__NR_${name} == ${nr}, "${name}");\n`).join("");
    expect(await objections(`#include <asm/unistd_64.h>\n${text}`)).toBe("");
  });

  test("Requests to devices in C are those of the headers, by the names beside them", async () => {
    const text = ["spawn.c", "net/netns.c"].map((name) => readFileSync(join(FFI, name), "utf8")).join("");
    const requests = [...text.matchAll(/NR_ioctl, fd, (0x[0-9a-f]+),[^/\n]*\/\* ([A-Z_]+)/g)];
    expect(requests.length).toBe([...text.matchAll(/NR_ioctl, fd,/g)].length);
    expect(requests.length).toBeGreaterThan(12);
    const checks = requests.map(([, number, name]) => `_Static_assert(${name} == ${number}, "${name}");\n`).join("");
    const headers = ["sys/ioctl", "linux/filter", "linux/if_tun", "linux/sockios"]
      .map((h) => `#include <${h}.h>\n`)
      .join("");
    expect(await objections(`${headers}${checks}`)).toBe("");
    expect(await objections(`${headers}_Static_assert(TUNSETIFF == 1, "TUNSETIFF");`)).toContain("TUNSETIFF");
  });

  test("The compiler objects to a wrong prototype, a wrong number and a wrong offset", async () => {
    const wrong = { args: ["int", "unsigned int"], returns: "long" } as const;
    expect(await objections(`#include <unistd.h>\n${agree("close", wrong)}`)).toContain("close");
    expect(await objections(`#include <fcntl.h>\n_Static_assert(O_CLOEXEC == 1, "O_CLOEXEC");`)).toContain("O_CLOEXEC");
    expect(
      await objections(
        `#include "sys.h"\n#include "spawn.c"\n_Static_assert(__builtin_offsetof(struct spawn_spec, argv) == 0, "argv");`,
      ),
    ).toContain("argv");
  });
}
