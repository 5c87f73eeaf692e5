/** The page under /docs as a browser shows it: whole without the internet, and a way to try the API with a key. */
import { describe, expect, test } from "bun:test";
import { openapi } from "../../../src/contract/openapi.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { Browser, type Page } from "./chromium.ts";

const shows = (page: Page, expression: string) =>
  until(expression, async () => (await page.evaluate(`Boolean(${expression})`)) === true, 30_000);

async function click(page: Page, selector: string): Promise<void> {
  const found = `document.querySelector(${JSON.stringify(selector)})`;
  await shows(page, found);
  await page.evaluate(`${found}.click()`);
}

async function opened(browser: Browser, api: Api): Promise<Page> {
  const page = await browser.page(`${api.url}/docs`);
  await shows(page, "document.querySelector('.opblock')");
  return page;
}

/** Opens an operation, sends what it has ready, and what the page then shows: status and body. */
async function tried(page: Page, operation: string): Promise<string> {
  const at = `#operations-${operation}`;
  if ((await page.evaluate(`document.querySelector("${at} .opblock-body") === null`)) === true) {
    await click(page, `${at} .opblock-summary-control`);
    await click(page, `${at} .try-out__btn`);
  } else await click(page, `${at} .btn-clear`);
  await shows(page, `document.querySelector("${at} .live-responses-table .response") === null`);
  await click(page, `${at} .execute`);
  await shows(page, `document.querySelector("${at} .live-responses-table .response .microlight")`);
  return String(await page.evaluate(`document.querySelector("${at} .live-responses-table .response").innerText`));
}

async function authorize(page: Page, key: string): Promise<void> {
  await click(page, ".auth-wrapper .authorize");
  await shows(page, "document.querySelector('.modal-ux input')");
  await page.evaluate("document.querySelector('.modal-ux input').focus()");
  await page.type(key);
  await click(page, ".modal-ux button[type=submit]");
  await shows(page, "document.querySelector('.modal-ux').innerText.includes('Authorized')");
  await click(page, ".modal-ux .btn-done");
}

if (gate("chromium")) {
  describe("Docs in a browser", () => {
    test("show every operation, and ask nobody but their own server", async () => {
      await using api = await Api.start();
      await using browser = await Browser.launch();
      const page = await opened(browser, api);
      const paths = Object.values(openapi({ version: "0" })["paths"] as Record<string, object>);
      const count = paths.reduce((sum, path) => sum + Object.keys(path).length, 0);
      expect(await page.evaluate("document.querySelectorAll('.opblock').length")).toBe(count);
      expect(page.requested.map((url) => url.replace(api.url, ""))).toEqual([
        ...["/docs", "/docs/script.js", "/openapi.json"],
      ]);
      expect(page.errors).toEqual([]);
    }, 60_000);

    test("are watched in a way that would tell who asks elsewhere", async () => {
      await using browser = await Browser.launch();
      const page = await browser.page("about:blank");
      await page.evaluate("fetch('http://elsewhere.example/').then(() => 1, () => 0)");
      expect(page.requested).toContain("http://elsewhere.example/");
    }, 60_000);

    test("send requests with the key that they were given, and forget it", async () => {
      await using api = await Api.start();
      await using browser = await Browser.launch();
      const page = await opened(browser, api);
      expect(await tried(page, "Accounts-me")).toContain("unauthorized");
      await authorize(page, api.admin);
      expect(await tried(page, "Accounts-me")).toMatch(/^200.*"id": "admin"/s);
      expect(await tried(page, "Sandboxes-create")).toMatch(/^201.*"template": "code-interpreter"/s);
      expect(await api.engine.as("admin").list({})).toHaveLength(1);
      expect(new Set(page.requested.map((url) => new URL(url).origin))).toEqual(new Set([api.url]));
      const again = await opened(browser, api);
      expect(await tried(again, "Accounts-me")).toContain("unauthorized");
    }, 60_000);
  });
}
