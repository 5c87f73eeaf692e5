/** Where webhooks may go, and what one POST believes of whoever answers. */
import { describe, expect, test } from "bun:test";
import { publicAddress, webhookUrl } from "../../../src/api/edge/webhooks/address.ts";
import { post } from "../../../src/api/edge/webhooks/post.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { createAuthority } from "../../../src/egress/proxy/ca/authority.ts";
import { WarrenError } from "../../../src/errors.ts";
import { until } from "../../harness/until.ts";
import { fails } from "../../suites/sandbox/subject.ts";
import { program } from "./programs.ts";

describe("publicAddress", () => {
  const at = (url: string, ...addresses: string[]) => publicAddress(webhookUrl(url), async () => addresses, false);

  test("takes public addresses, and refuses all others however they are written", async () => {
    expect(await at("https://hook.test/", "93.184.216.34", "2606:2800:220:1::1")).toBe("93.184.216.34");
    expect(await at(`http://${"93.184.216.34"}/`)).toBe("93.184.216.34");
    for (const address of [
      "127.0.0.1",
      "10.1.2.3",
      "169.254.169.254",
      "192.168.0.1",
      "0.0.0.0",
      "100.64.0.1",
      "::1",
      "::ffff:127.0.0.1",
      "fe80::1",
      "fd00:ec2::254",
      "64:ff9b::7f00:1",
      "nonsense",
    ])
      await fails("invalid_request", at("https://hook.test/", "93.184.216.34", address));
    for (const host of [
      "127.0.0.1",
      "2130706433",
      "0x7f.1",
      "0177.0.0.1",
      "127.1",
      "[::1]",
      "[::ffff:7f00:1]",
      "169.254.169.254",
      "0",
    ])
      await fails("invalid_request", at(`http://${host}/`));
    await fails("invalid_request", at("http://hook.test/"));
    const unknown = publicAddress(webhookUrl("http://hook.test/"), () => Promise.reject(new Error("ENOTFOUND")), false);
    expect((await fails("invalid_request", unknown)).message).not.toContain("ENOTFOUND");
    for (const url of [
      "ftp://hook.test/",
      `http://${"user:pass"}@hook.test/`,
      "http://",
      "file:///etc/passwd",
      "http://hook.test:0/",
    ])
      expect(() => webhookUrl(url)).toThrow(WarrenError);
  });
});

describe("post", () => {
  const ask = (port: number, more: object = {}) =>
    post({
      url: new URL(`http://hook.test:${port}/`),
      address: "127.0.0.1",
      headers: {},
      body: "{}",
      signal: new AbortController().signal,
      ...more,
    });

  for (const [what, answer] of [
    ["no HTTP", "SSH-2.0\r\n"],
    ["nothing", ""],
    ["a status that is none", "HTTP/1.1 999 X\r\n\r\n"],
    ["a line without an end", "H".repeat(1_000_000)],
  ] as const) {
    test(`fails when the receiver answers ${what}`, async () => {
      using it = await program((socket) => socket.end(answer));
      await expect(ask(it.port)).rejects.toThrow();
      await until("the connection is gone", () => it.sockets.size === 0);
    });
  }

  test("reads a first line however it is cut, and nothing behind it", async () => {
    let sent = 0;
    using it = await program((socket) => {
      const pieces = ["HTT", "P/1.1 20", "2 Accepted\r", "\n"];
      const more = () => {
        const piece = pieces.shift() ?? "X-A: b\r\n".repeat(1000);
        sent += piece.length;
        if (!socket.destroyed && sent < 100_000_000) socket.write(piece, () => setImmediate(more));
      };
      more();
    });
    expect(await ask(it.port)).toBe(202);
    await until("the connection is gone", () => it.sockets.size === 0);
    expect(sent).toBeLessThan(50_000_000);
  });

  test("ends with its signal, and says nothing over TLS to who is not the name", async () => {
    using silent = await program(() => undefined);
    const abort = new AbortController();
    const waiting = ask(silent.port, { signal: abort.signal });
    await until("it is asked", () => silent.heard() !== "");
    abort.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await expect(ask(silent.port, { signal: abort.signal })).rejects.toThrow("enough");
    const authority = createAuthority(systemClock, ["hook.test"]);
    const { certPem: cert, keyPem: key } = authority.leafFor("hook.test");
    const ca = authority.certificatePem;
    let heard = 0;
    const tls = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert, key },
      socket: {
        data: (socket) => {
          heard += 1;
          socket.write("HTTP/1.1 204 X\r\n\r\n");
        },
      },
    });
    const over = (name: string, more: object) =>
      ask(tls.port, { url: new URL(`https://${name}:${tls.port}/`), ...more });
    await expect(over("hook.test", {})).rejects.toThrow(); // nobody vouches for it
    await expect(over("other.test", { ca })).rejects.toThrow(); // it is somebody else's
    expect(heard).toBe(0);
    expect(await over("hook.test", { ca })).toBe(204);
    tls.stop(true);
  });
});
