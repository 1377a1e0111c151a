/**
 * Effect's `HttpServer` over FastCGI: any `HttpRouter` or `HttpApi` app runs behind a web server, unchanged.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpEffect from "effect/http/HttpEffect"
import type { HttpMiddleware } from "effect/http/HttpMiddleware"
import * as HttpServer from "effect/http/HttpServer"
import { causeResponse, ClientAbort } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as CgiRequest from "../cgi/CgiRequest.ts"
import * as CgiSchema from "../cgi/CgiSchema.ts"
import { empty as noParams, type FastCgiParams } from "../protocol/FastCgiParams.ts"
import { Role } from "../protocol/FastCgiRecord.ts"
import * as FastCgiAdmission from "../server/FastCgiAdmission.ts"
import { FastCgiListener } from "../server/FastCgiListener.ts"
import type { Authorizer, Filter, Responder } from "../server/FastCgiRequest.ts"
import type { FastCgiAuthorization, FastCgiResponse } from "../server/FastCgiResponse.ts"
import { type Handler, requestOf as requestOfHandler, type Requirements, startsOf } from "../server/FastCgiServer.ts"
import type { FastCgiServerOptions } from "../server/FastCgiServerOptions.ts"
import type { ApplicationRequest } from "../server/internal/applicationRequest.ts"
import { BodyLimit } from "../server/internal/bodyLimit.ts"
import * as Engine from "../server/internal/engine.ts"
import { watchersOf } from "../server/internal/watch.ts"
import { FastCgiWebSockets } from "./FastCgiUpgrade.ts"
import { sendResponse } from "./internal/sendResponse.ts"
import { ServerRequest } from "./internal/serverRequest.ts"
import { isRefusal } from "./internal/upgrade.ts"

/**
 * Options of the HTTP server.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiHttpServerOptions extends FastCgiServerOptions {
  /**
   * The path that the app is mounted at in the web server, such as `/app`. It is taken off `request.url`. Default none.
   */
  readonly basePath?: string | undefined
  /**
   * Where `request.url` comes from. Default "request": from the URL that the client asked for (`REQUEST_URI`). "script": from the
   * path that the web server asks for (`SCRIPT_NAME`, `PATH_INFO`, see `CgiRequest.url`). The two differ with SSI, error pages,
   * `X-Accel-Redirect` and rewrite rules. `request.originalUrl` is always the client's.
   */
  readonly urlFrom?: "request" | "script" | undefined
}

/**
 * Handlers for the roles beside HTTP, on the listener of the app: see `FastCgiServer.Handlers`. The context in which the server
 * is made provides their requirements, so provide these beside the listener.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiHttpServerHandlers<E1, R1, E2, R2> {
  /** Default: every request is denied (UNKNOWN_ROLE beside 403). */
  readonly authorizer?: Handler<Authorizer, FastCgiAuthorization, E1, R1> | undefined
  /** Default: every request is refused with UNKNOWN_ROLE. */
  readonly filter?: Handler<Filter, FastCgiResponse, E2, R2> | undefined
}

