/** Signatures of deliveries, as Standard Webhooks has them: HMAC-SHA256 over id, time and body. Pure. */

const PREFIX = "whsec_";

export function secretOf(bytes: Uint8Array): string {
  return PREFIX + Buffer.from(bytes).toString("base64");
}

/** Headers of one try; `atMs` in milliseconds since the Unix epoch. */
export function signed(secret: string, id: string, atMs: number, body: string): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(atMs / 1000));
  const key = Buffer.from(secret.slice(PREFIX.length), "base64");
  const signature = new Bun.CryptoHasher("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
}
