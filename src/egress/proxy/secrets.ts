/** The secrets of a sandbox by the name of their host. Values leave this file only as header fields of requests. */
import type { Secret } from "../../contract/routes/network.ts";
import { WarrenError } from "../../errors.ts";
import { isFramingField } from "./http/framing.ts";
import type { Field } from "./http/head.ts";
import { parseName } from "./names.ts";
import type { CertificateAuthority } from "./types.ts";

const VALUE = /^[\t\x20-\x7e\x80-\xff]+$/;

export class Vault {
  readonly #fields = new Map<string, Field[]>();

  /** @throws {WarrenError} `invalid_request` – for a host that is no name or has no authority, a header that frames messages, a value that is none */
  constructor(secrets: readonly Secret[], ca: CertificateAuthority | null) {
    for (const { host, header, value } of secrets) {
      const name = parseName(host);
      if (name === null) throw new WarrenError("invalid_request", `a secret's host is a DNS name, not ${host}`);
      if (ca?.names.includes(name) !== true) {
        throw new WarrenError("invalid_request", `the sandbox was not made with a secret for ${name}`);
      }
      if (isFramingField(header)) throw new WarrenError("invalid_request", `a secret cannot be the header ${header}`);
      if (!VALUE.test(value)) throw new WarrenError("invalid_request", `the secret of ${name} is no header value`);
      const fields = this.#fields.get(name) ?? [];
      this.#fields.set(name, [...fields, { name: header, value }]);
    }
  }

  has(name: string): boolean {
    return this.#fields.has(name);
  }

  /** The fields with the secrets of `name` in place of what the guest sent under their names. */
  applied(name: string, fields: readonly Field[]): Field[] {
    const own = this.#fields.get(name) ?? [];
    const names = new Set(own.map((field) => field.name.toLowerCase()));
    return [...fields.filter((field) => !names.has(field.name.toLowerCase())), ...own];
  }
}
