/**
 * Environment → configuration, once, by schema: of a home, of a server, and of whoever calls one. The only reader of
 * `process.env`; a WARREN_ name that is not known is refused. Secrets are none of the home's, which other processes are told.
 */
import { join } from "node:path";
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { parse } from "./contract/parse.ts";
import { isWarrenError, WarrenError } from "./errors.ts";

/** Where Debian packages of guests come from unless said otherwise. */
export const DEBIAN_MIRROR = "http://deb.debian.org/debian";

const AbsolutePath = Type.String({ pattern: "^/[^\\u0000]*$" });

const HttpUrl = Type.String({ pattern: "^https?://[^\\s/\\u0000]+(/[^\\s\\u0000]*)?$" });
/** Printed as they are: an invoice draws any script. */
const Lines = Type.String({ pattern: "^[^\\u0000-\\u001f]+$", maxLength: 2000 });
const Whole = Type.String({ pattern: "^[1-9]\\d{0,8}$" });
const Switch = Type.Union(["on", "off"].map((word) => Type.Literal(word)));

type Environment = Readonly<Record<string, string | undefined>>;

interface Variable {
  readonly key: string;
  readonly schema: TSchema;
  readonly fallback: string | null;
  readonly says: string;
}

/** Every variable of a home: its schema, its default (null: found out by who needs it), and what it is. */
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
} as const satisfies Readonly<Record<string, Variable>>;

/** Those of `warren serve`. */
const SERVING = {
  DATABASE_URL: {
    key: "databaseUrl",
    schema: Type.String({ pattern: "^postgres(ql)?://[^\\s\\u0000]+$" }),
    fallback: null,
    says: "a PostgreSQL database for the server's state; default a PGlite in WARREN_HOME, for this one server",
  },
  WARREN_ADMIN_KEY: {
    key: "adminKey",
    schema: Type.String({ pattern: "^wrn_[A-Za-z0-9_-]{43}$" }),
    fallback: null,
    says: "the administrator's key: wrn_ and 43 characters of base64url; default a new one, printed once",
  },
  WARREN_LISTEN: {
    key: "listen",
    schema: Type.String({ pattern: "^(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9.-]+):\\d{1,5}$" }),
    fallback: "127.0.0.1:7480",
    says: "address and port that the server listens on",
  },
  WARREN_TLS_CERT: { key: "tlsCert", schema: AbsolutePath, fallback: null, says: "its TLS certificate chain, PEM" },
  WARREN_TLS_KEY: { key: "tlsKey", schema: AbsolutePath, fallback: null, says: "the certificate's private key, PEM" },
  WARREN_PUBLIC_URL: {
    key: "publicUrl",
    schema: HttpUrl,
    fallback: null,
    says: "where clients reach the server; default as each request was addressed",
  },
  WARREN_PREVIEW_SUFFIX: {
    key: "previewSuffix",
    schema: Type.String({ pattern: "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\\d{1,5})?$" }),
    fallback: null,
    says: "domain whose names PORT-ID.domain lead to sandboxes' ports; default none",
  },
  WARREN_CORS: {
    key: "cors",
    schema: Type.String({ pattern: "^(\\*|https?://[^\\s,]+(,https?://[^\\s,]+)*)$" }),
    fallback: null,
    says: "origins whose pages may call the server, comma-separated, or *; default none",
  },
  WARREN_DEFAULT_TTL: {
    key: "defaultTtl",
    schema: Type.String({ pattern: "^(none|[1-9]\\d{0,8})$" }),
    fallback: "3600",
    says: "seconds that a sandbox lives whose maker does not say, or none",
  },
  WARREN_REQUESTS_PER_SECOND: {
    key: "requestsPerSecond",
    schema: Whole,
    fallback: null,
    says: "requests a second of one account whose quota does not say; default unlimited",
  },
  WARREN_EVENTS_KEEP_DAYS: {
    key: "eventsKeepDays",
    schema: Whole,
    fallback: "30",
    says: "how long events, ended sandboxes and the audit log are kept",
  },
  WARREN_WEBHOOKS: {
    key: "webhooks",
    schema: Type.Union(["on", "off", "private"].map((word) => Type.Literal(word))),
    fallback: "on",
    says: "accounts may have webhooks; private allows them to private addresses too",
  },
  WARREN_OPEN_METRICS: { key: "openMetrics", schema: Switch, fallback: "off", says: "on: /metrics needs no key" },
  WARREN_NODE: {
    key: "node",
    schema: Type.String({ pattern: "^[A-Za-z0-9._-]{1,128}$" }),
    fallback: null,
    says: "name of this host in what the server tells; default its host name",
  },
  WARREN_SELLER: {
    key: "seller",
    schema: Lines,
    fallback: "Warren",
    says: "who sends invoices: name and lines of an address, with | between them",
  },
  WARREN_SELLER_TAX_ID: { key: "sellerTaxId", schema: Lines, fallback: null, says: "the tax id on invoices" },
  WARREN_PAYMENT: {
    key: "payment",
    schema: Lines,
    fallback: null,
    says: "lines at the end of invoices, as a bank account, with | between them",
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    key: "otlp",
    schema: HttpUrl,
    fallback: null,
    says: "an OpenTelemetry collector that gets spans of requests, as JSON over HTTP",
  },
} as const satisfies Readonly<Record<string, Variable>>;

