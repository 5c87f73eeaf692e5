/**
 * Installing packages, the reason why most sandboxes have a network: `pip install` and `npm install` of a package that this
 * test makes, from an index and a registry of its internet, under every mode.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { Egress } from "../../../src/contract/routes/network.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { Internet, networkGate } from "../../harness/internet.ts";
import { VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { create, guardNetworkLeaks, openNetworkWarren } from "./ground.ts";
import { tarball, wheel, zip } from "./package-files.ts";

const [INDEX, REGISTRY] = ["index.example.com", "registry.example.com"];
const [INDEX_ADDRESS, REGISTRY_ADDRESS] = ["93.184.216.40", "93.184.216.41"];
const POLICIES: Readonly<Record<Egress["mode"], Egress>> = {
  none: { mode: "none" },
  allowlist: { mode: "allowlist", allow: [`${INDEX}:80`, `${REGISTRY}:80`] },
  open: { mode: "open" },
};
/** Seven runs of installers in two emulated guests: 30 s on two cores that do nothing else. */
const VM_INSTALL_MS = 3 * VM_TEST_MS;
/** Installers take some seconds of an emulated core to start, more on a busy machine; time-outs of theirs are minutes. */
const FAILS_MS = 90_000;

const PIP = {
  command: "python3 -m pip install --quiet warren-tiny && python3 -c 'import warren_tiny; print(warren_tiny.SAYS)'",
  undo: "rm -r /usr/local/lib/python3.11/dist-packages/warren_tiny*",
  env: { PIP_INDEX_URL: `http://${INDEX}/simple`, PIP_TRUSTED_HOST: INDEX },
};
const NPM = {
  command:
    "mkdir -p /work/n && cd /work/n && npm install --no-audit --no-fund warren-tiny && node -e 'console.log(require(\"warren-tiny\"))'",
  undo: "rm -rf /work/n ~/.npm",
  env: {
    npm_config_registry: `http://${REGISTRY}/`,
    npm_config_fetch_retries: "0",
    npm_config_update_notifier: "false",
  },
};

async function serve(internet: Internet): Promise<void> {
  await internet.name(INDEX, { a: [INDEX_ADDRESS] });
  await internet.name(REGISTRY, { a: [REGISTRY_ADDRESS] });
  const name = "warren_tiny-1.0-py3-none-any.whl";
  await internet.file("/simple/warren-tiny/", "text/html", `<!doctype html><a href="/files/${name}">${name}</a>`);
  await internet.file(`/files/${name}`, "application/zip", zip(wheel("warren_tiny", "SAYS = 'from the index'\n")));
  const packed = tarball("warren-tiny", "module.exports = 'from the registry';\n");
  const integrity = `sha512-${createHash("sha512").update(packed).digest("base64")}`;
  const dist = { tarball: `http://${REGISTRY}/files/warren-tiny.tgz`, integrity };
  const version = { name: "warren-tiny", version: "1.0.0", dist };
  const about = { name: "warren-tiny", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": version } };
  await internet.file("/warren-tiny", "application/json", JSON.stringify(about));
  await internet.file("/files/warren-tiny.tgz", "application/octet-stream", packed);
}

/** Where this host has npm, or null: it is no part of the templates, so a guest gets this host's. */
function npmOfHost(): { readonly node: string; readonly npm: string } | null {
  const [node, npm] = [Bun.which("node"), Bun.which("npm")];
  if (node === null || npm === null) return null;
  return { node: realpathSync(node), npm: dirname(dirname(realpathSync(npm))) };
}

async function bringNpm(sandbox: Sandbox, from: { readonly node: string; readonly npm: string }): Promise<void> {
  await sandbox.files.write("/usr/local/bin/node", Bun.file(from.node).stream(), { mode: 0o755 });
  const tar = Bun.spawn(["tar", "-C", from.npm, "-cf", "-", "."], { stdout: "pipe" });
  await sandbox.files.mkdir("/usr/local/lib/npm");
  await sandbox.files.unarchive("/usr/local/lib/npm", tar.stdout);
  const start = '#!/bin/sh\nexec node /usr/local/lib/npm/bin/npm-cli.js "$@"\n';
  await sandbox.files.write("/usr/local/bin/npm", start, { mode: 0o755 });
}

if (networkGate()) {
  guardNetworkLeaks();
  describe("Packages", () => {
    let internet: Internet;
    let warren: Warren;
    beforeAll(async () => {
      internet = await Internet.open([INDEX_ADDRESS, REGISTRY_ADDRESS]);
      await serve(internet);
      warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(async () => {
      await warren[Symbol.asyncDispose]();
      await internet[Symbol.asyncDispose]();
    });

    const installs = async (
      sandbox: Sandbox,
      { command, undo, env }: typeof PIP | typeof NPM,
      says: string,
      fails: RegExp,
      modes: readonly Egress["mode"][],
    ) => {
      await sandbox.setNetwork(POLICIES.none);
      const before = performance.now();
      const failed = await sandbox.exec(command, { env });
      expect(failed.exitCode).not.toBe(0);
      expect(failed.stdout + failed.stderr).toMatch(fails);
      expect(performance.now() - before).toBeLessThan(FAILS_MS);
      for (const mode of modes) {
        await sandbox.setNetwork(POLICIES[mode]);
        const done = await sandbox.exec(command, { env });
        expect([done.exitCode, done.stdout.trim().split("\n").at(-1), done.stderr]).toMatchObject([
          0,
          says,
          expect.any(String),
        ]);
        await sandbox.exec(undo);
      }
    };

    const from = npmOfHost();
    if (from === null) console.warn("skipped: npm in a guest: this host has no node and npm to copy");
    test(
      "pip install and npm install work where the policy allows, and say soon that there is no network where it does not",
      async () => {
        const pip = async () => {
          await using sandbox = await create(warren, POLICIES.none);
          await installs(sandbox, PIP, "from the index", /name resolution|No matching distribution/i, [
            "allowlist",
            "open",
          ]);
        };
        const npm = async () => {
          if (from === null) return;
          await using sandbox = await create(warren, POLICIES.none);
          await bringNpm(sandbox, from);
          await installs(sandbox, NPM, "from the registry", /EAI_AGAIN|ENOTFOUND|network/, ["allowlist", "open"]);
        };
        await Promise.all([pip(), npm()]);
      },
      VM_INSTALL_MS,
    );
  });
}
