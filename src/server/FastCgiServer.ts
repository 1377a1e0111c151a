/**
 * Serves handlers for the three roles over a listener, with a fiber per request. The fiber is interrupted when the web server aborts
 * the request. Closing the scope drains the server.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { CgiHeadError } from "../cgi/CgiResponse.ts"
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"
import { ProtocolStatus, Role } from "../protocol/FastCgiRecord.ts"
import type { FastCgiListener } from "./FastCgiListener.ts"
import * as FastCgiMetrics from "./FastCgiMetrics.ts"
import {
  type Authorizer,
  CurrentAuthorizer,
  CurrentFilter,
  CurrentResponder,
  type Filter,
  type Responder
} from "./FastCgiRequest.ts"
import type { FastCgiRequestError } from "./FastCgiRequestError.ts"
import * as FastCgiResponse from "./FastCgiResponse.ts"
import type { FastCgiServerOptions } from "./FastCgiServerOptions.ts"
import { AfterResponse } from "./internal/afterResponse.ts"
import type { ApplicationRequest } from "./internal/applicationRequest.ts"
import { BodyLimit } from "./internal/bodyLimit.ts"
import * as Engine from "./internal/engine.ts"
import { applicationRequestOf, AuthorizerImpl, FilterImpl, ResponderImpl } from "./internal/requests.ts"
import * as Respond from "./internal/respond.ts"
import { Stopping } from "./internal/stopping.ts"

/**
 * The handlers of a server, by role. A role without a handler is answered with UNKNOWN_ROLE (SPEC 5.5).
 *
 * **Details**
 *
 * A handler starts when the params of its request are complete, before the body is (SPEC 6.2). It is interrupted when the web server
 * sends ABORT_REQUEST or closes the connection. Its finalizers run before END_REQUEST is sent.
 *
 * A Filter's response waits until all of STDIN has come (SPEC 6.4). When its handler returns, the unread rest of `stdin` is dropped, so
 * the body of the response may read `data`, but not `stdin`.
 *
 * When a handler fails before its response has begun, the web server gets `Status: 500` (for an Authorizer, that is a denial), its
 * error log gets a line, and Effect's logger gets the cause.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handlers<E1, R1, E2, R2, E3, R3> {
  readonly responder?: Handler<Responder, FastCgiResponse.FastCgiAnswer, E1, R1> | undefined
  readonly authorizer?:
    | Handler<Authorizer, FastCgiResponse.FastCgiAuthorization | FastCgiResponse.FastCgiRawResponse, E2, R2>
    | undefined
  readonly filter?: Handler<Filter, FastCgiResponse.FastCgiAnswer, E3, R3> | undefined
}

/**
 * A function of the request, or an Effect that asks for it with `FastCgiRequest.CurrentResponder` and similar services.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler<Request, A, E, R> = ((request: Request) => Effect.Effect<A, E, R>) | Effect.Effect<A, E, R>

/**
 * The requirements of handlers, without the scope and the request, which every request brings.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements<R1, R2, R3> =
  | Exclude<R1, Scope.Scope | CurrentResponder>
  | Exclude<R2, Scope.Scope | CurrentAuthorizer>
  | Exclude<R3, Scope.Scope | CurrentFilter>

/**
 * Serves handlers until the layer's scope closes. Then it drains: it stops accepting, lets requests finish for at most
 * `gracefulShutdownTimeout`, and interrupts the rest. The `FastCgiAdmission` in the context limits how much runs at once; without one
 * the defaults hold.
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
  return Engine.serve(toEngineOptions(handlers, options))
}

/** @internal What an engine runs for handlers. */
export const toEngineOptions = <E1, R1, E2, R2, E3, R3>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options: FastCgiServerOptions | undefined
): Engine.EngineOptions<Requirements<R1, R2, R3>> => {
  const starts = startsOf(handlers, new BodyLimit(options))
  return {
    ...options,
    handles: (role) => starts[role] !== undefined,
    requestOf,
    fork: (request, context) => starts[request.role]!(request, context)
  }
}

