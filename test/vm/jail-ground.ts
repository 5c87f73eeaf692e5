/** A home, a root directory with the attacker as the only program, and short ways to run it in a jail and outside of one. */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { nonce } from "../../src/base/id.ts";
import { createLog } from "../../src/base/log.ts";
import { removeAll } from "../../src/host/home/clean.ts";
import type { Lease } from "../../src/host/host.ts";
import { jailInit } from "../../src/host/jail/init.ts";
import { type Jailed, type JailSpec, spawnJailed } from "../../src/host/jail/jail.ts";
import { type LinuxHost, openLinuxHost } from "../../src/host/linux.ts";
import { createMemory, sealMemory } from "../../src/host/memory.ts";

export const TAP = { name: "tap0", mac: new Uint8Array([2, 0, 0, 0, 0, 1]) };

/** Numbers of the descriptors that every jail of these tests gets. */
export const FD = { memory: 3, diskRw: 4, diskRo: 5, tap: 6 } as const;

export interface Jail {
  readonly jailed: Jailed;
  readonly lease: Lease;
  /** Kills what still runs and gives the lease back. */
  end(): Promise<void>;
}

/** errno by attack, and the other lines it said. */
export interface Report {
  readonly errno: ReadonlyMap<string, number>;
  readonly lines: readonly string[];
}

export function parseReport(text: string): Report {
  const errno = new Map<string, number>();
  const lines = text.split("\n").filter((line) => line !== "");
  for (const line of lines) {
    const match = /^(\S+) (\d+)$/.exec(line);
    if (match !== null) errno.set(match[1]!, Number(match[2]));
  }
  return { errno, lines };
}

export class JailGround implements AsyncDisposable {
  readonly home: string;
  readonly dir: string;
  readonly root: string;
  readonly host: LinuxHost;
  readonly #init: string;
  readonly #memoryFd: number;
  readonly #diskFd: number;

  private constructor(dir: string, host: LinuxHost, init: string) {
    this.dir = dir;
    this.home = host.data.home;
    this.root = join(dir, "root");
    this.host = host;
    this.#init = init;
    this.#memoryFd = createMemory("template", 1 << 20);
    sealMemory(this.#memoryFd);
    this.#diskFd = openSync(host.data.dir, constants.O_RDWR | 0o20200000, 0o600); // O_TMPFILE
  }

  static async make(): Promise<JailGround> {
    const dir = mkdtempSync(join(tmpdir(), "jail-"));
    mkdirSync(join(dir, "root/proc"), { recursive: true });
    mkdirSync(join(dir, "root/dev"));
    const source = join(import.meta.dir, "jail-attacker.c");
    const gcc = Bun.spawn(["gcc", "-O1", "-static", "-o", join(dir, "root/attacker"), source], { stderr: "inherit" });
    if ((await gcc.exited) !== 0) throw new Error("the attacker does not compile");
    copyFileSync(join(dir, "root/attacker"), join(dir, "attacker"));
    // Anyone may write there as far as modes go: what keeps a VMM from it has to be the mount.
    writeFileSync(join(dir, "root/firmware"), "f");
    for (const path of ["root", "root/dev", "root/firmware"]) chmodSync(join(dir, path), 0o777);
    const host = await openLinuxHost({ home: join(dir, "home"), clock: systemClock, log: createLog("warn") });
    return new JailGround(dir, host, await jailInit(host.data.home));
  }

  /** A lease and the attacker running on it, told to do this. */
  async start(
    attacks: readonly string[],
    change: Partial<Omit<JailSpec, "jail">> & { readonly jail?: Partial<JailSpec["jail"]> } = {},
  ): Promise<Jail> {
    const snapshot = { memoryFd: this.#memoryFd, openState: () => openSync("/dev/null", "r"), diskFd: this.#diskFd };
    const lease = await this.host.lease({ id: `sb_${nonce()}`, memoryMib: 128, cpu: 1, snapshot, detached: false });
    try {
      const jailed = await spawnJailed({
        init: this.#init,
        argv: ["/attacker", ...attacks],
        env: [],
        fds: [null, null, null, this.#memoryFd, lease.disk.rwFd, lease.disk.roFd],
        root: this.root,
        devices: [],
        group: null,
        tap: TAP,
        rlimits: {},
        ...change,
        jail: { ...lease.jail, hostname: "jail", deadlineNs: null, detached: false, ...change.jail },
      });
      lease.handedOver();
      const end = async () => {
        await jailed.kill();
        await lease[Symbol.asyncDispose]();
      };
      return { jailed, lease, end };
    } catch (error) {
      await lease[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the attacks came to in a jail. */
  async attack(...attacks: string[]): Promise<Report> {
    const jail = await this.start(attacks);
    try {
      return parseReport((await jail.jailed.exited).stderr);
    } finally {
      await jail.end();
    }
  }

  /** The sealed memory that every jail gets as `FD.memory`. */
  get memoryFd(): number {
    return this.#memoryFd;
  }

  /** What the same attacks come to outside of a jail, as root. */
  control(...attacks: string[]): Promise<Report> {
    return this.controlOn(this.#memoryFd, ...attacks);
  }

  /** The same with another file as `FD.memory`. */
  async controlOn(memoryFd: number, ...attacks: string[]): Promise<Report> {
    const child = Bun.spawn([join(this.dir, "attacker"), ...attacks], {
      stdio: ["ignore", "ignore", "pipe", memoryFd],
      cwd: this.dir,
    });
    const text = await new Response(child.stderr).text();
    await child.exited;
    return parseReport(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#memoryFd);
    closeSync(this.#diskFd);
    await removeAll({ home: this.home, clock: systemClock, log: createLog("warn"), force: true });
    rmSync(this.dir, { recursive: true });
  }
}
