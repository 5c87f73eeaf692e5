/** Completion scripts from the tree of commands: everything is in the script, so completing costs no process. Pure. */
import type { Command } from "commander";

/** One command as a shell needs it. */
export interface Node {
  /** Words that lead to it, without the program's own: `["templates", "bake"]`. */
  readonly path: readonly string[];
  readonly says: string;
  readonly subcommands: readonly { readonly name: string; readonly says: string }[];
  readonly options: readonly { readonly flags: readonly string[]; readonly says: string }[];
  /** Its arguments are files of this host. */
  readonly takesFiles: boolean;
}

const FILE_VERBS = new Set(["batch", "run", "cp"]);

export function treeOf(command: Command, path: readonly string[] = []): Node[] {
  const says = (c: Command) => c.summary() || (c.description().split("\n")[0] ?? "");
  const options = command.options.map((option) => ({
    flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
    says: option.description,
  }));
  const visible = command.createHelp().visibleCommands(command);
  const subcommands = command.commands.filter((sub) => visible.includes(sub));
  const own: Node = {
    path,
    says: says(command),
    subcommands: subcommands.map((sub) => ({ name: sub.name(), says: says(sub) })),
    options: [...options, { flags: ["-h", "--help"], says: "help for this command" }],
    takesFiles: FILE_VERBS.has(path[0] ?? ""),
  };
  return [own, ...subcommands.flatMap((sub) => treeOf(sub, [...path, sub.name()]))];
}

/** For single quotes of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function bash(tree: readonly Node[]): string {
  const cases = tree.map((node) => {
    const words = [...node.subcommands.map(({ name }) => name), ...node.options.flatMap(({ flags }) => flags)];
    return `    ${quoted(node.path.join(" "))}) words=${quoted(words.join(" "))}; files=${node.takesFiles ? 1 : 0} ;;`;
  });
  const paths = tree.filter((node) => node.path.length > 0).map((node) => quoted(node.path.join(" ")));
  return `# bash completion for warren
_warren() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path="" next words="" files=0 word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="\${path:+$path }$word"
    case "$next" in
      ${paths.join("|")}) path=$next ;;
    esac
  done
  case "$path" in
${cases.join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  if [ "$files" = 1 ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
  fi
}
complete -F _warren warren
`;
}

function zsh(tree: readonly Node[]): string {
  const describe = (name: string, says: string) => quoted(`${name.replaceAll(":", "\\:")}:${says}`);
  const cases = tree.map((node) => {
    const words = [
      ...node.subcommands.map(({ name, says }) => describe(name, says)),
      ...node.options.flatMap(({ flags, says }) => flags.map((flag) => describe(flag, says))),
    ];
    const files = node.takesFiles ? "; _files" : "";
    return `    ${quoted(node.path.join(" "))}) words_=(${words.join(" ")}); _describe -o warren words_${files} ;;`;
  });
  const paths = tree.filter((node) => node.path.length > 0).map((node) => quoted(node.path.join(" ")));
  return `#compdef warren
_warren() {
  local at="" next word
  local -a words_
  for word in "\${(@)words[2,CURRENT-1]}"; do
    next="\${at:+$at }$word"
    case "$next" in
      ${paths.join("|")}) at=$next ;;
    esac
  done
  case "$at" in
${cases.join("\n")}
  esac
}
if [ "$funcstack[1]" = "_warren" ]; then _warren "$@"; else compdef _warren warren; fi
`;
}

function fish(tree: readonly Node[]): string {
  const lines = tree.flatMap((node) => {
    const seen = node.path.map((word) => `__fish_seen_subcommand_from ${word}`);
    const others = node.subcommands.map(({ name }) => name).join(" ");
    const none = others === "" ? [] : [`not __fish_seen_subcommand_from ${others}`];
    const condition = [...seen, ...none].join("; and ") || "true";
    const head = `complete -c warren -n ${quoted(condition)}`;
    return [
      ...node.subcommands.map(({ name, says }) => `${head} -f -a ${quoted(name)} -d ${quoted(says)}`),
      ...node.options.map(({ flags, says }) => `${head}${fishFlags(flags)} -d ${quoted(says)}`),
    ];
  });
  const files = [...FILE_VERBS].map((name) => `complete -c warren -n '__fish_seen_subcommand_from ${name}' -F`);
  return `# fish completion for warren\ncomplete -c warren -f\n${[...files, ...lines].join("\n")}\n`;
}

function fishFlags(flags: readonly string[]): string {
  return flags.map((flag) => (flag.startsWith("--") ? ` -l ${flag.slice(2)}` : ` -s ${flag.slice(1)}`)).join("");
}

export function completionScript(shell: "bash" | "zsh" | "fish", tree: readonly Node[]): string {
  return { bash, zsh, fish }[shell](tree);
}
