/**
 * The process of a server under test: one that runs, by its id, or one that is started here, and started again when a case
 * has ended it.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import type { SubjectProcess } from "../../conformance/Conformance.ts"

/** A process that somebody else has started. */
export const byId = (pid: number): SubjectProcess => ({
  ended: Effect.sync(() => isRunning(pid) ? undefined : "its process has ended"),
  restart: undefined,
  ...memoryOf(() => pid)
})

/** Starts a command line, which the shell splits into words, and stops it with the scope. */
export const start = (commandLine: string): Effect.Effect<SubjectProcess, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(Effect.sync(() => new Started(commandLine)), (started) => started.stop),
    (started) => ({
      ended: Effect.sync(() => started.ended),
      restart: Effect.andThen(started.stop, Effect.sync(() => started.spawn())),
      ...memoryOf(() => started.child.pid)
    })
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long a server may take to end after SIGTERM. Milliseconds.
const stopDeadline = 3000

class Started {
  child!: ChildProcess.ChildProcess
  ended: string | undefined
  private readonly commandLine: string

  constructor(commandLine: string) {
    this.commandLine = commandLine
    this.spawn()
  }

  spawn(): void {
    this.ended = undefined
    // With exec the shell becomes the server, so that its id is the server's. What it says on stdout is not the report's.
    const child = ChildProcess.spawn("sh", ["-c", `exec ${this.commandLine}`], { stdio: ["ignore", 2, 2] })
    this.child = child
    const end = (how: string) => {
      if (this.child === child) this.ended = how
    }
    child.on("exit", (code, signal) => end(signal ?? `exit ${code}`))
    child.on("error", (error) => end(error.message))
  }

  readonly stop = Effect.callback<void>((resume) => {
    if (this.ended !== undefined) {
      resume(Effect.void)
      return
    }
    const child = this.child
    const timer = setTimeout(() => child.kill("SIGKILL"), stopDeadline)
    child.once("exit", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    child.kill()
  })
}

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

// Linux tells both numbers; elsewhere there is none.
const memoryOf = (pid: () => number | undefined): Pick<SubjectProcess, "memory" | "peak"> => ({
  memory: Effect.sync(() => {
    // Starts the peak anew; without the right to, it is that of the whole life.
    attempt(() => Fs.writeFileSync(`/proc/${pid()}/clear_refs`, "5"))
    return kibibytes(pid(), "VmRSS")
  }),
  peak: Effect.sync(() => kibibytes(pid(), "VmHWM"))
})

const kilobytes = /^(\d+) kB$/

const kibibytes = (pid: number | undefined, name: string): number | undefined => {
  const status = attempt(() => Fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  const line = status?.split("\n").find((line) => line.startsWith(`${name}:`))
  const size = line === undefined ? null : kilobytes.exec(line.slice(name.length + 1).trim())
  return size === null ? undefined : Number(size[1]) * 1024
}

const attempt = <A>(f: () => A): A | undefined => {
  try {
    return f()
  } catch {
    return undefined
  }
}
