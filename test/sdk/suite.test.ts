/** The behaviour suite through the client and a server over loopback: the same tests that the engine passes in process. */
import { connect } from "../../src/client.ts";
import { Api } from "../api/subject.ts";
import { sandboxSuite } from "../suites/sandbox.ts";

const skips = {
  shell: "the fake guest knows a dozen commands",
  tar: "the fake guest has no tar",
  users: "the fake guest has no users",
  python: "the fake guest has no Python",
} as const;

sandboxSuite(
  "Sandbox over HTTP, a store in memory",
  async () => {
    const api = await Api.start({ settings: { defaultTtlSeconds: null } });
    const { host } = connect({ url: api.url, key: await api.key() });
    const close = async () => {
      await api[Symbol.asyncDispose]();
      api.world.expectNothingLeft();
    };
    return { host, close };
  },
  { skips, detached: true },
);
