/** Hosts with a secret: TLS ends in the proxy, the header is set on the way, and nothing of its value is seen on this side. */
import { expect, test } from "bun:test";
import { WarrenError } from "../../../src/errors.ts";
import { get, NAMES, VALUE, world } from "./world.ts";

/** Answers like a server that keeps its secrets. */
function silent(socket: import("node:net").Socket): void {
  socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
}

test("A secret is set on a request over TLS, in place of what the guest sent, and the guest never sees it", async () => {
  await using here = await world({ serve: silent });
  const talk = here.tls(NAMES.secret).say(get(NAMES.secret, "/v1", "authorization: mine", "X-Other: kept"));
  const answer = await talk.hears("ok");
  expect(answer).not.toContain("s3cr3t");
  expect(here.heard()).toContain(`Authorization: ${VALUE}\r\n`);
  expect(here.heard()).not.toContain("mine");
  expect(here.heard()).toContain("X-Other: kept\r\n");
  expect(here.heard().startsWith(`GET /v1 HTTP/1.1\r\nHost: ${NAMES.secret}\r\n`)).toBe(true);
  expect(here.events).toMatchObject([
    { kind: "request", name: NAMES.secret, address: "127.0.0.1", port: 443, verdict: "allowed", reason: null },
  ]);
  expect(JSON.stringify([here.events, here.logged])).not.toContain("s3cr3t");
});

test("A secret's host is believed by clients that trust only the sandbox's authority", async () => {
  await using here = await world({ serve: silent });
  await here
    .tls(NAMES.secret, { trust: [here.ca.certificatePem] })
    .say(get(NAMES.secret))
    .hears("ok");
  // The control: without that authority its client refuses.
  const wary = here.tls(NAMES.secret, { trust: [here.worldPem] }).say(get(NAMES.secret));
  await wary.isOver();
  expect(wary.error).toContain("UNABLE_TO_VERIFY");
});

test("A Host that is not the SNI is refused on a connection that can carry a secret", async () => {
  await using here = await world();
  for (const host of [NAMES.open, `${NAMES.secret}:8443`, `x.${NAMES.secret}`]) {
    const answer = await here.tls(NAMES.secret).say(get(host)).isOver();
    expect(answer).toStartWith("HTTP/1.1 421 ");
  }
  const absolute = `GET https://${NAMES.open}/ HTTP/1.1\r\nHost: ${NAMES.secret}\r\n\r\n`;
  expect(await here.tls(NAMES.secret).say(absolute).isOver()).toStartWith("HTTP/1.1 400 ");
  const plain = `GET http://${NAMES.secret}/ HTTP/1.1\r\nHost: ${NAMES.secret}\r\n\r\n`;
  expect(await here.tls(NAMES.secret).say(plain).isOver()).toStartWith("HTTP/1.1 400 ");
  expect(here.served()).toBe(0);
  expect(here.events.every(({ verdict }) => verdict === "refused")).toBe(true);
  // The control: the same in capitals, with its port and a final dot, is the same host.
  await here
    .tls(NAMES.secret)
    .say(get(`${NAMES.secret.toUpperCase()}.:443`))
    .hears(VALUE);
});

test("TRACE is not passed to a host with a secret, which would send it back", async () => {
  await using here = await world();
  const trace = get(NAMES.secret).replace("GET", "TRACE");
  expect(await here.tls(NAMES.secret).say(trace).isOver()).toStartWith("HTTP/1.1 405 ");
  expect(here.served()).toBe(0);
});

test("A secret goes only to a host whose certificate is for its name", async () => {
  const secrets = [{ host: NAMES.wrong, header: "X-Key", value: VALUE }];
  await using here = await world({ secrets });
  const answer = await here.tls(NAMES.wrong).say(get(NAMES.wrong)).isOver();
  expect(answer).toStartWith("HTTP/1.1 502 ");
  expect(answer).toContain("ERR_TLS_CERT_ALTNAME_INVALID");
  expect(here.heard()).toBe("");
  expect(JSON.stringify([answer, here.events, here.logged])).not.toContain("s3cr3t");
});

test("A secret goes to no host with a certificate of an unknown authority", async () => {
  await using here = await world();
  // It is led to another proxy, which has a certificate for the name, but of an authority that only its own sandbox trusts.
  const connectTo = { port: () => here.proxy.port, roots: [here.worldPem] };
  await using stranger = await world({ connectTo });
  const answer = await stranger.tls(NAMES.secret).say(get(NAMES.secret)).isOver();
  expect(answer).toStartWith("HTTP/1.1 502 ");
  expect(answer).toContain("UNABLE_TO_VERIFY");
  expect(here.heard()).toBe("");
});

