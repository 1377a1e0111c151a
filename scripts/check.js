/**
 * `npm run check`: everything that can be said about the project without running its tests. The steps of one line run side by
 * side; every step runs even when another has failed, so that one run shows everything. Output is shown for failed steps only.
 */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const bin = new URL("../node_modules/.bin/", import.meta.url)

// Every entry of "exports", loaded as a user loads it.
const load = `
  import manifest from "effect-fastcgi/package.json" with { type: "json" }
  for (const [path, entry] of Object.entries(manifest.exports)) {
    if (typeof entry === "object" && entry !== null) await import(path.replace(".", manifest.name))
  }
`

const steps = [
  [["build", "tsc", "-p", "tsconfig.build.json"], ["types", "tsc", "-p", "tsconfig.json"]],
  [["bundle", "node", "scripts/bundle.js"], ["lint", "oxlint", "--deny-warnings"], ["format", "dprint", "check"]],
  [["unused", "knip", "--no-progress"], ["package", "publint", "--strict"]],
  [["exports", "attw", "--pack", ".", "--profile", "esm-only"], [
    "loads",
    "node",
    "--input-type=module",
    "--eval",
    load
  ]]
]

/** The tools are started from node_modules/.bin with that folder first on PATH, so they run on the project's own Node. */
const run = ([name, command, ...args]) =>
  new Promise((resolve) => {
    const started = performance.now()
    const path = `${fileURLToPath(bin)}:${process.env.PATH}`
    const child = spawn(fileURLToPath(new URL(command, bin)), args, {
      cwd: root,
      env: {
        ...process.env,
        PATH: path,
        FORCE_COLOR: process.stdout.isTTY ? "1" : "0",
        npm_config_ignore_scripts: "true"
      },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const output = []
    child.stdout.on("data", (bytes) => output.push(bytes))
    child.stderr.on("data", (bytes) => output.push(bytes))
    const finish = (failure) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      console.log(`${failure === undefined ? "ok    " : "FAILED"} ${name.padEnd(9)} ${seconds} s`)
      if (failure !== undefined) console.log(`${failure}\n${Buffer.concat(output).toString().trimEnd()}\n`)
      resolve(failure === undefined)
    }
    child.on("error", (error) => finish(error.message))
    child.on("close", (code, signal) =>
      finish(code === 0 ? undefined : `${command} ${args.join(" ")}: ${signal ?? `exit ${code}`}`))
  })

// A module that was removed from src must not live on in dist, where publint and attw would find it.
Fs.rmSync(new URL("../dist", import.meta.url), { recursive: true, force: true })

let passed = true
for (const line of steps) {
  for (const ok of await Promise.all(line.map(run))) passed &&= ok
}
process.exitCode = passed ? 0 : 1
