/** A file larger than the memory that a server may need passes through it, with PostgreSQL behind. */
import { expect, test } from "bun:test";
import { connect } from "../../../src/client.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { throughServer } from "../../bench/serve/large.ts";
import { gate } from "../../harness/gates.ts";
import { withPostgres } from "./with-postgres.ts";

/** Resident, at its highest: what a server holds of itself and a window of what passes. */
const MOST_MIB = 256;
/** More than that, so that a server which held the file would be seen; the recorded run moves 2 GiB where the channel can. */
const FILE_MIB = Number(process.env["LARGE_MIB"] ?? 320);

if (gate("root", "vm", "postgres")) {
  const served = withPostgres();

  test(`A file of ${FILE_MIB} MiB passes a server up and down, which never has ${MOST_MIB} MiB resident`, async () => {
    await using box = await Sandbox.create(
      { ttlSeconds: 900 },
      connect({ url: served.server.url, key: served.server.key }).host,
    );
    const moved = await throughServer(served.server, box.id, FILE_MIB);
    console.log(JSON.stringify(moved));
    expect(moved.peakMib).toBeLessThan(MOST_MIB);
  }, 600_000);
}