/** Those of a command line that calls a server. */
const CALLING = {
  WARREN_API: {
    key: "api",
    schema: HttpUrl,
    fallback: null,
    says: "a server that commands go to, in place of this machine's home",
  },
  WARREN_API_KEY: {
    key: "apiKey",
    schema: Type.String({ pattern: "^[\\x21-\\x7e]{1,512}$" }),
    fallback: null,
    says: "the key for it",
  },
} as const satisfies Readonly<Record<string, Variable>>;

const ALL: Readonly<Record<string, Variable>> = { ...VARIABLES, ...SERVING, ...CALLING };

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

/** How a server is set up; what is null has its default where it is used. */
export interface Serving {
  readonly databaseUrl: string | null;
  readonly adminKey: string | null;
  /** `ADDRESS:PORT`; an IPv6 address in brackets. */
  readonly listen: string;
  readonly tlsCert: string | null;
  readonly tlsKey: string | null;
  readonly publicUrl: string | null;
  readonly previewSuffix: string | null;
  readonly corsOrigins: readonly string[];
  readonly defaultTtlSeconds: number | null;
  readonly requestsPerSecond: number | null;
  readonly eventsKeepDays: number;
  readonly webhooks: "on" | "off" | "private";
  readonly openMetrics: boolean;
  readonly node: string | null;
  readonly otlp: string | null;
  readonly seller: Seller;
}

/** Who sends invoices, as it is printed on them. */
export interface Seller {
  readonly name: string;
  readonly address: readonly string[];
  readonly taxId: string | null;
  readonly payment: readonly string[];
}

/** Which server a command line goes to, as far as the environment says. */
export interface Calling {
  readonly api: string | null;
  readonly apiKey: string | null;
  /** File that a login is kept in; null where the environment names no place for it. */
  readonly credentials: string | null;
}

/** Name, default and meaning of every variable; for help texts. */
export function configHelp(of: "home" | "serving" | "calling" | "all" = "all"): readonly {
  readonly name: string;
  readonly fallback: string | null;
  readonly says: string;
}[] {
  const table: Readonly<Record<string, Variable>> = { home: VARIABLES, serving: SERVING, calling: CALLING, all: ALL }[
    of
  ];
  return Object.entries(table).map(([name, { fallback, says }]) => ({ name, fallback, says }));
}

/**
 * The configuration that an environment describes; an empty variable counts as not set.
 * @throws {WarrenError} `invalid_request` – an unknown WARREN_ name, or a value that does not fit.
 */
