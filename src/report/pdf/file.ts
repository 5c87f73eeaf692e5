/** A PDF file as numbered objects (ISO 32000-1, 7.5): the same objects give the same bytes. */
import { deflateSync } from "node:zlib";

/** Number of an object, as another refers to it. */
export type Ref = `${number} 0 R`;

const latin1 = (text: string) => Buffer.from(text, "latin1");

/** A number as PDF has it: no exponent, at most three decimals. */
export function num(value: number): string {
  return String(Math.round(value * 1000) / 1000);
}

/** Text that a reader shows: UTF-16 with its mark, in hexadecimal, so that nothing has to be escaped. */
export function textString(text: string): string {
  return `<FEFF${utf16Hex(text)}>`;
}

export function utf16Hex(text: string): string {
  let hex = "";
  for (let i = 0; i < text.length; i += 1) hex += text.charCodeAt(i).toString(16).padStart(4, "0").toUpperCase();
  return hex;
}

/** A character's code as content streams have it: two bytes. */
export function hex4(code: number): string {
  return `<${code.toString(16).padStart(4, "0")}>`;
}

export class PdfFile {
  readonly #objects: Buffer[] = [];

  /** A number for what is written later. */
  reserve(): Ref {
    this.#objects.push(Buffer.alloc(0));
    return `${this.#objects.length} 0 R`;
  }

  /** A dictionary's entries without its brackets, and a stream behind it. */
  set(ref: Ref, entries: string, stream?: Uint8Array): Ref {
    const at = Number.parseInt(ref, 10);
    let body = latin1(`<< ${entries} >>`);
    if (stream !== undefined) {
      const packed = deflateSync(stream, { level: 9 });
      const head = `<< ${entries} /Filter /FlateDecode /Length ${packed.length} >>\nstream\n`;
      body = Buffer.concat([latin1(head), packed, latin1("\nendstream")]);
    }
    this.#objects[at - 1] = Buffer.concat([latin1(`${at} 0 obj\n`), body, latin1("\nendobj\n")]);
    return ref;
  }

  add(entries: string, stream?: Uint8Array): Ref {
    return this.set(this.reserve(), entries, stream);
  }

  /** The whole file; its identifier follows from what is in it. */
  bytes(root: Ref, info: Ref): Uint8Array {
    const header = Buffer.concat([latin1("%PDF-1.7\n%"), Buffer.from([0xe2, 0xe3, 0xcf, 0xd3, 0x0a])]);
    const body = Buffer.concat([header, ...this.#objects]);
    const id = new Bun.CryptoHasher("sha256").update(body).digest("hex").slice(0, 32).toUpperCase();
    let at = header.length;
    const entries = this.#objects.map((object) => {
      const entry = `${String(at).padStart(10, "0")} 00000 n \n`;
      at += object.length;
      return entry;
    });
    const size = entries.length + 1;
    const xref = `xref\n0 ${size}\n0000000000 65535 f \n${entries.join("")}`;
    const trailer = `trailer\n<< /Size ${size} /Root ${root} /Info ${info} /ID [<${id}> <${id}>] >>\n`;
    return new Uint8Array(Buffer.concat([body, latin1(`${xref}${trailer}startxref\n${body.length}\n%%EOF\n`)]));
  }
}
