#!/usr/bin/env node
/**
 * Starts the `effect-fastcgi` command. What V8 has compiled is kept from one run to the next, which halves the time that a
 * health check takes to start.
 */
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"

const manifest = JSON.parse(Fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
  readonly engines: { readonly node: string }
}

// npx warns of an older Node and starts the command all the same, which then fails with a stack.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
const [leastMajor = 0, leastMinor = 0] = manifest.engines.node.slice(">=".length).split(".").map(Number)
if (major < leastMajor || (major === leastMajor && minor < leastMinor)) {
  const needed = manifest.engines.node.slice(">=".length)
  process.stderr.write(`effect-fastcgi: this is Node ${process.versions.node}; Node ${needed} or later is needed.\n`)
  process.exit(2)
}

// In the user's own cache, and not where Node would put it: in a folder that everybody writes to, code of others could lie.
const cache = process.env["XDG_CACHE_HOME"] ?? Path.join(Os.homedir(), ".cache")
Module.enableCompileCache(process.env["NODE_COMPILE_CACHE"] ?? Path.join(cache, "effect-fastcgi"))

const { run } = await import("./command.ts")
run(manifest.version)