export function readConfig(environment: Environment = process.env): Config {
  return parse(Config, values(VARIABLES, environment));
}

/** The same, of a server. @throws {WarrenError} `invalid_request` */
export function readServing(environment: Environment = process.env): Serving {
  const of = values(SERVING, environment);
  const { databaseUrl, adminKey, tlsCert, tlsKey, publicUrl, previewSuffix, node, otlp, webhooks } = of;
  if ((tlsCert === null) !== (tlsKey === null)) {
    throw new WarrenError("invalid_request", "WARREN_TLS_CERT and WARREN_TLS_KEY go together: only one of them is set");
  }
  return {
    ...{ databaseUrl, adminKey, tlsCert, tlsKey, previewSuffix, node, otlp },
    publicUrl: publicUrl?.replace(/\/+$/, "") ?? null,
    listen: of.listen ?? SERVING.WARREN_LISTEN.fallback,
    corsOrigins: of.cors?.split(",") ?? [],
    defaultTtlSeconds: of.defaultTtl === "none" ? null : Number(of.defaultTtl),
    requestsPerSecond: of.requestsPerSecond === null ? null : Number(of.requestsPerSecond),
    eventsKeepDays: Number(of.eventsKeepDays),
    webhooks: webhooks === "off" || webhooks === "private" ? webhooks : "on",
    openMetrics: of.openMetrics === "on",
    seller: { ...sellerOf(of.seller), taxId: of.sellerTaxId, payment: linesOf(of.payment) },
  };
}

function linesOf(text: string | null): string[] {
  const lines = (text ?? "").split("|").map((line) => line.trim());
  return lines.filter((line) => line !== "");
}

function sellerOf(text: string | null): Pick<Seller, "name" | "address"> {
  const [name = SERVING.WARREN_SELLER.fallback, ...address] = linesOf(text);
  return { name, address };
}

/** The same, of a command line. @throws {WarrenError} `invalid_request` */
export function readCalling(environment: Environment = process.env): Calling {
  const { api, apiKey } = values(CALLING, environment);
  const { XDG_CONFIG_HOME: own = "", HOME: home = "" } = environment;
  const base = own.startsWith("/") ? own : home.startsWith("/") ? join(home, ".config") : null;
  return { api, apiKey, credentials: base === null ? null : join(base, "warren/credentials.json") };
}

/** Key → text of one table's variables. */
function values<T extends Readonly<Record<string, Variable>>>(
  table: T,
  environment: Environment,
): Record<T[keyof T]["key"], string | null> {
  for (const name of Object.keys(environment)) {
    if (name.startsWith("WARREN_") && !Object.hasOwn(ALL, name)) throw unknown(name);
  }
  const read = Object.entries(table).map(([name, { key, schema, fallback }]) => {
    const value = environment[name];
    return [key, value === undefined || value === "" ? fallback : checked(name, schema, value)];
  });
  return Object.fromEntries(read) as Record<T[keyof T]["key"], string | null>;
}

/** The variables by which another process reads this configuration. */
export function environmentOf(config: Config): Readonly<Record<string, string>> {
  const values = Object.entries(VARIABLES).map(([name, { key }]) => [name, config[key]] as const);
  return Object.fromEntries(values.filter((entry): entry is [string, string] => entry[1] !== null));
}

const SECRET = /_KEY$|^DATABASE_URL$/;

function checked(name: string, schema: TSchema, value: string): string {
  try {
    parse(Type.Object({ [name]: schema }), { [name]: value });
    return value;
  } catch (cause) {
    if (!isWarrenError(cause)) throw cause;
    const { allowed } = cause.details;
    // A key, or a database's address with its password, is in nobody's log.
    const says = SECRET.test(name) ? `${name}: got ${value.length} characters, allowed is ${allowed}` : cause.message;
    throw new WarrenError("invalid_request", `environment variable ${says}`, { details: { field: name, allowed } });
  }
}

function unknown(name: string): WarrenError {
  const known = Object.keys(ALL);
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
