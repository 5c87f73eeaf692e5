/** What the whole command tells at its end of the tests that failed, from output as the runner writes it. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Failures } from "./failures.ts";

const OUTPUT = `
test/one.test.ts:
a log of the first
(pass) One > holds [0.10ms]
2 | expect(1).toBe(2)
                 ^
error: expect(received).toBe(expected)

Expected: 2
(fail) One > breaks (fail) twice [0.36ms]
(fail) slow [50.01ms]
  ^ this test timed out after 50ms.

test/two.test.ts:

# Unhandled error between tests
-------------------------------
error: at load
-------------------------------

(skip) Two > elsewhere
 (fail) what a test prints, indented

2 tests failed:
(fail) One > breaks (fail) twice [0.36ms]
(fail) slow [50.01ms]

 1 pass
 2 fail
`;

const REPORT = `(fail) plain: test/one.test.ts: One > breaks (fail) twice [0.36ms]
    2 | expect(1).toBe(2)
                     ^
    error: expect(received).toBe(expected)
    Expected: 2
(fail) plain: test/one.test.ts: slow [50.01ms]
      ^ this test timed out after 50ms.
(fail) plain: test/two.test.ts: an error outside of any test
    error: at load
`;

describe("Failures", () => {
  test("tells each failed test with its group, its file and its error, wherever the output is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: OUTPUT.length })), (cuts) => {
        const failures = new Failures();
        const at = [0, ...cuts.sort((a, b) => a - b), OUTPUT.length];
        for (const [n, end] of at.entries()) failures.push(OUTPUT.slice(at[n - 1] ?? 0, end));
        expect(failures.report("plain", true)).toBe(REPORT);
        expect(failures.report("plain", false)).toBe(REPORT.replace(/^ .*\n/gm, ""));
      }),
    );
  });

  test("reads coloured output as well, and has nothing to say of tests that pass", () => {
    const failures = new Failures();
    failures.push("\u001b[0m\u001b[32m✓\u001b[0m \u001b[0mfine\u001b[0m\n");
    expect(failures.report("plain", true)).toBe("");
    failures.push("\u001b[31merror\u001b[0m: no\n\u001b[0m\u001b[31m✗\u001b[0m \u001b[0mbad\u001b[0m\n");
    expect(failures.report("plain", true)).toBe("(fail) plain: bad\n    error: no\n");
  });

  test("is bounded in each failure and in all of them", () => {
    const failures = new Failures();
    const line = `${"x".repeat(10_000)}\n`;
    for (let n = 0; n < 200; n++) failures.push(`${line.repeat(50)}(fail) number ${n}\n`);
    const report = failures.report("plain", true);
    expect(report.match(/^\(fail\)/gm)).toHaveLength(200);
    expect(report.length).toBeLessThan(600_000);
  });

  test("tells of a group that ended without a word what it wrote last", () => {
    const failures = new Failures();
    failures.push("test/one.test.ts:\npanic: Segmentation fault\n");
    failures.ended("ended with code 139");
    expect(failures.report("guests", true)).toBe(
      "(fail) guests: test/one.test.ts: ended with code 139\n    panic: Segmentation fault\n",
    );
  });
});
