/**
 * Effect's `HttpClient` over FastCGI: requests go straight into an application, such as php-fpm or one of this library, without a web
 * server in between. Connections are pooled.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { FileSystem } from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as CgiParams from "../cgi/CgiParams.ts"
import * as Settings from "../settings/settings.ts"
import type { FastCgiClientError } from "./FastCgiClientError.ts"
import * as FastCgiPool from "./FastCgiPool.ts"
import { exchange, exchangePolicy } from "./internal/exchange.ts"
import { PoolTypeId } from "./internal/pool.ts"
import * as RequestBody from "./internal/requestBody.ts"
import { FastCgiHttpResponse } from "./internal/response.ts"
import { withSettings } from "./internal/settings.ts"

/**
 * The options of requests to an application that `FastCgiHttpClient` and `FastCgiGateway` share.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiExchangeOptions {
  /**
   * How long the response's head may take once the request has been sent. Default 60 seconds for the gateway, no limit for the client.
   */
  readonly headTimeout?: Duration.Input | undefined
  /**
   * How long the application may take none of a request's body, or send nothing of a response's body, while that is awaited. In the
   * gateway, it is also how long the client may send nothing of the request's body. An event stream needs a comment line more often than
   * that. Default 60 seconds for the gateway, no limit for the client.
   */
  readonly bodyTimeout?: Duration.Input | undefined
  /** The longest response head, in bytes. Default 64 KiB. */
  readonly maxHeadSize?: number | undefined
  /**
   * Texts on STDERR that mean failure, like nginx's `fastcgi_catch_stderr`. When one of these texts comes before the end of an answer, the
   * request fails with `ApplicationError`, and the rest of the answer is not passed on. For PHP, use `FastCgiPhp.fatalErrors`. Default
   * none: an answer with status 500 is a response, and one that ends early looks complete.
   */
  readonly catchStderr?: string | ReadonlyArray<string> | undefined
  /**
   * Whether the end of the connection ends a response that has neither Content-Length nor END_REQUEST, as web servers take it. Default
   * false: reading it fails.
   */
  readonly endAtClose?: boolean | undefined
  /**
   * Whether a request's body of unknown length is gathered before the request is sent, so that CONTENT_LENGTH is known. php-fpm and CGI
   * programs read nothing without it. Default: true where `documentRoot`, `scriptFilename` or `params` set SCRIPT_FILENAME. Otherwise the
   * body is streamed.
   */
  readonly gatherBody?: boolean | undefined
  /**
   * The bytes of a gathered body that are kept in memory. A longer body goes to a temporary file if the context of `make` or `layer` has
   * a `FileSystem`. Without one it is refused: the gateway answers 413, and the client fails with `EncodeError`. Default 1 MiB.
   */
  readonly maxGatheredSize?: number | undefined
  /** The directory of the files: php-fpm and fcgiwrap run `documentRoot` followed by the path. */
  readonly documentRoot?: string | undefined
  /** The file that runs every request, such as a front controller. */
  readonly scriptFilename?: string | undefined
  /** The part of the path that names the script: SCRIPT_NAME. Default: the whole path. */
  readonly scriptName?: string | undefined
  /** More params, or other values for the usual ones. */
  readonly params?: Readonly<Record<string, string | Uint8Array>> | undefined
}

/**
 * These options, and how to reach the application: the options of a pool of its own.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiUpstreamOptions<E = never, R = never>
  extends FastCgiExchangeOptions, FastCgiPool.FastCgiPoolOptions<E, R>
{}

/**
 * Options of `fromPool` and `layerFromPool`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiHttpClientFromPoolOptions extends FastCgiExchangeOptions {
  /** The client's address for the application: REMOTE_ADDR. Default "127.0.0.1". */
  readonly remoteAddress?: string | undefined
  /** The client's port for the application: REMOTE_PORT. Default none. */
  readonly remotePort?: number | undefined
}

