/** The tree of README.md, made of the files' captions. `--write` puts it between the markers. */

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folders that the tree shows, lowest layer first. */
const FOLDERS = ["tensor", "model", "eval", "rl", "experiments", "bench"] as const;
const MARKED = /(<!-- tree -->\n)[\s\S]*?(<!-- \/tree -->)/;

/** The repository. */
export const root = fileURLToPath(new URL("../", import.meta.url));

/** Every .ts file of a folder of the repository, sorted; a folder's own files come first. */
export function sources(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  const entries = readdirSync(join(root, folder), { withFileTypes: true });
  const names = entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  return [
    ...names.filter((entry) => entry.isFile() && entry.name.endsWith(".ts")),
    ...names.filter((entry) => entry.isDirectory()),
  ].flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? sources(path) : [path];
  });
}

/** The comment that opens a file (below a "#!" line, if there is one), else undefined. */
export function captionOf(path: string): string | undefined {
  const lines = readFileSync(join(root, path), "utf8").split("\n", 3);
  if (lines[0]?.startsWith("#!")) lines.shift();
  const [first = "", second = ""] = lines;
  return (first === "/**" ? /^ \* (.+)$/.exec(second) : /^\/\*\* (.+) \*\/$/.exec(first))?.[1];
}

/** One line for each file, in a code block: its path and its caption. */
export function tree(): string {
  const parts = FOLDERS.map((folder) => {
    const paths = sources(folder);
    const width = Math.max(0, ...paths.map((path) => path.length));
    return paths.map((path) => `${path.padEnd(width)}  ${captionOf(path)}`).join("\n");
  });
  return `\`\`\`\n${parts.filter((part) => part !== "").join("\n\n")}\n\`\`\`\n`;
}

/** README.md with the present tree between its markers; undefined where it has no markers. */
export function withTree(readme: string): string | undefined {
  if (!MARKED.test(readme)) return undefined;
  return readme.replace(MARKED, (_, begin, end) => begin + tree() + end);
}

if (import.meta.main) {
  const path = join(root, "README.md");
  if (process.argv.includes("--write")) {
    const readme = withTree(readFileSync(path, "utf8"));
    if (readme === undefined) throw new Error(`${path} has no <!-- tree --> … <!-- /tree -->`);
    writeFileSync(path, readme);
  } else console.log(tree());
}
