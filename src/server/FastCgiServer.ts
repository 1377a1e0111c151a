/**
 * Serves handlers for the three roles over a listener: a fiber per request, interrupted when the web server gives the
 * request up, drained when the scope closes.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { FastCgiListener } from "./FastCgiListener.ts"
import type {
  Authorizer,
  CurrentAuthorizer,
  CurrentFilter,
  CurrentResponder,
  Filter,
  Responder
} from "./FastCgiRequest.ts"
import type * as FastCgiResponse from "./FastCgiResponse.ts"
import type { FastCgiServerOptions } from "./FastCgiServerOptions.ts"
import * as Engine from "./internal/engine.ts"
import { startsOf } from "./internal/roles.ts"

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
  readonly responder?: Handler<Responder, FastCgiResponse.FastCgiResponse, E1, R1> | undefined
  readonly authorizer?: Handler<Authorizer, FastCgiResponse.FastCgiAuthorization, E2, R2> | undefined
  readonly filter?: Handler<Filter, FastCgiResponse.FastCgiResponse, E3, R3> | undefined
}

/**
 * A function of the request, or an Effect that asks for it: `FastCgiRequest.CurrentResponder` and its like.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler<Request, A, E, R> = ((request: Request) => Effect.Effect<A, E, R>) | Effect.Effect<A, E, R>

/**
 * What handlers need beyond what every request brings: its scope and itself.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements<R1, R2, R3> =
  | Exclude<R1, Scope.Scope | CurrentResponder>
  | Exclude<R2, Scope.Scope | CurrentAuthorizer>
  | Exclude<R3, Scope.Scope | CurrentFilter>

/**
 * Serves handlers until the layer's scope closes; then drains: stops accepting, lets what runs finish for at most
 * `gracefulShutdownTimeout`, interrupts the rest. How much runs at once is limited by the `FastCgiAdmission` that is
 * provided, or by the defaults.
 *
 * **Example** (A responder on a UNIX socket)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const HelloLive = FastCgiServer.serve({
 *   responder: (request) => Effect.succeed(FastCgiResponse.make(`Hello ${request.params.get("REMOTE_ADDR")}\n`))
 * }).pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const serve = <E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options?: FastCgiServerOptions
): Layer.Layer<never, never, FastCgiListener | Requirements<R1, R2, R3>> =>
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
): Effect.Effect<void, never, FastCgiListener | Scope.Scope | Requirements<R1, R2, R3>> => {
  const starts = startsOf(handlers)
  return Engine.serve<Requirements<R1, R2, R3>>({
    ...options,
    handles: (role) => starts[role] !== undefined,
    fork: (request, context) => starts[request.role]!(request, context)
  })
}
