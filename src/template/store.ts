/**
 * Templates on this host: what is baked, what has to be baked first, what is open. One bake at a time per size and home,
 * whichever process does it; an open snapshot stays open for the life of the process, its sealed memory shared by all clones.
 */
import { closeSync, constants, openSync } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../base/log.ts";
import type { BakeEvent, TemplateInfo } from "../contract/routes/templates.ts";
import type { OpenTemplate, TemplateSize, TemplateStore } from "../engine/templates.ts";
import { WarrenError } from "../errors.ts";
import { lockFile } from "../host/home/lock.ts";
import { imageOf, runsOf } from "../host/layers.ts";
import { LIMITS } from "../limits.ts";
import { type BakeParts, bakeSnapshot, interpreterDigest } from "./bake.ts";
import type { BakeTools } from "./boot.ts";
import { cpuModel, tscKhz } from "./cpu.ts";
import { initramfs } from "./image/initramfs.ts";
import { type Kernel, kernel } from "./image/kernel.ts";
import { rootfs, rootfsDigest } from "./image/rootfs.ts";
import { loadMemory, type TemplateMemory } from "./loaded.ts";
import { type Fit, FORMAT, type Manifest, misfits, parseManifest } from "./manifest.ts";
import { type AccelerationFacts, acceleration } from "./probe.ts";
import { hasRecipe, type Recipe, recipeNames, recipeOf } from "./recipes.ts";
import { Shared } from "./shared.ts";
import { Steps } from "./steps.ts";

export interface StoreOptions extends BakeTools {
  /** Directory on a file system with reflinks. */
  readonly dataDir: string;
  readonly mirror: string;
  /** A kernel of the operator's own, or null for Debian's. */
  readonly kernelPath: string | null;
  readonly accel: "auto" | "kvm" | "tcg";
  readonly log: Log;
  /** Makes sure of so much room in `dataDir`. @throws {WarrenError} `storage_exhausted` */
  readonly ensureRoom: (bytes: number) => Promise<void>;
}

/** What a guest boots from. */
interface BootFiles {
  readonly vmlinux: Kernel;
  readonly initrd: string;
}

interface Found {
  readonly dir: string;
  readonly manifest: Manifest;
}

/** Steps of a bake from nothing, for "step 2 of 9". */
const STEPS = 9;

export class Templates implements TemplateStore {
  readonly #options: StoreOptions;
  readonly #open = new Map<string, Shared<OpenTemplate>>();
  readonly #closing: (() => void)[] = [];
  #memories: TemplateMemory[] = [];
  #acceleration: Promise<AccelerationFacts> | null = null;
  #tsc: Promise<number> | null = null;

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  has(name: string): boolean {
    return hasRecipe(name);
  }

  defaults(name: string): { readonly cpu: number; readonly memoryMib: number } {
    const { cpu, memoryMib } = recipeOf(name);
    return { cpu, memoryMib };
  }

