/** The boundary itself: what may cross, what is said when a call fails, and that memory stays where C was told it is. */
import { expect, test } from "bun:test";
import { C } from "../../ffi/layout.ts";
import { address, call, callOn, cText, hasCode, holding, memory, NativeError } from "../../ffi/native.ts";

test("Calls refuse whatever is no value of the C type, before anything crosses", () => {
  const bad: unknown[] = [undefined, null, Number.NaN, 1.5, 2 ** 31, -(2 ** 31) - 1, "1", {}, 1n, true];
  for (const value of bad) expect(() => call("close", value as number)).toThrow(TypeError);
  expect(() => call("memfd_create", 5 as unknown as string, 0)).toThrow(TypeError);
  expect(() => call("memfd_create", "a\0b", 0)).toThrow("zero byte");
  expect(() => call("memfd_create", "x", -1)).toThrow(TypeError);
  expect(() => call("pipe2", [0, 0] as unknown as Uint8Array, 0)).toThrow(TypeError);
  expect(() => call("ftruncate", 0, 2 ** 53)).toThrow(TypeError);
  expect(() => (call as (...args: unknown[]) => number)("close")).toThrow("takes 1");
});

test("Calls that fail name the call, the errno and what it was about", () => {
  const thrown = (job: () => unknown): unknown => {
    try {
      job();
    } catch (error) {
      return error;
    }
    return null;
  };
  const closed = thrown(() => call("close", -1));
  expect(closed).toBeInstanceOf(NativeError);
  expect(closed).toMatchObject({ call: "close", code: "EBADF", errno: 9, message: "close: EBADF" });
  const opened = thrown(() => callOn("/nowhere", "open", "/nowhere", C.O_RDONLY, 0));
  expect(opened).toMatchObject({ call: "open", code: "ENOENT", message: "open: ENOENT (/nowhere)" });
  expect(hasCode(opened, "EPERM", "ENOENT")).toBe(true);
  expect(hasCode(opened, "EPERM")).toBe(false);
  expect(hasCode("ENOENT", "ENOENT")).toBe(false);
});

test("Texts for C are UTF-8 with one zero at the end", () => {
  expect([...cText("é")]).toEqual([0xc3, 0xa9, 0]);
  expect([...cText("")]).toEqual([0]);
});

test("Memory is seen by C where it is, also after the compiler has optimised and the collector has run", () => {
  const fd = call("memfd_create", "canary", C.MFD_CLOEXEC);
  call("pwrite", fd, cText("0123456789abcde"), 16, 0);
  let wrong = 0;
  for (let i = 0; i < 60_000; i++) {
    const into = memory(8);
    call("pread", fd, into, 8, i % 8);
    if (into[0] !== "0123456789abcde".charCodeAt(i % 8)) wrong += 1;
    if (i % 20_000 === 0) Bun.gc(true);
  }
  call("close", fd);
  expect(wrong).toBe(0);
});

test("Addresses name the same bytes for as long as they are held", () => {
  const texts = Array.from({ length: 200 }, (_, i) => cText(`text ${i}`));
  const addresses = texts.map((text) => address(text));
  holding(texts, () => {
    Bun.gc(true);
    expect(texts.map((text) => address(text))).toEqual(addresses);
    expect(new Set(addresses).size).toBe(200);
  });
  expect(() => address(memory(0))).toThrow(TypeError);
});
