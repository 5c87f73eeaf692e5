/** How failures are brought about: an API over fakes with one sandbox in it, and what can befall that. */
import type { TSchema } from "@sinclair/typebox";
import { createEdge } from "../../../src/api/edge/index.ts";
import { type Clock, systemClock } from "../../../src/base/clock.ts";
import type { RowName } from "../../../src/contract/table.ts";
import { wireOf } from "../../../src/contract/wire/wire.ts";
import type { GuestFault } from "../../../src/driver/fake.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { WarrenError } from "../../../src/errors.ts";
import { sample } from "../../harness/arbitrary.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";
import { until } from "../../harness/until.ts";
import { isSocket, request } from "../requests.ts";
import { Api } from "../subject.ts";

const STEP_MS = 10_000;

export interface Told {
  readonly status: number;
  readonly code: unknown;
}

/** What a row needs beside what its schema requires. */
const MORE: { readonly [K in RowName]?: Readonly<Record<string, unknown>> } = {
  exec: { cmd: "true" },
  run: { cmd: "true" },
  rename: { path: "/work/a", to: "/work/b" },
  setNetwork: { egress: { mode: "open" } },
  attachVolume: { name: "vol" },
  createVolume: { name: "vol", size_mb: 16 },
  resizeVolume: { size_mb: 32 },
  signal: { signal: 15 },
  runCode: { code: "1" },
  runCell: { code: "1" },
  runFresh: { code: "1" },
  promoteSnapshot: { name: "mine" },
  createWebhook: { url: "http://127.0.0.1:9/" },
};

export class Scene implements AsyncDisposable {
  readonly api: Api;
  /** The sandbox that there is. */
  readonly id: string;

  private constructor(api: Api, id: string) {
    this.api = api;
    this.id = id;
  }

  static async open(clock: Clock = systemClock): Promise<Scene> {
    const settings = { createWaitMs: clock === systemClock ? 300 : 600_000, webhooksToPrivate: true };
    const api = await Api.start({ edge: createEdge, settings, world: new World(clock) });
    const { body } = await api.call("POST", "/v1/sandboxes", {});
    return new Scene(api, String(body["id"]));
  }

  /** Asks for a row, `fields` in the place of what fits; of a stream, what its error says. */
  async ask(name: RowName, fields: Readonly<Record<string, unknown>> = {}): Promise<Told> {
    const { schema } = wireOf(name).input;
    const whole = { id: this.id, process: 1, context: 1, port: 80, path: "/work/a", name: "base", ...MORE[name] };
    const required = Object.entries(sample(schema as TSchema) as object).filter(([key]) =>
      schema.required?.includes(key),
    );
    const known = Object.entries(whole).filter(([key]) => schema.required?.includes(key) || key in (MORE[name] ?? {}));
    const { method, path, body } = request(name, { ...Object.fromEntries([...required, ...known]), ...fields });
    const headers: Record<string, string> = isSocket(name) ? { upgrade: "websocket", connection: "upgrade" } : {};
    if (name === "dial" && fields["port"] !== 0) return this.#dialed(path);
    const response = await this.api.raw(method, path, { headers, ...(body === null ? {} : { body }) });
    const text = await response.text();
    const event = /event: error\ndata: (.*)\n\n$/.exec(text)?.[1];
    const said = event ?? text;
    const told = said.startsWith("{") ? (JSON.parse(said) as { code?: unknown }) : {};
    return { status: response.status, code: told.code };
  }

  /** A socket that is opened first, and then says what failed. */
  async #dialed(path: string): Promise<Told> {
    const { promise, resolve, reject } = Promise.withResolvers<Told>();
    const headers = { authorization: `Bearer ${this.api.admin}` };
    const socket = new WebSocket(this.api.url.replace("http", "ws") + path, { headers } as never);
    socket.onmessage = ({ data }) => {
      const { code } = JSON.parse(String(data)) as { code?: unknown };
      if (code !== undefined) resolve({ status: 200, code });
    };
    socket.onclose = ({ reason }) => reject(new Error(`closed without an error: ${reason}`));
    return promise.finally(() => socket.close());
  }

  async post(path: string, body: object): Promise<Record<string, unknown>> {
    return (await this.api.call("POST", path, body)).body;
  }

  /** Its sandbox is closed. */
  async closed(): Promise<void> {
    await this.api.raw("DELETE", `/v1/sandboxes/${this.id}`);
  }

  /** Its sandbox's machine dies. */
  async died(): Promise<void> {
    this.api.world.driver.machines.get(this.id)?.die({ reason: "vmm_exit", code: 1 });
    await this.api.engine.as("admin").get({ id: this.id });
  }

  /** Each step of a VMM from now on, or those of this kind, fails. */
  broken(step: string): void {
    this.api.world.driver.hooks = {
      ...this.api.world.driver.hooks,
      vmm: (at) => {
        if (at === step) throw new WarrenError("driver_failed", `provoked at ${step}`);
      },
    };
  }

  /** Templates are opened like this from now on. */
  opening(job: () => void | Promise<void>): void {
    this.api.world.templates.opening = job;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.api.world.driver.hooks = {};
    // A volume is flushed at the end, by a guest that has to answer.
    for (const { guest } of this.api.world.driver.machines.values()) guest.fault = "answer";
    await this.api[Symbol.asyncDispose]();
  }
}

