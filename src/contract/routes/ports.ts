/** TCP ports of a sandbox, reached through its agent: no network leads into a guest, and none is needed for this. */
import { type Static, Type } from "@sinclair/typebox";
import type { Contract } from "../route.ts";
import { ById } from "./sandboxes.ts";

export const PortInfo = Type.Object({
  port: Type.Integer(),
  /** What it is bound to, for instance `127.0.0.1`, `0.0.0.0` or `::`. Only ports on loopback or on all addresses can be reached. */
  address: Type.String(),
  protocol: Type.Literal("tcp"),
});
export type PortInfo = Static<typeof PortInfo>;

export const Dial = Type.Object(
  {
    id: Type.String({ minLength: 1, maxLength: 64 }),
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    /** Default: `127.0.0.1`, and `::1` when nothing listens there. */
    host: Type.Optional(Type.Union([Type.Literal("127.0.0.1"), Type.Literal("::1")])),
  },
  { additionalProperties: false },
);
export type Dial = Static<typeof Dial>;

export const portRoutes = {
  ports: {
    method: "GET",
    path: "/v1/sandboxes/:id/ports/listening",
    scope: "sandbox:read",
    says: "TCP ports that programs in the sandbox listen on, lowest first",
    input: ById,
    returns: Type.Array(PortInfo),
    errors: ["not_found", "wrong_state", "sandbox_lost", "guest_protocol", "guest_unresponsive"],
  },
  dial: {
    method: "POST",
    path: "/v1/sandboxes/:id/ports/:port/connect",
    scope: "sandbox:write",
    says: "Connect to a TCP port of the sandbox: the body is sent to it as it comes, its end ends that direction; leaving the answer resets the connection",
    input: Dial,
    upload: true,
    returns: "bytes",
    errors: ["invalid_request", "not_found", "wrong_state", "sandbox_lost", "guest_protocol", "guest_unresponsive"],
  },
} as const satisfies Contract;
