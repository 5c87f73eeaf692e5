/** Code contexts on the wire: their ids are text, Python has the names that clients give it, times are in either unit. */
import { type TSchema, Type } from "@sinclair/typebox";
import { callRoutes } from "../routes/api/calls.ts";
import { CellEvent, CellRun, ContextCreate, ContextInfo } from "../routes/contexts.ts";
import type { Codec, EventCodec, ObjectCodec } from "./codec.ts";
import { array, object } from "./derive.ts";
import { events } from "./events.ts";
import { refuse, widened } from "./sandbox.ts";

const PYTHON = ["python", "py", "python3"] as const;

function language(others: readonly string[]): Codec {
  const names = [...PYTHON, ...others].map((name) => Type.Literal(name));
  return {
    schema: Type.Optional(Type.Union(names)),
    encode: (value) => value,
    decode: (wire) => ((PYTHON as readonly unknown[]).includes(wire) ? "python" : wire),
  };
}

export const create: ObjectCodec = object(ContextCreate, "input", { fields: { language: language([]) } });

const number: Codec = {
  schema: Type.String({ pattern: "^\\d+$", description: "The same in every fork of the sandbox" }),
  encode: String,
  decode: Number,
};
export const info: ObjectCodec = object(ContextInfo, "result", {
  rename: { context: "id" },
  fields: { context: number },
});
export const infos: Codec = array(info);

/** One of the two, since a cell's time is said in either. */
function bothUnits(base: ObjectCodec, sent: "timeout_ms" | "timeout_seconds"): ObjectCodec {
  const other = sent === "timeout_ms" ? "timeout_seconds" : "timeout_ms";
  const factor = sent === "timeout_ms" ? 1000 : 1 / 1000;
  const { maximum, ...rest } = base.schema.properties[sent] as TSchema;
  const schema = { ...rest, maximum: Number(maximum) / factor } as unknown as TSchema;
  return {
    ...widened(base, { [other]: schema }),
    encode: base.encode,
    decode(wire) {
      const { [other]: given, ...asked } = wire as Record<string, unknown>;
      if (given === undefined) return base.decode(asked);
      if (asked[sent] !== undefined) refuse(other, `not together with ${sent}`);
      return base.decode({ ...asked, [sent]: (given as number) * factor });
    },
  };
}

export const stream = bothUnits(object(CellRun, "input"), "timeout_seconds");
export const run = bothUnits(object(callRoutes.runCell.input, "input"), "timeout_ms");
export const fresh = bothUnits(
  object(callRoutes.runFresh.input, "input", { fields: { language: language(["shell"]) } }),
  "timeout_ms",
);

const chunk = { rename: { text: "chunk" } };
/** An exception of the code is no failure of the stream, and has a name of its own. */
export const cellEvents: EventCodec = events(CellEvent, {
  stdout: chunk,
  stderr: chunk,
  error: { event: "exception" },
});
