/** What is killed: a server of the home with a witness in it, its database, its VMMs; and how each of them is. */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../../src/base/clock.ts";
import { EXITS } from "../../../src/host/jail/exits.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import type { Random } from "../../fuzz/random.ts";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { VM_BAKE_MS } from "../../harness/vm.ts";
import type { Ledger } from "./books.ts";
import type { Machine, Watch } from "./watch.ts";

/** How often each kind of kill was done. */
export interface Kills {
  server: number;
  group: number;
  vmm: number;
  connection: number;
  database: number;
  /** VMMs of them of whose end the kernel's word was lost, too. */
  blind: number;
}

export class Ground {
  readonly kills: Kills = { server: 0, group: 0, vmm: 0, connection: 0, database: 0, blind: 0 };
  server: ServerProcess | null = null;

  readonly home: string;
  readonly ledger: Ledger;
  readonly watch: Watch;

  constructor(home: string, ledger: Ledger, watch: Watch) {
    this.home = home;
    this.ledger = ledger;
    this.watch = watch;
  }

  async serve(): Promise<void> {
    this.server = await startServerProcess({
      home: this.home,
      databaseUrl: this.ledger.url,
      preload: join(import.meta.dir, "witness.ts"),
      env: { WITNESS: this.watch.path, WARREN_LOG: "error" },
      readyMs: VM_BAKE_MS,
    });
  }

  /** An answer's status; null when nobody answered. */
  async ask(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ readonly status: number; readonly text: string } | null> {
    const { server } = this;
    if (server === null) return null;
    try {
      const answer = await fetch(`${server.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${server.key}`, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      return { status: answer.status, text: await answer.text() };
    } catch {
      return null; // killed meanwhile, or away for too long
    }
  }

  async killServer(): Promise<void> {
    this.#crashed();
    this.kills.server += 1;
    await this.server?.end("SIGKILL");
    this.server = null;
  }

  /** All at once, in an order of chance. With `blind` what the kernel wrote down is lost with them. */
  async killGroup(random: Random, blind: boolean): Promise<void> {
    this.#crashed();
    this.kills.group += 1;
    const living = this.watch.living();
    const pids = living.flatMap(({ jail, vmm }) => [jail, ...(vmm === null ? [] : [vmm])]);
    const all = [...pids, ...keepersOf(this.home), ...(this.server === null ? [] : [this.server.pid])];
    for (const pid of shuffled(all, random)) kill(pid);
    await this.server?.end("SIGKILL");
    this.server = null;
    while (living.some(({ jail, startTicks }) => startTicksOf(jail) === startTicks)) await systemClock.sleep(1);
    if (!blind) return;
    for (const machine of living) this.#forget(machine);
  }

  killVmm(machine: Machine, random: Random, blind: boolean): boolean {
    if (machine.vmm === null || machine.goneMs !== null) return false;
    this.kills.vmm += 1;
    if (blind) this.#forget(machine);
    kill(random.once(3) ? machine.jail : machine.vmm);
    return true;
  }

  async cutConnections(): Promise<void> {
    this.kills.connection += 1;
    await this.ledger.postgres.run(
      "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    );
  }

  /** Gone at once, and back after a while. */
  async crashDatabase(awayMs: number): Promise<void> {
    this.kills.database += 1;
    await this.ledger.postgres.crash();
    await systemClock.sleep(awayMs);
    await this.ledger.postgres.start();
  }

  /** What the kernel writes down of its end is lost. */
  #forget({ id, socketDir }: Machine): void {
    this.kills.blind += 1;
    this.watch.blind.add(id);
    rmSync(join(socketDir, EXITS), { force: true });
  }

  #crashed(): void {
    this.watch.crashes.push(hostClock.monotonicMs());
  }
}

const ANSWER_MS = 30_000;

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it was quicker
  }
}

function shuffled<T>(from: readonly T[], random: Random): T[] {
  const rest = [...from];
  return from.map(() => rest.splice(random.below(rest.length), 1)[0] as T);
}

/** Processes that have this home's network, by their command line and environment. */
function keepersOf(home: string): number[] {
  const isKeeper = (entry: string): boolean => {
    try {
      const command = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0");
      const environment = readFileSync(`/proc/${entry}/environ`, "utf8").split("\0");
      return command.includes("keeper") && environment.includes(`WARREN_HOME=${home}`);
    } catch {
      return false; // it has ended
    }
  };
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && isKeeper(entry))
    .map(Number);
}
