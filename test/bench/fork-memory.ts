/**
 * What forks cost of the host's memory, counted page by page. Guest memory is what VMMs have copied of it plus the files of
 * layers; a VMM's own is its share (PSS) of everything else; the kernel's is page tables and, where cgroups tell, its objects.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { Warren } from "../../src/compose.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { until } from "../harness/until.ts";

const MIB = 2 ** 20;
const MEMORY_MB = 1024;
export const HELD_MIB = 500;

/** KiB. */
interface Vmm {
  readonly guest: number;
  readonly own: number;
  readonly kernel: number;
}

/** MiB; of one VMM where it says "each". */
export interface ForkMemory {
  readonly children: number;
  /** All that the guests' memory takes after the fork more than before it. */
  readonly guestMib: number;
  /** Of that, pages that children have copied for themselves. */
  readonly touchedMib: number;
  readonly changedMib: number;
  readonly vmmEachMib: number;
  readonly kernelEachMib: number;
  readonly bareVmmEachMib: number;
  readonly bareKernelEachMib: number;
  /** Of VMM and kernel, a child to a bare clone. */
  readonly ratio: number;
  readonly pauseMs: number;
}

interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly name: string;
  readonly pss: number;
  readonly anonymous: number;
}

function mappings(pid: number): Mapping[] {
  const found: { start: number; end: number; name: string; pss: number; anonymous: number }[] = [];
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$/.exec(line);
    if (head !== null) {
      const [start, end] = [Number.parseInt(head[1]!, 16), Number.parseInt(head[2]!, 16)];
      found.push({ start, end, name: head[3]!, pss: 0, anonymous: 0 });
      continue;
    }
    const last = found.at(-1);
    const field = /^(Pss|Anonymous): +(\d+) kB/.exec(line);
    if (last === undefined || field === null) continue;
    if (field[1] === "Pss") last.pss = Number(field[2]);
    else last.anonymous = Number(field[2]);
  }
  return found;
}

/** The guest's memory: as long as it is, without a gap, and all files of memory lie in it. */
function isGuest(all: readonly Mapping[], sizeBytes: number): (mapping: Mapping) => boolean {
  const files = all.filter(({ name }) => /^\/memfd:warren-(template|layer)/.test(name));
  const [low, high] = [files[0]?.start ?? 0, files.at(-1)?.end ?? 0];
  const first = all.find(({ start }) => start <= low && start + sizeBytes >= high && endsAt(all, start + sizeBytes));
  if (first === undefined) throw new Error("a VMM without guest memory");
  return ({ start, end }) => start >= first.start && end <= first.start + sizeBytes;
}

function endsAt(all: readonly Mapping[], at: number): boolean {
  return all.some(({ end }) => end === at);
}

function kernelKib(pid: number): number {
  const tables = /^VmPTE:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(tables);
}

async function vmmOf(warren: Warren, { id }: Sandbox): Promise<Vmm> {
  const init = (await warren.host.registry.get(id))?.ref.pid;
  const pid = Number(readFileSync(`/proc/${init}/task/${init}/children`, "utf8").trim().split(" ")[0]);
  const all = mappings(pid);
  const guests = isGuest(all, MEMORY_MB * MIB);
  let [guest, own] = [0, 0];
  for (const mapping of all) {
    if (guests(mapping)) guest += mapping.anonymous;
    else own += mapping.pss;
  }
  return { guest, own, kernel: kernelKib(pid) };
}

/** KiB of the files of layers that this process holds. */
function layersKib(): number {
  const blocks = new Map<number, number>();
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).startsWith("/memfd:warren-layer")) continue;
      const { ino, blocks: of } = statSync(`/proc/self/fd/${fd}`);
      blocks.set(ino, of / 2);
    } catch (cause) {
      if (!(cause instanceof Error && "code" in cause && cause.code === "ENOENT")) throw cause; // it was closed meanwhile
    }
  }
  return [...blocks.values()].reduce((sum, kib) => sum + kib, 0);
}

const SESSION = `
import os, time
held = [os.urandom(1 << 20) for _ in range(${HELD_MIB})]
open("/run/held", "w").write("x")
while True: time.sleep(1000)
`;

const mean = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length;

/** A Python that holds {@link HELD_MIB} of random bytes, forked into `children` at once, before any of them does anything. */
export async function forkMemory(warren: Warren, template: string, children: number): Promise<ForkMemory> {
  const size = { template, memoryMb: MEMORY_MB };
  await using parent = await Sandbox.create(size, warren.sandboxes);
  const bare = await Promise.all(Array.from({ length: children }, () => Sandbox.create(size, warren.sandboxes)));
  const clones = await Promise.all(bare.map((one) => vmmOf(warren, one)));
  await Promise.all(bare.map((one) => one.close()));
  await parent.files.write("/root/session.py", SESSION);
  await parent.spawn(["python3", "/root/session.py"]);
  const held = async () => (await parent.exec(["test", "-e", "/run/held"])).exitCode === 0;
  await until("the session holds its bytes", held, 240_000);
  const before = (await vmmOf(warren, parent)).guest + layersKib();
  const made = await warren.sandboxes.fork({ id: parent.id, count: children });
  const forks = made.children.map(({ id }) => new Sandbox(warren.sandboxes, id));
  try {
    const [old, ...vmms] = await Promise.all([parent, ...forks].map((one) => vmmOf(warren, one)));
    const touched = vmms.reduce((sum, { guest }) => sum + guest, 0);
    const after = old!.guest + touched + layersKib();
    const [own, kernel] = [mean(vmms.map((one) => one.own)), mean(vmms.map((one) => one.kernel))];
    const [bareOwn, bareKernel] = [mean(clones.map((one) => one.own)), mean(clones.map((one) => one.kernel))];
    return {
      children,
      guestMib: (after - before) / 1024,
      touchedMib: touched / 1024,
      changedMib: made.changedBytes / MIB,
      vmmEachMib: own / 1024,
      kernelEachMib: kernel / 1024,
      bareVmmEachMib: bareOwn / 1024,
      bareKernelEachMib: bareKernel / 1024,
      ratio: (own + kernel) / (bareOwn + bareKernel),
      pauseMs: made.pauseMs,
    };
  } finally {
    await Promise.all(forks.map((one) => one.close()));
  }
}
