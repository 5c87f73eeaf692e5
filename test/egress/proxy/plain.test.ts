/** Plain HTTP through the proxy: each request held to the policy anew, and nothing that two readers could read in two ways. */

import { expect, test } from "bun:test";
import type { Socket } from "node:net";
import { systemClock } from "../../../src/base/clock.ts";
import { until } from "../../harness/until.ts";
import { get, NAMES, world } from "./world.ts";

/** A server that answers every connection's first bytes with one text, in pieces, and perhaps hangs up. */
function canned(pieces: readonly string[], then: "close" | "stay" = "stay"): (socket: Socket) => void {
  return (socket) => {
    socket.once("data", () => {
      for (const piece of pieces) socket.write(Buffer.from(piece, "latin1"));
      if (then === "close") socket.end();
    });
  };
}

test("Requests of one connection go each where its Host says, and are each held to the policy", async () => {
  await using here = await world();
  const talk = here.plain().say(get("one.test", "/1"));
  await talk.hears("GET /1 HTTP/1.1\r\nHost: one.test\r\n\r\n");
  const refused = await talk.say(get(NAMES.denied, "/2")).hears("does not allow");
  expect(refused).toContain("HTTP/1.1 403 Forbidden\r\n");
  expect(refused).toContain(`Warren: this sandbox's egress policy does not allow ${NAMES.denied} (port 80).`);
  await talk.say(get("one.test:8080", "/3")).hears("GET /3 HTTP/1.1\r\nHost: one.test:8080\r\n\r\n");
  await talk.say(get("[2606:4700::1]", "/4")).hears("Host: [2606:4700::1]\r\n");
  expect(here.events.map(({ name, port, verdict }) => [name, port, verdict])).toEqual([
    ["one.test", 80, "allowed"],
    [NAMES.denied, 80, "refused"],
    ["one.test", 8080, "allowed"],
    ["2606:4700::1", 80, "allowed"],
  ]);
});

test("The port of a Host is what the policy is asked about", async () => {
  await using here = await world({ permits: (_, port) => port === 80 });
  const talk = here.plain().say(get("a.test:25"));
  await talk.hears("does not allow a.test (port 25)");
  await talk.say(get("a.test:80")).hears("Host: a.test:80");
});

test("Pipelined requests are answered in order, the next read only after the answer to the first", async () => {
  await using here = await world();
  const talk = here.plain().say(get("a.test", "/1") + get(NAMES.denied, "/2") + get("a.test", "/3"));
  const text = await talk.hears("GET /3 HTTP/1.1");
  const places = ["GET /1", "403 Forbidden", "GET /3"].map((part) => text.indexOf(part));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places[0]).toBeGreaterThan(0);
});

