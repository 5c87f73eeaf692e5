/**
 * The egress proxy's readers of what a guest sends first: TLS ClientHellos, HTTP request heads, chunked bodies. Each run is one input
 * for each, whole, cut and broken. `bun test/fuzz/proxy/proxy.fuzz.ts --runs 1000000 --seed 1 [--record]`.
 */
import { parseClientHello } from "../../../src/egress/proxy/client-hello.ts";
import { ChunkDecoder } from "../../../src/egress/proxy/http/chunked.ts";
import { findHeadEnd } from "../../../src/egress/proxy/http/head.ts";
import { understand } from "../../../src/egress/proxy/session.ts";
import { campaign, rounds } from "../campaign.ts";
import { Random } from "../random.ts";
import { type HelloReport, helloRound, type ParseHello } from "./hello.ts";
import { chunkRound, type HttpReport, type HttpSubject, headRound } from "./http.ts";

export interface ProxySubject extends HttpSubject {
  readonly hello: ParseHello;
}

export const REAL: ProxySubject = {
  hello: parseClientHello,
  end: findHeadEnd,
  understand,
  chunks: () => new ChunkDecoder(),
};

/** @throws {Error} what does not hold, with the input's number. */
export function fuzzProxy(
  runs: number,
  seed: number,
  { subject = REAL, tick = () => undefined }: { readonly subject?: ProxySubject; readonly tick?: () => void } = {},
): HelloReport & HttpReport {
  const random = new Random(seed);
  const report = { hellos: 0, refused: 0, unfinished: 0, requests: 0, bodies: 0, broken: 0 };
  rounds(runs, seed, tick, () => {
    helloRound(subject.hello, random, report);
    headRound(subject, random, report);
    chunkRound(subject, random, report);
  });
  return report;
}

if (import.meta.main) {
  await campaign({
    name: "egress proxy's ClientHellos, HTTP heads and chunks",
    file: "proxy/proxy.fuzz.ts",
    blockRuns: 10_000,
    block: (runs, seed, tick) => ({ ...fuzzProxy(runs, seed, { tick }) }),
  });
}
