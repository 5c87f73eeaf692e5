/**
 * Tokens of previews: what they open, encrypted and authenticated (JWE, A256GCM), so that whoever is given a preview of one path
 * learns neither the sandbox nor the account behind it.
 */
import { EncryptJWT, errors, jwtDecrypt } from "jose";
import type { Clock } from "../../../base/clock.ts";
import { randomBytes } from "../../../base/id.ts";
import type { Store } from "../../store.ts";

export interface Preview {
  readonly account: string;
  readonly sandbox: string;
  readonly port: number;
  /** As they were asked for; null: all. */
  readonly paths: readonly string[] | null;
}

const AUDIENCE = "preview";
const KEY_BYTES = 32;
/** Longer than any that was made here. */
const TOKEN_CHARS = 8192;

export class PreviewTokens {
  readonly #store: Store;
  readonly #clock: Clock;
  #key: Promise<Uint8Array> | null = null;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** @param expiresAtMs milliseconds since the Unix epoch, a whole second */
  async seal({ account, sandbox, port, paths }: Preview, expiresAtMs: number): Promise<string> {
    const claims = { a: account, s: sandbox, p: port, ...(paths === null ? {} : { r: paths }) };
    return new EncryptJWT(claims)
      .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
      .setAudience(AUDIENCE)
      .setExpirationTime(expiresAtMs / 1000)
      .encrypt(await this.#secret());
  }

  /** Null for what was not made here, was changed, or is over. */
  async open(token: string): Promise<Preview | null> {
    if (token.length > TOKEN_CHARS) return null;
    const key = await this.#secret();
    try {
      const { payload } = await jwtDecrypt(token, key, {
        audience: AUDIENCE,
        currentDate: new Date(this.#clock.wallMs()),
        keyManagementAlgorithms: ["dir"],
        contentEncryptionAlgorithms: ["A256GCM"],
        requiredClaims: ["exp"],
      });
      return previewOf(payload);
    } catch (cause) {
      if (cause instanceof errors.JOSEError || cause instanceof TypeError) return null;
      throw cause;
    }
  }

  /** The same for every server of the installation. */
  async #secret(): Promise<Uint8Array> {
    this.#key ??= this.#read().catch((cause: unknown) => {
      this.#key = null; // the store may be there again
      throw cause;
    });
    return this.#key;
  }

  async #read(): Promise<Uint8Array> {
    const made = (): string => Buffer.from(randomBytes(KEY_BYTES)).toString("base64url");
    return new Uint8Array(Buffer.from(await this.#store.secret("preview", made), "base64url"));
  }
}

function previewOf(claims: Readonly<Record<string, unknown>>): Preview | null {
  const { a, s, p, r } = claims;
  if (typeof a !== "string" || typeof s !== "string" || typeof p !== "number") return null;
  if (r === undefined) return { account: a, sandbox: s, port: p, paths: null };
  const isList = Array.isArray(r) && r.every((path) => typeof path === "string");
  return isList ? { account: a, sandbox: s, port: p, paths: r } : null;
}