test("An upstream connection is used again for the same host, and left when the host closes it", async () => {
  let count = 0;
  await using here = await world({
    serve: (socket) => {
      const own = ++count;
      let asked = 0;
      socket.on("data", () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n${own}-${++asked};`);
        if (own === 1 && asked === 2) socket.end();
      });
    },
  });
  const talk = here.plain();
  for (const answer of ["1-1;", "1-2;", "2-1;"]) await talk.say(get("a.test")).hears(answer);
  expect(here.events.length).toBe(3);
});

test("A host that closes a kept connection in the same instant is asked again if that changes nothing, else not", async () => {
  await using here = await world({
    serve: (socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok;");
        socket.once("data", () => socket.end());
      });
    },
  });
  const talk = here.plain().say(get("a.test", "/1"));
  await talk.hears("ok;");
  await talk.say(get("a.test", "/2")).hears("ok;HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok;");
  expect(here.served()).toBe(2);
  // What may change something is for the client to judge: it gets what a server that hangs up would give it.
  talk.say("POST /3 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");
  expect((await talk.isOver()).match(/HTTP\/1\.1/g)?.length).toBe(2);
  expect(here.served()).toBe(2);
});

test("A guest that reads slowly gets all of an answer that ends with its connection", async () => {
  const body = "0123456789abcdef".repeat(512 * 1024);
  await using here = await world({ serve: canned(["HTTP/1.0 200 OK\r\n\r\n", body], "close") });
  const socket = here.plainSocket();
  socket.write(get("a.test"));
  const clock = systemClock;
  let [text, pieces] = ["", 0];
  socket.on("data", (bytes: Uint8Array) => {
    text += Buffer.from(bytes).toString("latin1");
    socket.pause();
    clock.after(pieces++ < 3 ? 900 : 0, () => socket.resume());
  });
  await until("the end", () => socket.readableEnded || socket.destroyed);
  expect(text.length).toBe(body.length + "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".length);
}, 30_000);

test("Bodies are framed anew: chunked and of a length, both ways, in odd pieces", async () => {
  const bodies: string[] = [];
  const pieces = [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chu",
    "nked\r\n\r\n5;a=b\r",
    "\nhello\r\n0\r\nTrailer: x\r\n",
    "\r\n",
  ];
  await using here = await world({
    serve: (socket) => {
      let text = "";
      socket.on("data", (bytes: Uint8Array) => {
        text += Buffer.from(bytes).toString("latin1");
        if (!/0\r\n\r\n$|body!$/.test(text)) return;
        bodies.push(text.slice(text.indexOf("\r\n\r\n") + 4));
        text = "";
        for (const piece of pieces) socket.write(piece);
      });
    },
  });
  const talk = here.plain();
  talk
    .say("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x\r")
    .say("\nde\r\n00\r\nT: 1\r\n\r\n");
  await talk.hears("5\r\nhello\r\n0\r\n\r\n");
  talk.say("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nbo").say("dy!");
  await talk.hears(/hello[\s\S]*hello\r\n0\r\n\r\n$/);
  expect(bodies.map((body) => body.replaceAll(/\r\n|[0-9](?=\r\n)/g, ""))).toEqual(["abcde", "body!"]);
  expect(here.heard()).not.toContain(";x");
  expect(talk.text).not.toContain("Trailer");
});

test("Answers without a body, interim ones, and ones that end with their connection come as they are", async () => {
  const bare =
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 99\r\n\r\n";
  await using first = await world({ serve: canned([bare]) });
  expect(await first.plain().say(get("a.test")).hears("99\r\n\r\n")).toBe(bare);
  await using head = await world({ serve: canned(["HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"]) });
  const talk = head.plain().say(get("a.test").replace("GET", "HEAD"));
  expect(await talk.hears("7\r\n\r\n")).not.toContain("close");
  await using close = await world({ serve: canned(["HTTP/1.0 200 OK\r\nX: y\r\n\r\nall ", "of it"], "close") });
  const last = await close.plain().say(get("a.test")).isOver();
  expect(last).toBe("HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nall of it");
});

test("A guest of HTTP/1.0 gets a body without chunks", async () => {
  const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
  await using here = await world({ serve: canned([chunked]) });
  const answer = await here.plain().say("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").isOver();
  expect(answer).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok");
});

test("A guest that ends its side after its request still gets the answer", async () => {
  await using here = await world();
  const talk = here.plain().say(get("a.test", "/half"));
  talk.end();
  expect(await talk.isOver()).toContain("GET /half");
});

/** What a strict reader must not pass on. */
const SMUGGLED: Readonly<Record<string, string>> = {
  "both framings":
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "two lengths": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
  "two equal lengths": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
  "a list of lengths": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4, 4\r\n\r\nabcd",
  "a signed length": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +4\r\n\r\nabcd",
  "a length in hex": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x4\r\n\r\nabcd",
  "another coding": "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  "a quoted coding": 'POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
  "two codings":
    "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
  "chunks in HTTP/1.0": "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "a space before the colon": "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
  "a folded field": "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n",
  "a bare line feed": "GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n",
  "only line feeds": "GET / HTTP/1.1\nHost: a.test\n\n",
  "a bare carriage return": "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n",
  "a NUL": "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
  "no Host": "GET / HTTP/1.1\r\nX: y\r\n\r\n",
  "an empty Host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
  "two Hosts": "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
  "a Host with a user": "GET / HTTP/1.1\r\nHost: b.test@a.test\r\n\r\n",
  "a Host with a path": "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n",
  "a Host with two ports": "GET / HTTP/1.1\r\nHost: a.test:80:81\r\n\r\n",
  "a Host in short form": "GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n",
  "a Host as a number": "GET / HTTP/1.1\r\nHost: 0x7f000001\r\n\r\n",
  "another absolute target": "GET http://denied.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "an absolute target of another port": "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "an absolute target with a user": "GET http://a.test@denied.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "an https target in plain": "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "a target without a slash": "GET denied.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "two spaces": "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "a tab": "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "a fragment": "GET /#x HTTP/1.1\r\nHost: a.test\r\n\r\n",
  "no version": "GET /\r\nHost: a.test\r\n\r\n",
  "another version": "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n",
  "HTTP/2 in plain": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "a tunnel": "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
};

for (const [what, bytes] of Object.entries(SMUGGLED)) {
  test(`A request with ${what} is refused and reaches nobody`, async () => {
    await using here = await world();
    const answer = await here
      .plain()
      .say(bytes + get("a.test", "/smuggled"))
      .isOver();
    expect(answer).toMatch(/^HTTP\/1\.1 40[05] /);
    expect(answer.split("HTTP/1.1 ").length).toBe(2); // one answer, and the connection is over
    expect(here.served()).toBe(0);
    expect(here.events).toMatchObject([{ verdict: "refused", reason: expect.any(String) }]);
  });
}

/** Chunks that a strict reader ends the connection for; what was good before may have been passed on. */
const CHUNKS: Readonly<Record<string, string>> = {
  "no size": "\r\nabc\r\n0\r\n\r\n",
  "a signed size": "+3\r\nabc\r\n0\r\n\r\n",
  "a size with 0x": "0x3\r\nabc\r\n0\r\n\r\n",
  "a size beyond all": "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
  "a bare line feed": "3\nabc\n0\n\n",
  "a line feed in an extension": "3;a\nb\r\nabc\r\n0\r\n\r\n",
  "a longer chunk than it says": "3\r\nabcd\r\n0\r\n\r\n",
  "a carriage return alone": "3\rabc\r\n0\r\n\r\n",
  "a size line without end": `3;${"x".repeat(300)}`,
  "a trailer that is none": "0\r\nno colon\r\n\r\n",
  "trailers without end": `0\r\n${"X: y\r\n".repeat(3000)}`,
};

for (const [what, bytes] of Object.entries(CHUNKS)) {
  test(`A chunked body with ${what} ends its request, which its host never takes for whole`, async () => {
    const ended: string[] = [];
    await using here = await world({ serve: (socket) => socket.once("close", () => ended.push("closed")) });
    const head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    const answer = await here
      .plain()
      .say(head + bytes + get("a.test", "/smuggled"))
      .isOver();
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(here.heard()).not.toContain("0\r\n\r\n");
    expect(here.heard()).not.toContain("GET");
  });
}

const ANSWERS: Readonly<Record<string, string>> = {
  "both framings": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
  "no HTTP": "SSH-2.0-OpenSSH_9\r\n\r\n",
  "interim answers without end": "HTTP/1.1 102 Processing\r\n\r\n".repeat(20),
  "a protocol nobody asked for": "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  "a head without end": `HTTP/1.1 200 OK\r\n${"X: y\r\n".repeat(20_000)}`,
};

for (const [what, bytes] of Object.entries(ANSWERS)) {
  test(`An answer with ${what} becomes a 502`, async () => {
    await using here = await world({ serve: canned([bytes]) });
    expect(await here.plain().say(get("a.test")).isOver()).toContain("HTTP/1.1 502 Bad Gateway\r\n");
    expect(here.events).toMatchObject([{ verdict: "allowed", reason: expect.any(String) }]);
  });
}

test("An answer that breaks off is never taken for whole", async () => {
  for (const bytes of ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]) {
    await using here = await world({ serve: canned([`HTTP/1.1 200 OK\r\n${bytes}`], "close") });
    const answer = await here.plain().say(get("a.test")).isOver();
    expect(answer).toContain("abc");
    expect(answer).not.toContain("0\r\n\r\n");
  }
});

test("An answer before the request's end ends the connection: what follows would be its body", async () => {
  await using here = await world({ serve: canned(["HTTP/1.1 413 Too\r\nContent-Length: 2\r\n\r\nno"]) });
  const talk = here.plain().say("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nabc");
  const answer = await talk.hears("no");
  expect(answer).toContain("Connection: close\r\n");
  await talk.say(get("a.test", "/smuggled")).isOver();
  expect(here.heard()).not.toContain("smuggled");
});
