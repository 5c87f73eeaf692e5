/** Names of a sandbox's ports, as its own programs have them. */

/** The Host of a request to the port. */
export function hostOf(port: number): string {
  return port === 80 ? "localhost" : `localhost:${port}`;
}

const OWN_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** The port of the sandbox that a URL leads to; null when it leads out of it. */
export function portWithin(url: URL): number | null {
  if (url.protocol !== "http:" || !OWN_NAMES.has(url.hostname)) return null;
  return url.port === "" ? 80 : Number(url.port);
}
