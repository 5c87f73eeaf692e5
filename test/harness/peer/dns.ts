/** A name server of the test's internet: answers what it was told, counts what it is asked. Over UDP and TCP, by its own few lines of RFC 1035. */

export interface Zone {
  readonly a?: readonly string[];
  readonly aaaa?: readonly string[];
  readonly cname?: string;
  readonly ttl?: number;
}

const [A, CNAME, AAAA] = [1, 5, 28];

function nameBytes(name: string): number[] {
  return [...name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]), 0];
}

function address6(text: string): number[] {
  const [head = "", tail] = text.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const [first, last] = [words(head), tail === undefined ? [] : words(tail)];
  return [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last].flatMap((word) => [
    word >> 8,
    word & 255,
  ]);
}

function recordBytes(name: string, type: number, ttl: number, data: readonly number[]): number[] {
  const head = [...nameBytes(name), 0, type, 0, 1, ttl >>> 24, (ttl >> 16) & 255, (ttl >> 8) & 255, ttl & 255];
  return [...head, data.length >> 8, data.length & 255, ...data];
}

export class Names {
  readonly #zones = new Map<string, Zone>();
  /** `name type`, as they came. */
  readonly asked: string[] = [];

  set(name: string, zone: Zone | null): void {
    if (zone === null) this.#zones.delete(name);
    else this.#zones.set(name, zone);
  }

  #records(name: string, type: number): number[][] {
    const zone = this.#zones.get(name);
    if (zone === undefined) return [];
    const ttl = zone.ttl ?? 60;
    if (zone.cname !== undefined)
      return [recordBytes(name, CNAME, ttl, nameBytes(zone.cname)), ...this.#records(zone.cname, type)];
    if (type === A) return (zone.a ?? []).map((text) => recordBytes(name, A, ttl, text.split(".").map(Number)));
    if (type === AAAA) return (zone.aaaa ?? []).map((text) => recordBytes(name, AAAA, ttl, address6(text)));
    return [];
  }

  answer(query: Uint8Array): Uint8Array {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(Buffer.from(query.subarray(at + 1, at + 1 + length)).toString("latin1"));
      at += length + 1;
    }
    const name = labels.join(".").toLowerCase();
    const type = ((query[at + 1] ?? 0) << 8) | (query[at + 2] ?? 0);
    this.asked.push(`${name} ${type}`);
    const records = this.#records(name, type);
    const missing = this.#zones.has(name) ? 0 : 3; // NXDOMAIN
    const head = [query[0] ?? 0, query[1] ?? 0, 0x81, 0x80 | missing, 0, 1, 0, records.length, 0, 0, 0, 0];
    return Uint8Array.from([...head, ...query.subarray(12, at + 5), ...records.flat()]);
  }
}
