/** Exact bytes in a schema: a `Uint8Array` in process; how they travel over HTTP is the API's business. */
import { Type } from "@sinclair/typebox";

export const Bytes = Type.Uint8Array();
