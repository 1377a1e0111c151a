/**
 * The application that the conformance suite asks for (docs/conformance.md), on effect-fastcgi. It listens wherever its
 * layers say: main.ts takes a UNIX socket, the tests a listener in memory.
 */
import {
  type FastCgiParams,
  type FastCgiRequest,
  type FastCgiRequestError,
  FastCgiResponse,
  FastCgiServer,
  type FastCgiServerOptions
} from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** Serves the application. */
export const serve = (options?: FastCgiServerOptions.FastCgiServerOptions) => FastCgiServer.serve(handlers(), options)

/** The application's handlers, which count together. */
export const handlers = () => {
  const counters = { started: 0, ended: 0, aborted: 0 }

  // A handler that is interrupted, or whose input breaks off, has been told that its request is given up.
  const counted = <E, R>(
    handler: Effect.Effect<FastCgiResponse.FastCgiResponse, E, R>
  ) =>
    Effect.andThen(
      Effect.addFinalizer((exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit)) counters.ended++
          else counters.aborted++
        })
      ),
      Effect.suspend(() => {
        counters.started++
        return handler
      })
    )

  return {
    responder: (request) => {
      const { number, path } = target(request.params)
      if (path === "/counters") return Effect.succeed(text(counterLines(counters)))
      return counted(respond(request, path, number))
    },
    authorizer: (request) =>
      Effect.succeed(
        target(request.params).path === "/allow"
          ? FastCgiResponse.allow({ X_CONFORMANCE: "yes" })
          : FastCgiResponse.deny()
      ),
    filter: (request) => counted(filter(request))
  } satisfies FastCgiServer.Handlers<never, Scope.Scope, never, never, never, Scope.Scope>
}

const respond = (
  request: FastCgiRequest.Responder,
  path: string,
  number: number
): Effect.Effect<FastCgiResponse.FastCgiResponse> => {
  switch (path) {
    case "/echo":
      return Effect.succeed(
        FastCgiResponse.make(request.stdin, { headers: { "Content-Type": "application/octet-stream" } })
      )
    case "/length":
      return Effect.match(sizeOf(request.stdin), {
        onSuccess: (length) => text(`${length}\n`),
        onFailure: (error) => text(`${error.message}\n`, 400)
      })
    case "/params":
      return Effect.succeed(text(paramLines(request.params)))
    case "/sleep":
      return Effect.as(Effect.sleep(number), text("slept\n"))
    case "/large":
      return Effect.succeed(
        FastCgiResponse.make(zeros(number), { headers: { "Content-Type": "application/octet-stream" } })
      )
    case "/stderr":
      return Effect.as(request.stderr("to stderr\n"), text("done\n"))
    case "/appstatus":
      return Effect.succeed(FastCgiResponse.make("done\n", { appStatus: number }))
    default:
      return Effect.succeed(text("not found\n", 404))
  }
}

const filter = (request: FastCgiRequest.Filter): Effect.Effect<FastCgiResponse.FastCgiResponse> =>
  target(request.params).path === "/cached"
    ? Effect.succeed(text("from the cache\n"))
    : Effect.match(Effect.zip(sizeOf(request.stdin), sizeOf(request.data)), {
      onSuccess: ([stdin, data]) => text(`${stdin} ${data}\n`),
      onFailure: (error) => text(`${error.message}\n`, 400)
    })

const text = (body: string, status = 200) => FastCgiResponse.make(body, { status })

const target = (params: FastCgiParams.FastCgiParams): { readonly path: string; readonly number: number } => {
  const uri = params.get("REQUEST_URI") ?? ""
  const [path = "", query = ""] = uri.split("?")
  return { path, number: Number(/=(\d+)$/.exec(query)?.[1] ?? 0) }
}

const sizeOf = (body: Stream.Stream<Uint8Array, FastCgiRequestError.FastCgiRequestError>) =>
  Stream.runFold(body, () => 0, (size, chunk) => size + chunk.length)

const counterLines = (counters: Readonly<Record<string, number>>): string =>
  Object.entries(counters).map(([name, count]) => `${name} ${count}\n`).join("")

const paramLines = (params: FastCgiParams.FastCgiParams): string => {
  let lines = ""
  params.forEachLatin1((name, value) => {
    if (name.startsWith("X_")) lines += `${hex(name)}=${hex(value)}\n`
  })
  return lines
}

const hex = (latin1: string): string => {
  let digits = ""
  for (let i = 0; i < latin1.length; i++) digits += latin1.charCodeAt(i).toString(16).padStart(2, "0")
  return digits
}

const chunk = new Uint8Array(64 * 1024)

const zeros = (size: number): Stream.Stream<Uint8Array> =>
  Stream.unfold(
    size,
    (left) =>
      Effect.succeed(left === 0 ? undefined : [chunk.subarray(0, left), Math.max(0, left - chunk.length)] as const)
  )
