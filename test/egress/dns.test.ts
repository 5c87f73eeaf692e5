/** The name server of a sandbox over real sockets: whom it answers, what it answers, what it opens, and what comes from upstream. */
import { afterEach, describe, expect, test } from "bun:test";
import { formatAddress } from "../../src/base/address.ts";
import { createLog } from "../../src/base/log.ts";
import type { Egress } from "../../src/contract/routes/network.ts";
import { DNS } from "../../src/egress/dns/bounds.ts";
import type { Message } from "../../src/egress/dns/message.ts";
import { SandboxEgress } from "../../src/egress/egress.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import { FakeClock } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import { FakeNetwork } from "./fake-network.ts";
import { type Asking, a, cname, opt, overTcp, program, type Replies, reply, upstream, wire } from "./wire.ts";

const ENDS: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ENDS.splice(0).reverse()) await end();
});

interface Options {
  readonly egress?: Egress;
  readonly ipv6?: boolean;
  /** More name servers, before or after the one. */
  readonly dead?: boolean;
  readonly exempt?: Parameters<typeof parsePolicy>[2];
}

const LIST: Egress = { mode: "allowlist", allow: ["a.example:443", "*.b.example", "c.example:80-90"] };
const PUBLIC = "93.184.216.34";
const PUBLIC6 = "2606:4700::1";

async function sandbox(answer: (asking: Asking) => Replies | Promise<Replies>, options: Options = {}) {
  const clock = new FakeClock();
  const network = new FakeNetwork(clock, "127.0.0.1", options.ipv6 ?? true);
  const up = await upstream(answer);
  ENDS.push(() => up.close());
  const egress = await SandboxEgress.open(network, parsePolicy(options.egress ?? LIST, [], options.exempt), {
    clock,
    log: createLog("silent"),
    upstreams: options.dead ? [{ address: "127.0.0.1", port: 9 }, up.server] : [up.server],
    exempt: options.exempt ?? [],
    sandboxId: "sb_test",
  });
  ENDS.push(() => egress.close());
  const guest = await program(network.rules.dnsPort!);
  ENDS.push(() => guest.close());
  return { clock, network, up, egress, guest, port: network.rules.dnsPort! };
}

const NAMED = (asking: Asking): Replies => [
  reply(asking, [asking.question.type === 28 ? a(asking.question.name, PUBLIC6) : a(asking.question.name, PUBLIC)]),
];

/** `code address/ttl …` */
function shown({ rcode, answers }: Message): string {
  return [rcode, ...answers.map(({ address, ttlSeconds }) => `${formatAddress(address!)}/${ttlSeconds}`)].join(" ");
}

describe("A sandbox's name server", () => {
  test("answers a name of the list, and has opened its ports before", async () => {
    const { guest, network } = await sandbox(NAMED);
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(network.open(PUBLIC)).toEqual(["443"]);
    expect(network.told.at(-1)).toMatchObject([{ seconds: 60 + DNS.graceSeconds, proxied: false }]);
    expect(shown(await guest.ask("x.y.b.example", 28))).toBe(`0 ${PUBLIC6}/60`);
    expect(network.open(PUBLIC6)).toEqual(["all"]);
  });

  test("says of any other name that there is none, without asking anybody", async () => {
    const { guest, network, up, egress } = await sandbox(NAMED);
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
    const { guest, port, up } = await sandbox(NAMED);
    const label = [9, ...new TextEncoder().encode("a.example"), 0, 0, 1, 0, 1];
    guest.send(Uint8Array.from([0, 77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...label]));
    await until("it is answered", () => guest.came.length === 1);
    expect(guest.came[0]![3]! & 15).toBe(3);
    expect(up.asked).toEqual([]);
    expect(port).toBeGreaterThan(0);
  });

  test("repeats the question as it was spelt", async () => {
    const { guest } = await sandbox(NAMED);
    await guest.ask("A.eXample");
    expect(new TextDecoder("latin1").decode(guest.came[0])).toContain("A\u0007eXample");
  });

  test("has no addresses of other types, and refuses questions for all", async () => {
    const { guest, up } = await sandbox(NAMED);
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
    const { port, guest, up } = await sandbox(NAMED);
    const query = wire({ id: 1, flags: 0x100, questions: [{ name: "a.example" }] });
    const others = await Promise.all(["127.0.0.1", "127.0.0.5"].map((from) => program(port, from)));
    ENDS.push(() => others.map((other) => other.close()));
    for (const other of others) other.send(query);
    const framed = Uint8Array.from([0, query.length, ...query]);
    expect(await overTcp(port, framed, { from: "127.0.0.5" })).toHaveLength(0);
    expect(shown(await guest.ask("a.example"))).toStartWith("0 "); // came after theirs, and is answered
    expect(others.map(({ came }) => came.length)).toEqual([0, 0]);
    expect(up.asked).toHaveLength(1);
  });

  test("turns down what is no query of one question", async () => {
    const { guest } = await sandbox(NAMED);
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
    const { port, clock } = await sandbox(NAMED);
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

  test("are asked of the next server when one is not there", async () => {
    const { guest, up } = await sandbox(NAMED, { dead: true });
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(up.asked).toHaveLength(1);
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

  test("are asked for no faster than a bucket gives", async () => {
    const { guest, clock, egress } = await sandbox(NAMED);
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
