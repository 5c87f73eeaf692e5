/** How each kind of result is answered: JSON with its status, nothing, bytes, or events that go on until somebody leaves. */
import type { Route } from "../../contract/route.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { errorBody } from "../../contract/status.ts";
import type { RowName } from "../../contract/table.ts";
import type { WireRow } from "../../contract/wire/codec.ts";
import { sandboxesIn, successOf } from "../../contract/wire/wire.ts";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";
import { pulled } from "../streams/pull.ts";
import { blocks, errorBlock, PING } from "../streams/sse.ts";
import { empty, json, logged, stream, told } from "./answer.ts";
import { type Answer, type AnswerParts, begun, bytesAnswer, held } from "./bytes.ts";
import { fileAnswer } from "./files.ts";
import { namedFile, usageAnswer } from "./forms.ts";
import { paged } from "./pages.ts";

export function answerOf(name: RowName, route: Route, wire: WireRow, parts: AnswerParts): Answer {
  const status = successOf(name);
  const { output, events } = wire;
  if (events !== null) return eventsAnswer(name, wire, parts);
  if (name === "readFile") return fileAnswer(parts);
  if (route.returns === "bytes") return namedFile(name, parts) ?? bytesAnswer(name, parts);
  if (output === null)
    return async (_context, _asked, _fields, call) => {
      await call();
      return empty(status);
    };
  const answer: Answer = async ({ var: { entry } }, asked, fields, call) => {
    const { value, headers } = name === "list" ? await paged(asked, fields) : { value: await call(), headers: {} };
    entry.target ??= madeId(value);
    const encoded = output.encode(value, fields.input);
    adorn(encoded, value, parts);
    return json(encoded, status, headers);
  };
  return name === "usage" ? usageAnswer(answer) : answer;
}

/** What a create made, for the audit. */
function madeId(value: unknown): string | null {
  const id = (value as { readonly id?: unknown } | null | undefined)?.id;
  return typeof id === "string" ? id : null;
}

/** What a server knows of a sandbox, and an engine does not. */
function adorn(encoded: unknown, value: unknown, { settings, pricePerSecondUsd }: AnswerParts): void {
  const infos = infosIn(value);
  let at = 0;
  for (const sandbox of sandboxesIn(encoded)) {
    const info = infos[at++];
    sandbox["node"] = settings.node;
    if (info !== undefined && pricePerSecondUsd !== undefined)
      sandbox["price_per_second_usd"] = pricePerSecondUsd(info);
  }
}

/** In the order in which they are in what was encoded. */
function infosIn(value: unknown): readonly SandboxInfo[] {
  if (Array.isArray(value)) return value as SandboxInfo[];
  if (typeof value !== "object" || value === null) return [];
  const { children } = value as { children?: SandboxInfo[] };
  return children ?? [value as SandboxInfo];
}

function eventsAnswer(name: RowName, { events: codec }: WireRow, parts: AnswerParts): Answer {
  return async (context, asked, { wire }, call) => {
    if (codec === null) throw new WarrenError("internal", `${name} has no events`);
    const { source, isLate } = await begun<unknown>(call, parts, BOUNDS.firstEventMs);
    const failed = (cause: unknown) => {
      const error = told(cause);
      logged(error, parts.log, asked.requestId);
      return errorBlock(errorBody(error, asked.requestId));
    };
    const ping = { everyMs: parts.settings.pingMs, bytes: PING };
    const first = isLate ? { first: PING } : {};
    const body = pulled(blocks(source, codec, wire), { ...held(context, parts), ...first, ping, failed });
    return stream(body, "text/event-stream; charset=utf-8", { "x-accel-buffering": "no" });
  };
}