/** Brings one failure about, in a scene of its own. */
export type Provoke = (scene: Scene) => Promise<Told>;
/** Or why it cannot be here. */
export type Way = Provoke | string;
export type Ways<Codes extends ErrorCode> = Readonly<Record<Codes, Way>>;

const failing = (code: ErrorCode) => () => {
  throw new WarrenError(code, "provoked");
};

/** Fails where the template is opened, as the store of templates does. */
export const atTemplate =
  (code: ErrorCode): Provoke =>
  async (scene) => {
    scene.opening(failing(code));
    return scene.ask("create", { cpu: 2 });
  };

/** Of any row with a field that nobody knows. */
export const unknownField = (name: RowName): Ways<"invalid_request"> => ({
  invalid_request: (scene) => scene.ask(name, { no_such_field: 1 }),
});

/** Of any row about a sandbox. */
export const ofSandbox = (
  name: RowName,
  fields: Readonly<Record<string, unknown>> = {},
): Ways<"not_found" | "wrong_state" | "sandbox_lost"> => ({
  not_found: (scene) => scene.ask(name, { ...fields, id: "sb_none" }),
  wrong_state: async (scene) => {
    await scene.closed();
    return scene.ask(name, fields);
  },
  sandbox_lost: async (scene) => {
    await scene.died();
    return scene.ask(name, fields);
  },
});

/** What is asked, while time passes as fast as it can. */
export async function patiently(clock: FakeClock, asked: Promise<Told>): Promise<Told> {
  let over = false;
  const end = (): void => {
    over = true;
  };
  asked.then(end, end);
  await until("an answer", async () => {
    if (!over) await clock.advance(STEP_MS);
    return over;
  });
  return asked;
}

/** What the guest does from now on instead of answering, and those that are made from now on. */
function misbehaving(scene: Scene, fault: GuestFault): void {
  for (const { guest } of scene.api.world.driver.machines.values()) guest.fault = fault;
  scene.api.world.driver.hooks = { guest: () => fault };
}

type Fields = Readonly<Record<string, unknown>>;
type Prepare = (scene: Scene) => Promise<unknown>;

/** Of any row that asks the guest: it says what is no frame. */
export const garbage =
  (name: RowName, fields: Fields = {}, prepare?: Prepare): Provoke =>
  async (scene) => {
    await prepare?.(scene);
    misbehaving(scene, "garbage");
    return scene.ask(name, fields);
  };

/** In a scene whose clock is moved until there is an answer. */
export const waited =
  (name: RowName, fields: Fields, prepare: (scene: Scene) => unknown): Provoke =>
  async () => {
    const clock = new FakeClock();
    await using scene = await Scene.open(clock);
    await prepare(scene);
    return await patiently(clock, scene.ask(name, fields));
  };

/** Of any row that asks the guest: it hangs. */
export const hung = (name: RowName, fields: Fields = {}, prepare?: Prepare): Provoke =>
  waited(name, fields, async (scene) => {
    await prepare?.(scene);
    misbehaving(scene, "silence");
  });

/** Of a row about a sandbox that another process of the home made: `detached` or not, and from a template that is here, or was. */
export const neighbour =
  (name: RowName, { detached, fields = {} }: { readonly detached: boolean; readonly fields?: Fields }): Provoke =>
  async (scene) => {
    const { world } = scene.api;
    await using maker = new AsyncDisposableStack();
    const engine = world.engine();
    maker.defer(() => engine.close());
    const { id } = await engine.as("admin").create({ detached });
    maker.defer(() => engine.as("admin").close({ id }));
    const record = await world.registry.get(id);
    if (record !== null) await world.registry.put({ ...record, base: null });
    return await scene.ask(name, { ...fields, id });
  };
