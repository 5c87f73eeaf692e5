/** Volumes: made, attached, mounted, grown, refused, detached, removed. What is in them only a real guest can tell. */
import { expect } from "bun:test";
import { nonce } from "../../../src/base/id.ts";
import type { VolumeMount } from "../../../src/contract/routes/volumes.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { Volume } from "../../../src/sandbox/volume.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { fails, type Subject } from "./subject.ts";

const SIZE_GB = 1 / 64;

export function volumeTests({ host, shared, does }: Subject): void {
  const made = (name = `v-${nonce()}`) => Volume.create({ name, sizeGb: SIZE_GB }, host());

  does("a volume is made once, listed, read and removed", async () => {
    const volume = await made();
    const { name } = volume;
    expect(await volume.info()).toMatchObject({ name, sizeMb: 16, attachedTo: [] });
    await fails("already_exists", made(name));
    const same = await Promise.all([1, 2, 3].map(() => Volume.getOrCreate({ name, sizeGb: 1 }, host())));
    expect(same.map((one) => one.name)).toEqual([name, name, name]);
    expect((await Volume.list(host())).map((info) => info.name)).toContain(name);
    await volume.remove();
    await fails("not_found", volume.info());
    await fails("not_found", volume.remove());
    await fails("not_found", Volume.get(name, host()));
  });

  does("a volume of a create is attached when it returns, and free when its sandbox is closed", async () => {
    const volume = await made();
    const box = await Sandbox.create({ volumes: [volume.mount("/workspace/")] }, host());
    expect((await box.info()).volumes).toEqual([{ name: volume.name, mount: "/workspace", readOnly: false }]);
    expect((await volume.info()).attachedTo).toEqual([box.id]);
    await box.close();
    expect((await volume.info()).attachedTo).toEqual([]);
    await volume.remove();
  });

  does("create with a volume that cannot be attached makes no sandbox", async () => {
    const volume = await made();
    await shared().attachVolume(volume);
    const mark = nonce();
    const refuses = (code: ErrorCode, ...volumes: VolumeMount[]) =>
      fails(code, Sandbox.create({ metadata: { mark }, volumes }, host()));
    await refuses("volume_in_use", volume.mount());
    await refuses("not_found", { name: "no-such-volume" });
    await refuses("volume_in_use", volume.mount("/a"), volume.mount("/b"));
    expect((await host().list({})).filter(({ metadata }) => metadata["mark"] === mark)).toEqual([]);
    await shared().detachVolume(volume);
    await volume.remove();
  });

  does("a volume has one writer or many readers, and cannot be removed by or from under them", async () => {
    const volume = await made();
    await using other = await Sandbox.create({}, host());
    expect(await shared().attachVolume(volume)).toEqual({
      ...{ name: volume.name, mount: `/volumes/${volume.name}`, readOnly: false },
    });
    const refused = await fails("volume_in_use", other.attachVolume(volume));
    expect(refused.details).toMatchObject({ field: "name", name: volume.name });
    await fails("volume_in_use", other.attachVolume(volume, { readOnly: true }));
    await fails("volume_in_use", volume.remove());
    await shared().detachVolume(volume);
    await other.attachVolume(volume, { readOnly: true });
    await shared().attachVolume(volume.name, { readOnly: true, mount: "/r" });
    expect((await volume.info()).attachedTo.toSorted()).toEqual([shared().id, other.id].toSorted());
    await using third = await Sandbox.create({}, host());
    await fails("volume_in_use", third.attachVolume(volume));
    await fails("volume_in_use", volume.remove());
    await shared().detachVolume(volume);
    await other.close();
    await third.attachVolume(volume);
    await third.close();
    await volume.remove();
  });

  does("attach refuses what does not fit, by the field's name", async () => {
    const volume = await made();
    for (const mount of [
      "workspace",
      "/",
      "//",
      "/proc",
      "/proc/1",
      "/sys/",
      "/dev/shm",
      "/a/../b",
      "/a/./b",
      "/a\nb",
    ]) {
      const refused = await fails("invalid_request", shared().attachVolume(volume, { mount }));
      expect({ mount, ...refused.details }).toMatchObject({ mount, field: "mount" });
    }
    await fails("not_found", shared().attachVolume("no-such-volume"));
    await fails("invalid_request", shared().attachVolume("../x"));
    await fails("invalid_request", host().createVolume({ name: "x", sizeMb: 1 }));
    await fails("invalid_request", Volume.create({ name: "x", sizeGb: 0.0001 }, host()));
    await fails("not_found", new Sandbox(host(), "sb_nothere").attachVolume(volume));
    await fails("not_found", shared().detachVolume(volume));
    await shared().attachVolume(volume, { mount: "/taken" });
    await fails("volume_in_use", shared().attachVolume(volume, { mount: "/elsewhere" }));
    const second = await made();
    const there = await fails("invalid_request", shared().attachVolume(second, { mount: "/taken/" }));
    expect(there.details).toMatchObject({ field: "mount" });
    await shared().detachVolume(volume);
    await Promise.all([volume.remove(), second.remove()]);
  });

  does("a sandbox takes four volumes at once, and a drive that is free again", async () => {
    const volumes = await Promise.all([1, 2, 3, 4, 5].map(() => made()));
    const [first, , third, , fifth] = volumes;
    if (first === undefined || third === undefined || fifth === undefined) throw new Error("five were made");
    await using box = await Sandbox.create({ volumes: volumes.slice(0, 4).map((volume) => volume.mount()) }, host());
    const full = await fails("invalid_request", box.attachVolume(fifth));
    expect(full.details).toMatchObject({ field: "volumes", max: 4 });
    await box.detachVolume(third);
    await box.attachVolume(fifth);
    expect((await box.info()).volumes.map(({ name }) => name)).toEqual(
      [...volumes.slice(0, 2), ...volumes.slice(3)].map(({ name }) => name),
    );
    await box.close();
    await Promise.all(volumes.map((volume) => volume.remove()));
  });

  does("resize only grows, in use or not", async () => {
    const volume = await made();
    expect(await volume.resize({ sizeGb: 1 / 32 })).toMatchObject({ sizeMb: 32 });
    await shared().attachVolume(volume);
    expect(await volume.resize({ sizeGb: 1 / 16 })).toMatchObject({ sizeMb: 64, attachedTo: [shared().id] });
    const smaller = await fails("invalid_request", volume.resize({ sizeGb: 1 / 32 }));
    expect(smaller.details).toMatchObject({ field: "sizeMb" });
    await shared().detachVolume(volume);
    await volume.remove();
  });

  does("a sandbox with a volume is not forked, and is once it has none", async () => {
    const volume = await made();
    await using box = await Sandbox.create({ volumes: [volume.mount()] }, host());
    expect((await fails("wrong_state", box.fork())).details).toMatchObject({ volumes: [volume.name] });
    await box.detachVolume(volume);
    await using child = await box.fork();
    expect((await child.info()).volumes).toEqual([]);
    await child.attachVolume(volume);
    await child.close();
    await volume.remove();
  });
}