  async list(): Promise<TemplateInfo[]> {
    return await Promise.all(recipeNames().map((name) => this.#info(recipeOf(name))));
  }

  open(size: TemplateSize, onStep?: (event: BakeEvent) => void, signal?: AbortSignal): Promise<OpenTemplate> {
    const key = `${size.name} ${size.cpu} ${size.memoryMib}`;
    const held = this.#open.get(key);
    if (held?.stopped === false) return held.result(signal);
    const steps = new Steps(STEPS, this.#options.clock, onStep ?? (() => undefined));
    const opening = new Shared((stop) =>
      this.#openOrBake(size, steps, stop).catch((cause: unknown) => {
        if (this.#open.get(key) === opening) this.#open.delete(key); // the callers hear of it; the next one may try again
        throw cause;
      }),
    );
    this.#open.set(key, opening);
    return opening.result(signal);
  }

  async bake(
    size: TemplateSize,
    force: boolean,
    onStep: (event: BakeEvent) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const steps = new Steps(STEPS, this.#options.clock, onStep);
    const recipe = recipeOf(size.name);
    if (force) await this.#forget(size);
    await this.#found(recipe, size, steps, signal);
  }

  async remove(name: string): Promise<void> {
    recipeOf(name);
    for (const key of this.#open.keys()) if (key.startsWith(`${name} `)) this.#open.delete(key);
    await rm(this.#dirOf(name), { recursive: true, force: true });
    const images = this.#images();
    for (const dir of await entries(images)) {
      if (dir.startsWith(`rootfs-${name}-`)) await rm(join(images, dir), { recursive: true, force: true });
    }
  }

  /** How guests are run on this host; boots a probe the first time. */
  acceleration(boot: () => Promise<BootFiles> = () => this.#boot(this.#silent())): Promise<AccelerationFacts> {
    const { dataDir, accel } = this.#options;
    this.#acceleration ??= acceleration(this.#options, dataDir, accel, async () => {
      const { vmlinux, initrd } = await boot();
      return { vmlinux: vmlinux.vmlinux, initrd };
    });
    this.#acceleration.catch(() => (this.#acceleration = null)); // missing packages may be there the next time
    return this.#acceleration;
  }

  /** Memories of the open templates. */
  get memories(): readonly TemplateMemory[] {
    return this.#memories;
  }

  /** What a guest that was restored on this host, and its VMM, depend on here. */
  async ground(): Promise<Pick<Fit, "accel" | "cpuModel" | "tscKhz" | "devices" | "vmm">> {
    const [{ devices, ...vmm }, { kind }] = await Promise.all([this.#options.driver.identity(), this.acceleration()]);
    const tscKhz = kind === "tcg" ? await this.#tscKhz() : 0;
    return { accel: kind, cpuModel: cpuModel(kind), tscKhz, devices: devices ?? "", vmm };
  }

  close(): void {
    for (const close of this.#closing.splice(0)) close();
    this.#open.clear();
    this.#memories = [];
  }

  #silent(): Steps {
    return new Steps(STEPS, this.#options.clock, () => undefined);
  }

  #tscKhz(): Promise<number> {
    this.#tsc ??= tscKhz(this.#options.dataDir, this.#options.clock);
    return this.#tsc;
  }

  #images(): string {
    return join(this.#options.dataDir, "images");
  }

  #dirOf(name: string): string {
    return join(this.#options.dataDir, "templates", name);
  }

  async #boot(steps: Steps, signal?: AbortSignal): Promise<BootFiles> {
    const { mirror, kernelPath } = this.#options;
    await mkdir(this.#images(), { recursive: true, mode: 0o700 });
    const vmlinux = await kernel(this.#images(), { mirror, path: kernelPath }, steps.part("kernel"), signal);
    return { vmlinux, initrd: await initramfs(this.#images(), vmlinux) };
  }

  async #openOrBake(size: TemplateSize, steps: Steps, signal?: AbortSignal): Promise<OpenTemplate> {
    const { dir, manifest } = await this.#found(recipeOf(size.name), size, steps, signal);
    try {
      return await this.#load(size, dir, manifest);
    } catch (error) {
      if (!(error instanceof WarrenError) || error.code !== "template_invalid") throw error;
      this.#options.log.warn("a snapshot is damaged and is baked anew", { template: size.name, why: error.message });
      await rm(dir, { recursive: true, force: true });
      const again = await this.#found(recipeOf(size.name), size, steps, signal);
      return await this.#load(size, again.dir, again.manifest);
    }
  }

  /** The newest snapshot that fits this host, baked when there is none; two processes bake it once. */
  async #found(recipe: Recipe, size: TemplateSize, steps: Steps, signal?: AbortSignal): Promise<Found> {
    const there = await this.#ready(recipe, size);
    if (there !== null) return there;
    const locks = join(this.#options.dataDir, "locks");
    await mkdir(locks, { recursive: true, mode: 0o700 });
    const path = join(locks, `bake-${recipe.name}`);
    const waits = () => steps.say(`another process is baking ${recipe.name}; waiting for it`);
    using _lock = await lockFile(path, {
      clock: this.#options.clock,
      waits,
      ...(signal === undefined ? {} : { signal }),
    });
    const meanwhile = await this.#ready(recipe, size);
    if (meanwhile !== null) return meanwhile;
    await this.#makeRoom(recipe, size);
    const { fit, parts } = await this.#prepare(recipe, size, steps, signal);
    const stop = signal ?? new AbortController().signal;
    await bakeSnapshot(this.#options, fit, parts, this.#dirOf(recipe.name), (says) => steps.next(says), stop);
    const baked = await this.#search(fit);
    if (baked === null) throw new WarrenError("bake_failed", `the new snapshot of ${recipe.name} is not usable`);
    await this.#sweep(recipe.name, baked);
    return baked;
  }

  /** What need not be baked. */
  async #ready(recipe: Recipe, size: TemplateSize): Promise<Found | null> {
    const wanted = await this.#wantedIfImagesExist(recipe, size);
    return wanted === null ? null : await this.#search(wanted);
  }

  /** Before anything is built, rather than in the midst of it. @throws {WarrenError} `storage_exhausted` */
  async #makeRoom(recipe: Recipe, size: TemplateSize): Promise<void> {
    const images = (await this.#haveImages(recipe)) ? 0 : recipe.roomMib;
    await this.#options.ensureRoom((images + size.memoryMib) * 2 ** 20 + LIMITS.diskReserveBytes);
  }

  /** Builds what is missing of kernel, initramfs and root disk, all at once: most of it waits for the network. */
  async #prepare(
    recipe: Recipe,
    size: TemplateSize,
    steps: Steps,
    signal?: AbortSignal,
  ): Promise<{ fit: Fit; parts: BakeParts }> {
    await mkdir(this.#images(), { recursive: true, mode: 0o700 });
    const stop = new AbortController();
    const either = AbortSignal.any([stop.signal, ...(signal === undefined ? [] : [signal])]);
    steps.next(`building the image of ${recipe.name}: ${recipe.packages.length} packages and what they need`);
    const boot = this.#boot(steps, either);
    const disk = rootfs(this.#images(), recipe, this.#options.mirror, steps.part("root"), either);
    const acceleration = this.acceleration(() => boot);
    try {
      const [{ vmlinux, initrd }, diskPath, accel] = await Promise.all([boot, disk, acceleration]);
      steps.next(accel.says);
      const fit = await this.#fit(recipe, size, vmlinux, initrd, accel);
      return { fit, parts: { vmlinux: vmlinux.vmlinux, initrd, disk: diskPath, warm: recipe.warm } };
    } catch (error) {
      stop.abort(); // one part failed: the others need not go on, but have to clear up
      await Promise.allSettled([boot, disk, acceleration]);
      throw error;
    }
  }

  /** What a snapshot would have to fit, without building anything; null when parts of it do not exist yet. */
  async #wantedIfImagesExist(recipe: Recipe, size: TemplateSize): Promise<Fit | null> {
    if (!(await this.#haveImages(recipe))) return null;
    const silent = this.#silent();
    const [{ vmlinux, initrd }, accel] = await Promise.all([this.#boot(silent), this.acceleration()]);
    return await this.#fit(recipe, size, vmlinux, initrd, accel);
  }

  /** True when there are whole ones; those that are being built have `.partial-` in their names. */
  async #haveImages(recipe: Recipe): Promise<boolean> {
    const images = (await entries(this.#images())).filter((dir) => !dir.includes(".partial-"));
    const parts = ["kernel-", "initramfs-", `rootfs-${recipe.name}-`];
    return parts.every((part) => images.some((dir) => dir.startsWith(part)));
  }

  async #fit(recipe: Recipe, size: TemplateSize, from: Kernel, initrd: string, accel: AccelerationFacts): Promise<Fit> {
    return {
      format: FORMAT,
      template: recipe.name,
      cpu: size.cpu,
      memoryMib: size.memoryMib,
      ...(await this.ground()),
      accel: accel.kind,
      kernel: await Bun.file(`${from.vmlinux}.sha256`).text(),
      initrd: await Bun.file(`${initrd}.sha256`).text(),
      rootfs: rootfsDigest(recipe),
      interpreter: await interpreterDigest(),
      warm: recipe.warm,
    };
  }

  async #all(name: string): Promise<Found[]> {
    const found: Found[] = [];
    for (const entry of await entries(this.#dirOf(name))) {
      if (entry.startsWith(".")) continue;
      const dir = join(this.#dirOf(name), entry);
      const file = Bun.file(join(dir, "manifest.json"));
      const manifest = (await file.exists()) ? parseManifest(await file.text()) : null;
      if (manifest !== null) found.push({ dir, manifest });
    }
    return found.sort((a, b) => b.manifest.bakedAt.localeCompare(a.manifest.bakedAt));
  }

  async #search(wanted: Fit): Promise<Found | null> {
    return (
      (await this.#all(wanted.template)).find(({ manifest }) => misfits(wanted, manifest.fit).length === 0) ?? null
    );
  }

  async #forget(size: TemplateSize): Promise<void> {
    this.#open.delete(`${size.name} ${size.cpu} ${size.memoryMib}`);
    for (const { dir, manifest } of await this.#all(size.name)) {
      if (manifest.fit.cpu === size.cpu && manifest.fit.memoryMib === size.memoryMib)
        await rm(dir, { recursive: true, force: true });
    }
  }

  /** Removes what a new snapshot replaces, and what crashed bakes left. Processes that have an old one open keep it. */
  async #sweep(name: string, current: Found): Promise<void> {
    const { cpu, memoryMib } = current.manifest.fit;
    for (const { dir, manifest } of await this.#all(name)) {
      const same = manifest.fit.cpu === cpu && manifest.fit.memoryMib === memoryMib;
      if (same && dir !== current.dir) await rm(dir, { recursive: true, force: true });
    }
    for (const entry of await entries(this.#dirOf(name))) {
      if (entry.startsWith(".partial-")) await rm(join(this.#dirOf(name), entry), { recursive: true, force: true });
    }
  }

  /** @throws {WarrenError} `template_invalid` – the files are not what the manifest says */
  async #load(size: TemplateSize, dir: string, manifest: Manifest): Promise<OpenTemplate> {
    const { parts, fit } = manifest;
    const state = await Bun.file(join(dir, "state")).bytes();
    const sha256 = new Bun.CryptoHasher("sha256").update(state).digest("hex");
    if (sha256 !== parts.state.sha256)
      throw new WarrenError("template_invalid", "its device state is not the one that was written");
    const memoryFd = await loadMemory(join(dir, "memory"), parts.memory);
    const nothing = (): void => undefined; // an open template stays open for the life of the process
    const base = { fd: memoryFd, runs: runsOf(memoryFd, parts.memory.bytes), hold: nothing, release: nothing };
    const memory = imageOf([base]);
    this.#memories.push({ layer: base, xxh3: parts.memory.xxh3, path: join(dir, "memory") });
    const diskFd = openSync(join(dir, "disk"), constants.O_RDONLY);
    const stateFd = openSync(join(dir, "state"), constants.O_RDONLY);
    this.#closing.push(() => {
      for (const fd of [memory.tableFd, memoryFd, diskFd, stateFd]) closeSync(fd);
    });
    return {
      size,
      machine: { cpu: fit.cpu, memoryMib: fit.memoryMib, accel: { kind: fit.accel } },
      // Opened again by descriptor: the directory may be replaced meanwhile, the snapshot in use is not.
      snapshot: {
        memory,
        layers: [base],
        diskFd,
        openState: () => openSync(`/proc/self/fd/${stateFd}`, constants.O_RDONLY),
      },
      digest: manifest.digest,
      workingSetMib: manifest.workingSetMib,
      warm: fit.warm.length > 0,
      base: { ...size, digest: manifest.digest },
      hold: () => nothing,
    };
  }

  async #info(recipe: Recipe): Promise<TemplateInfo> {
    const baked = await Promise.all(
      (await this.#all(recipe.name)).map(async ({ dir, manifest: { fit, digest, bakedAt, parts } }) => ({
        cpu: fit.cpu,
        memoryMb: fit.memoryMib,
        digest,
        sizeBytes: parts.state.bytes + (await allocatedBytes(join(dir, "memory"))),
        bakedAt,
        accel: fit.accel,
      })),
    );
    const disk = (await entries(this.#images())).find((entry) => entry.startsWith(`rootfs-${recipe.name}-`));
    const diskBytes = disk === undefined ? 0 : await allocatedBytes(join(this.#images(), disk, "disk.ext4"));
    return { name: recipe.name, description: recipe.description, baked, diskBytes };
  }
}

async function allocatedBytes(path: string): Promise<number> {
  return await stat(path).then(
    (facts) => facts.blocks * 512,
    () => 0, // being built or removed by another process
  );
}

/** Names in a directory, none when it does not exist yet. */
async function entries(dir: string): Promise<string[]> {
  return await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}
