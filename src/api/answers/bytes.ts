/** What is answered piece by piece: nothing is told before the first piece or the first failure, and it is read no faster than it is taken. */
import type { RowName } from "../../contract/table.ts";
import type { ApiContext, AppParts, RequestContext } from "../parts.ts";
import type { Fields } from "../request.ts";
import { type PullOptions, pulled, within } from "../streams/pull.ts";
import { type HeaderFields, stream } from "./answer.ts";

export type AnswerParts = Pick<AppParts, "clock" | "settings" | "pricePerSecondUsd" | "log">;
export type Answer = (
  context: ApiContext,
  asked: RequestContext,
  fields: Fields,
  call: () => Promise<unknown>,
) => Promise<Response>;

/** Calls, and waits for the first piece a while: a failure until then has its own status. */
export async function begun<T>(
  call: () => Promise<unknown>,
  { clock }: AnswerParts,
  waitMs: number | null,
): Promise<{ readonly source: AsyncIterableIterator<T>; readonly isLate: boolean }> {
  // A host may answer with its stream only once something comes.
  let source: AsyncIterator<T> | null = null;
  let isLeft = false;
  const begin = async (): Promise<IteratorResult<T>> => {
    source = ((await call()) as AsyncIterable<T>)[Symbol.asyncIterator]();
    if (isLeft) await source.return?.();
    return source.next();
  };
  let first: Promise<IteratorResult<T>> | null = begin();
  first.catch(() => undefined); // told below, or by who reads on
  const come = waitMs === null ? await first : await within(clock, waitMs, first);
  const next = async (): Promise<IteratorResult<T>> => {
    const given = first;
    first = null;
    return given ?? source?.next() ?? { done: true, value: undefined };
  };
  const leave = async (): Promise<IteratorResult<T>> => {
    isLeft = true;
    return (await source?.return?.()) ?? { done: true, value: undefined };
  };
  const all = { next, return: leave, [Symbol.asyncIterator]: () => all };
  return { source: all, isLate: come === "ping" };
}

/** Options of a body that is under way until it is over. */
export function held(
  { var: { under } }: ApiContext,
  { clock }: AnswerParts,
): Pick<PullOptions, "clock" | "gone" | "abort" | "done"> {
  return { clock, gone: under.signal, abort: (why) => under.abort(why), done: under.hold("stream") };
}

export const DOWNLOAD: HeaderFields = { "content-disposition": "attachment", "content-security-policy": "sandbox" };

export function bytesBody(
  source: AsyncIterator<Uint8Array>,
  context: ApiContext,
  parts: AnswerParts,
): ReadableStream<Uint8Array> {
  return pulled(source, held(context, parts));
}

export function bytesAnswer(name: RowName, parts: AnswerParts): Answer {
  const type = name === "archiveOut" ? "application/x-tar" : "application/octet-stream";
  return async (context, _asked, _fields, call) => {
    const { source } = await begun<Uint8Array>(call, parts, null);
    return stream(bytesBody(source, context, parts), type, DOWNLOAD);
  };
}
