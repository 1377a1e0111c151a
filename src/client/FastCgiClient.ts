/**
 * The web server's side of FastCGI: requests to an application, each streamed in both directions, over one connection that
 * carries them one after the other or many at once, or over a pool of connections.
 *
 * Where a connection comes from is an Effect that makes a `FastCgiTransport`; the platform modules have some.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import type * as FastCgiParams from "../protocol/FastCgiParams.ts"
import { FastCgiClientError } from "./FastCgiClientError.ts"
import * as FastCgiPool from "./FastCgiPool.ts"
import { defaults, open, request, toResponse } from "./internal/request.ts"

/**
 * Options of `make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiClientOptions<E = never, R = never> {
  /** Opens the connection. It is closed with the scope of `make`, or when it is of no more use. */
  readonly connect: Effect.Effect<FastCgiTransport, E, R>
  /**
   * How many requests the connection may carry at the same time; further ones wait. Above 1 the application must
   * multiplex: `getValues` tells with FCGI_MPXS_CONNS. At most 65535. Default 1, which every application takes.
   */
  readonly maxRequests?: number | undefined
  /** Whether the connection stays open after a request, unless the request says otherwise (SPEC 5.1). Default true. */
  readonly keepConnection?: boolean | undefined
  /**
   * Reading pauses while a request that is alone on the connection has more than this many bytes of its answer unread,
   * so that a slow reader slows its application down. Default 256 KiB.
   */
  readonly maxUnread?: number | undefined
  /** The same for all requests together while there are several on the connection. Default 1 MiB. */
  readonly maxUnreadMultiplexed?: number | undefined
  /**
   * How long a pause may last while several requests are on the connection, for it holds all of them up: then the
   * request with the most unread bytes fails with `Stalled` and is aborted. Default 30 seconds.
   */
  readonly stallTimeout?: Duration.Input | undefined
}

/**
 * What is sent as STDIN or DATA: bytes that are all there, or a stream.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiClientBody<E = unknown, R = never> = Uint8Array | Stream.Stream<Uint8Array, E, R>

/**
 * One request, as it is sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClientRequest<E = unknown, R = never> {
  /** The role (SPEC 6). Default Responder. An Authorizer gets no STDIN. */
  readonly role?: number | undefined
  /** The name-value pairs (SPEC 5.2), encoded or as entries. */
  readonly params: FastCgiParams.FastCgiParams | Iterable<readonly [string | Uint8Array, string | Uint8Array]>
  /** The request's body. Default none, which sends an empty STDIN. */
  readonly stdin?: FastCgiClientBody<E, R> | undefined
  /** The file that a Filter works on (SPEC 6.4), sent after STDIN. Sent to a Filter only. */
  readonly data?: FastCgiClientBody<E, R> | undefined
  /** Whether the application is to leave the connection open (SPEC 5.1). Default as of the connection. */
  readonly keepConnection?: boolean | undefined
  /**
   * Whether an answer also ends where the application closes the connection without END_REQUEST, as a web server takes
   * it. There is no telling such an answer from one that was cut. Default false: it fails with `Truncated`.
   */
  readonly endAtClose?: boolean | undefined
  /**
   * How long the application may take nothing of STDIN or DATA while there is some for it. Beyond, the request fails with
   * `Timeout` where no output has come, and otherwise sends no more. Default: for ever.
   */
  readonly sendTimeout?: Duration.Input | undefined
}

/**
 * How a request ended (SPEC 5.5).
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClientEnd {
  /** What a CGI program would exit with. */
  readonly appStatus: number
  /** RequestComplete, or what the application said after output. Without output another status is an error. */
  readonly protocolStatus: number
}

/**
 * The answer to a request, as it arrives.
 *
 * **Details**
 *
 * `stdout` and `stderr` deliver what a read brought as one array, wait for more, and end with the request. Each byte is
 * delivered once, to whoever pulls it. Both fail when the request does, after what had arrived before.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClientResponse {
  /** The id that the request has on its connection. */
  readonly requestId: number
  readonly stdout: Stream.Stream<Uint8Array, FastCgiClientError>
  /** Nothing waits for this to be read: beyond 64 KiB unread, what comes is dropped. */
  readonly stderr: Stream.Stream<Uint8Array, FastCgiClientError>
  /** Waits for END_REQUEST, whether or not the streams are read; on a full connection it comes only when they are. */
  readonly end: Effect.Effect<FastCgiClientEnd, FastCgiClientError>
}

/**
 * Options of `getValues`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiGetValuesOptions {
  /** How long to wait. libfcgi answers only when its next record arrives. Default 5 seconds. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * What requests are sent with: a connection, or a pool of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClient {
  /**
   * Sends a request and returns with the answer to come: at once, but see `FastCgiPool`. The body is sent in the background,
   * while the answer is read; sending stops when the request has ended. Waits while there is no connection that has room.
   *
   * Closing the scope gives the request up if it has not ended: with ABORT_REQUEST (SPEC 5.4) when others are on the
   * connection, otherwise by closing the connection, which is the abort that every application understands.
   */
  readonly request: <E = never, R = never>(
    request: FastCgiClientRequest<E, R>
  ) => Effect.Effect<FastCgiClientResponse, FastCgiClientError, R | Scope.Scope>
}

