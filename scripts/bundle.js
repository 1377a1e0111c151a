/**
 * Puts modules together, behind the compiler: Node needs a millisecond for each file that it loads.
 *
 * - The modules of the package in dist/bundled, one file for each entry of "exports" and for what entries share. Node loads these.
 *   Bundlers take the compiler's modules by the condition "module": of those they leave more out.
 * - The `effect-fastcgi` command in dist/cli, with all that it needs of its packages. What a subcommand alone needs is in a file of its
 *   own, which is loaded when it is called.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"

const root = fileURLToPath(new URL("..", import.meta.url))

const onwarn = (warning) => {
  throw new Error(warning.message)
}

// -----------------------------------------------------------------------------
// The modules of the package
// -----------------------------------------------------------------------------

const { exports } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
const entries = Object.values(exports).filter((entry) => typeof entry === "object" && entry !== null)

const modules = await rolldown({
  input: {
    ...Object.fromEntries(entries.map(({ default: bundled, module }) => [
      Path.basename(bundled, ".js"),
      Path.join(root, module.replace("./dist/", "src/").replace(".js", ".ts"))
    ])),
    // What `effect-fastcgi serve` runs an app in: it shares these files with the app.
    served: Path.join(root, "src/cli/served/main.ts")
  },
  platform: "node",
  external: /^[^./]/,
  onwarn
})
Fs.rmSync(Path.join(root, "dist/bundled"), { recursive: true, force: true })
await modules.write({
  dir: Path.join(root, "dist/bundled"),
  format: "esm",
  chunkFileNames: "[name]-[hash].js",
  comments: { jsdoc: false, annotation: true, legal: false }
})
await modules.close()

// -----------------------------------------------------------------------------
// The command
// -----------------------------------------------------------------------------

const folder = Path.join(root, "dist/cli")
const bundle = await rolldown({
  input: { main: Path.join(root, "src/cli/main.ts") },
  platform: "node",
  onwarn
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
