/** `Idempotency-Key`: the same create sent twice makes one sandbox. What is under way is known here, what was made by the store. */
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";
import type { Idempotency } from "../store.ts";

const KEY = /^[\x20-\x7e]+$/;

/** @throws {WarrenError} `invalid_request` */
export function idempotencyKeyOf(request: Request): string | null {
  const key = request.headers.get("idempotency-key");
  if (key === null) return null;
  if (key.length <= BOUNDS.idempotencyKeyChars && KEY.test(key)) return key;
  const says = `Idempotency-Key: 1 to ${BOUNDS.idempotencyKeyChars} printable characters are allowed`;
  throw new WarrenError("invalid_request", says, { details: { field: "Idempotency-Key" } });
}

/** Of what was asked for, whatever the order of its fields. */
export function requestHashOf(input: unknown): string {
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(sorted(input))).digest("hex");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, one]) => [key, sorted(one)]));
}

interface UnderWay {
  readonly requestHash: string;
  readonly made: Promise<string>;
}

/** Creates of this process with a key, while they are made. */
export class Idempotents {
  readonly #underWay = new Map<string, UnderWay>();

  /**
   * Runs `make`, unless the same is being made: then that one's id, once it is there. Null: nobody else makes it.
   * @throws {WarrenError} `idempotency_conflict`
   */
  async other(account: string, { key, requestHash }: Idempotency): Promise<string | null> {
    const other = this.#underWay.get(`${account}\0${key}`);
    if (other === undefined) return null;
    if (other.requestHash !== requestHash)
      throw new WarrenError("idempotency_conflict", "this Idempotency-Key is in use by another request", {
        details: { field: "Idempotency-Key" },
      });
    // When it fails there, it is tried here.
    return other.made.catch(() => null);
  }

  /** Known to `other` until it is settled. */
  async during<T extends { readonly id: string }>(
    account: string,
    { key, requestHash }: Idempotency,
    make: () => Promise<T>,
  ): Promise<T> {
    const name = `${account}\0${key}`;
    const making = make();
    const made = making.then(({ id }) => id);
    made.catch(() => undefined); // thrown to its maker below
    const entry = { requestHash, made };
    this.#underWay.set(name, entry);
    try {
      return await making;
    } finally {
      if (this.#underWay.get(name) === entry) this.#underWay.delete(name);
    }
  }
}
