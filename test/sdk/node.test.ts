/** The client on Node: the shared suite in a process of Node's, and what is published, as a program there would use it. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Api } from "../api/subject.ts";
import { gate } from "../harness/gates.ts";
import { dialTcp } from "../sandbox/http/tcp.ts";
import { bundled, folder, published, run } from "./node/build.ts";
import { served } from "./served.ts";

const skips = {
  shell: "the fake guest knows a dozen commands",
  tar: "the fake guest has no tar",
  users: "the fake guest has no users",
  python: "the fake guest has no Python",
  sockets: "forwards and WebSockets to ports need Bun",
};

function count(output: string, what: string): number {
  return Number(new RegExp(`^# ${what} (\\d+)$`, "m").exec(output)?.[1] ?? Number.NaN);
}

if (gate("node")) {
  test("Client on Node passes the suite", async () => {
    await using program = await bundled("suite.ts");
    const { url, key, close } = await served("memory");
    const argv = [program.path, url, key, JSON.stringify(skips)];
    const { exitCode, output } = await run(["node", "--test-reporter=tap", ...argv]);
    await close();
    if (exitCode !== 0) throw new Error(output);
    expect(count(output, "fail")).toBe(0);
    expect(count(output, "pass")).toBeGreaterThan(60);
  }, 120_000);

  test("What is published runs on Node, types included, and needs no other file", async () => {
    await using place = await folder();
    await published(place.path);
    const api = await Api.start({ around: (host) => ({ ...host, dial: dialTcp }) });
    const key = await api.key();
    using page = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => new Response(`${request.method} ${(await request.bytes()).length}`),
    });
    const program = join(place.path, "program.mjs");
    await Bun.write(
      program,
      `import { connect, isWarrenError } from "./dist/client.js";
const client = connect({ url: ${JSON.stringify(api.url)}, key: ${JSON.stringify(key)} });
const sandbox = await client.Sandbox.create({ metadata: { from: "node" } });
const seen = [];
for await (const event of await sandbox.stream("echo one")) seen.push(event.kind);
async function* pieces() { for (let i = 0; i < 50; i++) yield new Uint8Array(10_000).fill(i); }
await sandbox.files.write("/tmp/streamed", pieces());
const bytes = await sandbox.files.read("/tmp/streamed");
const missing = await sandbox.files.read("/tmp/missing").catch((error) => error);
const page = await sandbox.fetch(${page.port}, "/", { method: "POST", body: new Uint8Array(3_000_000) });
const { readable, writable } = await sandbox.connect(${page.port});
const writer = writable.getWriter();
await writer.write(new TextEncoder().encode("GET / HTTP/1.0\\r\\n\\r\\n"));
const spoken = (await new Response(readable).text()).split("\\r\\n")[0];
const refused = [];
try { sandbox.forward(80); } catch (error) { refused.push(error.code); }
await sandbox.websocket(80).catch((error) => refused.push(error.code));
const { account } = await client.host.me({});
console.log(JSON.stringify({
  seen, size: bytes.length, last: bytes.at(-1), missing: isWarrenError(missing, "file_not_found"),
  page: await page.text(), spoken: spoken.slice(9), refused, account: account.id, listed: (await client.Sandbox.list()).length,
}));
await sandbox.close();
`,
    );
    const { exitCode, output } = await run(["node", program]);
    expect({ exitCode, said: JSON.parse(output) }).toEqual({
      exitCode: 0,
      said: {
        ...{ seen: ["started", "stdout", "exit"], size: 500_000, last: 49, missing: true },
        ...{ page: "POST 3000000", spoken: "200 OK", refused: ["unsupported", "unsupported"] },
        ...{ account: "acme", listed: 1 },
      },
    });
    await api[Symbol.asyncDispose]();
    const types = join(place.path, "dist/types/client.d.ts");
    await Bun.write(
      join(place.path, "typed.ts"),
      `import { connect, type SandboxInfo } from "./dist/client.js";
export const infos: Promise<SandboxInfo[]> = connect({ key: "k" }).Sandbox.list({ state: "running" });
export const wrong = connect({ keys: "k" });
`,
    );
    await Bun.write(join(place.path, "dist/client.d.ts"), `export * from "./types/client.d.ts";\n`);
    expect(await Bun.file(types).exists()).toBe(true);
    const flags = ["--ignoreConfig", "--noEmit", "--strict", "--skipLibCheck", "--target", "esnext", "--types", ""];
    const modules = ["--module", "nodenext", "--moduleResolution", "nodenext"];
    const tsc = join(place.path, "node_modules/.bin/tsc");
    const checked = await run([tsc, ...flags, ...modules, join(place.path, "typed.ts")], { cwd: place.path });
    expect(checked.output.match(/error TS\d+/g)).toEqual(["error TS2561"]);
    expect(checked.output).toContain("'keys'");
  }, 120_000);
}

test("A bundle for browsers holds no module of Node or Bun", async () => {
  const built = await Bun.build({ entrypoints: [join(import.meta.dir, "../../src/client.ts")], target: "browser" });
  const [file, ...more] = built.outputs;
  expect([built.success, more.length]).toEqual([true, 0]);
  const text = (await file?.text()) ?? "";
  expect(text.match(/["'`](?:node|bun):[\w/]+["'`]/g)).toBeNull();
  expect(
    text.match(/^(?:import|export) [^;]*\bfrom ["'][^"']+["']|\b(?:require|import)\(["'][^"']+["']\)/gm),
  ).toBeNull();
  expect(text).toContain("idempotency-key");
});
