/**
 * Templates in sizes that were never asked for are baked first, once for all who wait: a create waits a while, and is then
 * told to come again while the bake goes on without it.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { BakeEvent, TemplateInfo } from "../../contract/routes/templates.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import { WarrenError } from "../../errors.ts";
import type { AppParts } from "../parts.ts";
import { within } from "../streams/pull.ts";

interface Job {
  readonly done: Promise<void>;
  last: BakeEvent | null;
}

export interface Size {
  readonly template: string;
  readonly cpu: number;
  readonly memoryMb: number;
}

/** As many as a table of sizes that people would choose from; each takes disk, and a template's memory once it is used. */
const SIZES_PER_TEMPLATE = 16;
/** After a bake that failed the next create tries again, but not each of a thousand. */
const AGAIN_MS = 5_000;

export class Baking {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #waitMs: number;
  readonly #templateSize: AppParts["templateSize"];
  /** Sizes that were seen baked. */
  readonly #baked = new Set<string>();
  readonly #jobs = new Map<string, Job>();

  constructor({ clock, log, settings, templateSize }: Pick<AppParts, "clock" | "log" | "settings" | "templateSize">) {
    this.#clock = clock;
    this.#log = log;
    this.#waitMs = settings.bakeWaitMs;
    this.#templateSize = templateSize;
  }

  /** What a create of a template needs; null when there is no such template, which the create itself will say. */
  sizeOf(asked: { readonly template?: string; readonly cpu?: number; readonly memoryMb?: number }): Size | null {
    const { template = "base" } = asked;
    const own = this.#templateSize(template);
    if (own === null) return null;
    return { template, cpu: asked.cpu ?? own.cpu, memoryMb: asked.memoryMb ?? own.memoryMib };
  }

  /** Resolves when that size can be restored. @throws {WarrenError} `template_baking`; what the bake throws */
  async ready(host: SandboxHost, size: Size, signal: AbortSignal): Promise<void> {
    const key = keyOf(size);
    if (this.#baked.has(key)) return;
    const job = this.#jobs.get(key) ?? (await this.#look(host, size, key));
    if (job === null) return;
    const { promise: left, reject } = Promise.withResolvers<never>();
    const leave = () => reject(new WarrenError("cancelled", "the client is gone"));
    signal.addEventListener("abort", leave, { once: true });
    try {
      if ((await within(this.#clock, this.#waitMs, Promise.race([job.done, left]))) === "ping")
        throw stillBaking(size, job);
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** @throws {WarrenError} `invalid_request` – another size than those that there are, and no room for more of them */
  async refuseMore(host: SandboxHost, size: Size): Promise<void> {
    const templates = await host.templates({});
    if (!isBaked(templates, size)) refuseMoreSizes(templates, size);
  }

  /** Something was removed or changed: look again. */
  forget(): void {
    this.#baked.clear();
  }

  async #look(host: SandboxHost, size: Size, key: string): Promise<Job | null> {
    const templates = await host.templates({});
    if (isBaked(templates, size)) {
      this.#baked.add(key);
      return null;
    }
    refuseMoreSizes(templates, size);
    return this.#jobs.get(key) ?? this.#start(host, size, key);
  }

  #start(host: SandboxHost, size: Size, key: string): Job {
    const job: Job = { done: this.#bake(host, size, (event) => (job.last = event)), last: null };
    this.#jobs.set(key, job);
    job.done.then(
      () => {
        this.#baked.add(key);
        this.#jobs.delete(key);
      },
      (cause: unknown) => {
        this.#log.warn("a bake failed", { ...size, why: String(cause) });
        this.#clock.after(AGAIN_MS, () => this.#jobs.delete(key), { background: true });
      },
    );
    return job;
  }

  async #bake(host: SandboxHost, size: Size, tell: (event: BakeEvent) => void): Promise<void> {
    const { template: name, cpu, memoryMb } = size;
    for await (const event of await host.bake({ name, cpu, memoryMb })) tell(event);
  }
}

function keyOf({ template, cpu, memoryMb }: Size): string {
  return `${template} ${cpu} ${memoryMb}`;
}

function isBaked(templates: readonly TemplateInfo[], { template, cpu, memoryMb }: Size): boolean {
  const baked = templates.find(({ name }) => name === template)?.baked ?? [];
  return baked.some((size) => size.cpu === cpu && size.memoryMb === memoryMb);
}

/** Each size is a snapshot on this host's disk, and in its memory once it is used: a server has only so many of them. */
function refuseMoreSizes(templates: readonly TemplateInfo[], { template, cpu, memoryMb }: Size): void {
  const baked = templates.find(({ name }) => name === template)?.baked ?? [];
  if (baked.length < SIZES_PER_TEMPLATE) return;
  const there = baked.map((size) => `${size.cpu} vCPU and ${size.memoryMb} MiB`).join(", ");
  const says = `cpu, memoryMb: got ${cpu} vCPU and ${memoryMb} MiB, and this server has no room for one more size of ${template}; there are ${there}`;
  throw new WarrenError("invalid_request", says, { details: { field: "memoryMb", got: memoryMb } });
}

function stillBaking({ template, cpu, memoryMb }: Size, { last }: Job): WarrenError {
  const at = last === null ? "" : `, step ${last.step} of ${last.steps}: ${last.says}`;
  const says = `the template ${template} is being baked for ${cpu} vCPU and ${memoryMb} MiB${at}; ask again in a moment`;
  const step = last === null ? {} : { step: last.step, steps: last.steps };
  return new WarrenError("template_baking", says, { details: { template, cpu, memoryMb, ...step } });
}
