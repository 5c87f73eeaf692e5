/** `SandboxHost` and `ApiHost` over HTTP: one call for each row of the table, and nothing that the table does not say. */
import type { CallOptions, Route } from "../contract/route.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { type ApiHost, type RowName, table } from "../contract/table.ts";
import { namedInContract } from "../contract/wire/fields.ts";
import { isWarrenError } from "../errors.ts";
import { answered } from "./answer.ts";
import { dialed } from "./dial.ts";
import { exchange, type Server } from "./exchange.ts";
import { requestOf } from "./request.ts";
import { withLargeStdin } from "./stdin.ts";

type Call = (input: Readonly<Record<string, unknown>>, options?: CallOptions) => Promise<unknown>;

function madeBy(name: RowName, value: unknown): readonly SandboxInfo[] {
  if (name === "create") return [value as SandboxInfo];
  if (name !== "fork" && name !== "forkTree") return [];
  return (value as { children: SandboxInfo[] }).children;
}

function callOf(server: Server, name: RowName): Call {
  const { upload, returns }: Route = table[name];
  const isSocket = upload === true && returns === "bytes";
  const call: Call = async (input, { signal, began } = {}) => {
    const request = requestOf(name, input);
    if (isSocket) return dialed(server, request, signal);
    const value = await answered(request, await exchange(server, request, signal), server.clock);
    if (began !== undefined) for (const one of madeBy(name, value)) began(one.id, one); // no earlier than the answer
    return value;
  };
  return async (input, options) => {
    try {
      return await call(input, options);
    } catch (cause) {
      throw isWarrenError(cause) ? namedInContract(name, cause) : cause;
    }
  };
}

/** Rows that are WebSockets of their own kind are not among the calls: see their paths in the table. */
export function hostOf(server: Server): SandboxHost & ApiHost {
  const rows = (Object.entries(table) as [RowName, Route][]).filter(([, { returns }]) => returns !== "socket");
  const calls = Object.fromEntries(rows.map(([name]) => [name, callOf(server, name)]));
  const host = calls as unknown as SandboxHost & ApiHost;
  return { ...host, exec: withLargeStdin(host) };
}
