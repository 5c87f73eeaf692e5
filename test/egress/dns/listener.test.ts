/** The name server of a sandbox over real sockets: whom it answers, what it answers, and what it opens for how long. */
import { describe, expect, test } from "bun:test";
import { DNS } from "../../../src/egress/dns/bounds.ts";
import { until } from "../../harness/until.ts";
import { NAMED, PUBLIC, PUBLIC6, sandboxes, shown } from "../sandbox.ts";
import { a, opt, overTcp, program, reply, wire } from "../wire.ts";

const sandbox = sandboxes();

describe("A sandbox's name server", () => {
  test("answers a name of the list, and has opened its ports before", async () => {
    const { guest, network } = await sandbox();
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(network.open(PUBLIC)).toEqual(["443"]);
    expect(network.told.at(-1)).toMatchObject([{ seconds: 60 + DNS.graceSeconds, proxied: false }]);
    expect(shown(await guest.ask("x.y.b.example", 28))).toBe(`0 ${PUBLIC6}/60`);
    expect(network.open(PUBLIC6)).toEqual(["all"]);
  });

  test("says of any other name that there is none, without asking anybody", async () => {
    const { guest, network, up, egress } = await sandbox();
    for (const name of ["d.example", "b.example", "a.example.com", "localhost", "a", "", "x.local"])
      expect(shown(await guest.ask(name))).toBe("3");
    expect(shown(await guest.ask("34.216.184.93.in-addr.arpa", 12))).toBe("3");
    expect(shown(await guest.ask("a.exam\u0000ple"))).toBe("3");
    expect(shown(await guest.ask("a\u002eexample"))).toStartWith("0 "); // the control
    expect(up.asked).toEqual(["a.example 1 udp"]);
    expect(network.told.filter((one) => "mode" in one)).toHaveLength(1);
    const refused = egress.log().events.find(({ name }) => name === "d.example");
    expect(refused).toMatchObject({ kind: "dns", verdict: "refused", reason: "the policy does not hold it" });
  });

  test("does not take a dot inside a label for one between labels", async () => {
    const { guest, port, up } = await sandbox();
    const label = [9, ...new TextEncoder().encode("a.example"), 0, 0, 1, 0, 1];
    guest.send(Uint8Array.from([0, 77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...label]));
    await until("it is answered", () => guest.came.length === 1);
    expect(guest.came[0]![3]! & 15).toBe(3);
    expect(up.asked).toEqual([]);
    expect(port).toBeGreaterThan(0);
  });

  test("repeats the question as it was spelt", async () => {
    const { guest } = await sandbox();
    await guest.ask("A.eXample");
    expect(new TextDecoder("latin1").decode(guest.came[0])).toContain("A\u0007eXample");
  });

  test("has no addresses of other types, and refuses questions for all", async () => {
    const { guest, up } = await sandbox();
    for (const type of [65, 64, 15, 16, 2, 33]) expect(shown(await guest.ask("a.example", type))).toBe("0");
    for (const type of [255, 252, 251]) expect(shown(await guest.ask("a.example", type))).toBe("5");
    expect(up.asked).toEqual([]);
  });

  test("has no IPv6 addresses where IPv6 cannot be reached", async () => {
    const { guest, up } = await sandbox(NAMED, { ipv6: false });
    expect(shown(await guest.ask("a.example", 28))).toBe("0");
    expect(up.asked).toEqual([]);
  });

  test("answers nobody but the other end of its link", async () => {
    const { port, guest, up } = await sandbox();
    const query = wire({ id: 1, flags: 0x100, questions: [{ name: "a.example" }] });
    const others = await Promise.all(["127.0.0.1", "127.0.0.5"].map((from) => program(port, from)));
    for (const other of others) other.send(query);
    const framed = Uint8Array.from([0, query.length, ...query]);
    expect(await overTcp(port, framed, { from: "127.0.0.5" })).toHaveLength(0);
    expect(shown(await guest.ask("a.example"))).toStartWith("0 "); // came after theirs, and is answered
    expect(others.map(({ came }) => came.length)).toEqual([0, 0]);
    for (const other of others) other.close();
    expect(up.asked).toHaveLength(1);
  });

  test("turns down what is no query of one question", async () => {
    const { guest } = await sandbox();
    const q = { name: "a.example" };
    const cases: readonly (readonly [Parameters<typeof wire>[0], number])[] = [
      [{ questions: [] }, 1],
      [{ questions: [q, q] }, 1],
      [{ questions: [q], answers: [a("a.example", PUBLIC)] }, 1],
      [{ questions: [q], additional: [opt(1232), opt(1232)] }, 1],
      [{ questions: [q], flags: 0x2800 }, 4],
      [{ questions: [{ ...q, class: 3 }] }, 4],
      [{ questions: [q], additional: [opt(1232, 1)] }, 0], // BADVERS, whose code is 16: the upper bits are in the OPT record
    ];
    for (const [i, [message, code]] of cases.entries()) {
      guest.send(wire({ id: i, ...message }));
      await until(`answer ${i}`, () => guest.came.length === i + 1);
      expect([i, guest.came[i]![1]!, guest.came[i]![3]! & 15]).toEqual([i, i, code]);
    }
    const before = guest.came.length;
    guest.send(new Uint8Array(5));
    guest.send(wire({ id: 9, flags: 0x8000, questions: [q] }));
    guest.send(Uint8Array.from([...wire({ id: 10, questions: [q] }), 0]));
    await until("the last is answered", () => guest.came.length > before);
    expect(guest.came.slice(before).map((bytes) => [bytes[1], bytes[3]! & 15])).toEqual([[10, 1]]);
  });

  test("keeps to what a packet may hold, and says the rest over TCP", async () => {
    const many = Array.from({ length: 40 }, (_, i) => `2606:4700::${(i + 1).toString(16)}`);
    const { guest, port, network } = await sandbox(({ id, question }) => [
      reply(
        { id, question, over: "udp" },
        many.map((address) => a(question.name, address)),
      ),
    ]);
    const name = `${"x".repeat(60)}.b.example`;
    const plain = await guest.ask(name, 28);
    expect([plain.truncated, plain.answers.length]).toEqual([true, 0]);
    const large = await guest.ask(name, 28, { additional: [opt(4096)] });
    expect([large.truncated, large.answers.length]).toEqual([false, DNS.addresses]);
    expect(guest.came.at(-1)!.length).toBeLessThanOrEqual(DNS.udpBytes);
    const query = wire({ id: 7, flags: 0x100, questions: [{ name, type: 28 }] });
    const whole = await overTcp(port, Uint8Array.from([0, query.length, ...query]), { enough: 500 });
    expect((whole[0]! << 8) | whole[1]!).toBe(whole.length - 2);
    expect(whole.length).toBeGreaterThan(DNS.addresses * 28);
    expect(network.open("2606:4700::10")).toEqual(["all"]);
    expect(network.open("2606:4700::11")).toEqual([]); // not answered, so not open
  });

  test("takes TCP queries in pieces and in one, and hangs up on what is none", async () => {
    const { port, clock } = await sandbox();
    const query = wire({ id: 7, flags: 0x100, questions: [{ name: "a.example" }] });
    const framed = [0, query.length, ...query];
    const answer = query.length + 16;
    expect(await overTcp(port, Uint8Array.from([...framed, ...framed]), { enough: 2 * (2 + answer) })).toHaveLength(
      2 * (2 + answer),
    );
    expect(await overTcp(port, new Uint8Array(70_000).fill(0xff))).toHaveLength(0);
    const slow = overTcp(port, Uint8Array.from(framed.slice(0, 5)));
    await until("it is connected", () => clock.waiting > 0);
    await clock.advance(DNS.idleMs);
    expect(await slow).toHaveLength(0);
  });
});

