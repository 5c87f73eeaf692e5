/** The composition root of embedded use: configuration → host, driver, templates, engine. Nothing else knows how they fit together. */
import type { Clock } from "./base/clock.ts";
import { createLog, type Log } from "./base/log.ts";
import type { BatchParts } from "./batch/batch.ts";
import { type Config, readConfig } from "./config.ts";
import type { SandboxHost } from "./contract/routes.ts";
import type { Driver } from "./driver/driver.ts";
import { qemuDriver } from "./driver/qemu/driver.ts";
import type { EngineOptions } from "./engine/create/options.ts";
import { Engine } from "./engine/engine.ts";
import { type LinuxHost, openLinuxHost } from "./host/linux.ts";
import { hostClock } from "./host/slots/host-clock.ts";
import { egressSettings } from "./keeper/settings.ts";
import { keeperOf } from "./keeper/start.ts";
import { Snapshots } from "./snapshot/store.ts";
import { Templates } from "./template/store.ts";
import { FileVolumes } from "./volume/store.ts";

/** The account of embedded use and of the command line: whoever is root here. */
export const LOCAL_ACCOUNT = "local";

export interface WarrenOptions extends EngineOptions {
  /** Overrides what the environment says, for instance `home`. */
  readonly config?: Partial<Config>;
  readonly clock?: Clock;
  readonly log?: Log;
  /** How many networks are kept ready for the next sandboxes; default {@link LIMITS.networkReserve}, 0 keeps none. */
  readonly networkReserve?: number;
}

/** An open home: its engine and what stands under it. Disposing ends every sandbox that is not detached. */
export interface Warren extends AsyncDisposable {
  readonly engine: Engine;
  /** What sandboxes are made on. */
  readonly sandboxes: SandboxHost;
  readonly host: LinuxHost;
  readonly driver: Driver;
  readonly templates: Templates;
  readonly snapshots: Snapshots;
  readonly volumes: FileVolumes;
  readonly config: Config;
  readonly clock: Clock;
}

/**
 * Opens `WARREN_HOME`, making what is missing of it. No VMM is started and nothing is baked yet.
 * @throws {WarrenError} `invalid_request` – the environment; `permission_denied`, `host_unsupported` – the home
 */
export async function openWarren(options: WarrenOptions = {}): Promise<Warren> {
  const config = { ...readConfig(), ...options.config };
  const clock = options.clock ?? hostClock;
  const log = options.log ?? createLog(config.log);
  const host = await openLinuxHost({ home: config.home, clock, log, ...reserveOf(options) });
  const driver = qemuDriver({ dataDir: host.data.dir, binary: config.qemu, clock });
  const templates = new Templates({
    host,
    driver,
    clock,
    log,
    dataDir: host.data.dir,
    mirror: config.mirror,
    kernelPath: config.kernel,
    accel: config.accel,
    ensureRoom: (bytes) => host.data.ensureRoom(bytes),
  });
  const { registry } = host;
  const snapshots = new Snapshots({ dataDir: host.data.dir, shares: host.data.kind !== "copy", templates });
  await snapshots.collect();
  const volumes = new FileVolumes({ data: host.data, clock });
  const egress = await egressSettings(config);
  const keeper = keeperOf(config, clock);
  const parts = { driver, host, snapshots, volumes, registry, egress, keeper, clock, log };
  const engine = new Engine({ ...parts, templates: snapshots.with(templates) }, options);
  return {
    engine,
    sandboxes: engine.as(LOCAL_ACCOUNT),
    host,
    driver,
    templates,
    snapshots,
    volumes,
    config,
    clock,
    async [Symbol.asyncDispose]() {
      await engine.close();
      host.release();
    },
  };
}

function reserveOf({ networkReserve }: WarrenOptions): { readonly networkReserve?: number } {
  return networkReserve === undefined ? {} : { networkReserve };
}

/** What a batch over this home stands on. */
export function batchParts({ engine, sandboxes, host, clock }: Warren): BatchParts {
  return {
    host: sandboxes,
    moves: (listener) => engine.moves.subscribe(listener),
    cores: host.capacity().cores,
    clock,
  };
}
