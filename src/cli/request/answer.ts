/**
 * One request over a connection of its own, and its answer as it comes.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiResponse from "../../cgi/CgiResponse.ts"
import * as FastCgiClient from "../../client/FastCgiClient.ts"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { clientFailure, type CommandFailure, ExitCode, fail } from "../internal/failure.ts"
import type { Target } from "../internal/target.ts"
import type { Message } from "./message.ts"

/** Handles an answer while it comes. */
export interface Receiver {
  /** Looks at the connection. Default nothing. */
  readonly tap?: ((transport: FastCgiTransport) => FastCgiTransport) | undefined
  /** The head, once, before the body. Returns whether the body is wanted. */
  readonly onHead: (head: CgiResponse.CgiHead) => Effect.Effect<boolean, CommandFailure>
  readonly onBody: (bytes: Uint8Array) => Effect.Effect<void, CommandFailure>
  readonly onStderr: (bytes: Uint8Array) => Effect.Effect<void>
  /** Takes STDOUT as it is: no head is looked for, and everything goes to `onBody`. Default false. */
  readonly raw?: boolean | undefined
}

/** How a request went. Times are milliseconds since the beginning. */
export interface Outcome {
  readonly head: CgiResponse.CgiHead | undefined
  readonly bodySize: number
  readonly appStatus: number
  readonly protocolStatus: number
  readonly connected: number
  readonly answered: number
  readonly ended: number
}

/** Sends the request and waits for the end of its answer. Closing the scope gives it up. */
export const exchange = Effect.fnUntraced(function*(
  target: Target,
  { method, request }: Message,
  receiver: Receiver
): Effect.fn.Return<Outcome, CommandFailure, Scope.Scope> {
  const start = performance.now()
  const since = () => performance.now() - start
  const { tap = (transport) => transport } = receiver
  const client = yield* Effect.mapError(
    FastCgiClient.make({ connect: Effect.map(target.connect, tap), keepConnection: false }),
    clientFailure
  )
  const connected = since()
  const response = yield* Effect.mapError(client.request(request), clientFailure)
  const stderr = yield* Effect.forkScoped(
    Effect.ignore(Stream.runForEach(response.stderr, receiver.onStderr)),
    { startImmediately: true }
  )

  let answered: number | undefined
  let head: CgiResponse.CgiHead | undefined
  let bodySize = 0
  let wanted = true
  const parser = receiver.raw === true ? undefined : CgiResponse.makeHeadParser()
  const onBody = (bytes: Uint8Array) => {
    bodySize += bytes.length
    return wanted && bytes.length > 0 ? receiver.onBody(bytes) : Effect.void
  }
  yield* Stream.mapError(response.stdout, clientFailure).pipe(
    Stream.runForEach(Effect.fnUntraced(function*(chunk) {
      answered ??= since()
      if (parser === undefined || head !== undefined) return yield* onBody(chunk)
      const parsed = parser.push(chunk)
      if (parsed === undefined) return
      if (parsed._tag === "CgiHeadError") return yield* noAnswer(parsed.message)
      head = parsed
      wanted = yield* receiver.onHead(parsed)
      yield* onBody(parsed.rest)
    }))
  )
  const end = yield* Effect.mapError(response.end, clientFailure)
  yield* Fiber.await(stderr)
  if (parser !== undefined && head === undefined) {
    const status = end.appStatus === 0 ? "" : ` (appStatus ${end.appStatus})`
    return yield* answered === undefined
      ? fail(ExitCode.Protocol, `The application ended the request without an answer${status}.`)
      : noAnswer(parser.end().message)
  }
  const length = declaredLength(head)
  if (length !== undefined && bodySize < length && method !== "HEAD" && head?.status !== 304) {
    return yield* fail(ExitCode.Protocol, `The answer ended after ${bodySize} of ${length} bytes (Content-Length).`)
  }
  const ended = since()
  return { head, bodySize, ...end, connected, answered: answered ?? ended, ended }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const noAnswer = (why: string): Effect.Effect<never, CommandFailure> =>
  fail(ExitCode.Protocol, `The answer is no CGI response: ${why}. --raw shows it as it is.`)

const declaredLength = (head: CgiResponse.CgiHead | undefined): number | undefined => {
  const value = head?.headers.find(([name]) => name.toLowerCase() === "content-length")?.[1]
  return value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : undefined
}
