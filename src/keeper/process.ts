/**
 * The keeper's process: the only one of its home, over that home's register and this host's networks. It opens nothing of
 * what sandboxes are made from, so that it stays small.
 */
import { existsSync, realpathSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { VmRef } from "../driver/driver.ts";
import { type EgressParts, SandboxEgress } from "../egress/egress.ts";
import { WarrenError } from "../errors.ts";
import { foldersOf } from "../host/home/data.ts";
import { playOnly } from "../host/home/only.ts";
import { FileRegistry } from "../host/home/registry.ts";
import { Networks } from "../host/net/networks.ts";
import { refuseWithoutRoot } from "../host/rights.ts";
import { Cgroups } from "../host/slots/cgroups.ts";
import { isForeign, isRunning } from "../host/slots/process-name.ts";
import { Slots } from "../host/slots/slots.ts";
import { LIMITS } from "../limits.ts";
import { isKept, type KeeperGround } from "./client.ts";
import { Keeper, type KeeperParts } from "./keeper.ts";
import { KeeperServer } from "./server.ts";

export interface KeeperOptions {
  readonly home: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends it in good order. */
  readonly signal: AbortSignal;
}

/**
 * Keeps what there is to keep in a home, until there has been nothing for a while. Returns at once when another process does.
 * @throws {WarrenError} `permission_denied`, `invalid_request` – there is no such home
 */
export async function keepNetworks(
  options: KeeperOptions,
  egress: Pick<EgressParts, "upstreams" | "exempt">,
): Promise<void> {
  refuseWithoutRoot();
  if (!existsSync(foldersOf(options.home).slots)) {
    throw new WarrenError("invalid_request", `${options.home} (WARREN_HOME) is not the home of any sandbox`);
  }
  await keepAlone(options, (home) => partsOf({ ...options, home }, egress));
}

/** As `keepNetworks`, over other parts. */
export async function keepAlone(options: KeeperOptions, partsIn: (home: string) => KeeperParts): Promise<void> {
  const { clock, log, signal } = options;
  const home = realpathSync(options.home);
  using alone = await becomeKeeper({ home, clock });
  if (alone === null) return;
  const keeper = new Keeper(partsIn(home));
  await keeper.start();
  const server = new KeeperServer(keeper, { home, clock, log });
  const onStop = (): void => keeper.stop();
  signal.addEventListener("abort", onStop, { once: true });
  if (signal.aborted) onStop();
  await keeper.done;
  signal.removeEventListener("abort", onStop);
  await server.close();
}

/** Null when another one is the home's keeper. One that is about to end is waited for. */
async function becomeKeeper(ground: KeeperGround): Promise<Disposable | null> {
  const { home, clock } = ground;
  const untilMs = clock.monotonicMs() + LIMITS.keeperStartMs;
  for (;;) {
    const alone = playOnly("keeper", home);
    if (alone !== null) return alone;
    const there = await isKept(ground);
    if (there || clock.monotonicMs() > untilMs) return null;
    await clock.sleep(LIMITS.keeperRetryMs);
  }
}

function partsOf({ home, clock, log }: KeeperOptions, egress: Pick<EgressParts, "upstreams" | "exempt">): KeeperParts {
  const data = foldersOf(home);
  const networks = new Networks({ clock, log, lockFree: () => null, reserve: 0 });
  const ground = { data, cgroups: Cgroups.open(), slots: new Slots(data.slots), networks, clock, log };
  // Of another namespace's sandboxes neither the address nor the rules of their host's side are here.
  const isOurs = ({ id }: VmRef): boolean =>
    ground.slots.entries().some((entry) => entry.id === id && !isForeign(entry.owner));
  return {
    registry: new FileRegistry(ground),
    networkOf: (ref) => (isOurs(ref) ? networks.networkOf(ref) : null),
    lives: isRunning,
    open: (network, policy, sandboxId) => SandboxEgress.open(network, policy, { ...egress, clock, log, sandboxId }),
    exempt: egress.exempt,
    clock,
    log,
  };
}
