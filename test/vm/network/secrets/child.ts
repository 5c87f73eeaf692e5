/** A program whose sandbox uses a secret, run where this host trusts one more authority: prints what its guest saw, as JSON. */
import { Sandbox } from "../../../../src/sandbox.ts";
import { openNetworkWarren } from "../ground.ts";

const [host = "", value = ""] = process.argv.slice(2);
const other = `other.${host}`;
const warren = await openNetworkWarren();
const said: Record<string, string> = {};
{
  await using sandbox = await Sandbox.create(
    {
      template: "base",
      ttlSeconds: 120,
      egress: { mode: "allowlist", allow: [host, other] },
      secrets: [{ host, header: "Authorization", value }],
    },
    warren.sandboxes,
  );
  const runs: Record<string, string> = {
    tls: `curl -sS https://${host}/with-curl`,
    python: `python3 -c 'import urllib.request; print(urllib.request.urlopen("https://${host}/with-python").read().decode(), end="")'`,
    own: `curl -sS -H "Authorization: guess" https://${host}/own`,
    plain: `curl -sS http://${host}/plain`,
    // Another name of the same address has no secret: its own certificate is the guest's to believe or not.
    fronted: `curl -sS -H "Host: ${host}" https://${other}/fronted; echo; echo $?`,
    mismatch: `curl -sS -H "Host: ${other}" https://${host}/mismatch`,
    issuer: `curl -sSv https://${host}/who 2>&1 | grep -i "issuer:"`,
    searched: "(env; cat /proc/*/environ /proc/*/cmdline; cat /root/.* /tmp/*) 2>/dev/null | tr '\\0' '\\n'",
  };
  for (const [name, command] of Object.entries(runs)) {
    const { stdout, stderr } = await sandbox.exec(command, { timeoutSeconds: 60 });
    said[name] = stdout + stderr;
  }
  said["log"] = JSON.stringify((await sandbox.networkLog()).events);
  said["info"] = JSON.stringify([await sandbox.info(), await sandbox.network()]);
  const child = await sandbox.fork();
  said["forked"] = (await child.exec(runs["tls"] ?? "")).stdout;
  await child.close();
}
await warren[Symbol.asyncDispose]();
process.stdout.write(JSON.stringify(said));