describe("Addresses stay open", () => {
  test("for a time between a floor and a ceiling, a little longer than is said", async () => {
    const ttls: Record<string, number> = { "a.b.example": 0, "b.b.example": 100_000, "c.b.example": 2 ** 31 + 5 };
    const { guest, network, clock } = await sandbox((asking) => {
      const { name } = asking.question;
      return [reply(asking, [a(name, `93.184.216.${Object.keys(ttls).indexOf(name)}`, ttls[name])])];
    });
    expect(shown(await guest.ask("a.b.example"))).toBe("0 93.184.216.0/5");
    expect(shown(await guest.ask("b.b.example"))).toBe("0 93.184.216.1/300");
    expect(shown(await guest.ask("c.b.example"))).toBe("0 93.184.216.2/5");
    await clock.advance(6_999);
    expect(network.open("93.184.216.0")).toEqual(["all"]);
    await clock.advance(1);
    expect(network.open("93.184.216.0")).toEqual([]);
    expect(network.open("93.184.216.1")).toEqual(["all"]);
    await clock.advance(295_001);
    expect(network.open("93.184.216.1")).toEqual([]);
  });

  test("and a name that moves is asked for again when its time is over", async () => {
    let address = "93.184.216.1";
    const { guest, network, clock, up } = await sandbox((asking) => [reply(asking, [a("a.example", address, 30)])]);
    expect(shown(await guest.ask("a.example"))).toBe("0 93.184.216.1/30");
    address = "93.184.216.2";
    await clock.advance(29_000);
    expect(shown(await guest.ask("a.example"))).toBe("0 93.184.216.1/1"); // what is left, and open for long enough to connect
    expect(network.told.at(-1)).toMatchObject([{ seconds: DNS.ttlSecondsMin + DNS.graceSeconds }]);
    expect(up.asked).toHaveLength(1);
    await clock.advance(1_000);
    expect(shown(await guest.ask("a.example"))).toBe("0 93.184.216.2/30");
    expect([network.open("93.184.216.1"), network.open("93.184.216.2")]).toEqual([["443"], ["443"]]);
    await clock.advance(6_001);
    expect([network.open("93.184.216.1"), network.open("93.184.216.2")]).toEqual([[], ["443"]]);
  });

  test("with the ports of every name that they were answered for", async () => {
    const { guest, network, clock } = await sandbox((asking) => [
      reply(asking, [a(asking.question.name, PUBLIC, asking.question.name === "a.example" ? 10 : 60)]),
    ]);
    await guest.ask("a.example");
    await guest.ask("c.example");
    expect(network.open(PUBLIC)).toEqual(["80-90", "443"]);
    await clock.advance(20_000);
    await guest.ask("c.example");
    expect(network.open(PUBLIC)).toEqual(["80-90"]);
  });

  test("in mode open nothing has to be, and what is not public is still not answered", async () => {
    const { guest, network } = await sandbox(
      (asking) => [
        reply(asking, [a(asking.question.name, asking.question.name === "in.example" ? "10.0.0.1" : PUBLIC)]),
      ],
      { egress: { mode: "open" } },
    );
    expect(shown(await guest.ask("any.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(shown(await guest.ask("in.example"))).toBe("3");
    expect(network.told).toHaveLength(1);
  });

  test("for exempt ranges too", async () => {
    const exempt = [{ family: 4, first: 0x0a000000n, last: 0x0a0000ffn }] as const;
    const { guest } = await sandbox(
      (asking) => [reply(asking, [a("a.example", "10.0.0.7"), a("a.example", "10.0.1.7")])],
      { exempt },
    );
    expect(shown(await guest.ask("a.example"))).toBe("0 10.0.0.7/60");
  });
});
