/** The books suite, over both engines. */
import { booksSuite } from "../suites/store/books.ts";
import { onBothEngines } from "./world.ts";

onBothEngines(booksSuite);
