/** Netlink messages byte by byte, what a failure names, and answers that are not what they say they are. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { NativeError } from "../../../ffi/native.ts";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { Attributes, attributeList, messages } from "../../../src/host/net/answer.ts";
import { closedMessages } from "../../../src/host/net/closed.ts";
import { Netlink, NLM_F_ACK, NLM_F_CREATE } from "../../../src/host/net/message.ts";
import { slotAddresses } from "../../../src/host/net/plan.ts";
import { readLink, readLinks } from "../../../src/host/net/read.ts";
import { setForwarding, up } from "../../../src/host/net/route.ts";
import { inNamespace } from "./unshared.ts";

describe("A message", () => {
  test("is a header, fields and attributes, each padded to four bytes", () => {
    const nl = new Netlink(-1);
    nl.begin("x", 16, NLM_F_CREATE).u8(1).u8(2).be16(0x0304).u32(5).attrText(3, "eth0").attr8(7, 9);
    nl.nest(18, () => void nl.attrBe32(1, 0x01020304).attrFlag(2)).end();
    const { bytes } = nl.written();
    const view = new DataView(bytes.buffer);
    expect([view.getUint32(0, true), bytes.length]).toEqual([60, 60]);
    expect([view.getUint16(4, true), view.getUint16(6, true)]).toEqual([16, 0x401]);
    expect([...bytes.subarray(16)]).toEqual([
      ...[1, 2, 3, 4, 5, 0, 0, 0],
      ...[9, 0, 3, 0, 101, 116, 104, 48, 0, 0, 0, 0],
      ...[5, 0, 7, 0, 9, 0, 0, 0],
      ...[16, 0, 18, 0x80, 8, 0, 1, 0, 1, 2, 3, 4, 4, 0, 2, 0],
    ]);
    nl.drop();
  });

  test("that was written once is sent again under a number of its own, with its errors under its own name", () => {
    const nl = new Netlink(-1);
    nl.begin("one", 16).u32(1).end().begin("two", 17, NLM_F_ACK).u32(2).end();
    const once = nl.written();
    nl.drop();
    const { bytes, about } = new Netlink(-1).begin("zero", 15).end().again(once).written();
    expect(about).toEqual(["zero", "one", "two"]);
    const [zero, one, two, ...more] = messages(bytes);
    expect([zero!.type, one!.type, two!.type, more.length]).toEqual([15, 16, 17, 0]);
    expect([one!.sequence - zero!.sequence, two!.sequence - one!.sequence]).toEqual([1, 1]);
    expect([one!.body, two!.body]).toEqual(messages(once.bytes).map(({ body }) => body));
  });

  test("refuses a number that does not fit its field", () => {
    const nl = new Netlink(-1);
    nl.begin("x", 16);
    for (const wrong of [-1, 256, 1.5, Number.NaN]) expect(() => nl.attr8(1, wrong)).toThrow(RangeError);
    expect(() => nl.attr32(1, 2 ** 32)).toThrow(RangeError);
    nl.drop();
  });

  test("refuses an attribute of more than 64 KiB, and a batch of more than it has room for", () => {
    const nl = new Netlink(-1);
    nl.begin("x", 16);
    const piece = new Uint8Array(32_768);
    expect(() => nl.nest(1, () => void nl.attrBytes(1, piece).attrBytes(1, piece))).toThrow(RangeError);
    expect(() => nl.attrBytes(1, piece).attrBytes(1, piece).attrBytes(1, piece)).toThrow(RangeError);
    nl.drop();
  });

  test("has an end before the next one begins, and before it is sent", () => {
    const nl = new Netlink(-1);
    nl.begin("first", 16);
    expect(() => nl.begin("second", 16)).toThrow("first has no end");
    expect(() => nl.flush()).toThrow("first has no end");
    nl.drop();
    expect(() => nl.end()).toThrow("no message was begun");
    nl.flush(); // of nothing
  });
});

describe("An answer", () => {
  test("of any bytes is taken apart within them, or refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const read = () => {
          for (const { body } of messages(bytes)) {
            const all = new Attributes(body, Math.min(4, body.length));
            for (const { type, value } of attributeList(body)) {
              expect(value.length).toBeLessThanOrEqual(body.length);
              all.u32(type);
              all.be64(type);
              all.text(type);
              all.nested(type);
            }
          }
        };
        try {
          read();
        } catch (error) {
          expect(error).toBeInstanceOf(NativeError);
          expect((error as NativeError).code).toBe("EBADMSG");
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("that is cut off is refused, and one attribute that is too short for its number", () => {
    const cut = Uint8Array.of(12, 0, 1, 0, 1, 2, 3, 4);
    expect(() => new Attributes(cut)).toThrow("EBADMSG");
    const short = new Attributes(Uint8Array.of(6, 0, 1, 0, 1, 2, 0, 0));
    expect(() => short.u32(1)).toThrow("EBADMSG");
    expect([short.u16(1), short.u32(2), short.text(2)]).toEqual([0x0201, null, null]);
  });
});

test("Rules of a slot without a policy are the same in every slot: they are encoded once", () => {
  const bodies = (slot: number) =>
    closedMessages(slotAddresses(slot)).map(({ bytes, about }) => [about, messages(bytes).map(({ body }) => body)]);
  expect(bodies(4711)).toEqual(bodies(0));
  expect(bodies(0).length).toBe(2);
});

inNamespace(import.meta.path, () => {
  test("A message that is sent again fails under its own name", () => {
    const nl = new Netlink(openNetlink(NETLINK_ROUTE));
    setForwarding(nl, "nowhere", true);
    const once = nl.written();
    nl.drop();
    for (let i = 0; i < 2; i++) expect(() => nl.again(once).flush()).toThrow("ENODEV (forwarding of nowhere)");
    expect(readLink(nl, "lo").name).toBe("lo");
  });

  test("A batch names the first message that fails, and leaves the socket as it was", () => {
    const nl = new Netlink(openNetlink(NETLINK_ROUTE));
    setForwarding(nl, "lo", true);
    setForwarding(nl, "nowhere", true);
    up(nl, { name: "no such", index: 4711 });
    expect(() => nl.flush()).toThrow("ENODEV (forwarding of nowhere)");
    expect(readLink(nl, "lo").forwards).toBe(true); // those before it were done
    for (let i = 0; i < 3; i++) expect(readLinks(nl).some(({ name }) => name === "lo")).toBe(true);
    expect(() => readLink(nl, "nowhere")).toThrow("ENODEV (link nowhere)");
  });

  test("A batch that another socket's began over is dropped, and never sent in its place", () => {
    const [one, two] = [new Netlink(openNetlink(NETLINK_ROUTE)), new Netlink(openNetlink(NETLINK_ROUTE))];
    setForwarding(one, "lo", false);
    setForwarding(two, "lo", true);
    one.flush();
    two.flush();
    expect(readLink(one, "lo").forwards).toBe(true);
  });
});
