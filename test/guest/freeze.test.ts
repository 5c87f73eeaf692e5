/** Freezing under the real agent, as a process of this machine with an ext4 of its own: writers wait, the agent never does. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isWarrenError } from "../../src/errors.ts";
import type { GuestAgent } from "../../src/guest/agent.ts";
import { encodeFrame, type Frame, FrameDecoder } from "../../src/guest/codec.ts";
import { encodeFields } from "../../src/guest/fields.ts";
import { ASK, SAY, TAG } from "../../src/guest/protocol.ts";
import { gate } from "../harness/gates.ts";
import { until } from "../harness/until.ts";
import { type AgentProcess, BUILD_MS, binaries, type ConnectedAgent, connectAgent, startAgent } from "./process.ts";

/** An ext4 without a name anywhere else: it is gone with the last process of its mount namespace. */
const MOUNTED =
  'truncate -s 8M "$1" && mke2fs -q -F -t ext4 "$1" && mount -o loop,noatime "$1" "$2" && shift 2 && exec "$@"';

/** The agent's process below `unshare` and `sh`, which become it. */
function stateOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[0] ?? "";
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** Frames by hand over one connection. */
class Talk {
  readonly #agent: AgentProcess;
  readonly #heard: Frame[] = [];

  constructor(agent: AgentProcess) {
    this.#agent = agent;
    void this.#listen();
  }

  async #listen(): Promise<void> {
    const decoder = new FrameDecoder();
    for await (const chunk of this.#agent.link.bytes) this.#heard.push(...decoder.push(chunk));
  }

  /** Asks, and waits for the answer of this type. */
  async ask(type: number, channel: number, wanted: number, payload: Uint8Array = new Uint8Array(0)): Promise<Frame> {
    await this.#agent.link.write(encodeFrame(type, channel, payload));
    return this.answer(channel, wanted);
  }

  async answer(channel: number, wanted: number): Promise<Frame> {
    const find = () => this.#heard.findIndex((frame) => frame.channel === channel && frame.type === wanted);
    await until(`an answer ${wanted} on channel ${channel}`, () => find() >= 0);
    return this.#heard.splice(find(), 1)[0] as Frame;
  }

  say(type: number, channel: number): Promise<void> {
    return this.#agent.link.write(encodeFrame(type, channel));
  }
}