/**
 * Where `forward` passes requests on to: a `FastCgiClient`, or anything with its `request`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Forwarding<E> {
  readonly request: (options: {
    readonly role: number
    readonly params: FastCgiParams
    readonly stdin?: Stream.Stream<Uint8Array, FastCgiRequestError> | undefined
    readonly data?: Stream.Stream<Uint8Array, FastCgiRequestError> | undefined
  }) => Effect.Effect<
    {
      readonly stdout: Stream.Stream<Uint8Array, E>
      readonly stderr: Stream.Stream<Uint8Array, E>
      readonly end: Effect.Effect<FastCgiResponse.FastCgiEnd, E>
    },
    E,
    Scope.Scope
  >
}

/**
 * Handlers for all three roles that pass each request on to another application, and its answer back. Params, STDIN and DATA, STDOUT
 * and STDERR, appStatus and protocolStatus pass unchanged and as they come, with backpressure in both directions. A request that is
 * aborted on this side is aborted on the other.
 *
 * **Details**
 *
 * The client decides whether the application's connections carry one request or many, and whether they are kept. A `FastCgiPool` opens
 * another connection when one is lost. When the application cannot be reached, the request is answered with 500. For an Authorizer
 * that is a denial.
 *
 * **Example** (A multiplexer in front of another application)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiServer } from "effect-fastcgi"
 * import { FastCgiPool } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector, NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * const connect = NodeFastCgiConnector.connect({ path: "/run/app.sock" })
 *
 * export const Forwarder = Layer.unwrap(Effect.map(
 *   FastCgiPool.make({ connect, keepConnection: true, maxRequests: 64 }),
 *   (pool) => FastCgiServer.serve(FastCgiServer.forward(pool))
 * )).pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/front.sock" })))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const forward = <E>(
  client: Forwarding<E>
): Handlers<E, Scope.Scope, E, Scope.Scope, E, Scope.Scope> => {
  const handle = (request: Responder | Authorizer | Filter) =>
    Effect.map(
      client.request({ role: request.role, params: request.params, ...wholeInputsOf(request) }),
      ({ end, stderr, stdout }) =>
        FastCgiResponse.raw({
          stdout: Stream.catchIf(stdout, isRefusal, () => Stream.empty),
          stderr: Stream.catchIf(stderr, isRefusal, () => Stream.empty),
          end: Effect.catchIf(
            end,
            isRefusal,
            (error) => Effect.succeed({ appStatus: 0, protocolStatus: protocolStatusOf(error) })
          )
        })
    )
  return { responder: handle, authorizer: handle, filter: handle }
}

/**
 * Runs an effect after the response to the current request is complete: the web server has its answer, the id is free, and nobody
 * waits. Use it for slow work that needs no answer: a mail, a cache, an event. PHP's `fastcgi_finish_request` does the same.
 *
 * **Details**
 *
 * Returns at once. The effect begins when END_REQUEST has been appended, with the services of the calling fiber and a scope of its own.
 * It begins however the request ended, even after a failed handler or a client that has left. A failure is logged with its cause and
 * counted (`FastCgiMetrics.afterResponseFailed`).
 *
 * A server that stops waits for the effect as for a request, at most `gracefulShutdownTimeout`, and then interrupts it. At most
 * `maxAfterResponse` of them wait or run at the same time. Beyond that, the effect runs at once and `afterResponse` waits for it: answers
 * get slower, and nothing is lost. Interrupting `afterResponse` while it waits interrupts the effect.
 *
 * Works in a handler of any role and in an HTTP app. Where no server of this package runs the fiber, such as over `NodeHttpServer`, the
 * effect is forked at once and nothing waits for it.
 *
 * **Example** (A mail after the response)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import { FastCgiServer } from "effect-fastcgi"
 *
 * const sendMail = Effect.sleep("2 seconds")
 *
 * export const Orders = HttpRouter.add(
 *   "POST",
 *   "/orders",
 *   Effect.as(FastCgiServer.afterResponse(sendMail), HttpServerResponse.empty({ status: 202 }))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const afterResponse = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<void, never, Exclude<R, Scope.Scope>> => {
  const work = Effect.scoped(effect).pipe(
    Effect.asVoid,
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.logWarning("work after a FastCGI response was interrupted")
        : Effect.andThen(
          Metric.update(FastCgiMetrics.afterResponseFailed, 1),
          Effect.logError("work after a FastCGI response failed", cause)
        )
    )
  )
  return Effect.contextWith((context: Context.Context<Exclude<R, Scope.Scope>>) => {
    const take = Context.get(context as Context.Context<never>, AfterResponse)
    const provided = Effect.provideContext(work, context)
    return take === undefined ? Effect.asVoid(Effect.forkDetach(provided)) : take(provided)
  })
}

/**
 * Waits until the server of the current request has been told to stop. Use it to end what would go on for ever, such as a stream of
 * server-sent events: a stop waits for running requests, so one open page delays every restart by `gracefulShutdownTimeout`.
 *
 * **Details**
 *
 * Succeeds when the server no longer accepts, or at once when a handler asks later. A client that connects anew then comes to another
 * process, or to the next one: an `EventSource` does so by itself when its stream has ended.
 *
 * Works in a handler of any role, in an HTTP app and in the stream of a response. It never succeeds where no server of this package
 * runs the fiber, such as over `NodeHttpServer`, and never before the interruption with `disablePreemptiveShutdown`.
 *
 * **Example** (A live stream that ends when the server stops)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Stream from "effect/Stream"
 * import { FastCgiServer } from "effect-fastcgi"
 *
 * const ticks = Stream.tick("1 second").pipe(
 *   Stream.map(() => "data: tick\n\n"),
 *   Stream.interruptWhen(FastCgiServer.stopping),
 *   Stream.encodeText
 * )
 *
 * export const Ticks = HttpRouter.add("GET", "/ticks", HttpServerResponse.stream(ticks, { contentType: "text/event-stream" }))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const stopping: Effect.Effect<void> = Effect.flatten(Stopping)

/** @internal Starts the fiber that answers a request. */
export type Start<R> = (request: ApplicationRequest, context: Context.Context<R>) => Fiber.Fiber<void, unknown>

