/** What `warren serve` refuses before it opens anything, as its user sees it; and TLS. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runOk } from "../../src/host/run.ts";
import { startServer } from "../../src/server/start.ts";
import { cli } from "../harness/cli.ts";
import { fake } from "./parts.ts";

let dir = "";
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "warren-serve-"));
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", join(dir, "key.pem")];
  await runOk(["openssl", "req", "-x509", ...key, ...names, "-days", "1", "-out", join(dir, "cert.pem")], {
    deadlineMs: 20_000,
  });
  writeFileSync(join(dir, "garbage.pem"), "garbage");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("warren serve", () => {
  const refused: [string, string[], Record<string, string>, RegExp][] = [
    ["an address that others reach", ["--host", "0.0.0.0"], {}, /0\.0\.0\.0 can be reached.*--insecure-http/],
    ["such an address in brackets", ["--host", "[::]"], {}, /:: can be reached/],
    ["such an address from the environment", [], { WARREN_LISTEN: "10.1.2.3:80" }, /10\.1\.2\.3 can be reached/],
    ["a certificate alone", ["--tls-cert", "cert.pem"], {}, /go together/],
    ["files that are not there", ["--tls-cert", "none", "--tls-key", "none"], {}, /cannot be read.*none/],
    ["a port that is none", ["--port", "70000"], {}, /0 to 65535/],
    ["a database that is none", [], { DATABASE_URL: "mysql://x" }, /DATABASE_URL/],
    ["a key that is none", [], { WARREN_ADMIN_KEY: "short" }, /WARREN_ADMIN_KEY/],
    ["a name that is none", [], { WARREN_LISTN: "x" }, /Did you mean WARREN_LISTEN/],
  ];
  for (const [what, args, env, says] of refused) {
    test(`refuses ${what}, with 2, before anything is opened`, async () => {
      const home = join(dir, "home");
      const { code, err, out } = await cli(["serve", ...args], { env: { WARREN_HOME: home, ...env }, cwd: dir });
      expect([code, out]).toEqual([2, ""]);
      expect(err).toMatch(says);
      expect(() => readFileSync(home)).toThrow("ENOENT");
    }, 20_000);
  }
});

test("startServer speaks TLS with what it is given", async () => {
  const read = (name: string) => readFileSync(join(dir, name), "utf8");
  const tls = { cert: read("cert.pem"), key: read("key.pem") };
  const server = await startServer(fake({ tls }).options);
  try {
    expect(server.url).toStartWith("https://127.0.0.1:");
    const answer = await fetch(`${server.url}/healthz`, { tls: { ca: tls.cert } });
    expect(answer.status).toBe(200);
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow(); // nobody vouches for it
    await expect(fetch(server.url.replace("https", "http"))).rejects.toThrow();
  } finally {
    await server.close();
  }
});

test("startServer lets go of what it opened when it cannot listen", async () => {
  const first = fake();
  const server = await startServer(first.options);
  const port = Number(new URL(server.url).port);
  const second = fake({ listen: { hostname: "127.0.0.1", port } });
  await expect(startServer(second.options)).rejects.toMatchObject({ code: "invalid_request" });
  second.world.expectNothingLeft();
  expect(second.engine.as("me").create({})).rejects.toThrow("closed");
  await server.close();
});
