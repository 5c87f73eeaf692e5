/**
 * Detached sandboxes after their makers: each command here is a process of its own, and between two of them there is nobody
 * but the guest, the kernel and the home's keeper.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import { cli } from "../../harness/cli.ts";
import { ECHO_PORT, Internet, NAME_SERVER, networkGate } from "../../harness/internet.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { keepersOf } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

const ADDRESS = "93.184.216.61";
const OTHER = "93.184.216.62";
/** Says what a name stands for and what answers there, or what went wrong. */
const REACH = `
import socket, sys
try:
    address = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), socket.AF_INET, socket.SOCK_STREAM)[0][4]
    with socket.create_connection(address, 3) as s:
        s.send(b"x")
        print(address[0], len(s.recv(1)))
except OSError as error:
    print(type(error).__name__)
`;

async function warren(...args: readonly string[]): Promise<string> {
  const { code, out, err } = await cli(args, { env: { WARREN_DNS: NAME_SERVER } });
  if (code !== 0) throw new Error(`warren ${args.join(" ")}: exit ${code}: ${err}`);
  return out.trim();
}

const reach = (id: string, name: string) => warren("exec", id, "python3", "-c", REACH, name, String(ECHO_PORT));

if (networkGate()) {
  guardLeaks("base");
  describe("A detached sandbox", () => {
    let internet: Internet;
    let id = "";
    beforeAll(async () => {
      internet = await Internet.open([ADDRESS, OTHER]);
      await internet.name("kept.example.com", { a: [ADDRESS] });
      await internet.name("later.example.com", { a: [OTHER] });
      id = await warren("create", "--ttl", "300s", "--allow", "kept.example.com");
    }, VM_BAKE_MS);
    afterAll(async () => {
      if (id !== "") await warren("rm", id);
      await internet[Symbol.asyncDispose]();
    }, VM_TEST_MS);

    test(
      "reaches what it may by name when its maker has ended, and nothing else",
      async () => {
        expect(keepersOf(TEST_HOME).length).toBe(1);
        expect(await reach(id, "kept.example.com")).toBe(`${ADDRESS} 1`);
        expect(await reach(id, "later.example.com")).toBe("gaierror");
        expect(await reach(id, OTHER)).not.toContain(OTHER);
      },
      VM_TEST_MS,
    );

    test(
      "has the policy that a third process gives it, and tells what it tried",
      async () => {
        await warren("network", id, "--allow", "later.example.com");
        expect(await reach(id, "later.example.com")).toBe(`${OTHER} 1`);
        expect(await reach(id, "kept.example.com")).toBe("gaierror");
        const log = await warren("network", id, "--log");
        expect(log).toMatch(/allowed +dns +udp +later\.example\.com/);
        expect(log).toMatch(/refused +dns +udp +kept\.example\.com/);
        expect(log).toMatch(new RegExp(`allowed +connection +tcp .*${OTHER.replaceAll(".", "\\.")} port ${ECHO_PORT}`));
      },
      VM_TEST_MS,
    );

    test(
      "has its names again when its keeper was killed, from the next command on",
      async () => {
        const [keeper = 0] = keepersOf(TEST_HOME);
        process.kill(keeper, "SIGKILL");
        await until("it is gone", () => startTicksOf(keeper) === null);
        expect(await reach(id, "later.example.com")).toBe(`${OTHER} 1`);
        expect(await reach(id, "kept.example.com")).toBe("gaierror");
        const [again = 0] = keepersOf(TEST_HOME);
        expect(again).not.toBe(keeper);
        const rss = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${again}/status`, "utf8"))?.[1]) / 1024;
        expect(rss).toBeLessThan(150);
      },
      VM_TEST_MS,
    );

    test(
      "that has a secret believes its keeper's certificates, those of the next keeper too",
      async () => {
        const file = join(mkdtempSync(join(tmpdir(), "secret-")), "token");
        writeFileSync(file, "hidden");
        const secret = `kept.example.com:Authorization=${file}`;
        const own = await warren("create", "--ttl", "300s", "--allow", "kept.example.com", "--secret", secret);
        rmSync(dirname(file), { recursive: true });
        const count = ["sh", "-c", "grep -c BEGIN /usr/local/share/ca-certificates/warren.crt"];
        expect(await warren("exec", own, ...count)).toBe("1");
        const [keeper = 0] = keepersOf(TEST_HOME);
        process.kill(keeper, "SIGKILL");
        await until("it is gone", () => startTicksOf(keeper) === null);
        expect(await warren("exec", own, ...count)).toBe("2");
        expect(await warren("exec", own, ...count)).toBe("2");
        expect(await warren("exec", own, "sh", "-c", "env; grep -rl hidden /root /etc /tmp || true")).not.toContain(
          "hidden",
        );
        await warren("rm", own);
      },
      VM_TEST_MS,
    );

    test(
      "takes the keeper along when it is the last: within seconds it is not there any more",
      async () => {
        await warren("rm", id);
        id = "";
        await until("the keeper has ended", () => keepersOf(TEST_HOME).length === 0, 30_000);
      },
      VM_TEST_MS,
    );
  });
}
