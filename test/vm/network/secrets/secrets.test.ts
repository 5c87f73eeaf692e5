/**
 * Secrets from a guest to a host of the test's internet that wants one, over TLS that is real on both sides: this host trusts
 * that host's authority only in the mount namespace of the program under test.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../../../src/base/clock.ts";
import { createAuthority } from "../../../../src/egress/proxy/ca/authority.ts";
import { Internet, networkGate } from "../../../harness/internet.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../../harness/vm.ts";
import { guardNetworkLeaks, openNetworkWarren } from "../ground.ts";

const [HOST, ADDRESS, VALUE] = ["vault.example.com", "93.184.216.60", "Bearer 5f2c-hidden"];
const SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt";

if (networkGate()) {
  guardNetworkLeaks();
  describe("A secret", () => {
    let internet: Internet;
    let dir: string;
    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), "warren-secret-"));
      internet = await Internet.open([ADDRESS]);
      for (const name of [HOST, `other.${HOST}`]) await internet.name(name, { a: [ADDRESS] });
      const authority = createAuthority(systemClock, [HOST]);
      await internet.vault(ADDRESS, authority.leafFor(HOST), VALUE);
      const system = existsSync(SYSTEM_ROOTS) ? readFileSync(SYSTEM_ROOTS, "utf8") : "";
      writeFileSync(join(dir, "roots.pem"), `${system}\n${authority.certificatePem}`);
      await using warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(async () => {
      await internet[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    });

    /** What the guest saw; `trusted` false leaves this host's authorities as they are. */
    const seen = async (trusted: boolean): Promise<Record<string, string>> => {
      const bind = trusted ? `mount --bind ${join(dir, "roots.pem")} ${SYSTEM_ROOTS} && ` : "";
      const run = `${bind}exec ${process.execPath} ${join(import.meta.dir, "child.ts")} ${HOST} "$SECRET"`;
      const child = Bun.spawn(["unshare", "--mount", "sh", "-c", run], {
        env: { ...process.env, SECRET: VALUE },
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      if ((await child.exited) !== 0) throw new Error(err);
      return JSON.parse(out) as Record<string, string>;
    };

    test(
      "is set on requests over TLS to its host and nowhere else, and never seen in the guest",
      async () => {
        const said = await seen(true);
        expect([said["tls"], said["python"], said["own"], said["forked"]]).toEqual(Array(4).fill("open\n"));
        expect(said["issuer"]).toMatch(/Warren/i);
        expect(said["plain"]).toContain("no such file"); // it arrives, without the secret
        for (const part of ["fronted", "mismatch"]) expect(said[part]).not.toContain("open");
        expect(JSON.stringify(said)).not.toContain("hidden");
        const { arrived } = await internet.report();
        expect(arrived.filter((line) => line.startsWith("https"))).toEqual([
          ...["with-curl", "with-python", "own", "who", "with-curl"].map((path) => `https ${HOST} /${path}`),
        ]);
      },
      VM_TEST_MS,
    );

    test(
      "is not told to a host that only says that it is the one",
      async () => {
        const said = await seen(false); // nobody vouches for it here
        expect(said["tls"]).toContain("could not be reached: UNABLE_TO_VERIFY_LEAF_SIGNATURE");
        expect([said["tls"], said["python"]].join("\n")).not.toMatch(/^(open|closed)$/m);
        const { arrived } = await internet.report();
        expect(arrived.filter((line) => line.startsWith("https"))).toEqual([]);
      },
      VM_TEST_MS,
    );
  });
}
