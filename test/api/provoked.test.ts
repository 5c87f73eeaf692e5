/** Every failure that a row documents, brought about where fakes can bring it about; why not is said of all others. */
import { provocationTests } from "./provocations/tests.ts";

provocationTests();