/** @internal What starts the fiber of a request, by role. */
export const startsOf = <E1, R1, E2, R2, E3, R3>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  bodyLimit: BodyLimit
): Readonly<Record<number, Start<Requirements<R1, R2, R3>> | undefined>> => ({
  [Role.Responder]: start(
    handlers.responder,
    CurrentResponder,
    (request, context) => new ResponderImpl(request, bodyLimit.within(context)),
    (request, _, response) => Effect.flatMap(response, (response) => answer(request, response))
  ),
  [Role.Authorizer]: start(
    handlers.authorizer,
    CurrentAuthorizer,
    (request) => new AuthorizerImpl(request),
    (request, _, decision) => Effect.flatMap(decision, (decision) => authorize(request, decision))
  ),
  [Role.Filter]: start(
    handlers.filter,
    CurrentFilter,
    (request, context) => new FilterImpl(request, bodyLimit.within(context)),
    filterOutput
  )
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const start = <Id, Request, Input extends Request, A, E, R>(
  handler: Handler<Request, A, E, R> | undefined,
  current: Context.Key<Id, Request>,
  inputOf: (request: ApplicationRequest, context: Context.Context<Exclude<R, Scope.Scope | Id>>) => Input,
  answer: (
    request: ApplicationRequest,
    input: Input,
    handled: Effect.Effect<A, E, R>
  ) => Effect.Effect<void, unknown, R>
): Start<Exclude<R, Scope.Scope | Id>> | undefined => {
  if (handler === undefined) return undefined
  // A handler that throws before it has made an Effect fails its request, not the connection.
  const handle = Effect.isEffect(handler)
    ? () => handler
    : (input: Request) => Effect.suspend(() => handler(input))
  return (request, context) => {
    const input = inputOf(request, context)
    const answered = Effect.scoped(answer(request, input, handle(input)))
    // What R leaves when the scope and the request are taken off is in `context`, which TypeScript cannot work out.
    return Effect.runForkWith(Context.add(context, current, input) as Context.Context<unknown>)(
      answered as Effect.Effect<void, unknown>
    )
  }
}

/** @internal The request that a handler's fiber works on. */
export const requestOf = (context: Context.Context<never>): ApplicationRequest | undefined =>
  currentOf(context, CurrentResponder) ?? currentOf(context, CurrentAuthorizer) ?? currentOf(context, CurrentFilter)

const currentOf = <Id, Request>(
  context: Context.Context<never>,
  current: Context.Key<Id, Request>
): ApplicationRequest | undefined => applicationRequestOf(Option.getOrUndefined(Context.getOption(context, current)))

// END_REQUEST without output, and with a protocol status of its own: how `FastCgiClientError` says so.
const refusals: Readonly<Record<string, number>> = {
  CantMultiplex: ProtocolStatus.CantMpxConn,
  Overloaded: ProtocolStatus.Overloaded,
  UnknownRole: ProtocolStatus.UnknownRole
}

const protocolStatusOf = (error: unknown): number | undefined =>
  Predicate.hasProperty(error, "reason") && Predicate.hasProperty(error.reason, "_tag") &&
    typeof error.reason._tag === "string" && Object.hasOwn(refusals, error.reason._tag)
    ? refusals[error.reason._tag]
    : undefined

const isRefusal = (error: unknown): boolean => protocolStatusOf(error) !== undefined

// The input streams as they come, not cut at the length that a variable declares.
const wholeInputsOf = (request: Responder | Authorizer | Filter) =>
  request instanceof ResponderImpl
    ? { stdin: request.wholeStdin }
    : request instanceof FilterImpl
    ? { stdin: request.wholeStdin, data: request.wholeData }
    : {}

const answer = (
  request: ApplicationRequest,
  response: FastCgiResponse.FastCgiAnswer
): Effect.Effect<void, unknown> =>
  response._tag === "FastCgiRawResponse" ? Respond.sendRaw(request, response) : Respond.send(request, response)

// A Filter writes nothing before all of STDIN has come (SPEC 6.4), unless it is being interrupted.
const filterOutput = <E, R>(
  request: ApplicationRequest,
  input: FilterImpl,
  handled: Effect.Effect<FastCgiResponse.FastCgiAnswer, E, R>
): Effect.Effect<void, unknown, R> =>
  Effect.matchCauseEffect(handled, {
    // Bytes go out as they come: who makes them keeps to the order, and may still be reading.
    onSuccess: (response) =>
      response._tag === "FastCgiRawResponse"
        ? Respond.sendRaw(request, response)
        : Effect.flatMap(input.ready, () => Respond.send(request, response)),
    onFailure: (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(input.ready, Effect.failCause(cause))
  })

// Nothing but a 200 with its Status line allows (SPEC 6.3), and nothing but `allow` makes one.
const authorize = (
  request: ApplicationRequest,
  decision: FastCgiResponse.FastCgiAuthorization | FastCgiResponse.FastCgiRawResponse
): Effect.Effect<void, unknown> => {
  if (decision._tag === "FastCgiRawResponse") return Respond.sendRaw(request, decision)
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
      return Effect.fail(new CgiHeadError({ reason: { _tag: "InvalidHeaderName" }, message: "a variable has no name" }))
    }
    headers[`Variable-${name}`] = decision.variables[name]
  }
  return Respond.send(request, FastCgiResponse.make(undefined, { headers }))
}
