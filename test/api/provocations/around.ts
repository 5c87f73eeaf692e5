/** Failures of rows about sandboxes as a whole, and of what an account has beside them. */
import { pathKeys } from "../../../src/contract/split.ts";
import type { RowName, table } from "../../../src/contract/table.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { WarrenError } from "../../../src/errors.ts";
import { rowOf } from "../requests.ts";
import type { BillingRow } from "./billing.ts";
import type { InsideRow } from "./inside.ts";
import {
  atTemplate,
  garbage,
  hung,
  neighbour,
  ofSandbox,
  type Provoke,
  type Scene,
  unknownField,
  type Way,
  type Ways,
} from "./scene.ts";

type Row<K extends RowName> = Ways<(typeof table)[K]["errors"][number]>;

const notFound = (name: RowName): Ways<"not_found"> => ({
  not_found: (scene) => scene.ask(name, Object.fromEntries(pathKeys(rowOf(name)).map((key) => [key, "none"]))),
});

const broken =
  (name: RowName, step: string): Provoke =>
  async (scene) => {
    scene.broken(step);
    return scene.ask(name);
  };

/** What needs room on disk fails. */
const volumesFail =
  (name: RowName, code: ErrorCode, prepare?: (scene: Scene) => Promise<unknown>): Provoke =>
  async (scene) => {
    await prepare?.(scene);
    scene.api.world.volumes.growing = () => {
      throw new WarrenError(code, "provoked");
    };
    return scene.ask(name, name === "resizeVolume" ? { name: "vol" } : {});
  };

const bakeFails =
  (code: ErrorCode): Provoke =>
  async (scene) => {
    scene.api.world.templates.baking = () => {
      throw new WarrenError(code, "provoked");
    };
    return scene.ask("bake");
  };

const promotionFails =
  (code: ErrorCode): Provoke =>
  async (scene) => {
    const id = await snapshot(scene);
    scene.api.world.snapshots.promoting = () => {
      throw new WarrenError(code, "provoked");
    };
    return scene.ask("promoteSnapshot", { id });
  };

const asleep = (scene: Scene): Promise<unknown> => scene.ask("hibernate");

const checkpointFails =
  (name: RowName, code: ErrorCode): Provoke =>
  async (scene) => {
    scene.api.world.host.hooks = {
      checkpoint: () => {
        throw new WarrenError(code, "provoked");
      },
    };
    return scene.ask(name);
  };

const saving =
  (name: RowName, code: ErrorCode, fields: Readonly<Record<string, unknown>> = {}): Provoke =>
  async (scene) => {
    scene.api.world.snapshots.saving = () => {
      throw new WarrenError(code, "provoked");
    };
    return scene.ask(name, fields);
  };

/** Its engine ends while it is made. */
const ending =
  (name: RowName): Provoke =>
  async (scene) => {
    scene.api.world.host.hooks = { lease: () => void scene.api.engine.close() };
    return scene.ask(name);
  };

const IN_TURN = "capacity is a queue here: who waits too long is told create_timeout";
const NO_QUEUE = "needs 10,000 creates that wait: test/engine/admission";
const LATE =
  "a guest that has just come back is greeted, and one that says garbage then is hung up on: test/engine/fork";

const made: Pick<Record<ErrorCode, Way>, "capacity_exhausted" | "queue_full"> = {
  capacity_exhausted: IN_TURN,
  queue_full: NO_QUEUE,
};

const forked = (name: "fork" | "forkTree") => ({
  ...unknownField(name),
  ...ofSandbox(name),
  ...made,
  guest_protocol: garbage(name),
  guest_unresponsive: hung(name),
  unsupported: neighbour(name, { detached: true }),
  create_timeout: "a fork waits for room as long as the engine does: test/engine",
  storage_exhausted: checkpointFails(name, "storage_exhausted"),
  driver_failed: broken(name, "capture"),
  cancelled: ending(name),
});

const volume = async (scene: Scene): Promise<void> => {
  await scene.ask("createVolume");
  await scene.ask("attachVolume");
};

async function snapshot(scene: Scene): Promise<string> {
  return String((await scene.post(`/v1/sandboxes/${scene.id}/snapshots`, {}))["id"]);
}

const TOLD = {
  wrong_state: "what it was is told after its end",
  sandbox_lost: "what it was is told after its end",
} as const;

