/** A sandbox's network: what may leave it, what did, and the ports that it listens on. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";

export const EgressMode = Type.Union([
  /** Nothing leaves. */
  Type.Literal("none"),
  /** What `allow` names. */
  Type.Literal("allowlist"),
  /** The public internet. */
  Type.Literal("open"),
]);
export type EgressMode = Static<typeof EgressMode>;

/** A name (`pypi.org`, `*.pypi.org`), address or range (`93.184.216.0/24`, `2606:4700::/32`), each with `:port` or `:from-to` if wanted. */
export const EgressEntry = Type.String({ minLength: 1, maxLength: LIMITS.egressEntryChars });

export const EgressAllowlist = Type.Array(EgressEntry, { maxItems: LIMITS.egressEntries });

/** As a caller says it. What is left out is unlimited or off, but for limits, which have defaults. */
export const Egress = Type.Object(
  {
    mode: EgressMode,
    /** Only with `allowlist`. */
    allow: Type.Optional(EgressAllowlist),
    /** Connections to TCP ports 80 and 443 go through a proxy that holds their Host or SNI to the same list. */
    inspect: Type.Optional(Type.Boolean()),
    /** Megabits per second, each way. */
    mbps: Type.Optional(Type.Number({ minimum: 0.1, maximum: 100_000 })),
    newConnectionsPerSecond: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
    /** Open at one time. */
    connections: Type.Optional(Type.Integer({ minimum: 1, maximum: LIMITS.egressConnectionsMax })),
  },
  { additionalProperties: false },
);
export type Egress = Static<typeof Egress>;

/** A header that the proxy sets on requests to a host; the guest never sees its value. */
export const Secret = Type.Object(
  {
    host: Type.String({ minLength: 1, maxLength: 253 }),
    header: Type.String({ pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$" }),
    value: Type.String({ pattern: "^[\\t\\x20-\\x7e\\x80-\\xff]{1,8192}$" }),
  },
  { additionalProperties: false },
);
export type Secret = Static<typeof Secret>;

export const Secrets = Type.Array(Secret, { maxItems: LIMITS.egressSecrets });

const Id = Type.String({ minLength: 1, maxLength: 64 });

export const NetworkInfo = Type.Object({
  egress: Egress,
  /** Hosts that have a secret; their values are told to nobody. */
  secretHosts: Type.Array(Type.String()),
  /** Null: this host cannot give sandboxes a network (`degraded` says why). */
  usage: Type.Union([
    Type.Object({
      bytesOut: Type.Integer(),
      bytesIn: Type.Integer(),
      connections: Type.Integer(),
      refused: Type.Integer(),
    }),
    Type.Null(),
  ]),
  degraded: Type.Union([Type.String(), Type.Null()]),
});
export type NetworkInfo = Static<typeof NetworkInfo>;

export const NetworkEvent = Type.Object({
  /** RFC 3339, UTC. */
  at: Type.String(),
  kind: Type.Union([Type.Literal("dns"), Type.Literal("connection"), Type.Literal("request")]),
  /** What was asked for, or the name that the address was answered for; null when unknown. */
  name: Type.Union([Type.String(), Type.Null()]),
  address: Type.Union([Type.String(), Type.Null()]),
  port: Type.Union([Type.Integer(), Type.Null()]),
  protocol: Type.Union([Type.Literal("tcp"), Type.Literal("udp"), Type.Literal("icmp"), Type.Literal("other")]),
  verdict: Type.Union([Type.Literal("allowed"), Type.Literal("refused")]),
  /** Why it was refused, or what went wrong; for people. */
  reason: Type.Union([Type.String(), Type.Null()]),
});
export type NetworkEvent = Static<typeof NetworkEvent>;

export const networkRoutes = {
  network: {
    method: "GET",
    path: "/v1/sandboxes/:id/network",
    scope: "sandbox:read",
    says: "Read a sandbox's egress policy and what it has used",
    input: Type.Object({ id: Id }, { additionalProperties: false }),
    returns: NetworkInfo,
    errors: ["not_found", "wrong_state", "sandbox_lost", "unsupported"],
  },
  setNetwork: {
    method: "PUT",
    path: "/v1/sandboxes/:id/network",
    scope: "sandbox:write",
    says: "Replace a sandbox's egress policy while it runs; open connections that it does not allow stop",
    input: Type.Object({ id: Id, egress: Egress }, { additionalProperties: false }),
    returns: NetworkInfo,
    errors: [
      "invalid_request",
      "not_found",
      "wrong_state",
      "sandbox_lost",
      "host_unsupported",
      "driver_failed",
      "unsupported",
    ],
  },
  networkLog: {
    method: "GET",
    path: "/v1/sandboxes/:id/network/log",
    scope: "sandbox:read",
    says: "Read what a sandbox tried to reach, oldest first, and how many rows were not kept",
    input: Type.Object({ id: Id }, { additionalProperties: false }),
    returns: Type.Object({ events: Type.Array(NetworkEvent), lost: Type.Integer() }),
    errors: ["not_found", "wrong_state", "sandbox_lost", "unsupported"],
  },
} as const satisfies Contract;