test("A secret is not set on plain HTTP, and the log says so", async () => {
  await using here = await world();
  const answer = await here
    .plain()
    .say(get(NAMES.secret, "/", "Authorization: own"))
    .hears("own");
  expect(answer).not.toContain("s3cr3t");
  expect(here.events[0]).toMatchObject({ verdict: "allowed", port: 80, reason: expect.stringContaining("https only") });
});

test("A client that does not offer HTTP/1.1 to a host with a secret is told so in TLS", async () => {
  await using here = await world();
  const talk = here.tls(NAMES.secret, { protocols: ["h2"] });
  await talk.isOver();
  expect(talk.error).toContain("NO_APPLICATION_PROTOCOL");
  expect(here.events[0]).toMatchObject({ verdict: "refused", reason: expect.stringContaining("HTTP/1.1") });
});

test("WebSocket to a host with a secret is carried both ways after the 101, and no other protocol", async () => {
  await using here = await world({
    serve: (socket) => {
      socket.once("data", (bytes: Uint8Array) => {
        const asked = Buffer.from(bytes).toString("latin1");
        const protocol = asked.includes("Upgrade: websocket") ? "websocket" : "h2c";
        socket.write(`HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\nhello`);
        socket.on("data", (more: Uint8Array) => socket.write(Buffer.concat([Buffer.from("got "), more])));
      });
    },
  });
  const ask = (protocol: string): string =>
    get(NAMES.secret, "/ws", "Connection: keep-alive, Upgrade", `Upgrade: ${protocol}`, "Sec-WebSocket-Key: k");
  const talk = here.tls(NAMES.secret).say(ask("websocket"));
  await talk.hears("hello");
  expect(here.heard()).toContain(VALUE);
  await talk.say("raw bytes").hears("got raw bytes");
  talk.end();
  await talk.isOver();
  expect(await here.tls(NAMES.secret).say(ask("h2c")).isOver()).toStartWith("HTTP/1.1 502 ");
  expect(here.heard()).not.toContain("h2c");
});

test("A host that switches to another protocol than WebSocket gets no tunnel", async () => {
  for (const upgrade of ["h2c", "websocket, h2c", "TLS/1.3"]) {
    const answer = `HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`;
    await using here = await world({ serve: (socket) => socket.once("data", () => socket.write(answer)) });
    const ask = get(NAMES.secret, "/ws", "Connection: Upgrade", "Upgrade: websocket");
    expect(await here.tls(NAMES.secret).say(ask).isOver()).toStartWith("HTTP/1.1 502 ");
  }
});

test("Several secrets of a host are all set, and a change of them holds from the next request", async () => {
  const of = (value: string) => ["X-One", "X-Two"].map((header) => ({ host: NAMES.secret, header, value }));
  await using here = await world({ secrets: of("first") });
  const talk = here.tls(NAMES.secret).say(get(NAMES.secret, "/", "x-two: guest"));
  await talk.hears("X-One: first\r\nX-Two: first\r\n");
  here.proxy.update({ secrets: of("second") });
  await talk.say(get(NAMES.secret)).hears("X-One: second\r\nX-Two: second\r\n");
  expect(talk.text).not.toContain("guest");
  expect(here.served()).toBe(1);
});

test("Secrets that cannot be kept are refused at the start and on update", async () => {
  await using here = await world();
  const wrong = [
    { host: "10.0.0.1", header: "A", value: "v" },
    { host: "*.test", header: "A", value: "v" },
    { host: "other.test", header: "A", value: "v" },
    { host: NAMES.secret, header: "Transfer-Encoding", value: "chunked" },
    { host: NAMES.secret, header: "host", value: "elsewhere" },
    { host: NAMES.secret, header: "A", value: "s3cr3t\r\nB: c" },
  ];
  for (const secret of wrong) {
    expect(() => here.proxy.update({ secrets: [secret] })).toThrow(WarrenError);
    const refused = await world({ secrets: [secret] }).then(String, (error: WarrenError) => error);
    expect(refused).toMatchObject({ code: "invalid_request" });
    expect(String(refused)).not.toContain("s3cr3t");
  }
  await here.tls(NAMES.secret).say(get(NAMES.secret)).hears(VALUE); // as before
});
