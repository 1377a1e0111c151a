/**
 * Whether an application is alive: it answers a request.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiResponse from "../../cgi/CgiResponse.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { FastCgiPing } from "../FastCgiPool.ts"
import type { ClientRequest } from "./clientRequest.ts"
import { request, toResponse } from "./request.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

const defaultParams = {
  REQUEST_METHOD: "GET",
  REQUEST_URI: "/ping",
  SCRIPT_NAME: "/ping",
  SCRIPT_FILENAME: "/ping",
  QUERY_STRING: "",
  SERVER_PROTOCOL: "HTTP/1.1"
}

/** What a ping needs of its pool. */
export interface Pinged {
  readonly connect: (scope: Scope.Scope) => Effect.Effect<WebServerEnd, FastCgiClientError>
  /** Takes a place for a connection. Returns whether there was one. */
  readonly hold: () => boolean
  readonly free: () => void
  readonly tell: (alive: boolean) => void
}

/** Asks again and again. */
export const pinging = (options: FastCgiPing, upstream: Pinged): Effect.Effect<never> => {
  const alive = Effect.scoped(Effect.flatMap(Effect.scope, (scope) => isAlive(upstream.connect(scope), options)))
  const ping = Effect.suspend(() =>
    upstream.hold()
      ? Effect.onExit(Effect.map(alive, upstream.tell), () => Effect.sync(upstream.free))
      : Effect.void
  )
  return Effect.forever(Effect.delay(ping, options.interval ?? "10 seconds"))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Sends a request on a connection of its own.
const isAlive = (
  connect: Effect.Effect<WebServerEnd, FastCgiClientError>,
  { params, timeout }: FastCgiPing
): Effect.Effect<boolean, never, Scope.Scope> =>
  connect.pipe(
    Effect.flatMap((connection) =>
      request<never, never>(connection, { params: Object.entries(params ?? defaultParams) }, false)
    ),
    Effect.flatMap(answered),
    Effect.timeoutOrElse({ duration: timeout ?? "5 seconds", orElse: () => Effect.succeed(false) }),
    Effect.catch(() => Effect.succeed(false)),
    // A bug of `connect`. Without this, nobody would ping any more.
    Effect.catchDefect(() => Effect.succeed(false))
  )

// An answer that is there as a whole, with a head that does not say that something is wrong.
const answered = (request: ClientRequest) => {
  const parser = CgiResponse.makeHeadParser()
  let head: CgiResponse.CgiHead | CgiResponse.CgiHeadError | undefined
  return Effect.map(
    Stream.runForEachArray(toResponse(request).stdout, (chunks) => {
      for (const chunk of chunks) head ??= parser.push(chunk)
      return head instanceof CgiResponse.CgiHeadError ? Effect.fail(head) : Effect.void
    }),
    () => head?._tag === "CgiHead" && head.status < 500
  )
}
