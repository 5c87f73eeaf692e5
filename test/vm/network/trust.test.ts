/** A host's certificate in a real guest's lists: who does not believe a server does so afterwards. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { trust } from "../../../src/guest/trust/trust.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { networkGate } from "../../harness/internet.ts";
import { until } from "../../harness/until.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { create, guardNetworkLeaks, openNetworkWarren } from "./ground.ts";

const PORT = 8443;
/** An authority and a certificate of its for localhost, made in the guest: OpenSSL comes with its CA certificates. */
const MAKE = `
mkdir -p /work/ca && cd /work/ca
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $key -keyout ca.key -out ca.pem -days 30 -subj "/CN=Warren's test"
openssl req $key -keyout s.key -out s.csr -subj /CN=localhost
echo subjectAltName=DNS:localhost > ext
openssl x509 -req -in s.csr -CA ca.pem -CAkey ca.key -out s.pem -days 30 -extfile ext
`;
const SERVE = `openssl s_server -accept ${PORT} -cert /work/ca/s.pem -key /work/ca/s.key -www -quiet`;
/** Each ends with 0 when it believes the server. */
const CLIENTS: Readonly<Record<string, string>> = {
  curl: `curl -sS --max-time 20 -o /dev/null https://localhost:${PORT}/`,
  python: `python3 -c "import urllib.request as u; u.urlopen('https://localhost:${PORT}/', timeout=20)"`,
};

if (networkGate()) {
  guardNetworkLeaks();
  describe("A certificate of the host's", () => {
    let warren: Warren;
    let sandbox: Sandbox;
    beforeAll(async () => {
      warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
      sandbox = await create(warren, { mode: "none" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    const believed = async (): Promise<string[]> => {
      const names = Object.keys(CLIENTS);
      const done = await Promise.all(names.map((name) => sandbox.exec(CLIENTS[name]!)));
      return names.filter((_, i) => done[i]?.exitCode === 0);
    };

    test(
      "is believed by curl and Python without a word of configuration, and not before",
      async () => {
        expect(await sandbox.exec(MAKE)).toMatchObject({ exitCode: 0 });
        await sandbox.spawn(SERVE);
        const insecure = `curl -skS --max-time 20 -o /dev/null https://localhost:${PORT}/`;
        await until("the server answers", async () => (await sandbox.exec(insecure)).exitCode === 0);
        expect(await believed()).toEqual([]);
        const files: Parameters<typeof trust>[0] = {
          readFile: async function* ({ path }) {
            yield* await sandbox.files.stream(path);
          },
          writeFile: ({ path, body, mode }) => sandbox.files.write(path, body, mode === undefined ? {} : { mode }),
        };
        await trust(files, await sandbox.files.readText("/work/ca/ca.pem"));
        expect(await believed()).toEqual(Object.keys(CLIENTS));
      },
      VM_TEST_MS,
    );
  });
}
