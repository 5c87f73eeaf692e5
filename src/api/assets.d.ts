/** Files of packages that are served as they are: their paths, also inside one compiled binary. */
declare module "swagger-ui-dist/swagger-ui-bundle.js" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a file import is not ours to choose
  export default path;
}
declare module "swagger-ui-dist/swagger-ui.css" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: the shape of a file import is not ours to choose
  export default path;
}
