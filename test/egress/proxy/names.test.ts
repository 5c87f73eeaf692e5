/** Names as guests write them: one spelling for each, and none that a resolver would read as something else. */
import { expect, test } from "bun:test";
import { formatAuthority, parseAuthority, parseName } from "../../../src/egress/proxy/names.ts";

test("A name is lower case without its final dot, whatever it came as", () => {
  for (const [text, name] of [
    ["Example.TEST.", "example.test"],
    ["localhost", "localhost"],
    ["_acme.a-b.test", "_acme.a-b.test"],
    ["1e100.net", "1e100.net"],
    [`${"a".repeat(63)}.test`, `${"a".repeat(63)}.test`],
  ] as const) {
    expect(parseName(text)).toBe(name);
  }
});

test("What is no name, or is read as an address by some, is none", () => {
  const wrong = [
    "",
    ".",
    "a..test",
    ".a.test",
    "a.test..",
    "-a.test",
    "a-.test",
    "a b.test",
    "a/b",
    "a\0.test",
    "ä.test",
    "*.test",
  ];
  wrong.push(
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "1.2.3.04",
    "a.test.1",
    `${"a".repeat(64)}.test`,
  );
  wrong.push(Array.from({ length: 128 }, () => "a").join("."));
  for (const text of wrong) expect(`${text}: ${parseName(text)}`).toBe(`${text}: null`);
});

test("An authority is a name or address and perhaps a port, and is written as it is read", () => {
  for (const [text, name, port, written] of [
    ["a.test", "a.test", null, "a.test"],
    ["A.test.:443", "a.test", 443, "a.test:443"],
    ["93.184.216.34:8080", "93.184.216.34", 8080, "93.184.216.34:8080"],
    ["[2606:4700:0:0::1]", "2606:4700::1", null, "[2606:4700::1]"],
    ["[::ffff:93.184.216.34]:80", "93.184.216.34", 80, "93.184.216.34:80"],
  ] as const) {
    const read = parseAuthority(text);
    expect(read).toEqual({ name, port });
    expect(read === null ? "" : formatAuthority(read)).toBe(written);
  }
  const wrong = [
    "",
    ":80",
    "a.test:",
    "a.test:0",
    "a.test:080",
    "a.test:65536",
    "a.test:80:80",
    "2606:4700::1",
    "[a.test]",
  ];
  for (const text of [
    ...wrong,
    "[::1",
    "::1]",
    "[fe80::1%eth0]",
    "a@b.test",
    "a.test/",
    "a.test?x",
    "a,b",
    "a.test, b.test",
  ]) {
    expect(`${text}: ${JSON.stringify(parseAuthority(text))}`).toBe(`${text}: null`);
  }
});
