/**
 * An application for the command to talk to, in this process, over a UNIX socket.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Path from "node:path"
import * as NodeFastCgiListener from "../../../src/node/NodeFastCgiListener.ts"
import * as FastCgiRequest from "../../../src/server/FastCgiRequest.ts"
import * as FastCgiResponse from "../../../src/server/FastCgiResponse.ts"
import * as FastCgiServer from "../../../src/server/FastCgiServer.ts"
import * as FastCgiStatus from "../../../src/server/FastCgiStatus.ts"
import { temporaryDirectory } from "../../support/webServers.ts"

/** Where it listens, and what it has seen. */
export interface App {
  readonly directory: string
  readonly socket: string
  /** Requests that were given up by their client, by their URLs. */
  readonly aborted: Queue.Queue<string>
  /** How many requests have come. */
  readonly requests: () => number
}

/**
 * Starts it. `/hello` says hello, `/echo` answers with params and body, `/status/NNN` with that status, `/never` with nothing,
 * `/endless` for ever, `/stderr` writes to STDERR, `/broken` answers with no header block, `/short` with less than it says.
 */
export const start: Effect.Effect<App, never, Scope.Scope> = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const socket = Path.join(directory, "app.sock")
  const aborted = yield* Queue.unbounded<string>()
  let requests = 0
  const layer = FastCgiServer.serve({
    responder: Effect.flatMap(FastCgiRequest.CurrentResponder, (request) => {
      requests++
      return respond(request, aborted)
    }),
    authorizer: Effect.flatMap(FastCgiRequest.CurrentAuthorizer, ({ params }) =>
      Effect.succeed(
        params.get("REMOTE_USER") === "me" ? FastCgiResponse.allow() : FastCgiResponse.deny()
      ))
  }).pipe(
    Layer.provide(NodeFastCgiListener.layerUnix({ path: socket })),
    Layer.provide(FastCgiStatus.layer({ path: "/own-status", pool: "tests" }))
  )
  yield* Effect.orDie(Layer.build(layer))
  return { directory, socket, aborted, requests: () => requests }
})

const respond = (
  request: FastCgiRequest.Responder,
  aborted: Queue.Queue<string>
): Effect.Effect<FastCgiResponse.FastCgiAnswer> => {
  const url = request.params.get("REQUEST_URI") ?? ""
  const path = url.split("?")[0]!
  if (path.startsWith("/status/")) {
    return Effect.succeed(FastCgiResponse.make("sorry\n", { status: Number(path.slice("/status/".length)) }))
  }
  switch (path) {
    case "/hello":
      return Effect.succeed(FastCgiResponse.make("hello\n", { headers: { "X-From": "app" } }))
    case "/echo":
      return Effect.map(
        Effect.orDie(Stream.mkString(Stream.decodeText(request.stdin))),
        (body) =>
          FastCgiResponse.make(JSON.stringify({ params: request.params.toRecord(), body }), {
            headers: { "Content-Type": "application/json" }
          })
      )
    case "/stderr":
      return Effect.as(request.stderr("something odd\n"), FastCgiResponse.make("done\n"))
    case "/never":
      return Effect.onInterrupt(Effect.never, () => Queue.offer(aborted, url))
    case "/endless":
      return Effect.succeed(
        FastCgiResponse.make(
          Stream.ensuring(
            Stream.forever(Stream.make(Buffer.from("line\n".repeat(1000)))),
            Queue.offer(aborted, url)
          )
        )
      )
    case "/broken":
      return Effect.succeed(FastCgiResponse.raw({ stdout: Stream.make(Buffer.from("no header block at all\n")) }))
    case "/short":
      return Effect.succeed(
        FastCgiResponse.raw({ stdout: Stream.make(Buffer.from("Content-Length: 100\r\n\r\nnot so long\n")) })
      )
    case "/failed":
      return Effect.succeed(FastCgiResponse.make("failed\n", { appStatus: 3 }))
    default:
      return Effect.succeed(FastCgiResponse.make("no such page\n", { status: 404 }))
  }
}
