/** Environment → Config, once, by schema. The only reader of `process.env`; a WARREN_ name that is not known is refused. */
import { type Static, Type } from "@sinclair/typebox";
import { parse } from "./contract/parse.ts";
import { isWarrenError, WarrenError } from "./errors.ts";

/** Where Debian packages of guests come from unless said otherwise. */
export const DEBIAN_MIRROR = "http://deb.debian.org/debian";

const AbsolutePath = Type.String({ pattern: "^/[^\\u0000]*$" });

/** Every variable: its schema, its default (null: found out by who needs it), and what it is. */
const VARIABLES = {
  WARREN_HOME: { key: "home", schema: AbsolutePath, fallback: "/var/lib/warren", says: "holds all data" },
  WARREN_LOG: {
    key: "log",
    schema: Type.Union(["debug", "info", "warn", "error", "silent"].map((level) => Type.Literal(level))),
    fallback: "warn",
    says: "diagnostics on stderr from this level up",
  },
  WARREN_MIRROR: {
    key: "mirror",
    schema: Type.String({ pattern: "^(https?|file)://[^\\s\\u0000]+$" }),
    fallback: DEBIAN_MIRROR,
    says: "Debian mirror that guests are built from",
  },
  WARREN_KERNEL: { key: "kernel", schema: AbsolutePath, fallback: null, says: "a bzImage or vmlinux for guests" },
  WARREN_ACCEL: {
    key: "accel",
    schema: Type.Union(["auto", "kvm", "tcg"].map((kind) => Type.Literal(kind))),
    fallback: "auto",
    says: "acceleration; auto uses KVM where a probe guest boots",
  },
  WARREN_DNS: {
    key: "dns",
    schema: Type.String({ pattern: "^[0-9a-fA-F:.]+(,[0-9a-fA-F:.]+)*$" }),
    fallback: null,
    says: "name servers that sandboxes' names are asked of, comma-separated; default those of /etc/resolv.conf",
  },
  WARREN_EGRESS_EXEMPT: {
    key: "egressExempt",
    schema: Type.String({ pattern: "^[0-9a-fA-F:./]+(,[0-9a-fA-F:./]+)*$" }),
    fallback: null,
    says: "private ranges that sandboxes' egress policies may allow all the same, comma-separated",
  },
  WARREN_QEMU: { key: "qemu", schema: AbsolutePath, fallback: null, says: "path of qemu-system-x86_64" },
} as const;

export const Config = Type.Object({
  home: Type.String(),
  log: Type.Union([
    Type.Literal("debug"),
    Type.Literal("info"),
    Type.Literal("warn"),
    Type.Literal("error"),
    Type.Literal("silent"),
  ]),
  mirror: Type.String(),
  kernel: Type.Union([Type.String(), Type.Null()]),
  accel: Type.Union([Type.Literal("auto"), Type.Literal("kvm"), Type.Literal("tcg")]),
  qemu: Type.Union([Type.String(), Type.Null()]),
  dns: Type.Union([Type.String(), Type.Null()]),
  egressExempt: Type.Union([Type.String(), Type.Null()]),
});
export type Config = Static<typeof Config>;

/** Name, default and meaning of every variable; for help texts. */
export function configHelp(): readonly {
  readonly name: string;
  readonly fallback: string | null;
  readonly says: string;
}[] {
  return Object.entries(VARIABLES).map(([name, { fallback, says }]) => ({ name, fallback, says }));
}

/**
 * The configuration that an environment describes; an empty variable counts as not set.
 * @throws {WarrenError} `invalid_request` – an unknown WARREN_ name, or a value that does not fit.
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>> = process.env): Config {
  for (const name of Object.keys(environment)) {
    if (name.startsWith("WARREN_") && !Object.hasOwn(VARIABLES, name)) throw unknown(name);
  }
  const config: Record<string, unknown> = {};
  for (const [name, { key, schema, fallback }] of Object.entries(VARIABLES)) {
    const value = environment[name];
    config[key] = value === undefined || value === "" ? fallback : checked(name, schema, value);
  }
  return parse(Config, config);
}

/** The variables by which another process reads this configuration. */
export function environmentOf(config: Config): Readonly<Record<string, string>> {
  const values = Object.entries(VARIABLES).map(([name, { key }]) => [name, config[key]] as const);
  return Object.fromEntries(values.filter((entry): entry is [string, string] => entry[1] !== null));
}

function checked(name: string, schema: (typeof VARIABLES)[keyof typeof VARIABLES]["schema"], value: string): unknown {
  try {
    return parse(Type.Object({ [name]: schema }), { [name]: value })[name];
  } catch (cause) {
    if (!isWarrenError(cause)) throw cause;
    throw new WarrenError("invalid_request", `environment variable ${cause.message}`, { details: cause.details });
  }
}

function unknown(name: string): WarrenError {
  const known = Object.keys(VARIABLES);
  const near = known.map((k) => ({ k, far: distance(name, k) })).sort((a, b) => a.far - b.far)[0];
  const hint = near !== undefined && near.far <= 3 ? ` Did you mean ${near.k}?` : "";
  const says = `${name} is not a variable of warren.${hint} Known are ${known.join(", ")}.`;
  return new WarrenError("invalid_request", says, { details: { name, known } });
}

/** Levenshtein's: single-character insertions, deletions and replacements from `a` to `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
