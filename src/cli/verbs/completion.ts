/** `warren completion`: what a shell needs in order to complete commands, options and their values. */
import { Argument } from "commander";
import type { Define } from "../verb.ts";

const EXAMPLES = `
Examples:
  $ source <(warren completion bash)
  $ warren completion zsh > ~/.zfunc/_warren
  $ warren completion fish > ~/.config/fish/completions/warren.fish`;

export const defineCompletion: Define = (program, verb) => {
  program
    .command("completion")
    .summary("print a completion script for your shell")
    .description("Print a completion script for bash, zsh or fish.")
    .addArgument(new Argument("<shell>").choices(["bash", "zsh", "fish"]))
    .addHelpText("after", EXAMPLES)
    .action(async (shell: "bash" | "zsh" | "fish") => {
      const { completionScript, treeOf } = await import("../completion.ts");
      await verb.io.out.write(completionScript(shell, treeOf(program)));
    });
};
