/** What a sandbox's name server believes of the name servers upstream: aliases, forbidden addresses, hostile and missing answers. */
import { describe, expect, test } from "bun:test";
import { DNS } from "../../../src/egress/dns/bounds.ts";
import { Lookup } from "../../../src/egress/dns/lookup.ts";
import { Places } from "../../../src/egress/dns/upstream.ts";
import { FakeClock } from "../../harness/clock.ts";
import { until } from "../../harness/until.ts";
import { NAMED, PUBLIC, PUBLIC6, sandboxes, shown } from "../sandbox.ts";
import { type Asking, a, cname, type Replies, reply, upstream, wire } from "../wire.ts";

const sandbox = sandboxes();

describe("Names upstream", () => {
  const chain = (asking: Asking, length: number, last: string): Uint8Array =>
    reply(asking, [
      ...Array.from({ length }, (_, i) => cname(i === 0 ? asking.question.name : `l${i}.example`, `l${i + 1}.example`)),
      a(`l${length}.example`, last),
    ]);

  test("are followed through aliases, in one answer and beyond it", async () => {
    const { guest, up } = await sandbox((asking) => {
      if (asking.question.name === "x.b.example")
        return [reply(asking, [cname("x.b.example", "CDN.other.example", 7)])];
      if (asking.question.name === "cdn.other.example") return [reply(asking, [a("cdn.other.example", PUBLIC, 90)])];
      return [chain(asking, 16, PUBLIC)];
    });
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(shown(await guest.ask("x.b.example"))).toBe(`0 ${PUBLIC}/7`);
    expect(up.asked.slice(1)).toEqual(["x.b.example 1 udp", "cdn.other.example 1 udp"]);
    expect(shown(await guest.ask("cdn.other.example"))).toBe("3"); // an alias' target is no name of the list
  });

  const HOSTILE: Readonly<Record<string, (asking: Asking) => readonly Uint8Array[]>> = {
    "a circle of aliases": (asking) => [reply(asking, [cname("a.example", "b.x"), cname("b.x", "a.example")])],
    "a circle over several answers": (asking) => [
      reply(asking, [cname(asking.question.name, asking.question.name === "a.example" ? "b.example" : "a.example")]),
    ],
    "an alias of itself": (asking) => [reply(asking, [cname("a.example", "a.example")])],
    "too many aliases": (asking) => [chain(asking, 17, PUBLIC)],
    "an alias of an address": (asking) => [reply(asking, [cname("a.example", "127.0.0.1")])],
    "an alias of what is local": (asking) => [reply(asking, [cname("a.example", "localhost")])],
    "a thousand records": (asking) => [
      reply(
        asking,
        Array.from({ length: 1000 }, () => a("a.example", PUBLIC)),
      ),
    ],
    "an address of five bytes": (asking) => [
      reply(asking, [{ name: "a.example", type: 1, ttl: 60, data: [93, 184, 216, 34, 1] }]),
    ],
    "bytes behind the message": (asking) => [Uint8Array.from([...reply(asking, [a("a.example", PUBLIC)]), 1])],
    "a message cut short": (asking) => [reply(asking, [a("a.example", PUBLIC)]).subarray(0, -2)],
    "a failure": (asking) => [reply(asking, [], 2)],
    "a refusal": (asking) => [reply(asking, [a("a.example", PUBLIC)], 5)],
  };
  for (const [what, answers] of Object.entries(HOSTILE)) {
    test(`are not believed of ${what}, and the next answer is`, async () => {
      let hostile = true;
      const { guest, network, egress } = await sandbox((asking) => (hostile ? answers(asking) : NAMED(asking)));
      expect(shown(await guest.ask("a.example"))).toBe("2");
      expect(network.told).toHaveLength(1);
      expect(egress.log().events[0]).toMatchObject({ name: "a.example", address: null });
      expect(egress.log().events[0]!.reason).not.toBeNull();
      hostile = false;
      expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    });
  }

  const STRAY: Readonly<Record<string, (asking: Asking) => Uint8Array>> = {
    "another id": (asking) => reply({ ...asking, id: asking.id ^ 1 }, [a("a.example", "93.184.216.66")]),
    "another question": ({ id, over }) =>
      reply({ id, over, question: { name: "b.example", type: 1, class: 1 } }, [a("a.example", "93.184.216.66")]),
    "another type": ({ id, over }) =>
      reply({ id, over, question: { name: "a.example", type: 28, class: 1 } }, [a("a.example", "93.184.216.66")]),
    "no question": ({ id }) => wire({ id, flags: 0x8180, answers: [a("a.example", "93.184.216.66")] }),
    "a query": (asking) => wire({ id: asking.id, questions: [asking.question] }),
    "one byte": () => new Uint8Array(1),
  };
  for (const [what, stray] of Object.entries(STRAY)) {
    test(`are not taken from a packet with ${what}, but from the right one after it`, async () => {
      const { guest } = await sandbox((asking) => [stray(asking), ...(NAMED(asking) as Uint8Array[])]);
      expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    });
  }

  test("are not taken from a flood of such packets", async () => {
    const { guest, up } = await sandbox((asking) => Array.from({ length: 40 }, () => STRAY["another id"]!(asking)));
    expect(shown(await guest.ask("a.example"))).toBe("2");
    expect(up.asked).toHaveLength(2);
  });

  test("are not what another record is named", async () => {
    const { guest, network } = await sandbox((asking) => [
      reply(asking, [a("evil.example", "93.184.216.66"), cname("evil.example", "a.example")]),
    ]);
    expect(shown(await guest.ask("a.example"))).toBe("0");
    expect(network.told).toHaveLength(1);
  });

  const INSIDE = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "198.18.0.1", "100.64.0.1"];
  const INSIDE6 = ["::1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "fd00:ec2::254", "fe80::1", "64:ff9b::a00:1"];
  test("stand for no address that is not public, alone or among others", async () => {
    const { guest, network, egress } = await sandbox((asking) => {
      const { name, type } = asking.question;
      const inside = (type === 1 ? INSIDE : INSIDE6).map((address) => a(name, address));
      return [reply(asking, name === "mixed.b.example" ? [...inside, a(name, type === 1 ? PUBLIC : PUBLIC6)] : inside)];
    });
    expect(shown(await guest.ask("in.b.example"))).toBe("3");
    expect(shown(await guest.ask("in.b.example", 28))).toBe("3");
    expect(shown(await guest.ask("mixed.b.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(shown(await guest.ask("mixed.b.example", 28))).toBe(`0 ${PUBLIC6}/60`);
    for (const address of [...INSIDE, ...INSIDE6]) expect(network.open(address)).toEqual([]);
    expect(egress.log().events[0]!.reason).toContain("10.0.0.1, which no sandbox may reach");
  });

  test("are there or not as upstream says, and that is kept for seconds", async () => {
    const { guest, up, clock } = await sandbox((asking) =>
      asking.question.name === "a.example"
        ? [reply(asking, [cname("a.example", "gone.example")], 3)]
        : [reply(asking, [])],
    );
    expect(shown(await guest.ask("a.example"))).toBe("3");
    expect(shown(await guest.ask("c.example"))).toBe("0");
    await guest.ask("a.example");
    expect(up.asked).toHaveLength(2);
    await clock.advance(DNS.negativeSeconds * 1000);
    await guest.ask("a.example");
    expect(up.asked).toHaveLength(3);
  });

  test("are asked for over TCP when the answer does not fit", async () => {
    const { guest, up } = await sandbox((asking) =>
      asking.over === "udp" ? [reply(asking, [a("a.example", "93.184.216.66")], 0x0200)] : NAMED(asking),
    );
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(up.asked).toEqual(["a.example 1 udp", "a.example 1 tcp"]);
  });

  const GARBAGE: Readonly<Record<string, (asking: Asking) => Replies>> = {
    rubbish: () => [{ raw: new Uint8Array(3000).fill(7) }],
    "a short message": () => [{ raw: Uint8Array.from([0, 3, 1, 2, 3]) }],
    "an empty message": () => [{ raw: Uint8Array.from([0, 0]) }],
    "another id": (asking) => [STRAY["another id"]!(asking)],
    "a cut answer again": (asking) => [reply(asking, [a("a.example", PUBLIC)], 0x0200)],
  };
  for (const [what, tcp] of Object.entries(GARBAGE)) {
    test(`are not believed of ${what} over TCP`, async () => {
      const { guest, up } = await sandbox((asking) =>
        asking.over === "udp" ? [reply(asking, [], 0x0200)] : tcp(asking),
      );
      expect(shown(await guest.ask("a.example"))).toBe("2");
      expect(up.asked).toHaveLength(4);
    });
  }

  test("are waited for two seconds a try, over UDP and over TCP, and each server is tried twice", async () => {
    let over: "none" | "udp" = "none";
    const { guest, up, clock } = await sandbox((asking) => (asking.over === over ? [reply(asking, [], 0x0200)] : []));
    const silent = guest.ask("a.example");
    await until("it is asked for", () => up.asked.length === 1);
    await clock.advance(DNS.tryMs);
    await until("it is asked for again", () => up.asked.length === 2);
    await clock.advance(DNS.tryMs);
    expect(shown(await silent)).toBe("2");
    over = "udp";
    const slow = guest.ask("a.example");
    for (const tries of [4, 6]) {
      await until("it is asked for over TCP", () => up.asked.length === tries);
      await clock.advance(DNS.tryMs);
    }
    expect(shown(await slow)).toBe("2");
    expect(up.asked.filter((line) => line.endsWith("tcp"))).toHaveLength(2);
  });

  test("are asked of the next server when one is not there, or cannot be", async () => {
    for (const dead of ["127.0.0.1", "::1", "255.255.255.255"]) {
      const { guest, up, clock } = await sandbox(NAMED, { dead: [dead] });
      expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
      expect(up.asked).toHaveLength(1);
      await clock.advance(2 * DNS.tryMs); // what was given up stays over
      expect(shown(await guest.ask("c.example"))).toBe(`0 ${PUBLIC}/60`);
    }
  });

  test("are asked for once by many, and by no more than have a place", async () => {
    const gate = Promise.withResolvers<void>();
    const { guest, up, egress } = await sandbox(async (asking) => {
      await gate.promise;
      return NAMED(asking);
    });
    const same = Array.from({ length: DNS.underWay }, () => guest.ask("a.example"));
    await until("it is asked for", () => up.asked.length === 1);
    expect(shown(await guest.ask("c.example"))).toBe("2");
    gate.resolve();
    const answers = (await Promise.all(same)).map(shown);
    expect(new Set(answers)).toEqual(new Set([`0 ${PUBLIC}/60`]));
    expect(up.asked).toHaveLength(1);
    expect(egress.log().events.some(({ reason }) => reason === "too many names asked for at once")).toBe(true);
    expect(shown(await guest.ask("c.example"))).toStartWith("0 ");
  });

  test("are asked for by all sandboxes together over no more sockets than have a place, which are given back", async () => {
    const gate = Promise.withResolvers<void>();
    const up = await upstream(async (asking) => {
      await gate.promise;
      return NAMED(asking);
    });
    const parts = { clock: new FakeClock(), upstreams: [up.server], exempt: [], places: new Places(2) };
    const [mine, other] = [new Lookup(parts), new Lookup(parts)];
    const held = [mine.find("a.example", 1), mine.find("b.example", 1)];
    await until("both are asked for", () => up.asked.length === 2);
    expect(await other.find("a.example", 1)).toMatchObject({ kind: "failed" });
    gate.resolve();
    expect((await Promise.all(held)).map(({ kind }) => kind)).toEqual(["found", "found"]);
    expect(await other.find("a.example", 1)).toMatchObject({ kind: "found" });
    up.close();
  });

  test("are asked for no faster than a bucket gives", async () => {
    const { guest, clock, egress } = await sandbox();
    for (let i = 0; i < DNS.burst; i++) await guest.ask("no.example");
    guest.send(wire({ id: 1, questions: [{ name: "no.example" }] }));
    await until("it is dropped", () =>
      egress.log().events.some(({ reason }) => reason?.startsWith("too many") === true),
    );
    expect(guest.came).toHaveLength(DNS.burst);
    await clock.advance(1000 / DNS.perSecond);
    expect(shown(await guest.ask("no.example"))).toBe("3");
  });
});
