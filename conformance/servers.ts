/**
 * The servers that are compared: how their applications are built and started, and which versions they are.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** A command that listens on the socket whose path is its last argument. */
export interface Start {
  readonly command: ReadonlyArray<string>
  readonly version: string
}

export interface Server {
  readonly name: string
  /** Builds the application. Returns how to start it, or why that cannot be done here. */
  readonly build: () => Start | string
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

const manifestOf = (path: string): { readonly version: string } =>
  JSON.parse(Fs.readFileSync(here(path), "utf8")) as { readonly version: string }

/** What the program prints, or `undefined` when it is missing or fails. */
const output = (command: string, args: ReadonlyArray<string>): string | undefined => {
  const result = ChildProcess.spawnSync(command, args, { encoding: "utf8" })
  return result.status === 0 ? result.stdout.trim() : undefined
}

/** Builds with a program, and says why not when that fails. */
const compile = (command: string, args: ReadonlyArray<string>): string | undefined => {
  const result = ChildProcess.spawnSync(command, args, { encoding: "utf8" })
  if (result.error !== undefined) return `${command} is not installed`
  return result.status === 0 ? undefined : result.stderr.trim().split("\n")[0] ?? `${command} failed`
}

/** All of them. What is built goes into `folder`. */
export const servers = (folder: string): ReadonlyArray<Server> => [
  {
    name: "effect-fastcgi",
    build: () => ({
      command: [process.execPath, here("effect-fastcgi/main.ts")],
      version: `${manifestOf("../package.json").version} (Node ${process.versions.node})`
    })
  },
  {
    name: "libfcgi",
    build: () => {
      const program = Path.join(folder, "app-libfcgi")
      const failed = compile("cc", ["-O2", "-o", program, here("libfcgi/app.c"), "-lfcgi", "-lpthread"])
      if (failed !== undefined) return failed
      return {
        command: [program],
        version: output("dpkg-query", ["-W", "-f", "${Version}", "libfcgi-dev"]) ?? "of unknown version"
      }
    }
  },
  {
    name: "Go net/http/fcgi",
    build: () => {
      const program = Path.join(folder, "app-go")
      const failed = compile("go", ["build", "-o", program, here("go/main.go")])
      if (failed !== undefined) return failed
      return {
        command: [program],
        version: output("go", ["env", "GOVERSION"])?.replace(/^go/, "") ?? "of unknown version"
      }
    }
  },
  {
    name: "node-fastcgi",
    build: () => ({
      command: [process.execPath, here("node-fastcgi/app.js")],
      version: `${manifestOf("../node_modules/node-fastcgi/package.json").version} (Node ${process.versions.node})`
    })
  }
]
