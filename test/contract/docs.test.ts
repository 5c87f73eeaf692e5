/** The docs page needs nothing from elsewhere, and shows the document of this server. */
import { expect, test } from "bun:test";
import { DOCS_POLICY, DOCS_SCRIPT, docsPage } from "../../src/api/docs.ts";

test("docsPage loads nothing from elsewhere", async () => {
  const { html } = await docsPage();
  const loaded = [...html.matchAll(/<(?:script|link|img|iframe)[^>]*?(?:src|href)="([^"]*)"/g)].map(([, url]) => url);
  expect(loaded).toEqual(["data:,", DOCS_SCRIPT]);
  const inStyle = [...html.matchAll(/url\(["']?([^"')]{0,40})|@import/g)].map(([, url]) => url ?? "an import");
  for (const url of inStyle) expect(url).toStartWith("data:");
  expect(DOCS_POLICY).not.toContain("*");
});

test("docsPage shows the document of this server, and asks no validator elsewhere", async () => {
  const { script } = await docsPage();
  const [begin = ""] = script.split("SwaggerUIBundle({").slice(-1);
  expect(begin).toContain('url: "/openapi.json"');
  expect(begin).toContain("validatorUrl: null");
  expect(script).not.toContain("sourceMappingURL");
  expect(await docsPage()).toBe(await docsPage());
});

test("docsPage's script can be parsed, and brings what its last lines call", async () => {
  const { script } = await docsPage();
  expect(() => new Bun.Transpiler({ loader: "js" }).scan(script)).not.toThrow();
  expect(script.indexOf("SwaggerUIBundle=")).toBeGreaterThan(0);
});
