/**
 * Makes one program of the `effect-fastcgi` command, with all that it needs of its packages, in dist/cli: it starts in a third of
 * the time that hundreds of modules take. What a subcommand alone needs is in a file of its own, which is loaded when it is called.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"

const root = fileURLToPath(new URL("..", import.meta.url))
const folder = Path.join(root, "dist/cli")

const bundle = await rolldown({
  input: { main: Path.join(root, "src/cli/main.ts") },
  platform: "node",
  onwarn(warning) {
    throw new Error(warning.message)
  }
})
// What was bundled before has other names. The compiler's files are in a folder of their own.
Fs.mkdirSync(folder, { recursive: true })
for (const file of Fs.readdirSync(folder, { withFileTypes: true })) {
  if (file.isFile()) Fs.rmSync(Path.join(folder, file.name))
}
const { output } = await bundle.write({
  dir: folder,
  format: "esm",
  chunkFileNames: "[name]-[hash].js",
  // Names stay, so that a stack can be read.
  minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } }
})
await bundle.close()
Fs.chmodSync(Path.join(folder, "main.js"), 0o755)

/** The folders of the packages that are in the bundle, with their licenses. */
const packages = new Set()
for (const { modules = {} } of output) {
  for (const id of Object.keys(modules)) {
    const found = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)
    if (found !== null) packages.add(found[1])
  }
}
const notices = [...packages].sort().map((path) => {
  const { license, name, version } = JSON.parse(Fs.readFileSync(Path.join(path, "package.json"), "utf8"))
  const file = Fs.readdirSync(path).find((name) => /^licen[cs]e(\.(md|txt))?$/i.test(name))
  if (file === undefined) throw new Error(`${name} has no license file, which the command has to come with`)
  return `${name} ${version} (${license})\n\n${Fs.readFileSync(Path.join(path, file), "utf8").trim()}\n`
})
Fs.writeFileSync(
  Path.join(folder, "LICENSES.txt"),
  `The files of this folder hold parts of these packages:\n\n${notices.join(`\n${"-".repeat(78)}\n\n`)}`
)