/**
 * Creates an `HttpServer` from the listener in the context, and from the admission if there is one.
 *
 * **Details**
 *
 * The app is the Responder. A request of another role goes to its handler, or is answered with UNKNOWN_ROLE. A request with CR, LF
 * or NUL in a header, or in a variable that an app takes for one line (`CgiRequest.invalidVariable`), is answered with 400. For an
 * Authorizer that is a denial. A client that goes away interrupts its request's fiber with `ClientAbort`. Closing the scope of
 * `serve` stops accepting, waits at most `gracefulShutdownTimeout` (default 20 seconds) for running requests, and interrupts the
 * rest, which are answered with 503.
 *
 * `upgrade` and `upgradeWith` hand the client's connection over to the app, behind lighttpd 1.4.74 and later and behind
 * `FastCgiGateway`. Elsewhere they fail with an error, and the answer says what is wrong: 426, 403, 400, or 501 behind a web server
 * that carries no WebSockets. WebSockets need `FastCgiUpgrade.FastCgiWebSockets` where the server is made. `NodeFastCgi.layer` has it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options?: FastCgiHttpServerOptions,
  handlers: FastCgiHttpServerHandlers<E1, R1, E2, R2> = {}
): Effect.Effect<HttpServer.HttpServer["Service"], never, FastCgiListener | Requirements<never, R1, R2>> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<FastCgiListener | Requirements<never, R1, R2>>()
    const listener = Context.get(context, FastCgiListener)
    const admission = FastCgiAdmission.fromContext(context)
    const watchers = watchersOf(context as Context.Context<never>)
    const starts = startsOf<never, never, E1, R1, E2, R2>(handlers, new BodyLimit(options))
    const webSockets = Option.getOrUndefined(Context.getOption(context, FastCgiWebSockets))
    const services = Context.make(FastCgiListener, listener).pipe(
      Context.add(FastCgiAdmission.FastCgiAdmission, admission)
    )
    return HttpServer.make({
      address: listener.address,
      serve: (httpEffect, middleware) => {
        const requestOptions = {
          basePath: options?.basePath,
          from: options?.urlFrom,
          webSockets,
          bodyLimit: new BodyLimit(options)
        }
        const handled = middleware === undefined
          ? HttpEffect.toHandled(httpEffect, sendResponse)
          : telling(HttpEffect.toHandled(httpEffect, sendResponse, noting(middleware)))
        // Loggers and the like of where the app is served, and what the handlers require.
        let others: typeof context | undefined
        return Engine.serve<Scope.Scope>({
          ...options,
          handles: (role) => role === Role.Responder || starts[role] !== undefined,
          fork: (request, served) => {
            if (request.role !== Role.Responder) {
              return starts[request.role]!(request, others ??= Context.merge(served, context))
            }
            requestOptions.bodyLimit.within(served)
            return Effect.runForkWith(
              Context.add(served, HttpServerRequest, new ServerRequest(request, requestOptions))
            )(handled)
          },
          failureOf: (cause, request) => request.role === Role.Responder ? failureOf(cause, request) : cause,
          invalid,
          requestOf,
          watchers,
          abortAnnotations: ClientAbort.annotation
        }).pipe(Effect.provideContext(services))
      }
    })
  })

/**
 * Provides an `HttpServer` from the listener in the context, and from the admission if there is one. `NodeFastCgi.layer` has both.
 *
 * **Example** (An app and the Authorizer that guards it, on one socket)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse } from "effect-fastcgi"
 * import { FastCgiHttpServer } from "effect-fastcgi/http"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * const Routes = HttpRouter.add("GET", "/app/", HttpServerResponse.text("Hello"))
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(FastCgiHttpServer.layerServer({}, {
 *     authorizer: ({ params }) =>
 *       Effect.succeed(
 *         params.get("HTTP_COOKIE") === "session=31415"
 *           ? FastCgiResponse.allow({ AUTH_USER: "ann" })
 *           : FastCgiResponse.deny()
 *       )
 *   })),
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/app/app.sock" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options?: FastCgiHttpServerOptions,
  handlers?: FastCgiHttpServerHandlers<E1, R1, E2, R2>
): Layer.Layer<HttpServer.HttpServer, never, FastCgiListener | Requirements<never, R1, R2>> =>
  Layer.effect(HttpServer.HttpServer, make(options, handlers))

/**
 * The origin of a request: the FastCGI request, and the web server's CGI variables. Servers do not provide this service: `origin`
 * makes it from the request. A test may provide it, see `FastCgiTest.layerOrigin`.
 *
 * **Details**
 *
 * `variables` are the web server's word (REMOTE_ADDR, REMOTE_USER, HTTPS, SSL_*). Trust them as far as you trust the web server.
 * The client's word is in `HttpServerRequest.headers` and never here, except in `request.params`.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiOrigin extends Context.Service<FastCgiOrigin, {
  readonly request: Responder
  readonly variables: CgiRequest.CgiVariables
}>()("effect-fastcgi/FastCgiHttpServer/FastCgiOrigin") {}

/**
 * The origin of the current request: the `FastCgiOrigin` that is provided, or else the one of the request itself. `None` over
 * another HTTP server.
 *
 * **Example** (The user that the web server has logged in)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Option from "effect/Option"
 * import { FastCgiHttpServer } from "effect-fastcgi/http"
 *
 * export const remoteUser = Effect.map(
 *   FastCgiHttpServer.origin,
 *   Option.flatMap(({ variables }) => Option.fromUndefinedOr(variables.remoteUser))
 * )
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const origin: Effect.Effect<Option.Option<FastCgiOrigin["Service"]>, never, HttpServerRequest> = Effect.flatMap(
  Effect.serviceOption(FastCgiOrigin),
  (provided) => Option.isSome(provided) ? Effect.succeed(provided) : Effect.map(HttpServerRequest, originOf)
)

/**
 * Decodes a schema from the CGI variables of the current request, as `HttpServerRequest.schemaHeaders` does from its headers:
 * see `CgiSchema.decode`. Over another HTTP server a request has no variables.
 *
 * **Example** (The user that the web server names)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Schema from "effect/Schema"
 * import { FastCgiHttpServer } from "effect-fastcgi/http"
 *
 * export const whoAmI = FastCgiHttpServer.schemaVariables(Schema.Struct({ REMOTE_USER: Schema.NonEmptyString })).pipe(
 *   Effect.map(({ REMOTE_USER }) => HttpServerResponse.text(REMOTE_USER)),
 *   Effect.catchTag("SchemaError", () => Effect.succeed(HttpServerResponse.empty({ status: 403 })))
 * )
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const schemaVariables = <A, I extends Readonly<Record<string, string | undefined>>, RD>(
  schema: Schema.ConstraintCodec<A, I, RD, unknown>
): Effect.Effect<A, Schema.SchemaError, HttpServerRequest | RD> => {
  const decode = CgiSchema.decode(schema)
  return Effect.flatMap(origin, (origin) => decode(Option.isSome(origin) ? origin.value.request.params : noParams))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const originOf = (request: HttpServerRequest): Option.Option<FastCgiOrigin["Service"]> =>
  request instanceof ServerRequest
    ? Option.some({ request: request.source, variables: CgiRequest.variables(request.source.params) })
    : Option.none()

const requestOf = (context: Context.Context<never>): ApplicationRequest | undefined => {
  const request = Option.getOrUndefined(Context.getOption(context, HttpServerRequest))
  return request instanceof ServerRequest ? request.request : requestOfHandler(context)
}

const invalid = (params: FastCgiParams): string | undefined => {
  const name = CgiRequest.invalidVariable(params)
  return name === undefined ? undefined : `${name} holds CR, LF or NUL`
}

// What an app fails with has the response in it that it was answered with: of a missing route 404, which is no failure. A
// response that broke off is one whatever its status.
const failureOf = (cause: Cause.Cause<unknown>, request: ApplicationRequest): Cause.Cause<unknown> | undefined => {
  let status = 500
  const reasons = cause.reasons.filter((reason) => {
    // A missing route is no failure of the app, nor is the end of a connection that was handed over to the app.
    if (reason._tag === "Fail" && isRefusal(reason.error)) return false
    if (request.upgradedTo !== undefined && reason._tag === "Fail" && Socket.isSocketError(reason.error)) return false
    if (reason._tag !== "Die" || !HttpServerResponse.isHttpServerResponse(reason.defect)) return true
    status = reason.defect.status
    return false
  })
  return reasons.length === 0 || (status < 500 && !request.isBrokenOff) ? undefined : Cause.fromReasons(reasons)
}

// With a middleware, `toHandled` succeeds whatever has failed, and a middleware may hide what it was. So the failure is noted
// inside of it once it has been answered, and outside when it is the middleware's own, or one that it has let pass.
const noting = (middleware: HttpMiddleware): HttpMiddleware => (app) =>
  Effect.flatMap(HttpServerRequest, (httpRequest) => {
    const serverRequest = httpRequest as ServerRequest
    const { request } = serverRequest
    const note = (cause: Cause.Cause<unknown>) => {
      serverRequest.failure ??= cause
      return Effect.void
    }
    const noteAnswered = (cause: Cause.Cause<unknown>) =>
      Effect.suspend(() => request.hasHead || request.isOver ? note(cause) : Effect.void)
    return Effect.suspend(() => middleware(Effect.tapCause(app, noteAnswered))).pipe(
      Effect.tapCause((cause) => Effect.flatMap(causeResponse(cause), ([, answered]) => note(answered)))
    )
  })

// Fails with what has been noted.
const telling = <R>(handled: Effect.Effect<void, never, R>): Effect.Effect<void, unknown, R | HttpServerRequest> =>
  Effect.flatMap(HttpServerRequest, (request) =>
    Effect.flatMap(Effect.exit(handled), (exit) => {
      const { failure } = request as ServerRequest
      if (failure === undefined) return exit
      // Not `Cause.combine`, which compares reasons by hashing what they hold.
      return Exit.failCause(
        Exit.isSuccess(exit) ? failure : Cause.fromReasons([...failure.reasons, ...exit.cause.reasons])
      )
    }))
