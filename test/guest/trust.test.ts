/** A certificate in the guest's lists: added once, nothing else lost, by the real agent, in a directory that stands for the guest's root. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { trust } from "../../src/guest/trust/trust.ts";
import { gate } from "../harness/gates.ts";
import { BUILD_MS, type ConnectedAgent, connectAgent } from "./process.ts";

const certificate = (word: string): string => `-----BEGIN CERTIFICATE-----\n${word}\n-----END CERTIFICATE-----\n`;
const BUNDLE = "etc/ssl/certs/ca-certificates.crt";
const FILES = [BUNDLE, "usr/lib/ssl/cert.pem", "usr/local/share/ca-certificates/warren.crt"];

if (gate("gcc", "root")) {
  const root = mkdtempSync(join(tmpdir(), "warren-trust-"));
  let it: ConnectedAgent;
  const add = (pem: string): Promise<void> => {
    const { agent } = it;
    const files: Parameters<typeof trust>[0] = {
      readFile: ({ path }, signal) => agent.readFile({ path: join(root, path) }, signal),
      writeFile: ({ path, ...rest }, signal) => agent.writeFile({ path: join(root, path), ...rest }, signal),
    };
    return trust(files, pem);
  };
  const read = (path: string): string => readFileSync(join(root, path), "utf8");

  beforeAll(async () => {
    mkdirSync(dirname(join(root, BUNDLE)), { recursive: true });
    it = await connectAgent();
  }, BUILD_MS);
  afterAll(async () => {
    await it[Symbol.asyncDispose]();
    rmSync(root, { recursive: true, force: true });
  });

  test("trust adds a certificate to every list, once, behind what is there", async () => {
    writeFileSync(join(root, BUNDLE), certificate("others").trimEnd());
    await add(certificate("ours"));
    await add(`\n${certificate("ours")}\n`);
    expect(read(BUNDLE)).toBe(certificate("others") + certificate("ours"));
    for (const path of FILES.slice(1)) expect(read(path)).toBe(certificate("ours"));
    await add(certificate("next"));
    expect(read(BUNDLE)).toBe(certificate("others") + certificate("ours") + certificate("next"));
    for (const path of FILES) expect(statSync(join(root, path)).mode & 0o777).toBe(0o644);
  });

  test("trust refuses a list that is none, and leaves it as it is", async () => {
    const huge = new Uint8Array(9 * 1024 * 1024).fill(97);
    writeFileSync(join(root, BUNDLE), huge);
    await expect(add(certificate("late"))).rejects.toMatchObject({ code: "file_error" });
    expect(statSync(join(root, BUNDLE)).size).toBe(huge.length);
    await expect(add("no certificate")).rejects.toThrow(TypeError);
  });
}
