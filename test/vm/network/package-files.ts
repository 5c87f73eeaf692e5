/** A Python wheel and an npm package of one module each, as their installers want them; zip and tar by a few lines. */

interface File {
  readonly path: string;
  readonly text: string;
}

function u16(...values: readonly number[]): number[] {
  return values.flatMap((value) => [value & 255, (value >> 8) & 255]);
}

function u32(...values: readonly number[]): number[] {
  return values.flatMap((value) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]);
}

const DATE = 0x21; // 1980-01-01, as early as zip can say
const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];

/** A zip archive of plain files, nothing packed. */
export function zip(files: readonly File[]): Uint8Array {
  const bytes: number[] = [];
  const central: number[] = [];
  for (const { path, text } of files) {
    const [name, body] = [Buffer.from(path), Buffer.from(text)];
    const facts = [
      ...u16(0, 0, 0, DATE),
      ...u32(Bun.hash.crc32(body), body.length, body.length),
      ...u16(name.length, 0),
    ];
    central.push(
      ...u32(CENTRAL),
      ...u16(20, 20),
      ...facts,
      ...u16(0, 0, 0),
      ...u32(0o644 << 16, bytes.length),
      ...name,
    );
    bytes.push(...u32(LOCAL), ...u16(20), ...facts, ...name, ...body);
  }
  const size = central.length;
  return Uint8Array.from([
    ...bytes,
    ...central,
    ...u32(END),
    ...u16(0, 0, files.length, files.length),
    ...u32(size, bytes.length),
    ...u16(0),
  ]);
}

/** What is in a wheel (PEP 427) of one module without dependencies. */
export function wheel(module: string, text: string): File[] {
  const dir = `${module}-1.0.dist-info`;
  const files = [
    { path: `${module}.py`, text },
    { path: `${dir}/METADATA`, text: `Metadata-Version: 2.1\nName: ${module}\nVersion: 1.0\n` },
    { path: `${dir}/WHEEL`, text: "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n" },
  ];
  const record = [...files.map(({ path }) => `${path},,`), `${dir}/RECORD,,`].join("\n");
  return [...files, { path: `${dir}/RECORD`, text: `${record}\n` }];
}

function tarEntry(path: string, text: string): Uint8Array {
  const body = Buffer.from(text);
  const head = Buffer.alloc(512);
  head.write(path, 0);
  head.write("0000644\0", 100);
  head.write("0000000\0", 108);
  head.write("0000000\0", 116);
  head.write(`${body.length.toString(8).padStart(11, "0")}\0`, 124);
  head.write("00000000000\0", 136);
  head.write("        0", 148);
  head.write("ustar\x0000", 257);
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([head, body, Buffer.alloc((512 - (body.length % 512)) % 512)]);
}

/** What `npm pack` makes of a package of one module. */
export function tarball(name: string, text: string): Uint8Array {
  const about = JSON.stringify({ name, version: "1.0.0", main: "index.js" });
  const entries = [tarEntry("package/package.json", about), tarEntry("package/index.js", text), Buffer.alloc(1024)];
  return Bun.gzipSync(Uint8Array.from(Buffer.concat(entries)));
}
