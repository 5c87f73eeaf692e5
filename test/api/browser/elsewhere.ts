/** A page of another origin than the server's, with the client as it is published, and what it does with a sandbox. */
import { join } from "node:path";
import { folder, published } from "../../sdk/node/build.ts";
import type { Page } from "./chromium.ts";

export interface Elsewhere extends AsyncDisposable {
  /** As a browser names it in `Origin`. */
  readonly origin: string;
}

export async function elsewhere(): Promise<Elsewhere> {
  const place = await folder();
  await published(place.path);
  const client = Bun.file(join(place.path, "dist/client.js"));
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    routes: {
      "/": new Response("<!doctype html><title>elsewhere</title><link rel=icon href=data:,>", {
        headers: { "content-type": "text/html" },
      }),
      "/client.js": () => new Response(client, { headers: { "content-type": "text/javascript" } }),
    },
  });
  return {
    origin: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: async () => {
      await server.stop(true);
      await place[Symbol.asyncDispose]();
    },
  };
}

/** What {@link useSandbox} found. */
export interface Found {
  readonly kinds: readonly string[];
  readonly out: string;
  readonly left: string;
  readonly read: readonly number[];
  readonly piecewise: number;
  readonly missing: boolean;
  readonly account: string;
  /** Of the sandbox, after its close. */
  readonly listed: number;
}

/** In the page: create, a stream that is read to its end and one that is left, files, close. @throws what the client throws there */
export async function useSandbox(page: Page, url: string, key: string): Promise<Found> {
  const program = `(async () => {
    const { connect, isWarrenError } = await import("/client.js");
    const client = connect({ url: ${JSON.stringify(url)}, key: ${JSON.stringify(key)} });
    const sandbox = await client.Sandbox.create({ metadata: { from: "a browser" } });
    try {
      const kinds = [];
      let out = "";
      for await (const event of await sandbox.stream("echo one")) {
        kinds.push(event.kind);
        if (event.kind === "stdout") out += new TextDecoder().decode(event.bytes);
      }
      let left = "";
      for await (const event of await sandbox.stream("sleep 100")) {
        left = event.kind; // before the command's end
        break;
      }
      await sandbox.files.write("/tmp/bytes", new Uint8Array([0, 255, 10, 13]));
      const read = [...(await sandbox.files.read("/tmp/bytes"))];
      async function* pieces() { for (let i = 0; i < 20; i++) yield new Uint8Array(10_000).fill(i); }
      await sandbox.files.write("/tmp/pieces", pieces());
      const piecewise = (await sandbox.files.read("/tmp/pieces")).length;
      const missing = await sandbox.files.read("/tmp/missing").then(() => false, (error) => isWarrenError(error, "file_not_found"));
      const { account } = await client.host.me({});
      await sandbox.close();
      const listed = (await client.Sandbox.list()).filter(({ id }) => id === sandbox.id).length;
      return { kinds, out, left, read, piecewise, missing, account: account.id, listed };
    } finally {
      await sandbox.close();
    }
  })()`;
  return (await page.evaluate(program)) as Found;
}
