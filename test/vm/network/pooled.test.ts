/** Ready clones of a server's pool: what they may reach is in force before they have a user, and is their user's before they run. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import { LIMITS } from "../../../src/limits.ts";
import { type CreateOptions, Sandbox } from "../../../src/sandbox.ts";
import { ECHO_PORT, Internet, NAME_SERVER, networkGate } from "../../harness/internet.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { keepersOf } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { python } from "./ground.ts";

const ADDRESS = "93.184.216.63";
const NAME = "pooled.example.com";
/** Says what the name stands for and what answers there, or what went wrong. */
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

if (networkGate()) {
  guardLeaks("base");
  describe("A ready clone of a pool for detached sandboxes", () => {
    let internet: Internet;
    let warren: Warren;
    beforeAll(async () => {
      internet = await Internet.open([ADDRESS]);
      await internet.name(NAME, { a: [ADDRESS] });
      const network = { networkReserve: LIMITS.networkReserve, config: { dns: NAME_SERVER } };
      warren = await openTestWarren({ ...network, prepared: 0, ready: 1, detachedPool: true });
    }, VM_BAKE_MS);
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      await internet[Symbol.asyncDispose]();
    }, VM_TEST_MS);

    /** Takes the clone that waits. `meanwhile` happens to the home before. */
    async function taken<T>(options: CreateOptions, job: (sandbox: Sandbox) => Promise<T>, meanwhile?: () => void) {
      expect(await warren.engine.prepare({ template: "base" })).toBe(1);
      meanwhile?.();
      const all = { template: "base", detached: true, ttlSeconds: 300, ...options };
      await using sandbox = await Sandbox.create(all, warren.sandboxes);
      expect((await sandbox.info()).createPath).toBe("ready");
      return await job(sandbox);
    }
    const reach = (sandbox: Sandbox) => python(sandbox, REACH, NAME, String(ECHO_PORT));

    test(
      "reaches names at once, also when the keeper was killed while it waited",
      async () => {
        expect(await taken({}, reach)).toBe(`${ADDRESS} 1\n`);
        const [keeper = 0] = keepersOf(TEST_HOME);
        const kill = () => process.kill(keeper, "SIGKILL");
        expect(await taken({}, reach, kill)).toBe(`${ADDRESS} 1\n`);
        await until("it is gone", () => startTicksOf(keeper) === null);
        expect(keepersOf(TEST_HOME).length).toBe(1);
      },
      VM_TEST_MS,
    );

    test(
      "has its user's policy and certificates instead",
      async () => {
        expect(await taken({ egress: { mode: "none" } }, reach)).toBe("gaierror\n");
        const secret = { host: NAME, header: "authorization", value: "hidden" };
        const asked = { egress: { mode: "allowlist" as const, allow: [NAME] }, secrets: [secret] };
        const trusted = await taken(asked, async (sandbox) => {
          const { stdout } = await sandbox.exec(["grep", "-c", "BEGIN", "/usr/local/share/ca-certificates/warren.crt"]);
          return stdout;
        });
        expect(trusted).toBe("1\n");
      },
      VM_TEST_MS,
    );
  });
}
