/** The shared suite, as a program for Node: bundled, and run against the server that its arguments name. */
import { connect } from "../../../src/client.ts";
import { sandboxSuite } from "../../suites/sandbox.ts";

const [, , url = "", key = "", skips = "{}", timeoutMs = "15000"] = process.argv;

sandboxSuite(
  "Sandbox over HTTP, on Node",
  async () => ({ host: connect({ url, key }).host, close: () => Promise.resolve() }),
  {
    skips: JSON.parse(skips) as Record<string, string>,
    detached: true,
    timeoutMs: Number(timeoutMs),
    setUpMs: 600_000,
  },
);
