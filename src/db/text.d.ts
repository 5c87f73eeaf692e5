/** Migrations are imported as text, and the files of the embedded database as paths. */
declare module "*.sql" {
  const text: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a text import is not ours to choose
  export default text;
}
declare module "*.wasm" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a file import is not ours to choose
  export default path;
}
declare module "*.data" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a file import is not ours to choose
  export default path;
}
declare module "*.tar.gz" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a file import is not ours to choose
  export default path;
}
