/**
 * A certificate authority of the host's that programs of the guest are to believe: the files that hold it there, and the
 * variables for programs that bring a list of their own. What a guest's root does to these files later is its own affair.
 */
import { WarrenError } from "../../errors.ts";
import type { GuestAgent } from "../agent.ts";

/** What curl, git, apt, Go and most others read. Debian's holds 220 KB; what is far beyond is not such a file. */
const BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
const BUNDLE_BYTES_MAX = 8 * 1024 * 1024;

/**
 * - Where `update-ca-certificates` takes it from whenever it makes the bundle anew.
 * - What OpenSSL, and so Python's ssl, reads beside its directory of hashed names; Debian ships none, and a hashed name needs
 *   OpenSSL to be worked out.
 */
const BESIDE = ["/usr/local/share/ca-certificates/warren.crt", "/usr/lib/ssl/cert.pem"] as const;

/** For a guest's commands, unless they have their own: programs that look neither at the bundle nor at OpenSSL's files. */
export const TRUST_ENV: Readonly<Record<string, string>> = {
  SSL_CERT_FILE: BUNDLE,
  REQUESTS_CA_BUNDLE: BUNDLE,
  NODE_EXTRA_CA_CERTS: BESIDE[0],
};

type Files = Pick<GuestAgent, "readFile" | "writeFile">;

async function contentOf(files: Files, path: string, signal: AbortSignal | undefined): Promise<string> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let text = "";
  try {
    for await (const bytes of files.readFile({ path }, signal)) {
      text += decoder.decode(bytes, { stream: true });
      if (text.length > BUNDLE_BYTES_MAX) throw new WarrenError("file_error", `${path} is no list of certificates`);
    }
  } catch (cause) {
    if (cause instanceof WarrenError && cause.code === "file_not_found") return "";
    throw cause;
  }
  return text + decoder.decode();
}

/**
 * Adds a certificate to the guest's trusted ones; again is fine. Each file is whole at every moment, as it was or with it.
 * @throws {WarrenError} `file_error` – a file cannot be written, or holds something else; `sandbox_lost`, `guest_unresponsive`
 */
export async function trust(files: Files, pem: string, signal?: AbortSignal): Promise<void> {
  const certificate = `${pem.trim()}\n`;
  if (!certificate.startsWith("-----BEGIN CERTIFICATE-----\n")) throw new TypeError("no certificate in PEM");
  for (const path of [...BESIDE, BUNDLE]) {
    const had = await contentOf(files, path, signal);
    if (had.includes(certificate)) continue;
    const body = `${had}${had === "" || had.endsWith("\n") ? "" : "\n"}${certificate}`;
    await files.writeFile({ path, mode: 0o644, body }, signal);
  }
}
