/** C sources are imported as text: `import source from "./x.c" with { type: "text" }`. */
declare module "*.c" {
  const source: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a text import is not ours to choose
  export default source;
}
declare module "*.h" {
  const source: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a text import is not ours to choose
  export default source;
}
