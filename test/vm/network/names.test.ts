/**
 * Names: what an allowlist of names opens and for how long, and the ways around it that a hostile name server or a hostile
 * guest may try. From inside a real guest, against a name server that answers whatever it is told.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { ECHO_PORT, HOST, Internet, NAME_SERVER, networkGate } from "../../harness/internet.ts";
import { until } from "../../harness/until.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { create, FAST, guardNetworkLeaks, openNetworkWarren, python } from "./ground.ts";

const PROGRAM = readFileSync(join(import.meta.dir, "names.py"), "utf8");
const [OLD, NEW, OTHER] = ["93.184.216.50", "93.184.216.51", "93.184.216.52"];
/** No listed name stands for it. */
const UNLISTED = "93.184.216.53";
const DECIMAL = 0x5db8d835;
const SIX = "2606:2800:220:1::50";
const GATEWAY = "10.99.0.1";
/** What a person calls at once; emulated, and several at a time. */
const SOON_MS = 3_000;

/** What a hostile or careless name server answers a listed name with. */
const HOSTILE: Readonly<Record<string, { readonly a?: string[]; readonly aaaa?: string[]; readonly cname?: string }>> =
  {
    private: { a: ["10.1.2.3"] },
    metadata: { a: ["169.254.169.254"] },
    loopback: { a: ["127.0.0.1"], aaaa: ["::1"] },
    host: { a: [HOST.local4] },
    gateway: { a: [GATEWAY] },
    links: { a: ["198.18.0.1"], aaaa: ["fd57:5752:1::1"] },
    six: { aaaa: ["fd00:ec2::254"] },
    mapped: { aaaa: ["::ffff:a01:203"] },
    translated: { aaaa: ["64:ff9b::a01:203"] },
    alias: { cname: "inner.example.net" },
  };
const FORBIDDEN = ["10.1.2.3", "169.254.169.254", "fd00:ec2::254", "64:ff9b::a01:203"];

type Step =
  | { readonly do: "resolve"; readonly name: string; readonly family?: 4 | 6 }
  | { readonly do: "connect"; readonly name: string; readonly port: number }
  | { readonly do: "ask"; readonly server: string; readonly name: string; readonly tcp: boolean };
interface Said {
  readonly addresses?: readonly string[];
  readonly reached?: string;
  readonly rcode?: number;
  readonly answers?: number;
  readonly failed?: string;
  readonly ms: number;
}

async function run<Id extends string>(sandbox: Sandbox, steps: Readonly<Record<Id, Step>>): Promise<Record<Id, Said>> {
  const list = Object.entries<Step>(steps).map(([id, step]) => ({ id, ...step }));
  return JSON.parse(await python(sandbox, PROGRAM, JSON.stringify(list))) as Record<Id, Said>;
}

const connect = (name: string): Step => ({ do: "connect", name, port: ECHO_PORT });