/**
 * The client of the context.
 *
 * @category services
 * @since 0.1.0
 */
export const FastCgiClient: Context.Service<FastCgiClient, FastCgiClient> = Context.Service<FastCgiClient>(
  "effect-fastcgi/FastCgiClient"
)

/**
 * A connection to an application.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClientConnection extends FastCgiClient {
  /**
   * Asks for variables of the application (SPEC 4.1) and returns those that it knows; none, when it answers
   * UNKNOWN_TYPE (SPEC 4.2). Fails with `Timeout` when nothing comes. php-fpm tells FCGI_MPXS_CONNS only.
   */
  readonly getValues: (
    names: Iterable<string>,
    options?: FastCgiGetValuesOptions
  ) => Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError>
  /** Whether another request may be sent on the connection, now or when one has ended. */
  readonly openUnsafe: () => boolean
  /** How many requests the connection carries now, without those that were given up. */
  readonly activeUnsafe: () => number
  /** Waits until the connection is closed, by whomever. */
  readonly closed: Effect.Effect<void>
}

/**
 * Opens one connection to an application. It lives as long as the scope; closing it fails what is still active with
 * `Closed`. What is to go on when the connection is lost asks a pool: `layer`.
 *
 * Fails with `ConnectFailed` when there is no connection.
 *
 * **Example** (Asking an application for a page)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import { FastCgiClient } from "effect-fastcgi/client"
 *
 * export const page = <E, R>(connect: FastCgiClient.FastCgiClientOptions<E, R>["connect"]) =>
 *   Effect.gen(function*() {
 *     const client = yield* FastCgiClient.make({ connect })
 *     const response = yield* client.request({
 *       params: [["REQUEST_METHOD", "GET"], ["REQUEST_URI", "/"], ["SCRIPT_NAME", "/"]]
 *     })
 *     return yield* Stream.mkString(Stream.decodeText(response.stdout))
 *   }).pipe(Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiClientOptions<E, R>
): Effect.Effect<FastCgiClientConnection, FastCgiClientError, R | Scope.Scope> => {
  const keepConnection = options.keepConnection ?? true
  return Effect.map(
    open(options.connect, {
      maxRequests: options.maxRequests ?? defaults.maxRequests,
      maxUnread: options.maxUnread ?? defaults.maxUnread,
      maxUnreadMultiplexed: options.maxUnreadMultiplexed ?? defaults.maxUnreadMultiplexed,
      stallTimeout: options.stallTimeout ?? defaults.stallTimeout
    }),
    (connection): FastCgiClientConnection => ({
      request: (options) => Effect.map(request(connection, options, keepConnection), toResponse),
      getValues: (names, options) =>
        Effect.timeoutOrElse(connection.getValues(names), {
          duration: options?.timeout ?? defaultGetValuesTimeout,
          orElse: () =>
            Effect.fail(
              new FastCgiClientError({
                reason: { _tag: "Timeout" },
                message: "the application did not answer GET_VALUES in time"
              })
            )
        }),
      openUnsafe: () => connection.open,
      activeUnsafe: () => connection.active,
      closed: connection.untilClosed
    })
  )
}

/**
 * Provides a client whose requests go out over a pool of connections to one application or to several. See `FastCgiPool`.
 *
 * **Example** (Calling php-fpm from a handler)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import { FastCgiClient } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * const report = Effect.gen(function*() {
 *   const client = yield* FastCgiClient.FastCgiClient
 *   const { stdout } = yield* client.request({
 *     params: [["REQUEST_METHOD", "GET"], ["SCRIPT_FILENAME", "/srv/app/report.php"]]
 *   })
 *   return yield* Stream.mkString(Stream.decodeText(stdout))
 * }).pipe(Effect.scoped)
 *
 * export const program = Effect.provide(report, FastCgiClient.layer({
 *   connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *   keepConnection: true,
 *   maxConnections: 4
 * }))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options: FastCgiPool.FastCgiPoolOptions<E, R>
): Layer.Layer<FastCgiClient, never, Exclude<R, Scope.Scope>> => Layer.effect(FastCgiClient, FastCgiPool.make(options))

/**
 * Provides the pool of the context as a client.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFromPool: Layer.Layer<FastCgiClient, never, FastCgiPool.FastCgiPool> = Layer.effect(
  FastCgiClient,
  FastCgiPool.FastCgiPool
)

/**
 * Provides what `layer` does, with options from `FastCgiPool.config`, or from another `Config` value, besides those that are
 * given.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: FastCgiPool.FastCgiPoolOptions<E, R>,
  settings: Config.Wrap<FastCgiPool.FastCgiPoolSettings> = FastCgiPool.config
): Layer.Layer<FastCgiClient, Config.ConfigError, Exclude<R, Scope.Scope>> =>
  Layer.provide(layerFromPool, FastCgiPool.layerConfig(options, settings))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const defaultGetValuesTimeout = 5_000
