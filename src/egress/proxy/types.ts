/**
 * The egress proxy of one sandbox, as the rest sees it: connections to TCP ports 80 and 443 that the kernel sent to us go where their
 * Host header or SNI says, if that name is allowed; those to hosts with a secret get its header on the way.
 */
import type { IpAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { NetworkEvent, Secret } from "../../contract/routes/network.ts";

/** PEM, both; the key is of the leaf alone. */
export interface LeafCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What one sandbox trusts beside the public authorities. Its key is in this process's memory only. */
export interface CertificateAuthority {
  /** For the guest's trust store. */
  readonly certificatePem: string;
  /** Names, lower case, that (with names below them) it is good for; clients that honour name constraints believe it of no others. */
  readonly names: readonly string[];
  /** The same one each time until it nears its end. @throws {WarrenError} `invalid_request` – for a name that is not in `names` */
  leafFor(name: string): LeafCertificate;
}

/** Only for tests: where connections to a port of the world really go, and who is trusted there (PEM) instead of the system's roots. */
export interface Detour {
  readonly port: (asked: number) => number;
  readonly roots: readonly string[];
}

export interface ProxyOptions {
  /** Address to listen on, and a second one (with the same port), or null. */
  readonly hostname: string;
  readonly alsoOn: string | null;
  /** Asked for each connection and each request anew; `name` is lower case, without a final dot, or an address as text. */
  readonly permits: (name: string, port: number) => boolean;
  /** Their `host` is one name, not a pattern. Set on requests over TLS only, never on plain HTTP. */
  readonly secrets: readonly Secret[];
  /** True: all that comes is expected here. False: only hosts with a secret are; others that come along pass as they are allowed. */
  readonly inspect: boolean;
  /** Addresses that may be connected to, never forbidden ones; empty refuses. `name` may be an address as text. */
  readonly resolve: (name: string) => Promise<readonly IpAddress[]>;
  /** Null: there are no secrets. */
  readonly ca: CertificateAuthority | null;
  readonly clock: Clock;
  readonly log: Log;
  /** One for each spliced connection and each request, allowed or refused. */
  readonly onRequest: (event: NetworkEvent) => void;
  readonly connectTo?: Detour;
}

export interface EgressProxy {
  readonly port: number;
  /** Holds for connections and requests that begin after it; spliced connections that are no longer permitted are closed. */
  update(change: Partial<Pick<ProxyOptions, "permits" | "secrets" | "inspect">>): void;
  /** Ends every connection; nothing of it is left. */
  close(): Promise<void>;
}
