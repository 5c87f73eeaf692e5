/**
 * The certificate authority of one sandbox: its guest trusts it, so that the proxy can stand in for hosts with a secret. The key is
 * in this process's memory only. It is limited by name constraints to those hosts, so that whoever had it could imitate no other.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { Clock } from "../../../base/clock.ts";
import { randomBytes } from "../../../base/id.ts";
import { WarrenError } from "../../../errors.ts";
import { parseName } from "../names.ts";
import type { CertificateAuthority, LeafCertificate } from "../types.ts";
import { bits, boolean, explicit, implicit, integer, octets, oid, sequence, set, time, utf8 } from "./der.ts";

const DAY_MS = 24 * 3_600_000;
/** Guests with a clock that is behind must take it too. */
const EARLIER_MS = DAY_MS;
/** Longer than a sandbox lives. */
const AUTHORITY_MS = 400 * DAY_MS;
const LEAF_MS = 30 * DAY_MS;
const RENEW_MS = DAY_MS;
const SERIAL_BYTES = 16;

const ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const SERVER_AUTH = oid("1.3.6.1.5.5.7.3.1");
/** Bit strings of KeyUsage: its bits from the left, and how many at the end do not count. */
const SIGNS_CERTIFICATES = bits(Uint8Array.of(0b0000_0100), 2);
const SIGNS = bits(Uint8Array.of(0b1000_0000), 7);
const DNS_NAME = 2;
const IP_ADDRESS = 7;

interface Key {
  readonly own: KeyObject;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly id: Uint8Array;
}

interface Issuer {
  readonly name: Uint8Array;
  readonly key: Key;
}

function newKey(): Key {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  // Any method will do (RFC 7093): it only tells keys apart.
  return { own: privateKey, spki, id: createHash("sha256").update(spki).digest().subarray(0, 20) };
}

function distinguished(text: string): Uint8Array {
  return sequence(set(sequence(oid("2.5.4.3"), utf8(text))));
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  return sequence(oid(`2.5.29.${id}`), ...(critical ? [boolean(true)] : []), octets(value));
}

const ascii = (name: string): Uint8Array => Buffer.from(name, "latin1");

/** Those names and names below them; no address, as a constraint on names says nothing of addresses. */
function constraints(names: readonly string[]): Uint8Array {
  const permitted = names.map((name) => sequence(implicit(DNS_NAME, ascii(name))));
  const excluded = [8, 32].map((size) => sequence(implicit(IP_ADDRESS, new Uint8Array(size))));
  return sequence(explicit(0, ...permitted), explicit(1, ...excluded));
}

function pem(type: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${type}-----`, ...lines, `-----END ${type}-----`, ""].join("\n");
}

interface Wanted {
  readonly serial: Uint8Array;
  readonly subject: Uint8Array;
  readonly key: Key;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly extensions: readonly Uint8Array[];
}

function certificate(issuer: Issuer, wanted: Wanted): string {
  const signed = sequence(
    explicit(0, integer(Uint8Array.of(2))), // version 3
    integer(wanted.serial),
    ECDSA_SHA256,
    issuer.name,
    sequence(time(wanted.fromMs), time(wanted.untilMs)),
    wanted.subject,
    wanted.key.spki,
    explicit(
      3,
      sequence(
        ...wanted.extensions,
        extension("37", false, sequence(SERVER_AUTH)),
        extension("14", false, octets(wanted.key.id)),
        extension("35", false, sequence(implicit(0, issuer.key.id))),
      ),
    ),
  );
  const signature = sign("sha256", signed, issuer.key.own);
  return pem("CERTIFICATE", sequence(signed, ECDSA_SHA256, bits(signature)));
}

function leaf(issuer: Issuer, name: string, nowMs: number): LeafCertificate {
  const key = newKey();
  const certPem = certificate(issuer, {
    serial: randomBytes(SERIAL_BYTES),
    subject: distinguished("Warren egress proxy"), // names may be longer than a common name
    key,
    fromMs: nowMs - EARLIER_MS,
    untilMs: nowMs + LEAF_MS,
    extensions: [
      extension("19", true, sequence()),
      extension("15", true, SIGNS),
      extension("17", false, sequence(implicit(DNS_NAME, ascii(name)))),
    ],
  });
  return { certPem, keyPem: key.own.export({ type: "pkcs8", format: "pem" }).toString() };
}

/**
 * A new authority for hosts of this one sandbox.
 * @throws {WarrenError} `invalid_request` – without a name, or for one that is no DNS name: without a constraint it would be good for all
 */
export function createAuthority(clock: Clock, hosts: readonly string[]): CertificateAuthority {
  const names = [...new Set(hosts.map((host) => parseName(host)))];
  if (names.length === 0 || !names.every((name) => name !== null)) {
    throw new WarrenError("invalid_request", "secrets are for hosts with a DNS name");
  }
  const serial = randomBytes(SERIAL_BYTES);
  // Two authorities of one guest (a fork's and its parent's) have to be told apart by name too.
  const issuer = {
    name: distinguished(`Warren sandbox ${Buffer.from(serial.subarray(0, 4)).toString("hex")}`),
    key: newKey(),
  };
  const fromMs = clock.wallMs() - EARLIER_MS;
  const certificatePem = certificate(issuer, {
    serial,
    subject: issuer.name,
    key: issuer.key,
    fromMs,
    untilMs: clock.wallMs() + AUTHORITY_MS,
    extensions: [
      extension("19", true, sequence(boolean(true), integer(Uint8Array.of(0)))), // an authority, over leaves only
      extension("15", true, SIGNS_CERTIFICATES),
      extension("30", true, constraints(names)),
    ],
  });
  const leaves = new Map<string, LeafCertificate & { readonly renewMs: number }>();
  return {
    certificatePem,
    names,
    leafFor(name) {
      if (!names.includes(name)) throw new WarrenError("invalid_request", `no secret was given for ${name}`);
      const nowMs = clock.wallMs();
      const known = leaves.get(name);
      if (known !== undefined && nowMs < known.renewMs) return known;
      const made = { ...leaf(issuer, name, nowMs), renewMs: nowMs + LEAF_MS - RENEW_MS };
      leaves.set(name, made);
      return made;
    },
  };
}
