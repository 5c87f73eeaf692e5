/** The compiler's word on the numbers of rtnetlink. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RT } from "../../../src/host/net/numbers.ts";
import { gate } from "../../harness/gates.ts";

const HEADERS = `#include <sys/socket.h>
#include <linux/rtnetlink.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/veth.h>
`;

async function objections(numbers: Readonly<Record<string, number>>): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "numbers-"));
  try {
    const lines = Object.entries(numbers).map(([name, value]) => `_Static_assert(${name} == ${value}, "${name}");`);
    await Bun.write(join(dir, "t.c"), `${HEADERS}${lines.join("\n")}\n`);
    const gcc = Bun.spawn(["gcc", "-fsyntax-only", join(dir, "t.c")], { stderr: "pipe" });
    const said = await new Response(gcc.stderr).text();
    return (await gcc.exited) === 0 ? "" : said;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

if (gate("gcc")) {
  test("Numbers of rtnetlink are those of the headers", async () => {
    expect(await objections(RT)).toBe("");
    expect(await objections({ RTM_NEWLINK: 17 })).toContain("RTM_NEWLINK"); // the compiler can object
  });
}
