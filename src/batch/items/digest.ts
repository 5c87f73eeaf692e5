/** What an item is, in one number: an item that changed since its row was written runs again. */
import { createReadStream } from "node:fs";
import type { Job, JobFile } from "./item.ts";
import type { LocalFiles } from "./local-files.ts";

async function contentDigest(file: JobFile, local: LocalFiles): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  if (file.kind === "bytes") return hash.update(file.bytes).digest("hex");
  try {
    for await (const chunk of createReadStream(await local.resolve(file.local))) hash.update(chunk as Uint8Array);
    return hash.digest("hex");
  } catch {
    return "unreadable"; // the item's own row will say so; once it can be read, the item has changed
  }
}

/** SHA-256 over everything that may change an item's result, local files' content included. */
export async function digestOf(job: Job, local: LocalFiles): Promise<string> {
  const files: string[][] = [];
  for (const file of job.files) files.push([file.path, await contentDigest(file, local)]);
  files.sort(([a = ""], [b = ""]) => (a < b ? -1 : 1));
  const { program, input, outputPaths, timeoutSeconds } = job;
  const whole = JSON.stringify([program.kind, program.text, input, files, outputPaths, timeoutSeconds]);
  return new Bun.CryptoHasher("sha256").update(whole).digest("hex");
}
