/** The same store, with each round trip counted. */
import type { Clock } from "../../../base/clock.ts";
import type { Store } from "../../store.ts";

/** Methods that ask nothing of the database. */
const LOCAL: ReadonlySet<PropertyKey> = new Set(["onKeysChanged", "constructor", "then"]);

export function countedStore(
  store: Store,
  clock: Clock,
  count: (method: string, isOk: boolean, ms: number) => void,
): Store {
  const counted = new Map<PropertyKey, (...given: unknown[]) => unknown>();
  const wrap = (name: string, method: (...given: unknown[]) => unknown) => {
    const own = async (...given: unknown[]): Promise<unknown> => {
      const startMs = clock.monotonicMs();
      let isOk = false;
      try {
        const result = await method.apply(store, given);
        isOk = true;
        return result;
      } finally {
        count(name, isOk, clock.monotonicMs() - startMs);
      }
    };
    counted.set(name, own);
    return own;
  };
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      const method = value as (...given: unknown[]) => unknown;
      if (typeof name !== "string" || LOCAL.has(name)) return method.bind(target);
      return counted.get(name) ?? wrap(name, method);
    },
  });
}
