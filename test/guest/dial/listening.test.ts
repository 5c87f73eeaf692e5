/** Listening ports out of a guest's own tables, which may hold anything. */
import { expect, test } from "bun:test";
import { WarrenError } from "../../../src/errors.ts";
import { listening, parseTable } from "../../../src/guest/dial/listening.ts";

test("A table of sockets is read strictly: what is no line of it is skipped", () => {
  const line = (local: string, state = "0A") =>
    `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0`;
  const table = [
    "  sl  local_address rem_address   st tx_queue",
    line("0100007F:1F90"),
    line("00000000:0016"),
    line("0100007F:1F91", "01"),
    line("0100007F:0000"),
    line("0100007F:1F9"),
    line("0100007f:1F90"),
    line("00000000000000000000000001000000:0BB8"),
    line("0000000000000000FFFF00000100007F:0BB9"),
    "x".repeat(10_000),
    "",
  ].join("\n");
  expect(parseTable(table)).toEqual([
    { port: 8080, address: "127.0.0.1", protocol: "tcp" },
    { port: 22, address: "0.0.0.0", protocol: "tcp" },
    { port: 3000, address: "::1", protocol: "tcp" },
    { port: 3001, address: "127.0.0.1", protocol: "tcp" },
  ]);
});

test("A guest's table is read up to a bound, and one that is not there is empty", async () => {
  let read = 0;
  const endless = async function* (path: string) {
    if (path.endsWith("6")) throw new WarrenError("file_not_found", `${path} does not exist`);
    for (;;) {
      read += 65_536;
      yield new Uint8Array(65_536).fill(0x30);
    }
  };
  expect(await listening(endless)).toEqual([]);
  expect(read).toBe(4 * 1024 * 1024);
});
