/**
 * `npm run site`: writes the site to .site/html. Its pages are made first, as Markdown, and then given to VitePress.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { build } from "vitepress"
import { pagesOfFiles } from "./pages.ts"
import { declarations, html, pages, root } from "./paths.ts"
import { entries, listOfEntries, pagesOfReference } from "./reference.ts"

/** Runs a command of node_modules, which has to succeed. */
const run = (cwd: string, name: string, ...args: ReadonlyArray<string>): void => {
  const { error, status, stderr, stdout } = ChildProcess.spawnSync(
    Path.join(root, "node_modules/.bin", name),
    args,
    { cwd, encoding: "utf8" }
  )
  if (status !== 0) throw error ?? new Error(`${name} ended with ${status}\n${stdout}${stderr}`)
}

Fs.rmSync(declarations, { recursive: true, force: true })
run(
  root,
  "tsc",
  ...["-p", "tsconfig.build.json", "--emitDeclarationOnly", "--declarationMap", "false", "--outDir", declarations]
)

const reference = entries()
Fs.rmSync(pages, { recursive: true, force: true })
// The pictures of the pages.
Fs.cpSync(Path.join(root, "docs"), pages, { recursive: true, filter: (file) => !file.endsWith(".md") })
for (const { path, text } of [...pagesOfFiles(listOfEntries(reference)), ...pagesOfReference(reference)]) {
  const file = Path.join(pages, path)
  Fs.mkdirSync(Path.dirname(file), { recursive: true })
  Fs.writeFileSync(file, text)
}

// The compiler writes a declaration on one line, however long. Its folder is what a configuration is about.
const format = JSON.parse(Fs.readFileSync(Path.join(root, "dprint.json"), "utf8")) as {
  readonly plugins: ReadonlyArray<string>
}
Fs.writeFileSync(
  Path.join(pages, "dprint.json"),
  JSON.stringify({
    ...format,
    includes: ["api/**/*.md"],
    excludes: [],
    lineWidth: 84,
    plugins: format.plugins.map((plugin) => Path.join(root, plugin))
  })
)
run(pages, "dprint", "fmt", "--no-gitignore")

await build(Path.join(root, "site"))
console.log(`The site is in ${Path.relative(process.cwd(), html)}. npm run site:show serves it.`)