export const around: { readonly [K in Exclude<RowName, InsideRow | BillingRow>]: Row<K> } = {
  create: {
    invalid_request: (scene) => scene.ask("create", { no_such_field: 1 }),
    template_not_found: (scene) => scene.ask("create", { template: "nothing" }),
    not_found: (scene) => scene.ask("create", { volumes: [{ name: "none" }] }),
    volume_in_use: async (scene) => {
      await volume(scene);
      return scene.ask("create", { volumes: [{ name: "vol" }] });
    },
    ...made,
    guest_unresponsive: hung("create"),
    // As many as this host gives at all, and one is in use.
    create_timeout: (scene) => scene.ask("create", { cpu: 32 }),
    storage_exhausted: atTemplate("storage_exhausted"),
    host_unsupported: atTemplate("host_unsupported"),
    permission_denied: atTemplate("permission_denied"),
    bake_failed: atTemplate("bake_failed"),
    snapshot_invalid: async (scene) => {
      const id = await snapshot(scene);
      scene.api.world.snapshots.opening = () => {
        throw new WarrenError("snapshot_invalid", "provoked");
      };
      return scene.ask("create", { from_snapshot: id });
    },
    driver_failed: broken("create", "load"),
    cancelled: ending("create"),
  },
  get: notFound("get"),
  list: {},
  lifecycle: notFound("lifecycle"),
  setLifecycle: {
    ...unknownField("setLifecycle"),
    ...ofSandbox("setLifecycle", { ttl_seconds: 9 }),
    unsupported: neighbour("setLifecycle", { detached: true }),
    driver_failed: async (scene) => {
      for (const machine of scene.api.world.driver.machines.values())
        machine.setDeadline = () => {
          throw new WarrenError("driver_failed", "provoked");
        };
      return scene.ask("setLifecycle", { ttl_seconds: 9 });
    },
  },
  metrics: { ...notFound("metrics"), unsupported: neighbour("metrics", { detached: true }) },
  close: notFound("close"),
  fork: forked("fork"),
  forkTree: forked("forkTree"),
  promote: { ...unknownField("promote"), ...notFound("promote") },
  pause: {
    ...unknownField("pause"),
    ...ofSandbox("pause"),
    unsupported: neighbour("pause", { detached: true }),
    driver_failed: broken("pause", "pause"),
  },
  resume: {
    ...unknownField("resume"),
    ...ofSandbox("resume"),
    unsupported: neighbour("resume", { detached: true }),
    driver_failed: async (scene) => {
      await scene.ask("pause");
      return broken("resume", "resume")(scene);
    },
  },
  hibernate: {
    ...unknownField("hibernate"),
    ...ofSandbox("hibernate"),
    unsupported: neighbour("hibernate", { detached: true }),
    driver_failed: broken("hibernate", "capture"),
    storage_exhausted: saving("hibernate", "storage_exhausted"),
    capacity_exhausted: checkpointFails("hibernate", "capacity_exhausted"),
  },
  wake: {
    ...unknownField("wake"),
    ...ofSandbox("wake"),
    ...made,
    guest_protocol: LATE,
    guest_unresponsive: hung("wake", {}, asleep),
    unsupported: neighbour("wake", { detached: true }),
    create_timeout: "a wake waits for room as long as the engine does: test/engine",
    storage_exhausted: "what it needs is on disk already",
    driver_failed: async (scene) => {
      await scene.ask("hibernate");
      return broken("wake", "load")(scene);
    },
    cancelled: "its engine ends a wake that has begun after it: test/engine/hibernation",
    snapshot_invalid: async (scene) => {
      await asleep(scene);
      scene.api.world.snapshots.opening = () => {
        throw new WarrenError("snapshot_invalid", "provoked");
      };
      return scene.ask("wake");
    },
  },
  network: {
    ...notFound("network"),
    ...TOLD,
    unsupported: "its policy is told of any process's, and what it has used is left out",
  },
  setNetwork: {
    ...unknownField("setNetwork"),
    ...ofSandbox("setNetwork", { egress: { mode: "none" } }),
    host_unsupported: (scene) => scene.ask("setNetwork"),
    driver_failed: async (scene) => {
      scene.api.world.host.networkDegraded = null;
      const id = String((await scene.post("/v1/sandboxes", {}))["id"]);
      const network = scene.api.world.host.networks.get(id);
      if (network !== undefined) network.failing = "provoked";
      return scene.ask("setNetwork", { id, egress: { mode: "none" } });
    },
    unsupported: neighbour("setNetwork", { detached: false, fields: { egress: { mode: "none" } } }),
  },
  networkLog: { ...notFound("networkLog"), ...TOLD, unsupported: neighbour("networkLog", { detached: false }) },
  snapshot: {
    ...unknownField("snapshot"),
    ...ofSandbox("snapshot"),
    unsupported: neighbour("snapshot", { detached: true }),
    storage_exhausted: saving("snapshot", "storage_exhausted"),
    capacity_exhausted: checkpointFails("snapshot", "capacity_exhausted"),
    driver_failed: broken("snapshot", "capture"),
    guest_unresponsive: hung("snapshot"),
    cancelled: "the client that would be told is the one that left",
  },
  snapshots: unknownField("snapshots"),
  getSnapshot: notFound("getSnapshot"),
  removeSnapshot: {
    ...notFound("removeSnapshot"),
    snapshot_in_use: async (scene) => {
      const id = await snapshot(scene);
      await scene.ask("create", { from_snapshot: id });
      return scene.ask("removeSnapshot", { id });
    },
  },
  promoteSnapshot: {
    ...unknownField("promoteSnapshot"),
    ...notFound("promoteSnapshot"),
    already_exists: async (scene) => {
      const id = await snapshot(scene);
      await scene.ask("promoteSnapshot", { id });
      return scene.ask("promoteSnapshot", { id });
    },
    snapshot_invalid: promotionFails("snapshot_invalid"),
    storage_exhausted: promotionFails("storage_exhausted"),
  },
  templates: {},
  bake: {
    ...unknownField("bake"),
    template_not_found: (scene) => scene.ask("bake", { name: "nothing" }),
    bake_failed: bakeFails("bake_failed"),
    storage_exhausted: bakeFails("storage_exhausted"),
    host_unsupported: bakeFails("host_unsupported"),
  },
  removeTemplate: { template_not_found: (scene) => scene.ask("removeTemplate", { name: "nothing" }) },
  template: { template_not_found: (scene) => scene.ask("template", { name: "nothing" }) },
  createVolume: {
    ...unknownField("createVolume"),
    already_exists: async (scene) => {
      await scene.ask("createVolume");
      return scene.ask("createVolume");
    },
    storage_exhausted: volumesFail("createVolume", "storage_exhausted"),
    capacity_exhausted: volumesFail("createVolume", "capacity_exhausted"),
    host_unsupported: volumesFail("createVolume", "host_unsupported"),
  },
  volumes: {},
  getVolume: { ...unknownField("getVolume"), ...notFound("getVolume") },
  resizeVolume: {
    ...unknownField("resizeVolume"),
    not_found: (scene) => scene.ask("resizeVolume", { name: "none" }),
    storage_exhausted: volumesFail("resizeVolume", "storage_exhausted", volume),
    driver_failed: async (scene) => {
      await volume(scene);
      scene.broken("grow");
      return scene.ask("resizeVolume", { name: "vol" });
    },
    sandbox_lost: "its end during the call: test/engine/volumes",
    unsupported: "needs a guest without resize2fs: test/vm/engine/volumes",
  },
  removeVolume: {
    ...unknownField("removeVolume"),
    ...notFound("removeVolume"),
    volume_in_use: async (scene) => {
      await volume(scene);
      return scene.ask("removeVolume", { name: "vol" });
    },
  },
  attachVolume: {
    ...unknownField("attachVolume"),
    ...ofSandbox("attachVolume"),
    unsupported: neighbour("attachVolume", { detached: true }),
    volume_in_use: async (scene) => {
      await volume(scene);
      const other = (await scene.post("/v1/sandboxes", {}))["id"];
      return scene.ask("attachVolume", { id: other });
    },
    storage_exhausted: volumesFail("attachVolume", "storage_exhausted", (scene) => scene.ask("createVolume")),
    driver_failed: async (scene) => {
      await scene.ask("createVolume");
      return broken("attachVolume", "insert")(scene);
    },
    guest_unresponsive: hung("attachVolume", {}, (scene) => scene.ask("createVolume")),
  },
  detachVolume: {
    ...unknownField("detachVolume"),
    ...ofSandbox("detachVolume"),
    unsupported: neighbour("detachVolume", { detached: true }),
    volume_in_use: "needs a program that keeps a file of it open: test/vm/engine/volumes",
    driver_failed: async (scene) => {
      await volume(scene);
      scene.broken("eject");
      return scene.ask("detachVolume", { name: "vol" });
    },
    guest_unresponsive: hung("detachVolume", { name: "vol" }, volume),
  },
  bootStats: {},
  me: {},
  tokens: {},
  createToken: unknownField("createToken"),
  revokeToken: notFound("revokeToken"),
  audit: unknownField("audit"),
  accounts: {},
  createAccount: {
    ...unknownField("createAccount"),
    already_exists: (scene) => scene.ask("createAccount", { id: "admin" }),
    host_unsupported: "a server without KVM and without --allow-emulation: test/server/start.test.ts",
  },
  account: notFound("account"),
  updateAccount: {
    ...unknownField("updateAccount"),
    not_found: (scene) => scene.ask("updateAccount", { account: "none" }),
  },
  createAccountToken: {
    ...unknownField("createAccountToken"),
    not_found: (scene) => scene.ask("createAccountToken", { account: "none" }),
  },
  webhooks: {},
  createWebhook: {
    ...unknownField("createWebhook"),
    quota_exceeded: async (scene) => {
      for (let i = 0; i < 200; i++) {
        const told = await scene.ask("createWebhook");
        if (told.status !== 201) return told;
      }
      return scene.ask("createWebhook");
    },
  },
  removeWebhook: notFound("removeWebhook"),
};
