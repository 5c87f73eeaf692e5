/** The options that say what may leave a sandbox, the same for every verb that has them. */
import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError } from "commander";
import { escapeLine } from "../base/escape.ts";
import type { Egress, Secret } from "../contract/routes/network.ts";
import { WarrenError } from "../errors.ts";

export interface EgressFlags {
  readonly egress?: Egress["mode"];
  readonly allow?: readonly string[];
  readonly inspect?: boolean;
  readonly mbps?: number;
}

/** A secret as it is given: its value is in a file, as command lines can be read by everyone. */
export interface SecretFlag {
  readonly host: string;
  readonly header: string;
  readonly path: string;
}

function mode(text: string): Egress["mode"] {
  if (text === "none" || text === "allowlist" || text === "open") return text;
  throw new InvalidArgumentError("allowed are none, allowlist and open.");
}

function list(text: string, before: readonly string[] = []): string[] {
  return [...before, ...text.split(",").filter((entry) => entry !== "")];
}

function rate(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("allowed is a number of megabits per second, for instance 10 or 0.5.");
}

function secret(text: string, before: readonly SecretFlag[] = []): SecretFlag[] {
  const [, host, header, path] = /^([^:=]+):([^:=]+)=(.+)$/.exec(text) ?? [];
  if (host === undefined || header === undefined || path === undefined) {
    throw new InvalidArgumentError("allowed is HOST:HEADER=FILE, for instance api.test:Authorization=token.txt.");
  }
  return [...before, { host, header, path }];
}

/** Adds `--egress`, `--allow`, `--inspect` and `--mbps`. @param standard what holds without them, for the help text */
export function egressOptions(command: Command, standard: string): Command {
  return command
    .option("--egress <mode>", `what may leave it: none, allowlist or open (the public internet); ${standard}`, mode)
    .option(
      "--allow <entry>",
      "only this: a name, *.name, address or range, with :port if wanted; may be repeated",
      list,
    )
    .option("--inspect", "hold HTTP hosts and TLS names on ports 80 and 443 to the same list")
    .option("--mbps <n>", "megabits per second, each way", rate);
}

export function secretOption(command: Command): Command {
  return command.option(
    "--secret <host:header=file>",
    "set this header on its requests to that host, outside of it; may be repeated",
    secret,
  );
}

/** Null when none of the options was given. @throws {WarrenError} `invalid_request` – they contradict each other */
export function egressOf({ egress, allow, inspect, mbps }: EgressFlags, standard: Egress["mode"]): Egress | null {
  if (egress === undefined && allow === undefined && inspect === undefined && mbps === undefined) return null;
  if (allow !== undefined && egress !== undefined && egress !== "allowlist") {
    throw new WarrenError("invalid_request", `--allow: goes with --egress allowlist, not with ${egress}`, {
      details: { field: "allow", got: egress, allowed: ["allowlist"] },
    });
  }
  return {
    mode: egress ?? (allow === undefined ? standard : "allowlist"),
    ...(allow === undefined ? {} : { allow: [...allow] }),
    ...(inspect === undefined ? {} : { inspect }),
    ...(mbps === undefined ? {} : { mbps }),
  };
}

/** Reads the values; the newline at the end of a file is none of it. @throws {WarrenError} `invalid_request` */
export async function secretsOf(flags: readonly SecretFlag[]): Promise<Secret[]> {
  return Promise.all(
    flags.map(async ({ host, header, path }) => {
      try {
        return { host, header, value: (await readFile(path, "utf8")).replace(/\r?\n$/, "") };
      } catch (cause) {
        throw new WarrenError("invalid_request", `--secret: ${escapeLine(path)} cannot be read`, { cause });
      }
    }),
  );
}

/** In a word or a line, for people. */
export function egressText({ mode: of, allow = [], inspect, mbps }: Egress): string {
  const words = [of === "allowlist" ? `allowlist ${allow.join(" ") || "(empty)"}` : of];
  if (inspect === true) words.push("inspected");
  if (mbps !== undefined) words.push(`${mbps} Mbit/s`);
  return escapeLine(words.join(", "));
}
