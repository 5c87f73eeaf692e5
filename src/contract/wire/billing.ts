/** Billing on the wire: a usage report may be had as CSV. The form is of the answer alone: no caller of the contract has to know it. */
import { Type } from "@sinclair/typebox";
import { billingRoutes } from "../routes/api/billing.ts";
import type { ObjectCodec } from "./codec.ts";
import { object } from "./derive.ts";
import { widened } from "./sandbox.ts";

const base = object(billingRoutes.usage.input, "input");

export const usage: ObjectCodec = {
  ...widened(base, { format: Type.Optional(Type.Union([Type.Literal("json"), Type.Literal("csv")])) }),
  encode: base.encode,
  decode: (wire) => base.decode(wire), // takes what it knows, and the form is not among that
};
