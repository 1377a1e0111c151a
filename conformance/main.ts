/**
 * `npm run conformance`: builds the applications of this folder, runs `effect-fastcgi conformance` against each, and writes the
 * comparison into docs/conformance.md. What cannot be built here is left out, and said so.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import type { Report } from "../src/conformance/Conformance.ts"
import { comparison, formatTotals } from "../src/conformance/report.ts"
import { servers } from "./servers.ts"

const usage = `npm run conformance -- [options]

  --only NAME    servers whose name contains NAME (repeatable); the page is then not written
  --json FOLDER  also write a report a server, as JSON, to FOLDER
  --no-write     print the comparison instead of writing docs/conformance.md
`

const root = fileURLToPath(new URL("..", import.meta.url))
const page = Path.join(root, "docs/conformance.md")
const begin = "<!-- The rest is written by npm run conformance. -->"

const { values: options } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    json: { type: "string" },
    "no-write": { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

if (options.help) {
  process.stdout.write(usage)
  process.exit(0)
}

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "fcgi-"))
process.on("exit", () => Fs.rmSync(folder, { recursive: true, force: true }))

const reports: Array<Report> = []
for (const server of servers(folder)) {
  if (options.only.length > 0 && !options.only.some((part) => server.name.includes(part))) continue
  const start = server.build()
  if (typeof start === "string") {
    process.stdout.write(`${server.name}: left out, ${start}\n`)
    continue
  }
  const socket = Path.join(folder, "app.sock")
  const result = ChildProcess.spawnSync(process.execPath, [
    Path.join(root, "dist/cli/main.js"),
    "conformance",
    socket,
    "--start",
    [...start.command, socket].join(" "),
    "--name",
    `${server.name} ${start.version}`,
    "--json"
  ], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 64 * 1024 * 1024 })
  // 1 is a server that does not conform: that is what a comparison is for.
  if (result.status !== 0 && result.status !== 1) {
    process.stdout.write(`${server.name}: the suite could not run\n${result.stdout}`)
    process.exitCode = 1
    continue
  }
  const report = JSON.parse(result.stdout) as Report
  reports.push(report)
  process.stdout.write(`${formatTotals(report).trim().split("\n")[0]}\n`)
  if (options.json !== undefined) {
    Fs.mkdirSync(options.json, { recursive: true })
    Fs.writeFileSync(Path.join(options.json, `${server.name}.json`), `${JSON.stringify(report, undefined, 2)}\n`)
  }
}

const text = comparison(reports)
if (options["no-write"] || options.only.length > 0) {
  process.stdout.write(`\n${text}`)
} else {
  const contents = Fs.readFileSync(page, "utf8")
  const at = contents.indexOf(begin)
  if (at === -1) throw new Error(`${page} has no line ${begin}`)
  Fs.writeFileSync(page, `${contents.slice(0, at)}${begin}\n\n${text}`)
  process.stdout.write(`written to ${Path.relative(root, page)}\n`)
}
