/** Which server commands go to: what the command line names, else the environment, else a login that was kept in a file. */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { escapeLine } from "../../base/escape.ts";
import type { Calling } from "../../config.ts";
import { parse } from "../../contract/parse.ts";
import { WarrenError } from "../../errors.ts";
import type { ServerFlags, Target } from "./ground.ts";

/** Named in place of a URL for this machine's home. */
const HERE = "local";

const Login = Type.Object({ url: Type.String(), key: Type.String() }, { additionalProperties: false });

/** A URL without a slash at its end. @throws {WarrenError} `invalid_request` */
function urlOf(text: string): string {
  const whole = /^https?:\/\//.test(text) ? text : `https://${text}`;
  if (!URL.canParse(whole) || new URL(whole).username !== "") {
    const says = `--host: allowed is a URL such as https://warren.example, or ${HERE} for this machine, not ${escapeLine(text)}`;
    throw new WarrenError("invalid_request", says);
  }
  return whole.replace(/\/+$/, "");
}

const ABSENT: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "EACCES"]);

/** Null when there is none. @throws {WarrenError} `invalid_request` – the file is none of ours */
function readLogin(path: string | null): Static<typeof Login> | null {
  if (path === null) return null;
  try {
    return parse(Login, JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    // What this user may not read is another's: HOME is still the caller's under sudo and setpriv.
    if (cause instanceof Error && "code" in cause && ABSENT.has(String(cause.code))) return null;
    const says = `the login in ${escapeLine(path)} cannot be read: \`warren logout\` removes it`;
    throw new WarrenError("invalid_request", says, { cause });
  }
}

/**
 * The server that is meant; null for this machine's home. A key goes with the host that was named beside it, or that it was
 * kept for: it never goes elsewhere.
 * @throws {WarrenError} `invalid_request` – no URL, or no key for it
 */
export function targetOf(flags: ServerFlags, calling: Calling): Target | null {
  if (flags.host === HERE) return null;
  const named = flags.host ?? calling.api;
  const login = readLogin(calling.credentials);
  const url = named === null ? (login?.url ?? null) : urlOf(named);
  if (url === null) {
    if (flags.key === undefined) return null;
    throw new WarrenError("invalid_request", "--key: goes with --host, or with WARREN_API");
  }
  const isEnvironments = calling.api === null || urlOf(calling.api) === url;
  const key = flags.key ?? (isEnvironments ? calling.apiKey : null) ?? (login?.url === url ? login.key : null);
  if (key === null) {
    const says = `there is no key for ${escapeLine(url)}: give --key, or set WARREN_API_KEY, or keep one with \`warren login\``;
    throw new WarrenError("invalid_request", says);
  }
  return { url, key };
}

/** Readable by this user alone; null removes it. @returns the file. @throws {WarrenError} `invalid_request` – no place for it */
export function keepLogin(path: string | null, target: Target | null): string {
  if (path === null)
    throw new WarrenError("invalid_request", "neither HOME nor XDG_CONFIG_HOME says where a login goes");
  if (target === null) {
    rmSync(path, { force: true });
    return path;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const next = `${path}.${process.pid}`;
  writeFileSync(next, `${JSON.stringify(target)}\n`, { mode: 0o600 });
  chmodSync(next, 0o600); // one that was there keeps its own mode
  renameSync(next, path);
  return path;
}
