/**
 * The page under `/docs`, which shows `/openapi.json` and lets it be tried. Everything that it needs comes from this
 * server, so that it works without the internet; nothing is told to anyone.
 */

import style from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import bundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };

export interface DocsPage {
  /** Under `/docs`, as `text/html; charset=utf-8`. */
  readonly html: string;
  /** Under {@link DOCS_SCRIPT}, as `text/javascript; charset=utf-8`. */
  readonly script: string;
}

/** Where the page expects its script. */
export const DOCS_SCRIPT = "/docs/script.js";

/** `Content-Security-Policy` of the page: its own script, styles that the script sets, requests to this server. */
export const DOCS_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Keys are kept by the page for as long as it is open, and by nobody after that. */
const BEGIN = `SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  validatorUrl: null,
});`;

let page: Promise<DocsPage> | undefined;

async function read(): Promise<DocsPage> {
  const [code, css] = await Promise.all([Bun.file(bundle).text(), Bun.file(style).text()]);
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Warren API</title>
<link rel="icon" href="data:,">
<style>${css.replaceAll("</style", "<\\/style")}</style>
</head>
<body>
<div id="docs"></div>
<noscript>The API is described in <a href="/openapi.json">openapi.json</a>.</noscript>
<script src="${DOCS_SCRIPT}"></script>
</body>
</html>
`;
  // Without the reference to a map, which is not served.
  const script = `${code.replace(/\n\/\/# sourceMappingURL=\S*\s*$/, "\n")}\n${BEGIN}\n`;
  return { html, script };
}

/** Read once, when it is first asked for. */
export function docsPage(): Promise<DocsPage> {
  page ??= read();
  return page;
}
