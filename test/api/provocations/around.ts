/** Failures of rows about sandboxes as a whole, and of what an account has beside them. */
import { pathKeys } from "../../../src/contract/split.ts";
import type { RowName, table } from "../../../src/contract/table.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { WarrenError } from "../../../src/errors.ts";
import { rowOf } from "../requests.ts";
import type { InsideRow } from "./inside.ts";
import {
  atTemplate,
  NEIGHBOUR,
  ofSandbox,
  type Provoke,
  QUICK,
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

const diskFull =
  (name: RowName): Provoke =>
  async (scene) => {
    scene.api.world.host.hooks = {
      checkpoint: () => {
        throw new WarrenError("storage_exhausted", "provoked");
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
const LATE = "an answer that is late: test/engine/fork";

const made: Pick<
  Record<ErrorCode, Way>,
  "capacity_exhausted" | "queue_full" | "guest_unresponsive" | "guest_protocol"
> = {
  capacity_exhausted: IN_TURN,
  queue_full: NO_QUEUE,
  guest_unresponsive: QUICK,
  guest_protocol: LATE,
};

const forked = (name: "fork" | "forkTree") => ({
  ...unknownField(name),
  ...ofSandbox(name),
  ...made,
  unsupported: NEIGHBOUR,
  create_timeout: "a fork waits for room as long as the engine does: test/engine",
  storage_exhausted: diskFull(name),
  driver_failed: broken(name, "capture"),
  cancelled: "the client that would be told is the one that left",
});

const volume = async (scene: Scene): Promise<void> => {
  await scene.ask("createVolume");
  await scene.ask("attachVolume");
};

async function snapshot(scene: Scene): Promise<string> {
  return String((await scene.post(`/v1/sandboxes/${scene.id}/snapshots`, {}))["id"]);
}

const TOLD = { wrong_state: "what it was is told after its end", sandbox_lost: "the same" } as const;
const VOLUME_SPACE = "volumes in memory take no room: test/volume";

export const around: { readonly [K in Exclude<RowName, InsideRow>]: Row<K> } = {
  create: {
    invalid_request: (scene) => scene.ask("create", { no_such_field: 1 }),
    template_not_found: (scene) => scene.ask("create", { template: "nothing" }),
    not_found: (scene) => scene.ask("create", { volumes: [{ name: "none" }] }),
    volume_in_use: async (scene) => {
      await volume(scene);
      return scene.ask("create", { volumes: [{ name: "vol" }] });
    },
    ...made,
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
    unsupported: NEIGHBOUR,
    driver_failed: "the deadline of a machine in memory is always taken",
  },
  metrics: { ...notFound("metrics"), unsupported: NEIGHBOUR },
  close: notFound("close"),
  fork: forked("fork"),
  forkTree: forked("forkTree"),
  promote: { ...unknownField("promote"), ...notFound("promote") },
  pause: {
    ...unknownField("pause"),
    ...ofSandbox("pause"),
    unsupported: NEIGHBOUR,
    driver_failed: broken("pause", "pause"),
  },
  resume: {
    ...unknownField("resume"),
    ...ofSandbox("resume"),
    unsupported: NEIGHBOUR,
    driver_failed: async (scene) => {
      await scene.ask("pause");
      return broken("resume", "resume")(scene);
    },
  },
  hibernate: {
    ...unknownField("hibernate"),
    ...ofSandbox("hibernate"),
    unsupported: NEIGHBOUR,
    driver_failed: broken("hibernate", "capture"),
    storage_exhausted: saving("hibernate", "storage_exhausted"),
    capacity_exhausted: "a checkpoint in memory always has room: test/host/checkpoint",
  },
  wake: {
    ...unknownField("wake"),
    ...ofSandbox("wake"),
    ...made,
    unsupported: NEIGHBOUR,
    create_timeout: "a wake waits for room as long as the engine does: test/engine",
    storage_exhausted: "what it needs is on disk already",
    driver_failed: async (scene) => {
      await scene.ask("hibernate");
      return broken("wake", "load")(scene);
    },
    cancelled: "the client that would be told is the one that left",
    snapshot_invalid: "images in memory are never damaged: test/snapshot",
  },
  network: { ...notFound("network"), ...TOLD, unsupported: NEIGHBOUR },
  setNetwork: {
    ...unknownField("setNetwork"),
    ...ofSandbox("setNetwork", { egress: { mode: "none" } }),
    host_unsupported: (scene) => scene.ask("setNetwork"),
    driver_failed: "rules in memory are always taken: test/engine/network",
    unsupported: NEIGHBOUR,
  },
  networkLog: { ...notFound("networkLog"), ...TOLD, unsupported: NEIGHBOUR },
  snapshot: {
    ...unknownField("snapshot"),
    ...ofSandbox("snapshot"),
    unsupported: NEIGHBOUR,
    storage_exhausted: saving("snapshot", "storage_exhausted"),
    capacity_exhausted: "a checkpoint in memory always has room: test/host/checkpoint",
    driver_failed: broken("snapshot", "capture"),
    guest_unresponsive: QUICK,
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
    snapshot_invalid: "snapshots in memory are never damaged: test/snapshot",
    storage_exhausted: "snapshots in memory take no room: test/snapshot",
  },
  templates: {},
  bake: {
    ...unknownField("bake"),
    template_not_found: (scene) => scene.ask("bake", { name: "nothing" }),
    bake_failed: "bakes in memory never fail: test/template",
    storage_exhausted: "the same",
    host_unsupported: "the same",
  },
  removeTemplate: { template_not_found: (scene) => scene.ask("removeTemplate", { name: "nothing" }) },
  template: { template_not_found: (scene) => scene.ask("template", { name: "nothing" }) },
  createVolume: {
    ...unknownField("createVolume"),
    already_exists: async (scene) => {
      await scene.ask("createVolume");
      return scene.ask("createVolume");
    },
    storage_exhausted: VOLUME_SPACE,
    capacity_exhausted: VOLUME_SPACE,
    host_unsupported: VOLUME_SPACE,
  },
  volumes: {},
  getVolume: { ...unknownField("getVolume"), ...notFound("getVolume") },
  resizeVolume: {
    ...unknownField("resizeVolume"),
    not_found: (scene) => scene.ask("resizeVolume", { name: "none" }),
    storage_exhausted: VOLUME_SPACE,
    driver_failed: async (scene) => {
      await volume(scene);
      scene.broken("grow");
      return scene.ask("resizeVolume", { name: "vol" });
    },
    sandbox_lost: "its end during the call: test/engine/volumes",
    unsupported: NEIGHBOUR,
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
    unsupported: NEIGHBOUR,
    volume_in_use: async (scene) => {
      await volume(scene);
      const other = (await scene.post("/v1/sandboxes", {}))["id"];
      return scene.ask("attachVolume", { id: other });
    },
    storage_exhausted: VOLUME_SPACE,
    driver_failed: async (scene) => {
      await scene.ask("createVolume");
      return broken("attachVolume", "insert")(scene);
    },
    guest_unresponsive: QUICK,
  },
  detachVolume: {
    ...unknownField("detachVolume"),
    ...ofSandbox("detachVolume"),
    unsupported: NEIGHBOUR,
    volume_in_use: "needs a program that keeps a file of it open: test/vm/engine/volumes",
    driver_failed: async (scene) => {
      await volume(scene);
      scene.broken("eject");
      return scene.ask("detachVolume", { name: "vol" });
    },
    guest_unresponsive: QUICK,
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
