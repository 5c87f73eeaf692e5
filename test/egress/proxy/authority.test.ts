/** Certificates of our own making, as others read them: node:crypto and real TLS clients; and what the authority is not good for. */

import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, createServer } from "node:tls";
import { createAuthority } from "../../../src/egress/proxy/ca/authority.ts";
import { integer, oid, tagged, time } from "../../../src/egress/proxy/ca/der.ts";
import { WarrenError } from "../../../src/errors.ts";
import { FakeClock } from "../../harness/clock.ts";

const NAMES = ["api.one.test", "two.test"];
const HOUR_MS = 3_600_000;

test("A leaf is of its authority, for its name and no other", () => {
  const authority = createAuthority(new FakeClock(Date.now()), NAMES);
  const root = new X509Certificate(authority.certificatePem);
  const leaf = new X509Certificate(authority.leafFor("two.test").certPem);
  expect(leaf.checkIssued(root)).toBe(true);
  expect(leaf.verify(root.publicKey)).toBe(true);
  expect(leaf.checkHost("two.test")).toBe("two.test");
  expect(leaf.checkHost("api.one.test")).toBeUndefined();
  expect(leaf.checkHost("x.two.test")).toBeUndefined();
  expect([root.ca, leaf.ca]).toEqual([true, false]);
  expect(root.checkIssued(root) && root.verify(root.publicKey)).toBe(true);
  // The control: another authority's key did not sign it, and it does not look as if it had.
  const other = new X509Certificate(createAuthority(new FakeClock(), NAMES).certificatePem);
  expect(leaf.verify(other.publicKey)).toBe(false);
  expect(leaf.checkIssued(other)).toBe(false);
});

test("Certificates are valid from a day before now, leaves are made anew before they end", () => {
  const clock = new FakeClock(Date.UTC(2030, 0, 1));
  const authority = createAuthority(clock, NAMES);
  const first = authority.leafFor("two.test");
  expect(authority.leafFor("two.test")).toBe(first);
  const leaf = new X509Certificate(first.certPem);
  expect(Date.parse(leaf.validFrom)).toBe(Date.UTC(2029, 11, 31, 0, 0, 1));
  expect(Date.parse(new X509Certificate(authority.certificatePem).validTo)).toBeGreaterThan(Date.parse(leaf.validTo));
  const late = new FakeClock(Date.parse(leaf.validTo) - 20 * HOUR_MS);
  clock.wallMs = () => late.wallMs();
  const second = authority.leafFor("two.test");
  expect(second).not.toBe(first);
  expect(second.keyPem).not.toBe(first.keyPem);
});

test("Serials and keys are never the same twice", () => {
  const all = Array.from({ length: 20 }, () => createAuthority(new FakeClock(), NAMES));
  const certificates = all.flatMap((one) => [one.certificatePem, one.leafFor("two.test").certPem]);
  const parsed = certificates.map((pem) => new X509Certificate(pem));
  expect(new Set(parsed.map(({ serialNumber }) => serialNumber)).size).toBe(40);
  const keys = parsed.map(({ publicKey }) => String(publicKey.export({ type: "spki", format: "der" }).toString("hex")));
  expect(new Set(keys).size).toBe(40);
  expect(new Set(all.map(({ certificatePem }) => new X509Certificate(certificatePem).subject)).size).toBe(20);
});

test("An authority is for the names that it was made with, and none is made without", () => {
  const authority = createAuthority(new FakeClock(), ["Two.Test.", "two.test"]);
  expect(authority.names).toEqual(["two.test"]);
  for (const name of ["", "api.two.test", "TWO.TEST", "*.two.test"])
    expect(() => authority.leafFor(name)).toThrow(WarrenError);
  for (const names of [[], ["10.0.0.1"], ["*.test"], ["a b"]]) {
    expect(() => createAuthority(new FakeClock(), names)).toThrow(WarrenError);
  }
});

/** What a client that trusts `ca` says of a server with this certificate under this name. */
async function judged(ca: string, leaf: { certPem: string; keyPem: string }, name: string): Promise<string> {
  const server = createServer({ cert: leaf.certPem, key: leaf.keyPem });
  server.on("tlsClientError", () => undefined); // refusing is what some of them do
  server.on("secureConnection", (socket: Socket) => socket.on("error", () => undefined)); // the same
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const client = connect({ host: "127.0.0.1", port, servername: name, ca });
  try {
    return await new Promise<string>((resolve) => {
      client.once("secureConnect", () => resolve("trusted"));
      client.once("error", (error) => resolve(`${"code" in error ? String(error.code) : ""} ${error.message}`));
    });
  } finally {
    client.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("A client that trusts only the authority believes its leaves, and no other's", async () => {
  const [own, other] = [
    createAuthority(new FakeClock(Date.now()), NAMES),
    createAuthority(new FakeClock(Date.now()), NAMES),
  ];
  expect(await judged(own.certificatePem, own.leafFor("two.test"), "two.test")).toBe("trusted");
  expect(await judged(own.certificatePem, own.leafFor("two.test"), "api.one.test")).toStartWith(
    "ERR_TLS_CERT_ALTNAME_INVALID",
  );
  expect(await judged(other.certificatePem, own.leafFor("two.test"), "two.test")).toMatch(
    /UNABLE_TO|SELF_SIGNED|SIGNATURE/,
  );
});

test("Whoever had the authority's key could imitate no other host: its certificate says so", async () => {
  const own = createAuthority(new FakeClock(Date.now()), ["two.test"]);
  // The authority's own code with the list of names made longer behind its back: a leaf that is well signed for a foreign name.
  (own.names as string[]).push("three.test");
  const leaf = own.leafFor("three.test");
  expect(new X509Certificate(leaf.certPem).verify(new X509Certificate(own.certificatePem).publicKey)).toBe(true);
  expect(await judged(own.certificatePem, leaf, "three.test")).toContain("permitted subtree violation");
});

test("DER writes lengths, integers, object identifiers and times as X.690 has them", () => {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  expect(hex(oid("1.2.840.10045.4.3.2"))).toBe("06082a8648ce3d040302");
  expect(hex(integer(Uint8Array.of(0, 0, 0x80)))).toBe("02020080");
  expect(hex(integer(Uint8Array.of(0, 0)))).toBe("020100");
  expect(hex(tagged(4, new Uint8Array(127)).subarray(0, 3))).toBe("047f00");
  expect(hex(tagged(4, new Uint8Array(128)).subarray(0, 4))).toBe("04818000");
  expect(hex(tagged(4, new Uint8Array(65_536)).subarray(0, 5))).toBe("0483010000");
  expect(Buffer.from(time(Date.UTC(2049, 11, 31, 23, 59, 59))).toString("latin1")).toBe("\x17\x0d491231235959Z");
  expect(Buffer.from(time(Date.UTC(2050, 0, 1))).toString("latin1")).toBe("\x18\x0f20500101000000Z");
});
