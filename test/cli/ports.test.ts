/** `warren ports` and `warren port-forward` over fakes of one machine; each command is another process of it. */
import { beforeEach, describe, expect, test } from "bun:test";
import { EXIT_BY_FAULT } from "../../src/cli/exits.ts";
import { World } from "../harness/fakes.ts";
import { until } from "../harness/until.ts";
import { FakeIo } from "./fake-io.ts";

let world: World;
beforeEach(() => {
  world = new World();
});

function process(): FakeIo {
  const open = async () => {
    const engine = world.engine();
    return {
      host: engine.as("local"),
      moves: () => () => undefined,
      cores: 2,
      memoryMib: () => null,
      [Symbol.asyncDispose]: () => world.end(engine),
    };
  };
  return new FakeIo({ ground: { open } });
}

async function warren(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = process();
  const code = await io.run(...args);
  return { code, out: io.text("out"), err: io.text("err") };
}

/** A detached sandbox in which an echo server listens. */
async function serving(port: number): Promise<string> {
  const id = (await warren("create")).out.trim();
  const engine = world.engine();
  const started = await engine.as("local").exec({ id, cmd: `echo-server ${port}`, background: true });
  for await (const _ of started) void _;
  await world.end(engine);
  return id;
}

/** What a TCP server on this host says to `text`. */
function asked(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = "";
    const socket = {
      open: (s: Bun.Socket) => void s.write(text),
      data: (s: Bun.Socket, chunk: Uint8Array) => {
        heard += new TextDecoder().decode(chunk);
        if (heard.length >= text.length) s.end();
      },
      close: () => resolve(heard),
      error: (_: Bun.Socket, error: Error) => reject(error),
    };
    Bun.connect({ hostname: "127.0.0.1", port, socket }).catch(reject);
  });
}

describe("warren ports", () => {
  test("warren ports lists what listens, also as JSON, and says when nothing does", async () => {
    const id = await serving(8000);
    const { code, out } = await warren("ports", id);
    expect([code, out]).toEqual([0, "PORT  ADDRESS    PROTOCOL\n8000  127.0.0.1  tcp\n"]);
    expect(JSON.parse((await warren("ports", "--json", id)).out)).toEqual([
      { port: 8000, address: "127.0.0.1", protocol: "tcp" },
    ]);
    const silent = (await warren("create")).out.trim();
    expect(await warren("ports", silent)).toEqual({
      code: 0,
      out: "",
      err: `warren: no program of sandbox ${silent} listens on a TCP port\n`,
    });
    expect((await warren("ports", "sb_none")).code).toBe(EXIT_BY_FAULT.caller);
    await warren("rm", "--all");
  });
});

describe("warren port-forward", () => {
  test("warren port-forward leads to a sandbox that another process made, until Ctrl-C", async () => {
    const id = await serving(8000);
    const io = process();
    const ended = io.run("port-forward", id, "0:8000", "0:8000", "--json");
    await until("it says where", () => io.text("out") !== "");
    const { sandbox, forwards } = JSON.parse(io.text("out")) as {
      sandbox: string;
      forwards: { hostname: string; hostPort: number; port: number }[];
    };
    expect([sandbox, forwards.length]).toEqual([id, 2]);
    for (const { hostname, hostPort, port } of forwards) {
      expect([hostname, port]).toEqual(["127.0.0.1", 8000]);
      expect(await asked(hostPort, "through the command line")).toBe("through the command line");
    }
    io.interrupt();
    expect([await ended, io.text("err")]).toEqual([0, ""]);
    await expect(asked(forwards[0]?.hostPort ?? 0, "x")).rejects.toThrow();
    await warren("rm", "--all");
  });

  test("warren port-forward says once what a client cannot be told, and goes on", async () => {
    const id = await serving(8000);
    const io = process();
    const ended = io.run("port-forward", id, "0:81");
    await until("it says where", () => io.text("out") !== "");
    expect(io.text("out")).toEndWith(` leads to port 81 of ${id}\n`);
    const hostPort = Number(/:(\d+) leads/.exec(io.text("out"))?.[1]);
    for (let i = 0; i < 3; i++) await asked(hostPort, "x").catch(() => ""); // it is reset, or ends: both is the point
    await until("it has been said", () => io.text("err") !== "");
    expect(io.text("err")).toBe(`warren: nothing listens on port 81 of sandbox ${id}: it listens on 8000\n`);
    io.interrupt();
    expect(await ended).toBe(0);
    await warren("rm", "--all");
  });

  test("warren port-forward ends when its sandbox has", async () => {
    const id = await serving(8000);
    const io = process();
    const ended = io.run("port-forward", id, "0:8000");
    await until("it says where", () => io.text("out") !== "");
    await warren("rm", id);
    const hostPort = Number(/:(\d+) leads/.exec(io.text("out"))?.[1]);
    await asked(hostPort, "x").catch(() => ""); // as above
    expect(await ended).not.toBe(0);
    expect(io.text("err")).toContain(id);
  });

  test("warren port-forward says what is wrong with a call, and what to do", async () => {
    const id = await serving(8000);
    for (const wrong of ["0", "x", "8000:", "1:2:3", "70000", "8000:0", "70000:80"])
      expect((await warren("port-forward", id, wrong)).err).toContain("PORT or HOSTPORT:PORT");
    using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    const { code, err } = await warren("port-forward", id, `${taken.port}:8000`);
    expect(code).toBe(EXIT_BY_FAULT.caller);
    expect(err).toContain("is in use on this host: choose another port, or 0 for a free one");
    expect((await warren("port-forward", "sb_none", "80")).code).toBe(EXIT_BY_FAULT.caller);
    const open = process();
    const ended = open.run("port-forward", id, "0:8000", "--address", "0.0.0.0");
    await until("it warns", () => open.text("err") !== "");
    expect(open.text("err")).toContain("whoever reaches 0.0.0.0 of this host");
    open.interrupt();
    await ended;
    await warren("rm", "--all");
  });
});
