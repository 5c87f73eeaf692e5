/**
 * The directory that a jailed QEMU sees as "/": its binary, the libraries it links, the one accelerator module, firmware.
 * Copied once per QEMU build and shared read-only by all VMMs; nothing else of the host is in it.
 */
import { chmod, copyFile, mkdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { WarrenError } from "../../errors.ts";
import { published } from "../../host/home/publish.ts";
import { run } from "../../host/run.ts";

const FIRMWARE = ["bios-microvm.bin", "qboot.rom", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin"];
const DATA_DIRS = ["/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu"];
const MODULES = ["accel-tcg-x86_64.so"];
const INTERPRETER = "/lib64/ld-linux-x86-64.so.2";

export interface VmmRoot {
  readonly dir: string;
  /** Version, and digests of binary and firmware; part of every manifest. */
  readonly identity: Readonly<Record<string, string>>;
}

async function libraries(file: string): Promise<string[]> {
  const done = await run([INTERPRETER, "--list", file], { deadlineMs: 20_000 });
  if (done.exitCode !== 0)
    throw new WarrenError("host_unsupported", `${file} does not run on this host: ${done.stderr.trim()}`);
  return [...done.stdout.matchAll(/=> (\/\S+)/g)].map((match) => match[1]!);
}

async function sha256(path: string): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hasher.update(chunk);
  return hasher.digest("hex");
}

async function firmware(target: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const name of FIRMWARE) {
    for (const dir of DATA_DIRS) {
      const path = join(dir, name);
      if (!(await Bun.file(path).exists())) continue;
      await copyFile(await realpath(path), join(target, name));
      digests[`firmware/${name}`] = await sha256(path);
      break;
    }
  }
  if (digests["firmware/bios-microvm.bin"] === undefined && digests["firmware/qboot.rom"] === undefined) {
    throw new WarrenError("host_unsupported", "QEMU's microvm firmware is missing: apt-get install qemu-system-data");
  }
  return digests;
}

async function versionOf(binary: string): Promise<string> {
  const { exitCode, stdout } = await run([binary, "--version"], { deadlineMs: 20_000 });
  const line = stdout.split("\n")[0]!.trim();
  if (exitCode === 0 && line.startsWith("QEMU ")) return line;
  throw new WarrenError("host_unsupported", `${binary} is no QEMU that runs here; WARREN_QEMU may name another`, {
    details: { field: "WARREN_QEMU", got: binary, allowed: "path of qemu-system-x86_64" },
  });
}

async function fill(dir: string, binary: string, extra: Readonly<Record<string, string>>): Promise<void> {
  for (const name of ["lib", "lib64", "modules", "data", "proc", "dev"]) await mkdir(join(dir, name), { mode: 0o755 });
  const moduleDir = await Promise.all(
    ["/usr/lib/x86_64-linux-gnu/qemu", join(dirname(binary), "../lib/x86_64-linux-gnu/qemu")].map(async (path) =>
      (await Bun.file(join(path, MODULES[0]!)).exists()) ? path : null,
    ),
  );
  const modules = moduleDir.find((path) => path !== null) ?? null;
  const files = new Map<string, string>([
    ...Object.entries(extra),
    ["qemu", binary],
    [INTERPRETER.slice(1), INTERPRETER],
  ]);
  for (const name of modules === null ? [] : MODULES) files.set(`modules/${name}`, join(modules!, name));
  for (const from of [binary, ...(modules === null ? [] : MODULES.map((name) => join(modules, name)))]) {
    for (const library of await libraries(from)) files.set(`lib/${basename(library)}`, library);
  }
  for (const [name, from] of files) {
    await copyFile(await realpath(from), join(dir, name));
    await chmod(join(dir, name), 0o755);
  }
  const digests = await firmware(join(dir, "data"));
  const identity = { version: await versionOf(binary), binary: await sha256(binary), ...digests };
  await Bun.write(join(dir, "identity.json"), JSON.stringify(identity));
}

/**
 * The root for a QEMU binary and `extra` files (place in the root → path here, which names a version), made when there is
 * none yet.
 * @throws {WarrenError} `host_unsupported` – no QEMU, or one without microvm firmware.
 */
export async function vmmRoot(
  dataDir: string,
  configured: string | null,
  extra: Readonly<Record<string, string>>,
): Promise<VmmRoot> {
  const named = configured ?? "qemu-system-x86_64";
  const found = Bun.which(named);
  if (found === null) {
    const says = configured === null ? `${named} is not installed` : `WARREN_QEMU names ${named}, which is no program`;
    throw new WarrenError("host_unsupported", `${says}: apt-get install qemu-system-x86`, {
      details: { package: "qemu-system-x86" },
    });
  }
  const binary = await realpath(found);
  const facts = await stat(binary);
  // A build is told apart by where it is and when it was written; hashing 30 MB at every start would cost more than a create.
  const key = new Bun.CryptoHasher("sha256")
    .update(`3 ${binary} ${facts.size} ${facts.mtimeMs} ${JSON.stringify(extra)}`)
    .digest("hex")
    .slice(0, 16);
  const dir = await published(join(dataDir, `vmm-${key}`), (partial) => fill(partial, binary, extra));
  await chmod(dir, 0o755); // the VMM's uid has to enter it; the folders above it stay closed
  return { dir, identity: (await Bun.file(join(dir, "identity.json")).json()) as Record<string, string> };
}