/** A command that writes to the file system: its pid, and its end. */
async function writer(agent: GuestAgent, path: string): Promise<{ pid: number; ended: Promise<number | null> }> {
  const events = agent.exec({ argv: ["/bin/sh", "-c", 'echo >> "$0"', path], cwd: "/", timeoutSeconds: 30 });
  const first = await events.next();
  if (first.value?.kind !== "started") throw new Error("it did not start");
  const rest = async (): Promise<number | null> => {
    for await (const event of events) if (event.kind === "exit") return event.exitCode;
    return null;
  };
  return { pid: first.value.pid, ended: rest() };
}

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);

  const home = mkdtempSync(join(tmpdir(), "warren-freeze-"));
  const disk = join(home, "disk");
  mkdirSync(disk);
  const prefix = ["unshare", "--mount", "sh", "-ec", MOUNTED, "sh", join(home, "image"), disk];
  const start = (): Promise<ConnectedAgent> => connectAgent(["--freeze", disk], prefix);
  const file = join(disk, "f");
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  describe("Freezing", () => {
    test("Freezing makes writers wait until it is over, and the agent answers meanwhile", async () => {
      await using it = await start();
      await it.agent.freeze();
      const { pid, ended } = await writer(it.agent, file);
      await until("the writer waits", () => stateOf(pid) === "D");
      await it.agent.ping();
      expect((await it.agent.processes()).map((process) => process.running)).toEqual([true]);
      expect(await it.agent.listDirectory({ path: disk })).toHaveLength(1);
      expect(stateOf(pid)).toBe("D");
      expect(await it.agent.thaw()).toBe(true);
      expect(await ended).toBe(0);
      expect(await it.agent.thaw()).toBe(false);
    });

    test("Freezing holds what the agent itself would write, and does it afterwards in its order", async () => {
      await using it = await start();
      const { agent } = it;
      const slow = Promise.withResolvers<void>();
      const streamed = agent.writeFile({
        path: join(disk, "streamed"),
        body: (async function* () {
          yield new Uint8Array(200_000).fill(1);
          await slow.promise;
          yield new Uint8Array(200_000).fill(2);
        })(),
      });
      await agent.freeze();
      slow.resolve();
      const jobs = [
        agent.mkdir({ path: join(disk, "d") }),
        agent.rename({ path: join(disk, "d"), to: join(disk, "e") }),
        agent.chmod({ path: join(disk, "e"), mode: 0o700 }),
        agent.writeFile({ path: join(disk, "e", "whole"), body: "text" }),
      ];
      const abort = new AbortController();
      // Whether it comes too late or not: its answer comes, and nothing else waits for it.
      const cancelled = agent.mkdir({ path: join(disk, "never") }).catch(() => undefined);
      abort.abort();
      await agent.ping();
      expect((await agent.listDirectory({ path: disk })).map(({ name }) => name)).not.toContain("e");
      expect(await agent.thaw()).toBe(true);
      await Promise.all([...jobs, streamed, cancelled]);
      expect((await agent.stat({ path: join(disk, "streamed") })).size).toBe(400_000);
      expect(await agent.stat({ path: join(disk, "e") })).toMatchObject({ type: "directory", mode: 0o700 });
      expect((await agent.stat({ path: join(disk, "e", "whole") })).size).toBe(4);
    });

    test("Freezing twice at once is refused, and fifty times in a row is fine", async () => {
      await using it = await start();
      await it.agent.freeze();
      const error = await it.agent.freeze().catch((cause: unknown) => cause);
      expect(isWarrenError(error) && [error.code, error.details["errno"]]).toEqual(["wrong_state", "EALREADY"]);
      expect(await it.agent.thaw()).toBe(true);
      for (let i = 0; i < 50; i++) {
        await it.agent.freeze();
        expect(await it.agent.thaw()).toBe(true);
      }
      expect(await (await writer(it.agent, file)).ended).toBe(0);
    });

    test("Freezing is over when whoever holds it is killed", async () => {
      await using it = await start();
      await it.agent.freeze();
      const { pid, ended } = await writer(it.agent, file);
      await until("the writer waits", () => stateOf(pid) === "D");
      for (const child of childrenOf(it.process.pid)) if (child !== pid) process.kill(child, "SIGKILL");
      expect(await ended).toBe(0);
      expect(await it.agent.thaw()).toBe(false);
    });

    for (const [name, type] of [
      ["cancelled, even after its answer", ASK.CANCEL],
      ["under another host, which greets first", ASK.HELLO],
    ] as const) {
      test(`Freezing is over when it is ${name}`, async () => {
        const running = await startAgent(["--freeze", disk], prefix);
        try {
          const talk = new Talk(running);
          await talk.ask(ASK.FREEZE, 1, SAY.DONE);
          if (type === ASK.CANCEL) await talk.say(type, 1);
          else await talk.ask(type, 2, SAY.HELLO, encodeFields([[TAG.VERSION, 1]]));
          // Held until then, or done at once: either way it ends.
          const path = encodeFields([[TAG.PATH, join(disk, "d")]]);
          await talk.ask(ASK.MKDIR, 3, SAY.DONE, path);
          const { payload } = await talk.ask(ASK.THAW, 4, SAY.DONE);
          expect(payload).toEqual(encodeFields([[TAG.FLAGS, 0]]));
        } finally {
          await running.end();
        }
        expect([await running.exited, await running.stderr]).toEqual([0, ""]);
      });
    }
  });
}
