/** The environment as configuration: defaults, values, and what is refused. */
import { expect, test } from "bun:test";
import { configHelp, DEBIAN_MIRROR, environmentOf, readConfig } from "../src/config.ts";

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
  expect(configHelp().every(({ name, says }) => name.startsWith("WARREN_") && says.length > 5)).toBe(true);
});

test("Config is read back by another process from the variables that it is written as", () => {
  const environment = { WARREN_HOME: "/srv/w", WARREN_DNS: "9.9.9.9", WARREN_EGRESS_EXEMPT: "10.1.0.0/16" };
  const config = readConfig(environment);
  expect(environmentOf(config)).toMatchObject(environment);
  expect(readConfig(environmentOf(config))).toEqual(config);
});
