/** Instants that charges are made of: nothing runs before it did, to the millisecond that is counted, or after it was to stand still. */
import { expect, test } from "bun:test";
import { createLog } from "../../src/base/log.ts";
import type { Move } from "../../src/contract/move.ts";
import { ServerMoves } from "../../src/server/moves.ts";
import { missedMove, NO_FACTS } from "../../src/server/time/facts.ts";
import { FakeClock } from "../harness/clock.ts";
import { TruthWorld } from "./truth-world.ts";

const SIZE = { template: "base", cpu: 1, memoryMib: 512 };

test("What begins to run is charged from the next whole millisecond, as instants are rounded down", () => {
  let tell: (move: Move) => void = () => undefined;
  const told: Move[] = [];
  using moves = new ServerMoves({
    moves: {
      subscribe: (listener) => {
        tell = listener;
        return () => undefined;
      },
    },
    storage: { subscribe: () => () => undefined },
    infoOf: async () => null,
    facts: NO_FACTS,
    clock: new FakeClock(),
    log: createLog("error"),
  });
  moves.subscribe((move) => told.push(move));
  const move = { sandbox: "sb", account: "a", ...SIZE, reason: null };
  const at = (monotonicMs: number) => ({ monotonicMs, wallMs: 5000.25 + monotonicMs });
  tell({ ...move, sequence: 1, from: null, to: "creating", event: "created", ...at(10.25) });
  tell({ ...move, sequence: 2, from: "creating", to: "running", event: "booted", ...at(20.5) });
  tell({ ...move, sequence: 3, from: "running", to: "stopping", event: "close", ...at(20.6) });
  const axisMs = 5000.25;
  expect(told.map(({ monotonicMs }) => monotonicMs)).toEqual([10.25 + axisMs, 5021, 5021]);
});

test("A first run that the database missed is told in the same way", () => {
  const time = { axisMs: 5000.25, resumedMs: 20.5, movedMs: 20.5, endsMs: null, cpuBeforeMs: null };
  const info = { template: "base", cpu: 1, memoryMb: 512 } as Parameters<typeof missedMove>[0]["info"];
  const missed = missedMove({ id: "sb", account: "a", info, hostBootId: "boot", time, end: null }, null);
  expect(missed?.monotonicMs).toBe(5021);
});

test("A pause counts from when it was asked for, however long the VMM takes for it", async () => {
  const world = new TruthWorld({ accounts: true });
  await world.start();
  const { id } = await world.host.create({ detached: true });
  const machine = world.machine(id);
  if (machine === undefined) throw new Error("it has no machine");
  const really = machine.pause.bind(machine);
  machine.pause = async (signal?: AbortSignal) => {
    await world.clock.sleep(78);
    await really(signal);
  };
  await world.clock.advance(1000);
  const pausing = world.host.pause({ id });
  await world.clock.advance(500);
  await pausing;
  await world.host.close({ id });
  await world.clock.advance(500);
  expect(world.billedMs(id)).toBe(1000);
});