if (networkGate()) {
  guardNetworkLeaks();
  describe("Names in an allowlist", () => {
    let internet: Internet;
    let warren: Warren;
    let sandbox: Sandbox;

    beforeAll(async () => {
      internet = await Internet.open([OLD, NEW, OTHER, UNLISTED, SIX, ...FORBIDDEN]);
      await internet.name("moving.example.com", { a: [OLD], ttl: 1 });
      await internet.name("both.example.com", { a: [OTHER], aaaa: [SIX] });
      await internet.name("deep.cdn.example.com", { cname: "edge.example.net" });
      await internet.name("edge.example.net", { a: [OTHER] });
      await internet.name("mixed.example.com", { a: ["10.1.2.3", OTHER] });
      await internet.name("unlisted.example.org", { a: [UNLISTED] });
      await internet.name("inner.example.net", { a: ["10.1.2.3"] });
      for (const [name, zone] of Object.entries(HOSTILE)) await internet.name(`${name}.hostile.example.com`, zone);
      warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
      const allow = [
        "moving.example.com",
        "both.example.com",
        "mixed.example.com",
        "*.cdn.example.com",
        "*.hostile.example.com",
      ];
      sandbox = await create(warren, { mode: "allowlist", allow, ...FAST });
    }, VM_BAKE_MS);
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      await internet[Symbol.asyncDispose]();
    });

    test(
      "an address that a name has left stops after its time, and the new one works",
      async () => {
        const first = await run(sandbox, { name: connect("moving.example.com"), direct: connect(NEW) });
        expect(first.name).toMatchObject({ reached: `ECHO ${OLD}` });
        expect(first.direct.reached).toBeUndefined();
        await internet.name("moving.example.com", { a: [NEW], ttl: 1 });
        const moved = performance.now();
        // Only the old address is tried: whoever asks for the name again meanwhile is given the old one for as long again.
        await until("the old address is refused", async () => {
          const { old } = await run(sandbox, { old: connect(OLD) });
          return old.reached === undefined;
        });
        expect(performance.now() - moved).toBeLessThan(15_000);
        const { name } = await run(sandbox, { name: connect("moving.example.com") });
        expect(name).toMatchObject({ reached: `ECHO ${NEW}` });
      },
      VM_TEST_MS,
    );

    test(
      "listed names are answered, wildcards and aliases too, over UDP and TCP; others are refused at once",
      async () => {
        await internet.report();
        const said = await run(sandbox, {
          four: { do: "resolve", name: "both.example.com", family: 4 },
          six: { do: "resolve", name: "both.example.com", family: 6 },
          deep: connect("deep.cdn.example.com"),
          tcp: { do: "ask", server: GATEWAY, name: "both.example.com", tcp: true },
          parent: { do: "resolve", name: "cdn.example.com" },
          longer: { do: "resolve", name: "both.example.com.evil.example.org" },
          unlisted: { do: "resolve", name: "unlisted.example.org" },
          unlistedTcp: { do: "ask", server: GATEWAY, name: "unlisted.example.org", tcp: true },
          tunnel: { do: "ask", server: GATEWAY, name: "c2VjcmV0.unlisted.example.org", tcp: false },
        });
        expect(said.four.addresses).toEqual([OTHER]);
        expect(said.six.addresses).toEqual([SIX]);
        expect(said.deep).toMatchObject({ reached: `ECHO ${OTHER}` });
        expect(said.tcp).toMatchObject({ rcode: 0, answers: 1 });
        for (const refused of [said.parent, said.longer, said.unlisted]) {
          expect(refused.failed).toContain("gaierror");
          expect(refused.ms).toBeLessThan(SOON_MS);
        }
        for (const refused of [said.unlistedTcp, said.tunnel]) expect(refused).toMatchObject({ answers: 0 });
        const { asked } = await internet.report();
        expect(asked.filter((line) => line.includes("example.org"))).toEqual([]); // no word of it left this host
      },
      VM_TEST_MS,
    );

    test(
      "no answer opens what is forbidden",
      async () => {
        const names = Object.keys(HOSTILE).map((name) => `${name}.hostile.example.com`);
        const steps = Object.fromEntries(names.map((name) => [name, connect(name)]));
        const said = await run(sandbox, { ...steps, mixed: { do: "resolve", name: "mixed.example.com" } } as Record<
          string,
          Step
        >);
        expect(names.filter((name) => said[name]?.reached !== undefined)).toEqual([]);
        expect(said["mixed"]?.addresses).toEqual([OTHER]);
        const direct = await run(sandbox, Object.fromEntries(FORBIDDEN.map((address) => [address, connect(address)])));
        expect(Object.values(direct).filter(({ reached }) => reached !== undefined)).toEqual([]);
      },
      VM_TEST_MS,
    );

    test(
      "no spelling of an address and no other name server gets around it",
      async () => {
        await internet.report();
        const said = await run(sandbox, {
          plain: connect(UNLISTED),
          decimal: connect(String(DECIMAL)),
          hexadecimal: connect(`0x${DECIMAL.toString(16)}`),
          octal: connect("0135.0270.0330.065"),
          short: connect("93.184.55349"),
          mapped: connect(`::ffff:${UNLISTED}`),
          metadata: connect(String(0xa9fea9fe)),
          mappedMetadata: connect("::ffff:169.254.169.254"),
          udp: { do: "ask", server: NAME_SERVER, name: "unlisted.example.org", tcp: false },
          tcp: { do: "ask", server: NAME_SERVER, name: "unlisted.example.org", tcp: true },
          listed: { do: "ask", server: NAME_SERVER, name: "both.example.com", tcp: false },
          six: { do: "ask", server: "fd57:5752::1", name: "both.example.com", tcp: false },
        });
        const { plain, decimal, hexadecimal, octal, short, mapped, metadata, mappedMetadata, udp, tcp, listed } = said;
        for (const step of [
          plain,
          decimal,
          hexadecimal,
          octal,
          short,
          mapped,
          metadata,
          mappedMetadata,
          udp,
          tcp,
          listed,
        ])
          expect(step.failed).toBeString();
        const { arrived, asked } = await internet.report();
        expect([arrived, asked]).toEqual([[], []]);
      },
      VM_TEST_MS,
    );

    test(
      "with mode open the same spellings and the same name server are reached, so that the tests above can fail",
      async () => {
        await using open = await create(warren, { mode: "open", ...FAST });
        const said = await run(open, {
          plain: connect(UNLISTED),
          decimal: connect(String(DECIMAL)),
          hexadecimal: connect(`0x${DECIMAL.toString(16)}`),
          octal: connect("0135.0270.0330.065"),
          short: connect("93.184.55349"),
          mapped: connect(`::ffff:${UNLISTED}`),
          name: connect("unlisted.example.org"),
          udp: { do: "ask", server: NAME_SERVER, name: "unlisted.example.org", tcp: false },
          tcp: { do: "ask", server: NAME_SERVER, name: "unlisted.example.org", tcp: true },
          hostile: connect("private.hostile.example.com"),
        });
        const { hostile, udp, tcp, ...rest } = said;
        for (const step of Object.values(rest)) expect(step).toMatchObject({ reached: `ECHO ${UNLISTED}` });
        for (const step of [udp, tcp]) expect(step).toMatchObject({ rcode: 0, answers: 1 });
        expect(hostile.failed).toBeString();
      },
      VM_TEST_MS,
    );
  });
}
