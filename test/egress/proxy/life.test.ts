/** The proxy's own life: a policy that changes under open connections, its ports, its end; and its host's exceptions. */

import { expect, test } from "bun:test";
import type { Socket } from "node:net";
import { connect, createServer } from "node:net";
import { WarrenError } from "../../../src/errors.ts";
import { until } from "../../harness/until.ts";
import { get, NAMES, world } from "./world.ts";

test("A new policy holds from the next request of an open connection", async () => {
  await using here = await world();
  const plain = here.plain().say(get("a.test", "/1"));
  const secret = here.tls(NAMES.secret).say(get(NAMES.secret, "/1"));
  await plain.hears("GET /1");
  await secret.hears("GET /1");
  here.proxy.update({ permits: () => false });
  await plain.say(get("a.test", "/2")).hears("does not allow a.test");
  await secret.say(get(NAMES.secret, "/2")).hears(`does not allow ${NAMES.secret}`);
  expect(here.heard()).not.toContain("/2");
  here.proxy.update({ permits: () => true });
  await plain.say(get(NAMES.denied, "/3")).hears("GET /3");
  await secret.say(get(NAMES.secret, "/3")).hears("GET /3");
});

test("What a new policy does not allow stops at once, what it allows goes on", async () => {
  const hung: Socket[] = [];
  await using here = await world({ serve: (socket) => hung.push(socket) });
  const spliced = here.tls(NAMES.open).say("x");
  const waiting = here.plain().say(get("a.test"));
  const other = here.plain().say(get("b.test"));
  await until("all three to arrive", () => hung.length === 3);
  await until("both requests", () => here.heard().split("\r\n\r\n").length === 3);
  here.proxy.update({ permits: (name) => name === "b.test" });
  await spliced.isOver();
  await waiting.isOver();
  expect(waiting.text).toBe("");
  for (const socket of hung) if (!socket.destroyed) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  await other.hears("ok");
});

test("Closing ends every connection in whatever state, and gives back the port", async () => {
  const hung: Socket[] = [];
  await using here = await world({ serve: (socket) => hung.push(socket) });
  const talks = [
    here.plain(),
    here.plain().say("GET / HT"),
    here.plain().say(get("a.test")),
    here.tls(NAMES.open).say("x"),
    here.tls(NAMES.secret).say(get(NAMES.secret)),
    here.tls(NAMES.secret).say("POST"),
  ];
  await until("three to arrive", () => hung.length === 3);
  await here.proxy.close();
  for (const talk of talks) await talk.isOver();
  await until("the servers to be left", () => hung.every(({ destroyed, readableEnded }) => destroyed || readableEnded));
  const late = connect({ host: "127.0.0.1", port: here.proxy.port });
  const refused = await new Promise<Error>((resolve) => late.once("error", resolve));
  expect(String(refused)).toContain("ECONNREFUSED");
  await here.proxy.close(); // twice does no harm
});

test("Closing ends a passage whose name is still being asked for", async () => {
  let asked = 0;
  await using here = await world({
    resolve: () => {
      asked++;
      return new Promise(() => undefined);
    },
  });
  const talks = [here.plain().say(get("a.test")), here.tls(NAMES.open), here.tls(NAMES.secret).say(get(NAMES.secret))];
  await until("all to be asked for", () => asked === 3);
  await here.proxy.close();
  for (const talk of talks) await talk.isOver();
});

test("It listens on both addresses with one port", async () => {
  await using here = await world({ alsoOn: "::1" });
  const six = connect({ host: "::1", port: here.proxy.port });
  await new Promise<void>((resolve, reject) => six.once("connect", resolve).once("error", reject));
  six.destroy();
  await here.plain().say(get("a.test")).hears("200 OK");
});

test("An address that is not this host's is an error that says so", async () => {
  const error = await world({ hostname: "192.0.2.1" }).then(String, (thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(WarrenError);
  expect(error).toMatchObject({ code: "driver_failed" });
});

test("An exception of the host's callbacks ends that connection and nothing else", async () => {
  let broken = true;
  const fault = (): never => {
    throw new Error("a fault");
  };
  await using here = await world({
    permits: () => (broken ? fault() : true),
    onRequest: (event) => (event.name === "b.test" ? fault() : undefined),
  });
  expect(await here.plain().say(get("a.test")).isOver()).toBe("");
  await here.tls(NAMES.open).isOver();
  broken = false;
  await here.plain().say(get("b.test")).hears("200 OK"); // who listens does not decide
  await here.plain().say(get("a.test")).hears("200 OK");
  expect(here.logged.filter((line) => line.includes("a fault")).length).toBe(3);
});

test("A request is reported at the head of its answer, or when it ends without one", async () => {
  await using here = await world({
    serve: (socket) => {
      socket.once("data", (bytes: Uint8Array) => {
        if (!Buffer.from(bytes).includes("/silent")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot");
      });
    },
  });
  await here.plain().say(get("a.test", "/long")).hears("not");
  expect(here.events).toMatchObject([{ name: "a.test", verdict: "allowed", reason: null }]);
  const silent = here.plain().say(get("b.test", "/silent"));
  await until("the request", () => here.heard().includes("/silent"));
  expect(here.events.length).toBe(1);
  here.proxy.update({ permits: () => false });
  await silent.isOver();
  await until("its report", () => here.events.length === 2);
  expect(here.events[1]).toMatchObject({ name: "b.test", reason: expect.stringContaining("before an answer") });
});

test("A host that cannot be reached is a 502 that says what happened", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await new Promise((resolve) => server.close(resolve));
  await using here = await world({ connectTo: { port: () => port, roots: [] } });
  const answer = await here.plain().say(get("a.test")).isOver();
  expect(answer).toStartWith("HTTP/1.1 502 Bad Gateway\r\n");
  expect(answer).toContain("Warren: a.test (port 80): it could not be reached: ECONNREFUSED");
  expect(here.events).toMatchObject([{ verdict: "allowed", reason: expect.stringContaining("ECONNREFUSED") }]);
});
