/** The published client in a browser, on a page of another origin: let in where the server says so, and by default not. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { dialTcp } from "../../sandbox/http/tcp.ts";
import { Api } from "../subject.ts";
import { Browser } from "./chromium.ts";
import { type Elsewhere, elsewhere, useSandbox } from "./elsewhere.ts";

if (gate("chromium")) {
  describe("Client in a browser", () => {
    let other: Elsewhere;

    beforeAll(async () => {
      other = await elsewhere();
    }, 120_000);
    afterAll(() => other?.[Symbol.asyncDispose]());

    test("creates, streams, writes, reads and closes, where the server allows its origin", async () => {
      const { origin } = other;
      await using api = await Api.start({ settings: { corsOrigins: [origin] } });
      await using browser = await Browser.launch();
      const page = await browser.page(origin);
      expect(await useSandbox(page, api.url, await api.key())).toEqual({
        ...{ kinds: ["started", "stdout", "exit"], out: "one\n", left: "started" },
        ...{ read: [0, 255, 10, 13], piecewise: 200_000, missing: true, account: "acme", listed: 0 },
      });
    }, 60_000);

    test("reaches a port of a sandbox", async () => {
      const { origin } = other;
      const settings = { corsOrigins: [origin] };
      await using api = await Api.start({ settings, around: (host) => ({ ...host, dial: dialTcp }) });
      await using browser = await Browser.launch();
      const page = await browser.page(origin);
      const program = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: async (asked) => new Response(asked.body) });
      const said = await page.evaluate(`(async () => {
        const { connect } = await import("/client.js");
        const { Sandbox } = connect({ url: ${JSON.stringify(api.url)}, key: ${JSON.stringify(api.admin)} });
        const sandbox = await Sandbox.create();
        const answer = await sandbox.fetch(${program.port}, "/", { method: "POST", body: "through" });
        const text = await answer.text();
        await sandbox.close();
        return text;
      })()`);
      expect(said).toBe("through");
      await program.stop(true);
    }, 60_000);

    test.each([
      ["by default", []],
      ["where another origin is allowed", ["http://elsewhere.example"]],
    ])(
      "is refused %s, before anything is done",
      async (_, corsOrigins) => {
        await using api = await Api.start({ settings: { corsOrigins } });
        await using browser = await Browser.launch(); // ends before its server does
        const page = await browser.page(other.origin);
        await expect(useSandbox(page, api.url, api.admin)).rejects.toThrow(`cannot reach ${api.url}`);
        await until("its console says why", () => page.errors.join().includes("CORS policy"));
        expect(await api.engine.as("admin").list({})).toEqual([]);
        expect(api.store.calls.get("keyByHash")).toBeUndefined(); // the key was never sent
      },
      60_000,
    );
  });
}
