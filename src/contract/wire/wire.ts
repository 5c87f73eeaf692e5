/**
 * `wireOf`: what each row of the table is on the wire, for the server, for our client, for the OpenAPI document. What follows
 * from a row's schemas is derived; what does not is named here, once.
 */
import type { TSchema } from "@sinclair/typebox";
import type { Route } from "../route.ts";
import { type RowName, table } from "../table.ts";
import * as billing from "./billing.ts";
import type { ObjectCodec, WireRow } from "./codec.ts";
import * as contexts from "./contexts.ts";
import { derive, object } from "./derive.ts";
import { events } from "./events.ts";
import * as commands from "./exec.ts";
import * as files from "./files.ts";
import * as kept from "./kept.ts";
import * as sandbox from "./sandbox.ts";

export { exitCodeOf, timeoutSentence } from "./exec.ts";
export { sandboxesIn, templateName } from "./sandbox.ts";

/** Of a row that names a template in its path. */
const byTemplate = (name: "template" | "bake" | "removeTemplate"): Partial<WireRow> => {
  const { input } = table[name];
  return { input: object(input, "input", { fields: { name: sandbox.named(input.properties.name) } }) };
};

/** What is not as the row's schemas have it. */
const SPECIAL: { readonly [K in RowName]?: Partial<WireRow> } = {
  create: { input: sandbox.create, output: sandbox.sandbox },
  get: { output: sandbox.sandbox },
  list: { input: sandbox.list, output: sandbox.sandboxes },
  fork: { output: kept.fork },
  forkTree: { output: kept.forkTree },
  hibernate: { output: kept.status("hibernated") },
  wake: { output: kept.status("running") },
  snapshots: { output: kept.snapshots },
  exec: { input: commands.exec, events: commands.execEvents },
  attach: { input: commands.attach, events: commands.execEvents },
  run: { input: commands.run },
  stat: { output: files.fileInfo },
  listDirectory: { output: files.directory },
  writeFile: { input: files.withMode(table.writeFile.input), output: files.written },
  mkdir: { input: files.withMode(table.mkdir.input) },
  chmod: { input: files.withMode(table.chmod.input) },
  rename: { input: files.rename },
  createContext: { input: contexts.create, output: contexts.info },
  contexts: { output: contexts.infos },
  runCode: { input: contexts.stream, events: contexts.cellEvents },
  runCell: { input: contexts.run },
  runFresh: { input: contexts.fresh },
  templates: { output: kept.templates },
  template: { ...byTemplate("template"), output: kept.template },
  bake: byTemplate("bake"),
  removeTemplate: byTemplate("removeTemplate"),
  usage: { input: billing.usage },
};

/** The bytes of an upload are no field. */
function withoutBody(codec: ObjectCodec): ObjectCodec {
  return {
    ...codec,
    encode: (value) => {
      const { body: _, ...rest } = value as Record<string, unknown>;
      return codec.encode(rest);
    },
  };
}

function derived({ input, upload, returns }: Route, special: Partial<WireRow>): WireRow {
  const output = special.output ?? (isSchema(returns) ? derive(returns, "result") : null);
  const streamed = typeof returns === "object" && "events" in returns && !isSchema(returns) ? returns.events : null;
  const codec = special.input ?? object(input, "input");
  return {
    input: upload === true ? withoutBody(codec) : codec,
    output,
    events: special.events ?? (streamed === null ? null : events(streamed as TSchema)),
  };
}

function isSchema(returns: Route["returns"]): returns is TSchema {
  return typeof returns === "object" && Object.getOwnPropertySymbols(returns).length > 0;
}

/** HTTP status of success: 101 of a WebSocket, 204 of what answers nothing at all. Of a range it is 206. */
export function successOf(name: RowName): 101 | 200 | 201 | 202 | 204 {
  const { returns, status, upload }: Route = table[name];
  if (returns === "socket" || (returns === "bytes" && upload === true)) return 101;
  if (status !== undefined) return status;
  return returns === "nothing" && wireOf(name).output === null ? 204 : 200;
}

const rows = new Map<RowName, WireRow>();

/** The codecs of a row; the same ones each time, so that their schemas are compiled once. */
export function wireOf(name: RowName): WireRow {
  let row = rows.get(name);
  if (row === undefined) {
    row = derived(table[name], SPECIAL[name] ?? {});
    rows.set(name, row);
  }
  return row;
}
