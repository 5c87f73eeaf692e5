/** What the suite's tests get: a host, a sandbox they share, and a way to say what a test needs. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { type ErrorCode, WarrenError } from "../../../src/errors.ts";
import type { Sandbox } from "../../../src/sandbox.ts";

/** What some hosts or runtimes lack: a whole shell with coreutils, the guest's tar, users, Python, sockets that listen, streams with nothing in between. */
export type Feature = "shell" | "tar" | "users" | "python" | "sockets" | "direct";
/** Feature → why this host does not have it. */
export type Skips = Partial<Record<Feature, string>>;

export interface Subject {
  readonly host: () => SandboxHost;
  /** One sandbox for all tests that leave nothing behind that another could see. */
  readonly shared: () => Sandbox;
  /** A sandbox outlives its maker when nothing is said. */
  readonly detached: boolean;
  readonly does: (says: string, body: () => Promise<void>) => void;
  /** A test that needs a feature, or all of some. */
  readonly needs: (features: Feature | readonly Feature[], says: string, body: () => Promise<void>) => void;
}

export function testsFor(skips: Skips, timeoutMs: number): Pick<Subject, "does" | "needs"> {
  const does = (says: string, body: () => Promise<void>) => test(says, body, timeoutMs);
  return {
    does,
    needs: (features, says, body) => {
      const lacking = (typeof features === "string" ? [features] : features).find((one) => skips[one] !== undefined);
      const reason = lacking === undefined ? undefined : skips[lacking];
      if (reason === undefined) does(says, body);
      else test.skip(`${says} (skipped: ${reason})`, body);
    },
  };
}

/** The promise rejects with this code; the error is returned for a closer look. */
export async function fails(code: ErrorCode, promise: Promise<unknown>): Promise<WarrenError> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ("value" in outcome) throw new Error(`expected ${code}, and it succeeded with ${JSON.stringify(outcome.value)}`);
  expect(outcome.error).toBeInstanceOf(WarrenError);
  const error = outcome.error as WarrenError;
  expect({ code: error.code, message: error.message }).toMatchObject({ code });
  return error;
}

/** Bytes that repeat only after a while, so that a lost or doubled part shows. */
export function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = 12345; i < length; i++) {
    x = (x * 1103515245 + 12345) & 0x7fffffff;
    bytes[i] = x >> 16;
  }
  return bytes;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
