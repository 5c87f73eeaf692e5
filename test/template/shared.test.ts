/** Work that several wait for: who may leave, and what that does to the others. */
import { expect, test } from "bun:test";
import { Shared } from "../../src/template/shared.ts";

function work(): { readonly shared: Shared<string>; readonly done: PromiseWithResolvers<string>; stopped: unknown } {
  const done = Promise.withResolvers<string>();
  const state = { done, stopped: null as unknown };
  const shared = new Shared((signal) => {
    signal.addEventListener("abort", () => {
      state.stopped = signal.reason;
    });
    return done.promise;
  });
  return Object.assign(state, { shared });
}

test("Shared goes on for the others when one leaves, who hears the reason at once", async () => {
  const state = work();
  const leaving = new AbortController();
  const [left, stays] = [state.shared.result(leaving.signal), state.shared.result(new AbortController().signal)];
  leaving.abort("enough");
  expect(await left.catch((reason: unknown) => reason)).toBe("enough");
  expect([state.stopped, state.shared.stopped]).toEqual([null, false]);
  state.done.resolve("made");
  expect(await stays).toBe("made");
});

test("Shared ends with the last who waits, after the work has undone itself", async () => {
  const state = work();
  const leaving = new AbortController();
  const last = state.shared.result(leaving.signal);
  let over = false;
  const told = last.catch((reason: unknown) => reason).finally(() => (over = true));
  leaving.abort("enough");
  await Promise.resolve();
  expect([state.stopped, state.shared.stopped, over]).toEqual(["enough", true, false]);
  state.done.reject("undone");
  expect(await told).toBe("undone");
});

test("Shared is never ended while someone waits who cannot leave", async () => {
  const state = work();
  const leaving = new AbortController();
  const [left, stays] = [state.shared.result(leaving.signal), state.shared.result()];
  leaving.abort("enough");
  await left.catch(() => "left");
  state.done.resolve("made");
  expect(await stays).toBe("made");
  expect(state.stopped).toBe(null);
});
