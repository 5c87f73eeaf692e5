/** The environment as configuration: defaults, values, and what is refused. */
import { expect, test } from "bun:test";
import { configHelp, DEBIAN_MIRROR, environmentOf, readCalling, readConfig, readServing } from "../src/config.ts";

test("Config of an empty environment is all defaults", () => {
  expect(readConfig({})).toEqual({
    ...{ home: "/var/lib/warren", log: "warn", mirror: DEBIAN_MIRROR, kernel: null, accel: "auto", qemu: null },
    ...{ dns: null, egressExempt: null },
  });
});

test("Config takes what is set and treats an empty variable as not set", () => {
  const config = readConfig({ WARREN_HOME: "/srv/w", WARREN_ACCEL: "tcg", WARREN_LOG: "", PATH: "/bin" });
  expect(config).toMatchObject({ home: "/srv/w", accel: "tcg", log: "warn" });
});

test("Config refuses an unknown WARREN_ name, says which are known and which was meant", () => {
  expect(() => readConfig({ WARREN_HOEM: "/x" })).toThrow(/WARREN_HOEM .*Did you mean WARREN_HOME\?.*WARREN_MIRROR/);
  expect(() => readConfig({ WARREN_ZZZZZZZZ: "1" })).toThrow(/^WARREN_ZZZZZZZZ is not a variable of warren. Known/);
});

test("Config refuses values that do not fit, by the variable's name", () => {
  expect(() => readConfig({ WARREN_HOME: "relative" })).toThrow(/WARREN_HOME.*relative/);
  expect(() => readConfig({ WARREN_ACCEL: "hvf" })).toThrow(/WARREN_ACCEL.*"auto", "kvm", "tcg"/);
  expect(() => readConfig({ WARREN_MIRROR: "ftp://x" })).toThrow(/WARREN_MIRROR/);
});

test("Config help has a line for every variable", () => {
  expect(configHelp().every(({ name, says }) => /^(WARREN_|DATABASE_URL$|OTEL_)/.test(name) && says.length > 5)).toBe(
    true,
  );
  expect(configHelp("calling").map(({ name }) => name)).toEqual(["WARREN_API", "WARREN_API_KEY"]);
});

test("Config is read back by another process from the variables that it is written as", () => {
  const environment = { WARREN_HOME: "/srv/w", WARREN_DNS: "9.9.9.9", WARREN_EGRESS_EXEMPT: "10.1.0.0/16" };
  const config = readConfig(environment);
  expect(environmentOf(config)).toMatchObject(environment);
  expect(readConfig(environmentOf(config))).toEqual(config);
});

test("Config of a server has a default for everything, and takes lists, numbers and switches", () => {
  expect(readServing({})).toEqual({
    ...{ databaseUrl: null, adminKey: null, listen: "127.0.0.1:7480", tlsCert: null, tlsKey: null, publicUrl: null },
    ...{ previewSuffix: null, corsOrigins: [], defaultTtlSeconds: 3600, requestsPerSecond: null, eventsKeepDays: 30 },
    ...{ webhooks: "on", openMetrics: false, node: null, otlp: null },
    seller: { name: "Warren", address: [], taxId: null, payment: [] },
  });
  const environment = {
    ...{ DATABASE_URL: "postgres://u:p@db.test/w", WARREN_LISTEN: "[::]:443", WARREN_DEFAULT_TTL: "none" },
    ...{
      WARREN_CORS: "https://a.test,https://b.test",
      WARREN_PUBLIC_URL: "https://api.test/",
      WARREN_OPEN_METRICS: "on",
    },
    ...{ WARREN_EVENTS_KEEP_DAYS: "7", WARREN_REQUESTS_PER_SECOND: "50", WARREN_WEBHOOKS: "private" },
  };
  expect(readServing(environment)).toMatchObject({
    ...{ databaseUrl: "postgres://u:p@db.test/w", listen: "[::]:443", defaultTtlSeconds: null, openMetrics: true },
    ...{ corsOrigins: ["https://a.test", "https://b.test"], publicUrl: "https://api.test", eventsKeepDays: 7 },
    ...{ requestsPerSecond: 50, webhooks: "private" },
  });
});

test("Config of a server has the lines of its invoices in any script", () => {
  const lines = {
    WARREN_SELLER: "Łódź 株式会社 | 1 Main St||  Springfield ",
    WARREN_PAYMENT: "IBAN DE00|within 30 days",
  };
  expect(readServing({ ...lines, WARREN_SELLER_TAX_ID: "DE 123" }).seller).toEqual({
    ...{ name: "Łódź 株式会社", address: ["1 Main St", "Springfield"], taxId: "DE 123" },
    payment: ["IBAN DE00", "within 30 days"],
  });
  expect(readServing({ WARREN_SELLER: " | " }).seller).toMatchObject({ name: "Warren", address: [] });
});

test("Config of a server refuses what does not fit, by the variable's name", () => {
  const wrong: Record<string, string> = {
    ...{ DATABASE_URL: "mysql://x", WARREN_ADMIN_KEY: "short", WARREN_LISTEN: "8080", WARREN_DEFAULT_TTL: "0" },
    ...{ WARREN_CORS: "a.test", WARREN_WEBHOOKS: "yes", WARREN_PREVIEW_SUFFIX: ".", WARREN_EVENTS_KEEP_DAYS: "-1" },
    ...{ WARREN_SELLER: "a\nb", WARREN_SELLER_TAX_ID: "\t", WARREN_PAYMENT: "x".repeat(2001) },
  };
  for (const [name, value] of Object.entries(wrong)) {
    expect(() => readServing({ [name]: value })).toThrow(`environment variable ${name}`);
  }
  expect(() => readServing({ WARREN_TLS_CERT: "/c.pem" })).toThrow("go together");
  expect(() => readServing({ WARREN_LISTN: "x" })).toThrow("Did you mean WARREN_LISTEN?");
});

test("Config of a caller knows where a login is kept", () => {
  expect(readCalling({ HOME: "/h" })).toEqual({
    api: null,
    apiKey: null,
    credentials: "/h/.config/warren/credentials.json",
  });
  const environment = { HOME: "/h", XDG_CONFIG_HOME: "/x", WARREN_API: "https://api.test", WARREN_API_KEY: "wrn_k" };
  expect(readCalling(environment)).toEqual({
    ...{ api: "https://api.test", apiKey: "wrn_k", credentials: "/x/warren/credentials.json" },
  });
  expect(readCalling({ XDG_CONFIG_HOME: "relative" }).credentials).toBeNull();
});

test("Config tells no other process of secrets", () => {
  const environment = {
    WARREN_ADMIN_KEY: `wrn_${"k".repeat(43)}`,
    DATABASE_URL: "postgres://u:secret@db.test/w",
    WARREN_API_KEY: "s",
  };
  expect(JSON.stringify(environmentOf(readConfig(environment)))).not.toMatch(/kkkk|secret/);
});

test("Config shows no secret that does not fit", () => {
  for (const environment of [{ WARREN_ADMIN_KEY: "hush-hush" }, { DATABASE_URL: "mysql://u:hush-hush@db.test/w" }]) {
    const [name = ""] = Object.keys(environment);
    let says = "";
    try {
      readServing(environment);
    } catch (error) {
      says = `${error} ${JSON.stringify(error)}`;
    }
    expect(says).toContain(name);
    expect(says).not.toContain("hush");
  }
});
