/**
 * Serves handlers for the three roles over a listener: a fiber per request, interrupted when the web server gives the
 * request up, drained when the scope closes.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CgiHeadError } from "../cgi/CgiResponse.ts"
import type { ConnectionRequest } from "../connection/internal/connectionRequest.ts"
import { Role } from "../protocol/FastCgiRecord.ts"
import type { FastCgiAdmission } from "./FastCgiAdmission.ts"
import type { FastCgiListener } from "./FastCgiListener.ts"
import type { Authorizer, Filter, Responder } from "./FastCgiRequest.ts"
import * as FastCgiResponse from "./FastCgiResponse.ts"
import type { FastCgiServerOptions } from "./FastCgiServerOptions.ts"
import * as Engine from "./internal/engine.ts"
import { AuthorizerImpl, FilterImpl, ResponderImpl } from "./internal/requests.ts"
import * as Respond from "./internal/respond.ts"

/**
 * The handlers of a server, by role. A role without a handler is answered with UNKNOWN_ROLE (SPEC 5.5).
 *
 * **Details**
 *
 * A handler starts when the params of its request are complete, before the body is (SPEC 6.2). It is interrupted when the
 * web server sends ABORT_REQUEST or closes the connection; its finalizers run before END_REQUEST is sent.
 *
 * A Filter's response waits until all of STDIN has come (SPEC 6.4): what its handler has left unread of `stdin` when it
 * returns is dropped, so the body of the response may read `data`, but not `stdin`.
 *
 * When it fails before its response has begun, the web server gets `Status: 500` (for an Authorizer, that is a denial),
 * its error log a line that says so, and Effect's logger the cause.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handlers<E1, R1, E2, R2, E3, R3> {
  readonly responder?: ((request: Responder) => Effect.Effect<FastCgiResponse.FastCgiResponse, E1, R1>) | undefined
  readonly authorizer?:
    | ((request: Authorizer) => Effect.Effect<FastCgiResponse.FastCgiAuthorization, E2, R2>)
    | undefined
  readonly filter?: ((request: Filter) => Effect.Effect<FastCgiResponse.FastCgiResponse, E3, R3>) | undefined
}

/**
 * Serves handlers until the layer's scope closes; then drains: stops accepting, lets what runs finish for at most
 * `gracefulShutdownTimeout`, interrupts the rest.
 *
 * **Example** (A responder on a UNIX socket)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiAdmission, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const HelloLive = FastCgiServer.serve({
 *   responder: (request) => Effect.succeed(FastCgiResponse.make(`Hello ${request.params.get("REMOTE_ADDR")}\n`))
 * }).pipe(
 *   Layer.provide([NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" }), FastCgiAdmission.layer()])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const serve = <E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options?: FastCgiServerOptions
): Layer.Layer<never, never, FastCgiListener | FastCgiAdmission | Exclude<R1 | R2 | R3, Scope.Scope>> =>
  Layer.effectDiscard(serveEffect(handlers, options))

/**
 * Starts serving handlers until the current scope closes, then drains.
 *
 * @category constructors
 * @since 0.1.0
 */
export const serveEffect = <E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options?: FastCgiServerOptions
): Effect.Effect<
  void,
  never,
  FastCgiListener | FastCgiAdmission | Scope.Scope | Exclude<R1 | R2 | R3, Scope.Scope>
> => {
  const { authorizer, filter, responder } = handlers
  const handle = (request: ConnectionRequest): Effect.Effect<void, unknown, R1 | R2 | R3> => {
    switch (request.role) {
      case Role.Responder:
        return Effect.flatMap(
          responder!(new ResponderImpl(request)),
          (response) => Respond.send(request, response)
        )
      case Role.Authorizer:
        return Effect.flatMap(
          authorizer!(new AuthorizerImpl(request)),
          (decision) => authorize(request, decision)
        )
      default: {
        const input = new FilterImpl(request)
        return Effect.matchCauseEffect(filter!(input), {
          onSuccess: (response) => Effect.flatMap(input.ready, () => Respond.send(request, response)),
          onFailure: (cause) =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.failCause(cause)
              : Effect.andThen(input.ready, Effect.failCause(cause))
        })
      }
    }
  }
  return Engine.serve<Exclude<R1 | R2 | R3, Scope.Scope>>({
    ...options,
    handles: (role) =>
      role === Role.Responder && responder !== undefined ||
      role === Role.Authorizer && authorizer !== undefined ||
      role === Role.Filter && filter !== undefined,
    fork: (request, context) =>
      Effect.runForkWith(context)(
        Effect.onExit(
          // A handler that throws before it has made an Effect fails its request, not the connection.
          Effect.scoped(Effect.suspend(() => handle(request))),
          (exit) => Exit.isFailure(exit) ? logTooLate(request, exit.cause) : Effect.void
        ) as Effect.Effect<void, unknown, Exclude<R1 | R2 | R3, Scope.Scope>>
      )
  })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// What fails before it has been answered is answered for and logged by the engine. Here is what is seen by nobody else: the
// failure of a body or a finalizer behind the head, and a defect while a request was being aborted.
const logTooLate = (request: ConnectionRequest, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  (request.aborted ? Cause.hasDies(cause) : request.gone)
    ? Effect.logError("a FastCGI handler failed when nobody could be told any more", cause)
    : Effect.void

// Nothing but a 200 with its Status line allows (SPEC 6.3), and nothing but `allow` makes one.
const authorize = (
  request: ConnectionRequest,
  decision: FastCgiResponse.FastCgiAuthorization
): Effect.Effect<void, unknown> => {
  if (decision._tag === "FastCgiDeny") {
    const { response } = decision
    return Respond.send(
      request,
      response.status === 200 ? { ...response, status: 403, statusText: undefined } : response
    )
  }
  const headers: Record<string, string> = {}
  for (const name in decision.variables) {
    if (name === "") {
      return Effect.fail(new CgiHeadError({ kind: "InvalidHeaderName", message: "a variable has no name" }))
    }
    headers[`Variable-${name}`] = decision.variables[name]
  }
  return Respond.send(request, FastCgiResponse.make(undefined, { headers }))
}
