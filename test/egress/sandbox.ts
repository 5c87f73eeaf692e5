/** One sandbox's egress on loopback, with a name server upstream that answers as a test says, and a program inside that asks. */
import { afterEach } from "bun:test";
import { formatAddress } from "../../src/base/address.ts";
import { createLog } from "../../src/base/log.ts";
import type { Egress, Secret } from "../../src/contract/routes/network.ts";
import type { Message } from "../../src/egress/dns/message.ts";
import { SandboxEgress } from "../../src/egress/egress.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import { FakeClock } from "../harness/clock.ts";
import { FakeNetwork } from "./fake-network.ts";
import { type Asking, a, program, type Replies, reply, upstream } from "./wire.ts";

interface Options {
  readonly egress?: Egress;
  readonly ipv6?: boolean;
  readonly secrets?: readonly Secret[];
  /** Its first name servers: where nobody listens, or nobody can. */
  readonly dead?: readonly string[];
  readonly exempt?: Parameters<typeof parsePolicy>[2];
}

export const LIST: Egress = { mode: "allowlist", allow: ["a.example:443", "*.b.example", "c.example:80-90"] };
export const PUBLIC = "93.184.216.34";
export const PUBLIC6 = "2606:4700::1";

type Answers = (asking: Asking) => Replies | Promise<Replies>;

async function open(answer: Answers, options: Options, ends: (() => unknown)[]) {
  const clock = new FakeClock();
  const network = new FakeNetwork(clock, "127.0.0.1", options.ipv6 ?? true);
  const up = await upstream(answer);
  ends.push(() => up.close());
  const policy = parsePolicy(options.egress ?? LIST, options.secrets ?? [], options.exempt);
  const egress = await SandboxEgress.open(network, policy, {
    clock,
    log: createLog("silent"),
    upstreams: [...(options.dead ?? []).map((address) => ({ address, port: 9 })), up.server],
    exempt: options.exempt ?? [],
    sandboxId: "sb_test",
  });
  ends.push(() => egress.close());
  const port = network.rules.dnsPort ?? 9;
  const guest = await program(port);
  ends.push(() => guest.close());
  return { clock, network, up, egress, guest, port };
}

/** Makes sandboxes for the tests of a file, which end with the test that made them. */
export function sandboxes() {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  return (answer: Answers = NAMED, options: Options = {}) => open(answer, options, ends);
}

export const NAMED = (asking: Asking): Replies => [
  reply(asking, [asking.question.type === 28 ? a(asking.question.name, PUBLIC6) : a(asking.question.name, PUBLIC)]),
];

/** `code address/ttl …` */
export function shown({ rcode, answers }: Message): string {
  return [rcode, ...answers.map(({ address, ttlSeconds }) => `${formatAddress(address!)}/${ttlSeconds}`)].join(" ");
}
