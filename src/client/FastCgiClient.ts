/**
 * The web server's side of FastCGI: requests to an application, each streamed in both directions. They go over one connection, which
 * carries them one after the other or many at once, or over a pool of connections.
 *
 * An Effect that makes a `FastCgiTransport` opens connections. The platform modules have such Effects.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
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
  /** Opens the connection. It is closed with the scope of `make`, or when no further request can use it. */
  readonly connect: Effect.Effect<FastCgiTransport, E, R>
  /**
   * How many requests the connection may carry at the same time; further ones wait. Above 1 the application must multiplex: `getValues`
   * gives FCGI_MPXS_CONNS. At most 65535. Default 1, which every application takes.
   */
  readonly maxRequests?: number | undefined
  /** Whether the connection stays open after a request, unless the request says otherwise (SPEC 5.1). Default true. */
  readonly keepConnection?: boolean | undefined
  /**
   * While a request is alone on the connection, reading pauses when more than this many bytes of its answer are unread. So a slow
   * reader slows its application down. Default 256 KiB.
   */
  readonly maxUnread?: number | undefined
  /** The same limit for all requests together, while there are several on the connection. Default 1 MiB. */
  readonly maxUnreadMultiplexed?: number | undefined
  /**
   * How long a pause may last while several requests are on the connection, because a pause holds up all of them. Beyond it, the request
   * with the most unread bytes fails with `Stalled` and is aborted. Default 30 seconds.
   */
  readonly stallTimeout?: Duration.Input | undefined
}

/**
 * The content of STDIN or DATA: bytes that exist as a whole, or a stream.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiClientBody<E = unknown, R = never> = Uint8Array | Stream.Stream<Uint8Array, E, R>

/**
 * One request to send.
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
  /** The file for a Filter (SPEC 6.4), sent after STDIN. Other roles do not get it. */
  readonly data?: FastCgiClientBody<E, R> | undefined
  /** Whether the application should keep the connection open (SPEC 5.1). Default as of the connection. */
  readonly keepConnection?: boolean | undefined
  /**
   * Whether the end of the connection ends an answer without END_REQUEST, as web servers take it. Such an answer cannot be told from one
   * that was cut. Default false: it fails with `Truncated`.
   */
  readonly endAtClose?: boolean | undefined
  /**
   * How long the application may take none of the STDIN or DATA that waits for it. Beyond it, the request fails with `Timeout` if no
   * output has come, and otherwise sends no more. Default no limit.
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
  /** The exit code that a CGI program would have. */
  readonly appStatus: number
  /** RequestComplete, or the status that the application sent after output. Another status without output is an error. */
  readonly protocolStatus: number
}

/**
 * The answer to a request, as it arrives.
 *
 * **Details**
 *
 * `stdout` and `stderr` deliver the bytes of a read as one array, wait for more, and end with the request. Each byte is delivered once.
 * Both fail when the request fails, after delivering the bytes that had arrived before.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClientResponse {
  /** The id of the request on its connection. */
  readonly requestId: number
  readonly stdout: Stream.Stream<Uint8Array, FastCgiClientError>
  /** It holds up nothing: beyond 64 KiB of unread bytes, further ones are dropped. */
  readonly stderr: Stream.Stream<Uint8Array, FastCgiClientError>
  /** Waits for END_REQUEST, whether or not the streams are read. On a full connection it comes only when they are read. */
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
 * Sends requests: a connection, or a pool of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiClient {
  /**
   * Sends a request and returns its future answer at once (but see `FastCgiPool`). The body is sent in the background while the answer is
   * read. Sending stops when the request has ended. Waits while no connection has room.
   *
   * Closing the scope gives up a request that has not ended: with ABORT_REQUEST (SPEC 5.4) when others are on the connection, otherwise by
   * closing the connection, which every application understands as an abort. The connection is also closed when the others have ended and
   * END_REQUEST of the aborted request has not come a second later.
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
   * Asks for variables of the application (SPEC 4.1) and returns those that it knows. Returns none when it answers UNKNOWN_TYPE
   * (SPEC 4.2). Fails with `Timeout` when no answer comes. php-fpm knows only FCGI_MPXS_CONNS.
   */
  readonly getValues: (
    names: Iterable<string>,
    options?: FastCgiGetValuesOptions
  ) => Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError>
  /** Whether the connection takes another request, now or after one has ended. */
  readonly openUnsafe: () => boolean
  /** How many requests the connection carries now, without those that were given up. */
  readonly activeUnsafe: () => number
  /** Waits until the connection is closed, by either end. */
  readonly closed: Effect.Effect<void>
}

/**
 * Opens one connection to an application. The connection lives as long as the scope. Closing the scope fails active requests with
 * `Closed`. To go on after a connection is lost, use a pool: `layer`.
 *
 * Fails with `ConnectFailed` when the connection cannot be opened.
 *
 * **Example** (A page of an application)
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
      closed: Deferred.await(connection.closed)
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
 * Provides the same as `layer`, with options from `FastCgiPool.config`, or from another `Config` value. Options that are given come
 * first.
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
