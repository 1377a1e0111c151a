/**
 * A supervisor that is replaced by a new one: the same command line, started by the old one with its sockets.
 */
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { unwrap, wrap } from "./messages.ts"
import { type SharedSockets, socketsVariable } from "./sharedSockets.ts"

/**
 * Starts a successor and waits until its workers serve. Gives its process id; fails with what has become of it otherwise, and
 * nothing has changed.
 */
export const startSuccessor = (sockets: SharedSockets): Effect.Effect<number, string> =>
  Effect.flatMap(sockets.handed(firstFd), ({ handles, text }) =>
    Effect.callback((resume) => {
      const child = ChildProcess.spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
        // Its watchdog is told by its own id, which systemd learns when it is the main process.
        env: { ...process.env, [socketsVariable]: text, WATCHDOG_PID: undefined },
        stdio: ["inherit", "inherit", "inherit", "ipc", ...handles.map(({ fd }) => fd)]
      })
      const fail = (how: string) => resume(Effect.fail(`(process ${child.pid}) has ended (${how}) before it served`))
      child.once("exit", (code, signal) => fail(signal ?? `exit ${code}`))
      child.once("error", (error) => fail(error.message))
      child.on("message", (content) => {
        if (!isServes(unwrap(content))) return
        child.removeAllListeners("exit")
        // It goes on when this process has ended.
        child.unref()
        if (child.connected) child.disconnect()
        resume(Effect.succeed(child.pid!))
      })
      return Effect.sync(() => child.kill("SIGTERM"))
    }))

/** Whether another supervisor waits for this one to serve. To be asked before its sockets are adopted. */
export const isSuccessor = (): boolean => process.env[socketsVariable] !== undefined && process.send !== undefined

/** Tells the supervisor before that this one serves. */
export const tellPredecessor: Effect.Effect<void> = Effect.callback((resume) => {
  if (!process.connected) return resume(Effect.void)
  process.send?.(wrap({ _tag: "Ready" }), undefined, undefined, () => {
    if (process.connected) process.disconnect()
    resume(Effect.void)
  })
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const isServes = (message: unknown): boolean =>
  typeof message === "object" && message !== null && "_tag" in message && message._tag === "Ready"

// Behind standard input, output and error, and the channel between the two.
const firstFd = 4
