/**
 * Connections to children that serve on their standard input and output (stdioServer.ts).
 */
import * as NodeSink from "@effect/platform-node/NodeSink"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import type { Readable, Writable } from "node:stream"
import { programFile } from "./programFile.ts"

/** What a child serves, and how many connections it has. Only the first is its standard input and output: to start one takes long. */
export interface Children {
  readonly serve: readonly ["conformance"] | readonly ["forward", path: string]
  readonly connections: number
}

/** Each connection is the next one of a child, and of another child when there is none left. The scope ends the children. */
export const connector = (
  { connections, serve: [what, ...more] }: Children
): Effect.Effect<Effect.Effect<FastCgiTransport.FastCgiTransport, never, Scope.Scope>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const children = new Set<ChildProcess.ChildProcess>()
    const left: Array<readonly [Writable, Readable]> = []
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const child of children) child.kill("SIGKILL")
      })
    )
    const start = () => {
      const child = ChildProcess.spawn(
        process.execPath,
        [programFile("test/support/stdioServer.ts"), what, String(connections), ...more],
        { stdio: ["pipe", "pipe", "inherit", ...Array.from({ length: 2 * (connections - 1) }, () => "pipe" as const)] }
      )
      children.add(child)
      child.once("exit", () => children.delete(child))
      const pipes = child.stdio.toSpliced(2, 1)
      for (let at = 0; at < pipes.length; at += 2) left.push([pipes[at] as Writable, pipes[at + 1] as Readable])
    }
    return Effect.suspend(() => {
      if (left.length === 0) start()
      const [writable, readable] = left.shift()!
      return FastCgiTransport.fromStreams({
        input: NodeStream.fromReadable<Uint8Array>({ evaluate: () => readable }),
        output: NodeSink.fromWritable({ evaluate: () => writable, onError: identity })
      })
    })
  })
