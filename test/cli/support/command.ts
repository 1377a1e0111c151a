/**
 * The built command, as people call it.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"

/** How a command ended, and what it has written. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A command that runs. */
export interface Running {
  readonly child: ChildProcess.ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** Waits until what it has written, to both, matches. Dies when it ends before. */
  readonly says: (pattern: RegExp) => Effect.Effect<void>
  /** Waits until it has ended and both are closed. */
  readonly ended: Effect.Effect<Ended>
}

/** What it is started with. */
export interface Options {
  readonly stdin?: "pipe" | "ignore" | number | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
  /** A command that becomes the program whose arguments follow its own. Default none. */
  readonly through?: readonly [command: string, ...args: ReadonlyArray<string>] | undefined
}

/** The program of the command, built of the sources as they are. */
export const program = (): string => {
  const main = Path.join(projectRoot, "dist/cli/main.js")
  const lock = Path.join(Os.tmpdir(), `effect-fastcgi-build-${Buffer.from(projectRoot).toString("hex").slice(-40)}`)
  // Two files of tests may want it at the same time.
  while (stale(main)) {
    try {
      Fs.mkdirSync(lock)
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
      continue
    }
    try {
      if (stale(main)) {
        const { status, stderr } = ChildProcess.spawnSync("npm", ["run", "--silent", "build"], {
          cwd: projectRoot,
          encoding: "utf8"
        })
        if (status !== 0) throw new Error(stderr)
      }
    } finally {
      Fs.rmdirSync(lock)
    }
  }
  return main
}

/** Starts the command. It is killed with the scope. */
export const start = (
  args: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(args, options)),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** Runs the command to its end. */
export const run = (args: ReadonlyArray<string>, options?: Options): Effect.Effect<Ended> =>
  Effect.scoped(Effect.flatMap(start(args, options), ({ ended }) => ended))

/** `run` of these arguments. */
export const command = (...args: ReadonlyArray<string>): Effect.Effect<Ended> => run(args)

const stale = (main: string): boolean => {
  if (!Fs.existsSync(main)) return true
  const built = Fs.statSync(main).mtimeMs
  const newer = (path: string) => Fs.statSync(Path.join(projectRoot, path)).mtimeMs > built
  return newer("package.json") || newer("scripts/bundle.js") ||
    Fs.readdirSync(Path.join(projectRoot, "src"), { recursive: true, encoding: "utf8" })
      .some((file) => file.endsWith(".ts") && newer(Path.join("src", file)))
}

const spawn = (args: ReadonlyArray<string>, options: Options): Running => {
  const [file, ...all] = [...options.through ?? [], process.execPath, program(), ...args]
  const child = ChildProcess.spawn(file!, all, {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: "1", NODE_NO_WARNINGS: "1", ...options.env },
    stdio: [options.stdin ?? "ignore", "pipe", "pipe"]
  })
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  const changed = () => listeners.forEach((listener) => listener())
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    changed()
  })
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
    changed()
  })
  let ended: Ended | undefined
  child.on("close", (code, signal) => {
    ended = { code, signal, stdout, stderr }
    changed()
  })
  const when = <A>(look: () => A | undefined): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const listener = () => {
        const found = look()
        if (found === undefined) return
        listeners.delete(listener)
        resume(Effect.succeed(found))
      }
      listeners.add(listener)
      listener()
      return Effect.sync(() => listeners.delete(listener))
    })
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    says: (pattern) =>
      Effect.flatMap(
        when(() => pattern.test(stdout + stderr) ? true : ended === undefined ? undefined : false),
        (found) =>
          found ? Effect.void : Effect.die(new Error(`ended without ${String(pattern)}:\n${stdout}\n${stderr}`))
      ),
    ended: when(() => ended)
  }
}
