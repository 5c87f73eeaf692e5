/** The store suite, over every store that there is. */

import { MemoryStore } from "../harness/stores/memory-store.ts";
import { storeSuite } from "../suites/store.ts";
import { onBothEngines } from "./world.ts";

storeSuite(
  "memory",
  async () => {
    const store = new MemoryStore();
    return { store, second: null, meter: null, close: () => store[Symbol.asyncDispose]() };
  },
  { meter: "the memory of tests keeps no meters" },
);

onBothEngines(storeSuite);
