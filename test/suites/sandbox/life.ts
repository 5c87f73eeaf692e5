/** Being made, found, listed, ended. */
import { expect } from "bun:test";
import { Sandbox } from "../../../src/sandbox.ts";
import { until } from "../../harness/until.ts";
import { fails, type Subject } from "./subject.ts";

export function lifeTests({ host, shared, does, detached }: Subject): void {
  does("create fills what was left open, and tells how it went", async () => {
    await using box = await Sandbox.create({ metadata: { owner: "suite" } }, host());
    const info = await box.info();
    expect(info).toMatchObject({ id: box.id, template: "base", cpu: 1, state: "running", reason: null });
    expect(info).toMatchObject({ detached, metadata: { owner: "suite" }, expiresAt: null });
    expect(info.memoryMb).toBeGreaterThanOrEqual(128);
    expect(info.createMs).toBeGreaterThan(0);
    expect(["none", "prepared", "ready"]).toContain(info.createPath);
    expect(Number.isNaN(Date.parse(info.createdAt))).toBe(false);
  });

  does("create refuses what does not fit, by the field's name", async () => {
    const memory = await fails("invalid_request", host().create({ memoryMb: 1 }));
    expect(memory.message).toMatch(/memoryMb.*at least 128/);
    expect(memory.details).toMatchObject({ field: "memoryMb" });
    const stray = { vcpu: 2 } as object;
    expect((await fails("invalid_request", host().create(stray))).message).toMatch(/vcpu: not a known field/);
    await fails("invalid_request", host().create({ template: "../base" }));
    await fails("invalid_request", host().create({ ttlSeconds: 0 }));
  });

  does("create of an unknown template says so", async () => {
    expect((await fails("template_not_found", host().create({ template: "nope" }))).message).toContain("nope");
  });

  does("create that was aborted before it began makes nothing", async () => {
    const before = (await host().list({})).length;
    await fails("cancelled", host().create({}, { signal: AbortSignal.abort() }));
    expect((await host().list({})).length).toBe(before);
  });

  does("two sandboxes do not see each other's files", async () => {
    await using other = await Sandbox.create({}, host());
    await shared().files.write("/tmp/mine", "1");
    await fails("file_not_found", other.files.read("/tmp/mine"));
  });

  does("list has it while it lives, newest first, and get finds it", async () => {
    await using box = await Sandbox.create({}, host());
    const listed = await Sandbox.list({}, host());
    const ids = listed.map((info) => info.id);
    expect(ids.indexOf(box.id)).toBeGreaterThanOrEqual(0);
    expect(ids.indexOf(box.id)).toBeLessThan(ids.indexOf(shared().id));
    expect((await Sandbox.list({ limit: 1 }, host())).length).toBe(1);
    expect((await Sandbox.list({ template: "code-interpreter" }, host())).map((i) => i.id)).not.toContain(box.id);
    expect((await Sandbox.connect(box.id, host())).id).toBe(box.id);
    await box.close();
    expect((await Sandbox.list({}, host())).map((info) => info.id)).not.toContain(box.id);
    expect((await Sandbox.list({ state: "deleted" }, host())).map((info) => info.id)).toContain(box.id);
  });

  does("list is narrowed by metadata, and goes on after a page", async () => {
    const metadata = { suite: "pages" };
    const boxes = [await Sandbox.create({ metadata }, host()), await Sandbox.create({ metadata }, host())];
    try {
      const [newest] = await Sandbox.list({ metadata, limit: 1 }, host());
      expect(newest?.id).toBe(boxes[1]?.id ?? "");
      const after = `${newest?.createdAt}/${newest?.id}`;
      expect((await Sandbox.list({ metadata, after }, host())).map(({ id }) => id)).toEqual([boxes[0]?.id ?? ""]);
      expect(await Sandbox.list({ metadata: { suite: "other" } }, host())).toEqual([]);
    } finally {
      for (const box of boxes) await box.close();
    }
  });

  does("a lifetime is read and changed, and holds", async () => {
    await using box = await Sandbox.create({ ttlSeconds: 3600 }, host());
    expect(await box.lifecycle()).toMatchObject({ ttlSeconds: 3600, idleTimeoutSeconds: null });
    const longer = await box.setLifecycle({ ttlSeconds: 7200, idleTimeoutSeconds: 600, persistent: true });
    expect(longer).toMatchObject({ idleTimeoutSeconds: 600, persistent: true });
    expect(longer.ttlSeconds).toBeGreaterThan(7199);
    expect((await box.info()).idle).toEqual({ seconds: 600, action: "hibernate" });
    await box.setLifecycle({ ttlSeconds: 0.3 });
    await until("its end", async () => (await box.info()).state === "deleted");
  });

  does("metrics tell what it uses, and come from a live guest", async () => {
    const told = await shared().metrics();
    expect(told.hostPssBytes ?? 1).toBeGreaterThan(0);
    if (told.guestMemoryTotalBytes !== null) {
      expect(told.guestMemoryAvailableBytes ?? 0).toBeLessThan(told.guestMemoryTotalBytes);
      expect(told.guestDiskFreeBytes ?? 0).toBeLessThan(told.guestDiskTotalBytes ?? 0);
    }
  });

  does("close is idempotent, also at the same time, and get then says deleted", async () => {
    const box = await Sandbox.create({}, host());
    await Promise.all([box.close(), box.close()]);
    await box.close();
    expect(await box.info()).toMatchObject({ state: "deleted", reason: "closed" });
  });

  does("calls to a closed sandbox are refused with its state", async () => {
    const box = await Sandbox.create({}, host());
    await box.close();
    const error = await fails("wrong_state", box.exec("true"));
    expect(error.details).toMatchObject({ id: box.id, state: "deleted" });
    expect(error.message).toContain(box.id);
    await fails("wrong_state", box.files.read("/etc/passwd"));
    await fails("wrong_state", box.processes());
  });

  does("calls to a sandbox that never was are refused", async () => {
    const box = new Sandbox(host(), "sb_nothere");
    await fails("not_found", box.info());
    await fails("not_found", box.close());
    await fails("not_found", box.exec("true"));
    await fails("not_found", box.files.list("/"));
    await fails("not_found", Sandbox.connect("sb_nothere", host()));
  });

  does("close during a command ends the command with the sandbox", async () => {
    const box = await Sandbox.create({}, host());
    const running = box.exec("sleep 1000");
    const ended = fails("sandbox_lost", running);
    await until("the command runs", async () => (await box.processes()).length > 0);
    await box.close();
    expect((await ended).message).toContain("closed");
  });

  does("ttl ends it, and says so", async () => {
    const box = await Sandbox.create({ ttlSeconds: 0.5 }, host());
    expect((await box.info()).expiresAt).not.toBeNull();
    await until("the ttl runs out", async () => (await box.info()).state === "deleted");
    expect((await box.info()).reason).toMatch(/time to live of 0.5 s/);
    await fails("wrong_state", box.exec("true"));
    await box.close();
  });

  does("many creates at once all succeed, and each is its own", async () => {
    const boxes = await Promise.all(Array.from({ length: 8 }, () => Sandbox.create({}, host())));
    expect(new Set(boxes.map((box) => box.id)).size).toBe(8);
    await Promise.all(boxes.map((box) => box.close()));
  });
}
