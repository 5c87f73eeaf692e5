/** The behaviour suite through the client and a server over loopback: the same tests that the engine passes in process. */
import { connect } from "../../src/client.ts";
import { gate } from "../harness/gates.ts";
import { sandboxSuite } from "../suites/sandbox.ts";
import { type StoreKind, served } from "./served.ts";

const skips = {
  shell: "the fake guest knows a dozen commands",
  tar: "the fake guest has no tar",
  users: "the fake guest has no users",
  python: "the fake guest has no Python",
} as const;

const kinds: readonly StoreKind[] = gate("postgres") ? ["memory", "PGlite", "PostgreSQL"] : ["memory", "PGlite"];

for (const kind of kinds) {
  sandboxSuite(
    `Sandbox over HTTP, ${kind}`,
    async () => {
      const { url, key, close } = await served(kind);
      return { host: connect({ url, key }).host, close };
    },
    { skips, detached: true, setUpMs: 120_000, timeoutMs: 30_000 },
  );
}