/**
 * Options of `make` and `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiHttpClientOptions<E = never, R = never>
  extends FastCgiHttpClientFromPoolOptions, FastCgiPool.FastCgiPoolOptions<E, R>
{}

/**
 * Creates an `HttpClient` whose requests go to a FastCGI application. Scheme, host, path and query of the URL become params. They do not
 * choose where to connect.
 *
 * **Details**
 *
 * A response's body is streamed. It is read as a whole only up to `MaxBodySize` of `HttpIncomingMessage`, which has no limit by default.
 * Beyond it, reading fails with `DecodeError`, and the request is given up. Interrupting a request, or no longer reading a response,
 * gives up the request: its connection is closed.
 *
 * The application's STDERR is logged as warnings, a line each, with the request and its SCRIPT_FILENAME, and with control characters in
 * hexadecimal. Beyond 64 KiB of a request in ten seconds, the log only says how much was left out. The error of a request that fails
 * quotes STDERR as well, and `catchStderr` makes a request fail because of it.
 *
 * `FastCgiPool` says how requests share connections, wait for one, and are sent again. `HttpClient` makes a span for each request, and the
 * application gets the span as HTTP_TRACEPARENT.
 *
 * When END_REQUEST does not come within 30 seconds after a complete answer, the connection is closed.
 *
 * Fails with `InvalidUrlError` when the path leaves the root, for instance by encoded slashes, or holds an encoded NUL: see
 * `CgiParams.fromRequest`. Fails with `TransportError` without a response. Reading a response that is cut fails with `DecodeError`. The
 * `cause` of these two is the `FastCgiClientError`.
 *
 * **Example** (Running a PHP script)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiHttpClient } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * export const page = Effect.gen(function*() {
 *   const client = yield* FastCgiHttpClient.make({
 *     connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *     documentRoot: "/srv/www"
 *   })
 *   const response = yield* client.get("http://example.com/index.php?page=2")
 *   return yield* response.text
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiHttpClientOptions<E, R>
): Effect.Effect<HttpClient.HttpClient, never, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(FastCgiPool.make(options), (pool) => fromPool(pool, options))

/**
 * Creates an `HttpClient` whose requests go out over a pool that others may share. See `make`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPool = (
  fastCgiPool: FastCgiPool.FastCgiPool,
  options: FastCgiHttpClientFromPoolOptions = {}
): Effect.Effect<HttpClient.HttpClient> => {
  const pool = fastCgiPool[PoolTypeId]
  const policy = exchangePolicy(pool, options, Duration.infinity)
  return Effect.map(
    Effect.serviceOption(FileSystem),
    (fileSystem) =>
      HttpClient.make((request, url, signal, fiber) => {
        const scope = Scope.makeUnsafe()
        const abort = () => {
          Effect.runForkWith(fiber.context)(Scope.close(scope, Exit.void))
        }
        const close = Effect.suspend(() => {
          signal.removeEventListener("abort", abort)
          return Scope.close(scope, Exit.void)
        })
        signal.addEventListener("abort", abort)
        return toRequest(request, url, options, fileSystem).pipe(
          Effect.flatMap((fastCgiRequest) => exchange(pool, fastCgiRequest, { policy, method: request.method })),
          Scope.provide(scope),
          Effect.map((exchange) => new FastCgiHttpResponse(request, url.href.split("#")[0], exchange, close)),
          Effect.mapError((error) =>
            new HttpClientError.HttpClientError({
              reason: new (reasonOf(error))({ request, cause: error, description: error.message })
            })
          ),
          Effect.onExit((exit) => Exit.isFailure(exit) ? close : Effect.void)
        )
      })
  )
}

/**
 * Provides an `HttpClient` whose requests go to a FastCGI application. See `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options: FastCgiHttpClientOptions<E, R>
): Layer.Layer<HttpClient.HttpClient, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(HttpClient.HttpClient, make(options))

/**
 * Provides an `HttpClient` whose requests go out over the pool of the context. See `fromPool`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFromPool = (
  options?: FastCgiHttpClientFromPoolOptions
): Layer.Layer<HttpClient.HttpClient, never, FastCgiPool.FastCgiPool> =>
  Layer.effect(HttpClient.HttpClient, Effect.flatMap(FastCgiPool.FastCgiPool, (pool) => fromPool(pool, options)))

/**
 * The options of `layerConfig`: all but `connect` and `ping`, which are code, and `params`.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiUpstreamSettings = FastCgiPool.FastCgiPoolSettings & Omit<FastCgiExchangeOptions, "params">

/**
 * Options of requests from settings of the environment, each of which may be left out: `FASTCGI_UPSTREAM_MAX_IDLE` for `maxIdle` and so
 * on. Sizes are bytes or have a unit (`64 KiB`), durations have a unit (`30 seconds`).
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiUpstreamSettings> = Config.map(
  Config.all([
    FastCgiPool.config,
    Config.all({
      headTimeout: Settings.duration("FASTCGI_UPSTREAM_HEAD_TIMEOUT"),
      bodyTimeout: Settings.duration("FASTCGI_UPSTREAM_BODY_TIMEOUT"),
      maxHeadSize: Settings.size("FASTCGI_UPSTREAM_MAX_HEAD_SIZE"),
      catchStderr: Settings.text("FASTCGI_UPSTREAM_CATCH_STDERR"),
      endAtClose: Settings.flag("FASTCGI_UPSTREAM_END_AT_CLOSE"),
      gatherBody: Settings.flag("FASTCGI_UPSTREAM_GATHER_BODY"),
      maxGatheredSize: Settings.size("FASTCGI_UPSTREAM_MAX_GATHERED_SIZE"),
      documentRoot: Settings.text("FASTCGI_UPSTREAM_DOCUMENT_ROOT"),
      scriptFilename: Settings.text("FASTCGI_UPSTREAM_SCRIPT_FILENAME"),
      scriptName: Settings.text("FASTCGI_UPSTREAM_SCRIPT_NAME")
    })
  ]),
  ([pool, exchange]) => ({ ...pool, ...exchange })
)

/**
 * Provides the same as `layer`, with options from `config`, or from another `Config` value. Options that are given come first.
 *
 * **Example** (An application that the environment names)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiHttpClient } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * // FASTCGI_UPSTREAM=/run/php/php-fpm.sock FASTCGI_UPSTREAM_DOCUMENT_ROOT=/srv/www
 * export const Client = Layer.unwrap(Effect.map(NodeFastCgiConnector.config, (to) =>
 *   FastCgiHttpClient.layerConfig({ connect: NodeFastCgiConnector.connect(to) })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: FastCgiHttpClientOptions<E, R>,
  settings: Config.Wrap<FastCgiUpstreamSettings> = config
): Layer.Layer<HttpClient.HttpClient, Config.ConfigError, Exclude<R, Scope.Scope>> =>
  Layer.unwrap(Effect.map(Config.unwrap(settings), (settings) => layer(withSettings(options, settings))))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Methods whose requests have a body, so that its absence is worth a CONTENT_LENGTH of 0 (RFC 9110 §8.6).
const expectsBody = new Set(["POST", "PUT", "PATCH"])

const reasonOf = (error: FastCgiClientError | RequestBody.RequestBodyError | CgiParams.CgiParamsError) =>
  error._tag === "CgiParamsError"
    ? HttpClientError.InvalidUrlError
    : error._tag === "RequestBodyError" || error.reason._tag === "BodyFailed"
    ? HttpClientError.EncodeError
    : HttpClientError.TransportError

const toRequest = (
  request: HttpClientRequest.HttpClientRequest,
  url: URL,
  options: FastCgiHttpClientFromPoolOptions,
  fileSystem: Option.Option<FileSystem>
) =>
  RequestBody.fromHttpBody(request.body).pipe(
    Effect.flatMap((body) => RequestBody.gather(body, options, fileSystem)),
    Effect.flatMap((body) => {
      const params = CgiParams.fromRequest({
        method: request.method,
        url: url.pathname + url.search,
        headers: request.headers,
        scheme: url.protocol === "https:" ? "https" : "http",
        host: url.host,
        contentType: request.body._tag === "FormData"
          ? body.contentType
          : request.headers["content-type"] ?? body.contentType,
        contentLength: body.contentLength ??
          (body.stdin === undefined && expectsBody.has(request.method) ? 0 : undefined),
        remoteAddress: options.remoteAddress ?? "127.0.0.1",
        remotePort: options.remotePort,
        documentRoot: options.documentRoot,
        scriptFilename: options.scriptFilename,
        scriptName: options.scriptName,
        extra: options.params
      })
      return params instanceof CgiParams.CgiParamsError
        ? Effect.fail(params)
        : Effect.succeed({
          params,
          stdin: body.stdin,
          endAtClose: options.endAtClose,
          sendTimeout: options.bodyTimeout
        })
    })
  )
