/** Files that are imported for their paths: beside the source in node_modules, inside a compiled program. */

declare module "*.woff" {
  const path: string;
  export = path;
}

declare module "*.wasm" {
  const path: string;
  export = path;
}
