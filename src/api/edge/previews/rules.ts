/**
 * Which paths a preview opens. Decided on the decoded path, and only when every server that reads it has to understand the same:
 * whatever could be one path here and another one there is refused. Pure.
 */

export type Rule =
  | { readonly kind: "exact"; readonly path: string }
  | { readonly kind: "below"; readonly prefix: string };

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** What separates, escapes or goes up in some server's eyes. */
const SPECIAL = /[./\\%;]/g;

function bytesOf(path: string): Uint8Array | null {
  const out: number[] = [];
  for (let i = 0; i < path.length; i++) {
    const char = path.charCodeAt(i);
    if (char > 0x7e || char <= 0x20) return null; // a URL has none of these
    if (path[i] !== "%") {
      out.push(char);
      continue;
    }
    const hex = path.slice(i + 1, i + 3);
    if (!/^[0-9a-f]{2}$/i.test(hex)) return null;
    out.push(Number.parseInt(hex, 16));
    i += 2;
  }
  return Uint8Array.from(out);
}

/** The path that is meant, decoded; null when it could mean several. */
export function plainPath(path: string): string | null {
  if (!path.startsWith("/")) return null;
  const raw = bytesOf(path);
  if (raw === null) return null;
  let text: string;
  try {
    text = utf8.decode(raw);
  } catch {
    return null; // no text: overlong forms among others
  }
  // A slash that was escaped is one for some and none for others.
  if (text.split("/").length !== path.split("/").length) return null;
  if (/[\u0000-\u001f\u007f-\u009f\\;]|\/\/|%[0-9a-f]{2}/i.test(text)) return null;
  if (text.split("/").some((part) => /^\.+\s*$/.test(part))) return null;
  const special = (s: string): string => (s.match(SPECIAL) ?? []).join("");
  if (special(text) !== special(text.normalize("NFKC"))) return null;
  return text;
}

/** Null when it is no rule: `/report.html` opens that path, `/static/*` all that begins with `/static/`. */
export function ruleOf(text: string): Rule | null {
  const isBelow = text.endsWith("/*");
  const named = isBelow ? text.slice(0, -1) : text;
  if (!named.isWellFormed() || named.includes("*") || named.includes("?") || named.includes("#")) return null;
  // Rules may be written as people write paths.
  const path = plainPath(/[%]/.test(named) ? named : encodeURI(named));
  if (path === null) return null;
  return isBelow ? { kind: "below", prefix: path } : { kind: "exact", path };
}

/** No rules open everything. `path` is as it came, without a query. */
export function opens(rules: readonly Rule[] | null, path: string): boolean {
  if (rules === null) return true;
  const plain = plainPath(path);
  if (plain === null) return false;
  return rules.some((rule) => (rule.kind === "exact" ? plain === rule.path : plain.startsWith(rule.prefix)));
}
