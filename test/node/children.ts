/**
 * Real child processes for the tests of this folder. Each is ended by its own id, with its scope.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { eventually, nextEvent } from "./sockets.ts"

/** A child with what it has said. */
export interface Child {
  readonly process: ChildProcess.ChildProcess
  readonly lines: () => ReadonlyArray<string>
  readonly stderr: () => string
  /** Waits for a line that begins so. */
  readonly line: (start: string) => Effect.Effect<string, Error>
  /** Waits for its end: the exit code and the signal. */
  readonly exited: Effect.Effect<ReadonlyArray<unknown>>
}

const watch = (child: ChildProcess.ChildProcess): Child => {
  let stdout = ""
  let stderr = ""
  child.stdout!.on("data", (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const exited = nextEvent(child, "close")
  let hasExited = false
  child.once("close", () => {
    hasExited = true
  })
  const lines = () => stdout.split("\n").filter((line) => line !== "")
  return {
    process: child,
    lines,
    stderr: () => stderr,
    exited,
    line: (start) =>
      Effect.flatMap(
        eventually(
          () => hasExited || lines().some((line) => line.startsWith(start)),
          `a line of the child that begins with "${start}"`
        ),
        () => {
          const found = lines().find((line) => line.startsWith(start))
          return found === undefined
            ? Effect.fail(new Error(`no line "${start}" in ${JSON.stringify(stdout)}; stderr: ${stderr}`))
            : Effect.succeed(found)
        }
      )
  }
}

/** Starts a child and kills it with the scope. */
export const spawned = (start: () => ChildProcess.ChildProcess): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(() => watch(start())), (child) =>
    Effect.suspend(() => {
      child.process.kill("SIGKILL")
      return child.exited
    }))

/** Opens a listening socket for `use`, which starts whoever inherits it. This process does not keep its copy. */
export const withListening = <A, E, R>(
  to: string | { readonly host: string },
  use: (fd: number, server: Net.Server) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const server = new Net.Server()
    const listening = nextEvent(server, "listening")
    if (typeof to === "string") server.listen(to, 33)
    else server.listen(0, to.host)
    yield* listening
    const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle
    const result = yield* use(fd, server)
    // Node would remove the path.
    if (typeof to === "string") Fs.renameSync(to, `${to}.kept`)
    server.close()
    if (typeof to === "string") Fs.renameSync(`${to}.kept`, to)
    return result
  })
