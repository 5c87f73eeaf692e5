/** Steps of a sandbox's life: those that the store has, those that it will have, and those to come, each once and in order. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SandboxEvents } from "../../../src/api/edge/events.ts";
import { createEdge } from "../../../src/api/edge/index.ts";
import { RecentMoves } from "../../../src/api/edge/moves.ts";
import type { Move } from "../../../src/contract/move.ts";
import { FakeClock, settle } from "../../harness/clock.ts";
import { MemoryStore } from "../../harness/stores/memory-store.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";

function move(sequence: number, to: Move["to"] = "running", from: Move["from"] = "running"): Move {
  return {
    ...{ sandbox: "sb_a", account: "acme", template: "base", cpu: 1, memoryMib: 512, sequence, from, to },
    ...{ event: "x", reason: null, monotonicMs: sequence, wallMs: 1000 + sequence },
  };
}

test("SandboxEvents.follow gives every step once, in order, wherever the store and the reader are", async () => {
  // A move is made, or the store gets what it lacks, or the reader takes one, or comes only now.
  const step = fc.constantFrom("move", "move", "store", "read", "read", "open");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), async (steps, tail) => {
      const clock = new FakeClock();
      const [store, recent] = [new MemoryStore(), new RecentMoves(clock)];
      const events = new SandboxEvents(store, recent);
      const made: Move[] = [];
      const got: number[] = [];
      let stored = 0;
      let reader: AsyncGenerator<{ readonly sequence: number }> | null = null;
      let isReading = false;
      let first = 0;
      const make = (to: Move["to"] = "running") => {
        const one = move(made.length + 1, to);
        made.push(one);
        recent.take(one);
      };
      const write = async () => {
        await store.record(made.slice(stored));
        stored = made.length;
      };
      const open = async () => {
        if (reader !== null || made.length === 0) return;
        const last = (await events.last("acme", "sb_a", tail)) ?? [];
        first = last[0]?.sequence ?? 0;
        expect(last.map(({ sequence }) => sequence)).toEqual(made.slice(-tail).map(({ sequence }) => sequence));
        reader = events.follow("acme", "sb_a", last, new AbortController().signal);
      };
      const read = async () => {
        if (reader === null) return;
        if (!isReading) {
          isReading = true;
          void reader.next().then(({ done, value }) => {
            if (done !== true) got.push(value.sequence);
            isReading = false;
          });
        }
        await settle();
      };
      for (const what of steps) {
        if (what === "move") make();
        else if (what === "store") await write();
        else if (what === "open") await open();
        else if (what === "read") await read();
      }
      make("deleted");
      await open();
      await write();
      for (let i = 0; i <= made.length + 1; i++) await read();
      expect(got).toEqual(made.map(({ sequence }) => sequence).filter((sequence) => sequence >= first));
      expect(await (reader as unknown as AsyncGenerator).next()).toMatchObject({ done: true });
    }),
    { numRuns: 150 },
  );
});

test("SandboxEvents.follow fetches from the store what a slow reader was not there for", async () => {
  const [store, recent] = [new MemoryStore(), new RecentMoves(new FakeClock())];
  const events = new SandboxEvents(store, recent);
  const make = async (one: Move) => {
    recent.take(one);
    await store.record([one]);
  };
  await make(move(1, "running", null));
  const reader = events.follow(
    "acme",
    "sb_a",
    (await events.last("acme", "sb_a", 10)) ?? [],
    new AbortController().signal,
  );
  expect((await reader.next()).value?.sequence).toBe(1);
  for (let i = 2; i <= 500; i++) await make(move(i));
  await make(move(501, "deleted"));
  const rest = await Array.fromAsync(reader);
  expect(rest.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 500 }, (_, i) => i + 2));
});

test("RecentMoves forgets a sandbox that ended, and knows whose the others are", async () => {
  const clock = new FakeClock();
  const recent = new RecentMoves(clock);
  recent.take(move(1, "creating", null));
  expect([recent.ownerOf("sb_a"), recent.ownerOf("sb_b"), [...recent.states()]]).toEqual([
    "acme",
    null,
    [["creating", 1]],
  ]);
  recent.take(move(2, "deleted"));
  expect([recent.ownerOf("sb_a"), recent.of("acme", "sb_a").length, recent.of("other", "sb_a").length]).toEqual([
    null,
    2,
    0,
  ]);
  await clock.advance(200_000);
  expect(recent.of("acme", "sb_a")).toEqual([]);
});

describe("GET …/events", () => {
  const sandbox = async (api: Api) =>
    ((await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string }).id;
  const types = (list: unknown) => (list as { to: string }[]).map(({ to }) => to);

  test("is a list for who asks for JSON, and events for everyone else, also after the end", async () => {
    await using api = await Api.start({ edge: createEdge });
    const id = await sandbox(api);
    const path = `/v1/sandboxes/${id}/events`;
    const headers = { accept: "application/json" };
    const listed = await api.call("GET", path, undefined, { headers });
    expect(types(listed.body)).toEqual(["creating", "running"]);
    expect(listed.body).toMatchObject([{ sequence: 1, type: "created", from: null }, { sequence: 2 }]);
    await api.raw("DELETE", `/v1/sandboxes/${id}`);
    await until(
      "it is over",
      async () => types((await api.call("GET", path, undefined, { headers })).body).at(-1) === "deleted",
    );
    expect(types((await api.call("GET", `${path}?tail=1`, undefined, { headers })).body)).toEqual(["deleted"]);
    const streamed = await (await api.raw("GET", path)).text();
    expect([...streamed.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? "").sequence)).toEqual([
      1, 2, 3, 4,
    ]);
    expect((await api.raw("GET", `${path}?tail=0`, { headers })).status).toBe(400);
    expect((await api.raw("GET", "/v1/sandboxes/sb_none/events", { headers })).status).toBe(404);
    expect((await api.raw("GET", path, { headers, key: await api.key("stranger") })).status).toBe(404);
    expect((await api.raw("GET", path, { headers, key: null })).status).toBe(401);
  });

  test("follows until the sandbox has ended", async () => {
    await using api = await Api.start({ edge: createEdge });
    const id = await sandbox(api);
    const response = await api.raw("GET", `/v1/sandboxes/${id}/events?follow=1&tail=1`);
    let heard = "";
    const reading = (async () => {
      for await (const piece of response.body as ReadableStream<Uint8Array>) heard += new TextDecoder().decode(piece);
    })();
    await until("the last step is there", () => heard.includes('"running"'));
    await api.raw("POST", `/v1/sandboxes/${id}/pause`);
    await until("the next is there", () => heard.includes('"paused"'));
    await api.raw("DELETE", `/v1/sandboxes/${id}`);
    await reading;
    expect([...heard.matchAll(/"to":"(\w+)"/g)].map(([, to]) => to)).toEqual([
      "running",
      "paused",
      "stopping",
      "deleted",
    ]);
  });
});
