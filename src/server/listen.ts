/** Where a server listens, and how: refused where anyone could read along. */
import { isIP } from "node:net";
import { WarrenError } from "../errors.ts";

export interface Listen {
  /** An address or a name, without brackets. */
  readonly hostname: string;
  /** 0 stands for a free one. */
  readonly port: number;
}

/** `ADDRESS:PORT`, an IPv6 address in brackets. @throws {WarrenError} `invalid_request` */
export function listenOf(text: string): Listen {
  const [, v6, name = "", port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535) {
    throw new WarrenError("invalid_request", `${text} is no ADDRESS:PORT, such as 127.0.0.1:7480 or [::1]:7480`);
  }
  return { hostname: v6 ?? name, port: Number(port) };
}

/** Reached from this machine alone. */
export function isLoopback(hostname: string): boolean {
  if (hostname === "localhost" || hostname === "::1") return true;
  return isIP(hostname) === 4 && hostname.startsWith("127.");
}

/**
 * Keys travel in headers: without TLS whoever is on the way has them.
 * @throws {WarrenError} `invalid_request`
 */
export function refusePublic({ hostname }: Listen, isTls: boolean, insecureHttp: boolean): void {
  if (isTls || insecureHttp || isLoopback(hostname)) return;
  const says = `${hostname} can be reached from other machines, and without TLS they would see keys`;
  throw new WarrenError(
    "invalid_request",
    `${says}: give --tls-cert and --tls-key, listen on 127.0.0.1 behind a proxy that has them, or say --insecure-http`,
    { details: { field: "host", got: hostname } },
  );
}

/** For people and clients; an address that stands for all becomes that of this machine. */
export function urlOf({ hostname, port }: Listen, isTls: boolean): string {
  const named = hostname === "0.0.0.0" ? "127.0.0.1" : hostname === "::" ? "::1" : hostname;
  return `${isTls ? "https" : "http"}://${named.includes(":") ? `[${named}]` : named}:${port}`;
}
